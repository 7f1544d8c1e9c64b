// Tells what happens in the shop: numbered lines that say who speaks to whom. It is no part of fiberbus.
import { styleText } from "node:util"
import { Console, Context, Effect, Layer, Queue } from "effect"

type Tone = "ask" | "step" | "answer" | "error" | "event"

const colours = { ask: "cyan", step: "yellow", answer: "green", error: "red", event: "magenta" } as const

export class Story extends Context.Service<Story>()("shop/Story", {
  make: Effect.sync(() => {
    let count = 0
    const heard = new Map<string, Queue.Queue<string>>()
    const heardBy = Effect.fnUntraced(function* (who: string) {
      const queue = heard.get(who) ?? (yield* Queue.unbounded<string>())
      heard.set(who, queue)
      return queue
    })

    // styleText leaves colours out where the output is no terminal, or NO_COLOR is set.
    const line = (tone: Tone, from: string, to: string, text: string) => {
      const number = styleText("dim", String(++count).padStart(4))
      const names = `${from.padStart(13)} ${tone === "event" ? "⇒" : "→"} ${to.padEnd(13)}`
      return Console.log(`${number} ${names}  ${styleText(colours[tone], text)}`)
    }

    /** A call: the question, then the answer or the error as the caller gets it. */
    const call = <A, E extends { readonly _tag: string; readonly message: string }, R>(
      [from, to]: readonly [from: string, to: string],
      question: string,
      effect: Effect.Effect<A, E, R>,
      answer: (value: A) => string
    ): Effect.Effect<A, E, R> =>
      line("ask", from, to, question).pipe(
        Effect.andThen(effect),
        Effect.tap((value) => line("answer", to, from, answer(value))),
        Effect.tapError((error) =>
          // What the action declares comes from the service; a CallError says what happened on the way.
          line("error", error._tag === "CallError" ? "fiberbus" : to, from, `${error._tag}: ${error.message}`)
        )
      )

    return {
      title: (text: string) => Console.log(`\n${styleText("bold", text)}`),
      remark: (text: string) => Console.log(`${" ".repeat(36)}${styleText("dim", `(${text})`)}`),
      line,
      call,
      /** A listener did something, in its own time; told when the story gets to it. */
      heard: (who: string, text: string) => Effect.flatMap(heardBy(who), (queue) => Queue.offer(queue, text)),
      /** Waits for each of these listeners and tells what they did, in this order, so that every run reads the same. */
      tellHeard: Effect.fnUntraced(function* (event: string, ...listeners: ReadonlyArray<string>) {
        for (const who of listeners) yield* line("event", event, who, yield* Queue.take(yield* heardBy(who)))
      })
    }
  })
}) {
  static readonly layer = Layer.effect(this, this.make)
}
