/** When a receiver hears, and when it does not. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type Case, make } from "./Case.ts"
import { barrier, channel, fresh, join, recorder, same, send } from "./tools.ts"

/** Smallest first. */
export const subscriptions: ReadonlyArray<Case> = [
  make("confirms a subscription when the next frame of anybody reaches it", [], ({ here, there }) =>
    Effect.gen(function* () {
      for (let i = 0; i < 100; i++) {
        const name = fresh()
        const seen = recorder()
        yield* there.subscribe(channel(name), seen.receive)
        here.send(name, "next", () => {})
        yield* seen.until(1)
      }
    })
  ),

  make("brings nothing that was sent before the subscription", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* send(here, name, "before")
      yield* there.subscribe(channel(name), seen.receive)
      yield* send(here, name, "after")
      yield* seen.until(1)
      yield* barrier(here, there, name)
      yield* same("frames", seen.frames, ["after"])
    })
  ),

  make("brings nothing after the Scope has closed", ["ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      const { leave } = yield* join(there, channel(name), seen.receive)
      yield* send(here, name, "during")
      yield* seen.until(1)
      yield* leave
      yield* send(here, name, "after")
      yield* barrier(here, there, name)
      yield* same("frames", seen.frames, ["during"])
    })
  ),

  make("gives each of several receivers each frame", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const [one, two] = [recorder(), recorder()]
      yield* there.subscribe(channel(name), one.receive)
      yield* there.subscribe(channel(name), two.receive)
      // The same function again counts as another.
      yield* there.subscribe(channel(name), two.receive)
      yield* send(here, name, "a")
      yield* send(here, name, "b")
      yield* two.until(4)
      yield* barrier(here, there, name)
      yield* same("frames of the first", one.frames, ["a", "b"])
      yield* same("frames of the second, subscribed twice", two.frames, ["a", "a", "b", "b"])
    })
  ),

  make("keeps a receiver when another of the same channel leaves", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const [stays, leaves] = [recorder(), recorder()]
      yield* there.subscribe(channel(name), stays.receive)
      const { leave } = yield* join(there, channel(name), leaves.receive)
      yield* send(here, name, "both")
      yield* leaves.until(1)
      yield* leave
      yield* send(here, name, "one")
      yield* stays.until(2)
      yield* barrier(here, there, name)
      yield* same("frames of the one that stays", stays.frames, ["both", "one"])
      yield* same("frames of the one that left", leaves.frames, ["both"])
    })
  ),

  make("subscribes a channel again at once, any number of times", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      let last: Effect.Effect<unknown> = Effect.void
      for (let i = 0; i < 50; i++) {
        const seen = recorder()
        const { leave } = yield* join(there, channel(name), seen.receive)
        // The one before leaves while this one is there, every second time.
        yield* last
        yield* send(here, name, String(i))
        yield* seen.until(1)
        yield* same("frame", seen.frames[0], String(i))
        if (i % 2 === 0) {
          yield* leave
          last = Effect.void
        } else last = leave
      }
    })
  ),

  make("subscribes a channel while its last receiver is leaving", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      let leave: Effect.Effect<unknown> = Effect.void
      for (let i = 0; i < 50; i++) {
        const seen = recorder()
        const leaving = leave
        const [joined] = yield* Effect.all([join(there, channel(name), seen.receive), leaving], {
          concurrency: i % 2 === 0 ? 2 : 1
        })
        leave = joined.leave
        yield* send(here, name, String(i))
        yield* seen.until(1)
      }
    })
  ),

  make("leaves nothing behind when a subscription is interrupted", ["exact receivers"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.forkChild(Effect.scoped(there.subscribe(channel(name), () => {})), {
          startImmediately: true
        })
        if (i % 2 === 0) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
      }
      yield* barrier(here, there, name)
      yield* same("receivers", yield* send(here, name, "x"), 0)
    })
  ),

  make("stays right while many subscribe and leave at once", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const few = [fresh(), fresh(), fresh()]
      yield* Effect.forEach(
        Array.from({ length: 60 }, (_, i) => i),
        (i) =>
          Effect.gen(function* () {
            const seen = recorder()
            for (let round = 0; round < 5; round++) {
              const name = few[(i + round) % few.length]!
              const before = seen.frames.length
              const { leave } = yield* join(there, channel(name), seen.receive)
              here.send(name, "churn", () => {})
              yield* seen.until(before + 1)
              yield* leave
            }
          }),
        { concurrency: "unbounded", discard: true }
      )
      // Frames of the churn may still be on their way.
      for (const name of few) {
        yield* barrier(here, there, name)
        const seen = recorder()
        yield* there.subscribe(channel(name), seen.receive)
        yield* send(here, name, "still there")
        yield* seen.until(1)
        yield* barrier(here, there, name)
        yield* same("frames", seen.frames, ["still there"])
      }
    })
  )
]
