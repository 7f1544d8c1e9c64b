/** Answers the questions that a service asks about one call. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as Codec from "../../wire/Codec.ts"
import type * as Control from "../../wire/Control.ts"
import type * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Declined } from "../Declined.ts"

/** Questions of one call that may wait for their turn; more are declined. */
export const maxWaiting = 64

/** What the user answers, by the name of the question. What that needs is in the context of the call, as its type demands. */
export interface Answers {
  readonly [name: string]: (question: any) => Effect.Effect<any, Declined>
}

/** How questions are read and answers written, by name. */
export type Codecs = ReadonlyMap<
  string,
  { readonly ask: SchemaCodec.SchemaCodec<any>; readonly answer: SchemaCodec.SchemaCodec<any> }
>

/** A question that has arrived. */
export interface Asked {
  readonly name: string
  readonly json: unknown
  readonly reply: (answer: Control.Answer["answer"]) => void
}

/** Where the questions of a call arrive. */
export type Inquiry = Queue.Queue<Asked>

/** Runs a call, and beside it the answers to its questions. An answer that dies ends the call: it is the caller's own bug. */
export const answering = <A, E, R>(
  codecs: Codecs,
  answers: Answers,
  call: (inquiry: Inquiry) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Queue.bounded<Asked>(maxWaiting), (inquiry) =>
    Effect.raceFirst(
      call(inquiry),
      Stream.fromQueue(inquiry).pipe(
        Stream.mapEffect((asked) => answer(codecs, answers, asked), { concurrency: maxWaiting, unordered: true }),
        Stream.runDrain,
        Effect.andThen(Effect.never)
      )
    )
  )

const answer = (codecs: Codecs, answers: Answers, { json, name, reply }: Asked): Effect.Effect<void> => {
  const codec = codecs.get(name)
  if (codec === undefined) return Effect.sync(() => reply({ declined: "the caller does not know this question" }))
  return codec.ask.decode(json).pipe(
    Effect.matchEffect({
      onFailure: () => Effect.succeed({ declined: "the question does not fit the caller's contract" }),
      onSuccess: (question) =>
        answers[name]!(question).pipe(
          Effect.flatMap((value) => Effect.orDie(codec.answer.encode(value))),
          Effect.map((json) =>
            Codec.nestsTooDeep(json, 1) ? { declined: "the answer is nested too deep" } : { json }
          ),
          Effect.catchTag("Declined", ({ why }) => Effect.succeed({ declined: why }))
        )
    }),
    Effect.map(reply)
  )
}
