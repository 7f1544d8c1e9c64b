/** What does not fit is refused and counted, reaches no listener, and is the end of nothing. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Codec from "../../../wire/Codec.ts"
import * as SchemaCodec from "../../../wire/SchemaCodec.ts"
import { Violation } from "../Law.ts"
import * as Mutation from "../mutation.ts"
import * as Show from "../show.ts"
import * as TopicBench from "./TopicBench.ts"
import type { TopicLaw } from "./TopicLaw.ts"

interface Mutated {
  readonly message: unknown
  readonly mutation: Mutation.Mutation
}

/** @see the file's first line */
export const refuses: TopicLaw = {
  name: "refuses what does not fit",
  applies: () => true,
  prepare: ({ messages, topic }) => {
    const codec = SchemaCodec.make(topic.message)
    return {
      inputs: Arbitrary.all({ message: messages, mutation: Mutation.arbitrary }),
      holds: (bench, { message, mutation }: Mutated) =>
        Effect.gen(function* () {
          const frame = yield* bench.frameOf(message)
          const text = changed(frame, mutation)
          const heard = yield* bench.raw(text)
          const because = problem(yield* expected(codec, text), heard)
          const violated = (because: string) =>
            new Violation({
              because,
              given: `${Show.value(parsed(text) ?? text)}\n${Mutation.describe(mutation)}`,
              cameBack: [TopicBench.describe(heard), ...heard.died.map(Show.cause)].join("\n")
            })
          if (because !== undefined) return yield* violated(because)
          // Those that are still at the first one may have no room for another.
          if (heard.running > 0) return
          const { handled, running } = yield* bench.raw(frame)
          if (handled + running === 0) return yield* violated("after it, nothing is heard any more")
        }),
      show: ({ message }) => Show.value(message, topic.message)
    }
  }
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const changed = (frame: string, mutation: Mutation.Mutation): string => {
  if (mutation.how === "cut the frame") return frame.slice(0, mutation.where % frame.length)
  const { message } = Mutation.apply(mutation, { action: "", service: "", payload: JSON.parse(frame) })
  return JSON.stringify(message.payload)
}

const expected = (
  codec: SchemaCodec.SchemaCodec<any>,
  text: string
): Effect.Effect<"dropped" | "refused" | "heard"> => {
  const raw = Codec.parse(text, Codec.defaultMaxBytes)
  if (raw instanceof Codec.Malformed) return Effect.succeed("dropped")
  return Effect.map(Effect.exit(codec.decode(raw)), (read) => (Exit.isSuccess(read) ? "heard" : "refused"))
}

const problem = (
  expected: "dropped" | "refused" | "heard",
  { died, discarded, handled, receivers, refused, running }: TopicBench.Heard
): string | undefined => {
  if (receivers === 0) return "nobody listens: put the listener's Layer on the TestBus"
  if (expected === "heard") return died.length > 0 ? "a listener died of what the contract allows" : undefined
  if (died.length > 0) return "reading it died, instead of refusing it"
  if (handled + running > 0) return "it does not fit, and a listener got it"
  if (expected === "refused" && refused === 0) return "it is refused, and not counted"
  if (expected === "dropped" && discarded === 0) return "it is dropped, and not counted"
  return undefined
}
