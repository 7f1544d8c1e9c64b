import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Logger, Schedule, Stream } from "effect"
import { Memory, Transport } from "fiberbus"
import * as Backoff from "../../src/transport/Backoff.ts"
import * as Waits from "../../src/transport/internal/waits.ts"
import * as LinkState from "../../src/transport/LinkState.ts"

const lost = new Transport.TransportError({
  kind: "ConnectionLost",
  operation: "test",
  detail: "cut",
  hint: "",
  sent: "unknown"
})
const ready = (gaps: number): LinkState.LinkState => ({ _tag: "Ready", gaps })
const degraded = (gaps: number, down = true): LinkState.LinkState => ({ _tag: "Degraded", gaps, error: lost, down })
const closed: LinkState.LinkState = { _tag: "Closed", gaps: 0, error: undefined }

describe("LinkState", () => {
  it("tells each watcher each change, in order, until it leaves", () => {
    const link = LinkState.make(ready(0))
    const [one, two]: [Array<string>, Array<string>] = [[], []]
    const leave = link.watch(({ _tag }) => one.push(_tag))
    link.watch(({ _tag }) => two.push(_tag))
    link.change(degraded(1))
    leave()
    leave()
    link.change(ready(1))
    assert.deepStrictEqual(one, ["Degraded"])
    assert.deepStrictEqual(two, ["Degraded", "Ready"])
    assert.deepStrictEqual(link.current(), ready(1))
  })

  it("stays closed", () => {
    const link = LinkState.make(ready(0))
    link.change(closed)
    link.change(ready(0))
    assert.strictEqual(link.current()._tag, "Closed")
  })

  it.effect("survives a watcher that throws", () =>
    Effect.sync(() => {
      const link = LinkState.make(ready(0))
      const seen: Array<string> = []
      link.watch(() => {
        throw new Error("thrown on purpose")
      })
      link.watch(({ _tag }) => seen.push(_tag))
      link.change(degraded(1))
      assert.deepStrictEqual(seen, ["Degraded"])
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it("is down only while a connection is missing", () => {
    assert.isUndefined(LinkState.downReason(ready(1)))
    assert.isUndefined(LinkState.downReason(degraded(1, false)))
    assert.strictEqual(LinkState.downReason(degraded(1)), lost)
    assert.strictEqual(LinkState.downReason(closed), "closed")
    assert.strictEqual(LinkState.downReason({ _tag: "Connecting", gaps: 0 }), "connecting")
  })
})

describe("Transport.states", () => {
  const stated = () => {
    const link = LinkState.make(ready(0))
    const transport = Transport.Transport.of({ ...Memory.make(), state: ready(0), watch: link.watch })
    Object.defineProperty(transport, "state", { get: link.current })
    return { link, transport }
  }

  it.effect("streams the present state, then each change, and ends when it is closed", () =>
    Effect.gen(function* () {
      const { link, transport } = stated()
      const seen: Array<string> = []
      const fiber = yield* Transport.states.pipe(
        Stream.runForEach((state) =>
          Effect.sync(() => {
            seen.push(state._tag)
            if (state._tag === "Ready" && state.gaps === 0) link.change(degraded(1))
            else if (state._tag === "Degraded") link.change(ready(1))
            else link.change(closed)
          })
        ),
        Effect.provideService(Transport.Transport, transport),
        Effect.forkChild
      )
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen, ["Ready", "Degraded", "Ready", "Closed"])
    })
  )

  it.effect("leaves out the oldest for a slow reader, who still learns of every gap", () =>
    Effect.gen(function* () {
      const { link, transport } = stated()
      const states = yield* Transport.states.pipe(
        Stream.mapEffect((state) =>
          Effect.sync(() => {
            if (state._tag === "Ready" && state.gaps === 0) {
              for (let gaps = 1; gaps <= 100; gaps++) {
                link.change(degraded(gaps))
                link.change(ready(gaps))
              }
              link.change({ ...closed, gaps: 100 })
            }
            return state
          })
        ),
        Stream.runCollect,
        Effect.provideService(Transport.Transport, transport)
      )
      assert.isAtMost(states.length, 1 + Transport.statesBuffer)
      assert.deepStrictEqual(states.at(-1), { ...closed, gaps: 100 })
    })
  )

  it.effect("are Ready over memory until its Scope closes", () =>
    Effect.gen(function* () {
      const transport = yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        assert.deepStrictEqual(transport.state, ready(0))
        return transport
      }).pipe(Effect.provide(Memory.layer))
      assert.strictEqual(transport.state._tag, "Closed")
      const error = yield* Effect.flip(
        Transport.publish("a", "x").pipe(Effect.provideService(Transport.Transport, transport))
      )
      assert.strictEqual(error.kind, "Closed")
      assert.strictEqual(error.sent, "no")
      const late = yield* Effect.flip(Effect.scoped(transport.subscribe({ _tag: "Channel", channel: "a" }, () => {})))
      assert.strictEqual(late.kind, "Closed")
    })
  )
})

describe("Backoff", () => {
  const delays = (schedule: Schedule.Schedule<unknown, unknown>, count: number) =>
    Effect.gen(function* () {
      const step = yield* Schedule.toStep(schedule)
      const all: Array<number> = []
      for (let i = 0; i < count; i++) all.push(Duration.toMillis((yield* step(i, undefined))[1]))
      return all
    })

  it.effect("doubles to its longest wait, takes any part of it, and never ends", () =>
    Effect.gen(function* () {
      const all = yield* delays(Backoff.reconnect, 2000)
      for (const [i, millis] of all.entries()) {
        assert.isAtLeast(millis, 0)
        assert.isAtMost(millis, Math.min(5000, 50 * 2 ** i))
      }
      // Full jitter: short waits come as well as long ones.
      assert.isBelow(Math.min(...all.slice(20)), 1000)
      assert.isAbove(Math.max(...all), 4000)
    })
  )
})

describe("waits", () => {
  const ask = (waits: Waits.Waits) =>
    Effect.callback<number | undefined>((resume) => waits.next(lost, (millis) => resume(Effect.succeed(millis))))

  it.effect("follow a schedule without sleeping, begin again, and tell its end", () =>
    Effect.gen(function* () {
      const waits = Waits.make(Schedule.exponential("1 hour").pipe(Schedule.upTo({ times: 2 })))
      const hour = 3_600_000
      assert.deepStrictEqual([yield* ask(waits), yield* ask(waits), yield* ask(waits)], [hour, 2 * hour, undefined])
      waits.reset()
      assert.strictEqual(yield* ask(waits), hour)
    })
  )

  it.effect("give the error to the schedule, and count one that dies as ended", () =>
    Effect.gen(function* () {
      const picky = Schedule.forever.pipe(
        Schedule.setInputType<Transport.TransportError>(),
        Schedule.while(({ input }) => input.kind !== "ConnectionLost")
      )
      assert.isUndefined(yield* ask(Waits.make(picky)))
      const dies = Schedule.forever.pipe(Schedule.modifyDelay(() => Effect.die(new Error("a bug of the schedule"))))
      assert.isUndefined(yield* ask(Waits.make(dies)))
    })
  )
})
