/** Compares topics: publishers of the one revision, listeners of the other. */
import type * as Effect from "effect/Effect"
import type { AnySchema } from "../../contract/Action.ts"
import { type AnyTopic, channelOf, type Pairs } from "./contracts.ts"
import * as Found from "./found.ts"
import type { Settings } from "./part.ts"

/** Compares all pairs, and says what is there no more and what is new. */
export const compare = (pairs: Pairs<AnyTopic>, settings: Settings): Effect.Effect<Found.Found> =>
  Found.all([
    ...pairs.both.flatMap(({ new: now, old }) => compared(old, now, settings)),
    ...pairs.removed.map((topic) =>
      Found.only(
        Found.structural("breaking", "old listeners", subject(topic, "topic"), "nobody publishes on it any more"),
        Found.structural(
          "change",
          "new listeners",
          subject(topic, "topic"),
          "they do not hear what old publishers say there"
        )
      )
    ),
    ...pairs.added.map((topic) =>
      Found.only(
        Found.structural("change", "new listeners", subject(topic, "topic"), "old publishers say nothing on it")
      )
    )
  ])

const subject = (topic: AnyTopic, part: string): Found.Subject => ({ of: channelOf(topic), action: undefined, part })

const compared = (old: AnyTopic, now: AnyTopic, settings: Settings): ReadonlyArray<Effect.Effect<Found.Found>> => {
  const about = subject(old, "message")
  const refused = "the listener drops the message, and counts it"
  const read = (who: "old listeners" | "new listeners", writer: AnySchema, reader: AnySchema) =>
    Found.ofPart(who, about, writer, reader, refused, settings)
  const both = [read("new listeners", old.message, now.message), read("old listeners", now.message, old.message)]
  if (channelOf(old) === channelOf(now)) return both
  const name = subject(old, "channel")
  return [
    Found.only(
      Found.structural("breaking", "old listeners", name, `new publishers are on ${channelOf(now)}`),
      Found.structural(
        "breaking",
        "new listeners",
        name,
        `they listen to ${channelOf(now)}, and old publishers are here`
      )
    ),
    ...both
  ]
}
