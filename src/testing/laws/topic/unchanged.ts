/** What is published is what listeners get. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Broadcast from "../../../client/Broadcast.ts"
import * as Topic from "../../../contract/Topic.ts"
import * as Listener from "../../../server/Listener.ts"
import { Transport } from "../../../transport/Transport.ts"
import { Violation } from "../Law.ts"
import * as Show from "../show.ts"
import { equivalence } from "../unchanged.ts"
import type { TopicLaw } from "./TopicLaw.ts"

/** @see the file's first line */
export const unchanged: TopicLaw = {
  name: "comes back unchanged",
  applies: () => true,
  prepare: ({ messages, topic }) => {
    const equals = equivalence(topic.message)
    return {
      inputs: messages,
      holds: (bench, message) =>
        Effect.gen(function* () {
          // A channel that nobody else listens to.
          const own = Topic.make(`laws-echo-${crypto.randomUUID()}`, topic.message) as Topic.Any
          const got = Deferred.makeUnsafe<unknown>()
          const listener = Listener.layer(own, (heard) => Deferred.succeed(got, heard))
          const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
          yield* Effect.orDie(Layer.buildWithScope(Layer.fresh(listener), scope))
          const published = yield* Effect.exit(Broadcast.publish(own, message as object))
          const violated = (cameBack: string) =>
            new Violation({ because: "what is published is another value when it arrives", cameBack })
          if (Exit.isFailure(published)) {
            const error = published.cause.reasons.find((reason) => reason._tag === "Fail")?.error
            if (error?.reason._tag === "PayloadTooLarge") return
            return yield* violated(error?.message ?? Show.cause(published.cause))
          }
          yield* bench.advance(bench.settings.millis, () => Deferred.isDoneUnsafe(got))
          if (!Deferred.isDoneUnsafe(got)) return yield* violated("nothing: it was dropped")
          const heard = yield* Deferred.await(got)
          if (!equals(heard, message)) return yield* violated(Show.value(heard))
        }).pipe(Effect.scoped, Effect.provideService(Transport, bench.transport)),
      show: (message) => Show.value(message)
    }
  }
}
