/** No message that the contract allows makes a listener die. */
import * as Effect from "effect/Effect"
import { Violation } from "../Law.ts"
import * as Show from "../show.ts"
import * as TopicBench from "./TopicBench.ts"
import type { TopicLaw } from "./TopicLaw.ts"

/** @see the file's first line */
export const neverDies: TopicLaw = {
  name: "never dies",
  applies: () => true,
  prepare: (subject) => ({
    inputs: subject.messages,
    holds: (bench, message) =>
      Effect.flatMap(bench.publish(message), (heard) => {
        const violated = (because: string, cameBack = TopicBench.describe(heard)) =>
          Effect.fail(new Violation({ because, cameBack }))
        if (heard.receivers === 0) return violated("nobody listens: put the listener's Layer on the TestBus")
        if (heard.died.length > 0) return violated("a listener died", heard.died.map(Show.cause).join("\n"))
        if (heard.refused > 0) return violated("the contract allows the message, and yet it is refused")
        return Effect.void
      })
  })
}
