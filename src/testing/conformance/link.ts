/** What a transport says of its link: at the beginning, when it is closed, and when the broker goes away. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type LinkState, states, Transport, type TransportError } from "../../transport/Transport.ts"
import { type Case, make, type Nonconformance, type TwoTransports } from "./Case.ts"
import { barrier, channel, fresh, join, recorder, same, send, signal } from "./tools.ts"

/** Waits for a state, the present one included. */
const until = (transport: Transport["Service"], what: string, ready: (state: LinkState) => boolean) =>
  Effect.suspend(() => {
    const came = signal(
      what,
      () => ready(transport.state),
      () => transport.state
    )
    return Effect.acquireUseRelease(
      Effect.sync(() => transport.watch(came.look)),
      () => came.wait,
      (leave) => Effect.sync(leave)
    )
  })

const down = (transport: Transport["Service"]) =>
  until(transport, "the link is down", (state) => state._tag === "Degraded" && state.down)
const ready = (transport: Transport["Service"]) =>
  until(transport, "the link is ready again", ({ _tag }) => _tag === "Ready")

/** Runs the middle while the broker is away, and goes on when both are ready again. */
const duringOutage = (
  { here, outage, there }: TwoTransports["Service"],
  middle: Effect.Effect<void, Nonconformance | TransportError, Scope.Scope> = Effect.void
) =>
  Effect.gen(function* () {
    const bothReady = Effect.all([ready(here), ready(there)], { concurrency: 2 })
    yield* Effect.acquireUseRelease(
      outage!.begin,
      () => Effect.andThen(Effect.all([down(here), down(there)], { concurrency: 2 }), middle),
      // Also after a failure: the next case begins with a link that is up, if it comes up at all.
      () => Effect.andThen(outage!.end, Effect.ignore(bothReady))
    )
    yield* bothReady
  })

/** Remembers how often `sent` was called for each send, and with which error. */
const ledger = () => {
  const calls: Array<Array<TransportError | undefined>> = []
  const complete = signal(
    "`sent` is called for each",
    () => calls.every(({ length }) => length > 0),
    () => `${calls.filter(({ length }) => length > 0).length} of ${calls.length}`
  )
  return {
    calls,
    complete: complete.wait,
    send: (transport: Transport["Service"], to: string, frame: string) => {
      const mine: Array<TransportError | undefined> = []
      calls.push(mine)
      transport.send(to, frame, (error) => {
        mine.push(error)
        complete.look()
      })
    },
    once: Effect.suspend(() =>
      same("sends that were not called back exactly once", calls.filter(({ length }) => length !== 1).length, 0)
    )
  }
}

/** Begins with the plain ones: those about outages come last, since they leave a gap behind. */
export const link: ReadonlyArray<Case> = [
  make("is ready from the beginning, and without a gap", [], ({ here }) =>
    same("state", here.state, { _tag: "Ready", gaps: 0 })
  ),

  make("streams the present state first", [], ({ here }) =>
    Effect.gen(function* () {
      const [first] = yield* Stream.runCollect(Stream.take(states, 1)).pipe(Effect.provideService(Transport, here))
      yield* same("first state", first, here.state)
    })
  ),

  make("says Closed when its Scope closes, and ends the stream of states", ["another"], ({ another }) =>
    Effect.gen(function* () {
      const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
      const transport = yield* Scope.provide(another!, scope)
      const all = yield* Effect.forkChild(Stream.runCollect(states).pipe(Effect.provideService(Transport, transport)), {
        startImmediately: true
      })
      yield* Scope.close(scope, Exit.void)
      yield* same("state", transport.state._tag, "Closed")
      yield* same(
        "states",
        (yield* Fiber.join(all)).map(({ _tag }) => _tag),
        ["Ready", "Closed"]
      )
    })
  ),

  make("calls `sent` exactly once for what is on its way when its Scope closes", ["another"], ({ another }) =>
    Effect.gen(function* () {
      const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
      const transport = yield* Scope.provide(another!, scope)
      const sends = ledger()
      const name = fresh()
      for (let i = 0; i < 1000; i++) sends.send(transport, name, String(i))
      yield* Scope.close(scope, Exit.void)
      yield* sends.complete
      yield* sends.once
    })
  ),

  make("refuses what comes after its Scope has closed, as Closed and not sent", ["another"], ({ another }) =>
    Effect.gen(function* () {
      const transport = yield* Effect.scoped(another!)
      const sends = ledger()
      sends.send(transport, fresh(), "late")
      yield* sends.complete
      yield* sends.once
      yield* same("error of send", [sends.calls[0]![0]?.kind, sends.calls[0]![0]?.sent], ["Closed", "no"])
      const refused = yield* Effect.exit(Effect.scoped(transport.subscribe(channel(fresh()), () => {})))
      yield* same("the subscription", refused._tag, "Failure")
    })
  ),

  make("counts a gap when the broker goes away, and is ready when it is back", ["outage"], (two) =>
    Effect.gen(function* () {
      const { here } = two
      const before = here.state.gaps
      // Where there are two connections, the one that frames come over may be missed later than the other.
      const counted = until(here, "the gap is counted while the broker is away", ({ gaps }) => gaps > before)
      yield* duringOutage(two, counted)
      yield* same("state", here.state, { _tag: "Ready", gaps: before + 1 })
    })
  ),

  make("subscribes again by itself before it is ready", ["outage", "at-most-once", "ordered"], (two) =>
    Effect.gen(function* () {
      const { here, there } = two
      const name = fresh()
      const [one, other] = [recorder(), recorder()]
      yield* there.subscribe(channel(name), one.receive)
      const { leave } = yield* join(there, channel(name), other.receive)
      yield* duringOutage(two)
      yield* send(here, name, "after")
      yield* one.until(1)
      yield* other.until(1)
      yield* leave
      yield* send(here, name, "later")
      yield* one.until(2)
      yield* barrier(here, there, name)
      yield* same("frames of the one that stays", one.frames, ["after", "later"])
      yield* same("frames of the one that left", other.frames, ["after"])
    })
  ),

  make("settles a subscription that is asked for while the broker is away", ["outage", "ordered"], (two) =>
    Effect.gen(function* () {
      const { here, there } = two
      const name = fresh()
      const seen = recorder()
      const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
      let asked: Fiber.Fiber<Exit.Exit<void, TransportError>> | undefined
      yield* duringOutage(
        two,
        Effect.gen(function* () {
          asked = yield* Effect.forkScoped(
            Effect.exit(Scope.provide(there.subscribe(channel(name), seen.receive), scope)),
            { startImmediately: true }
          )
        })
      )
      // Confirmed now that the broker is back, or failed: but not neither.
      const exit = yield* Fiber.join(asked!)
      if (Exit.isSuccess(exit)) {
        yield* send(here, name, "after")
        yield* seen.until(1)
      }
    })
  ),

  make("calls `sent` exactly once for each send of an outage", ["outage", "ordered"], (two) =>
    Effect.gen(function* () {
      const { here, there } = two
      const name = fresh()
      const seen = recorder()
      const sends = ledger()
      let next = 0
      const some = () => {
        for (let i = 0; i < 200; i++) sends.send(here, name, String(next++))
      }
      yield* there.subscribe(channel(name), seen.receive)
      some()
      // Those may be on their way when it begins.
      yield* duringOutage(two, Effect.sync(some))
      some()
      yield* sends.complete
      yield* barrier(here, there, name)
      yield* sends.once
      const arrived = new Set(seen.frames)
      if (here.capabilities.delivery === "at-most-once") {
        yield* same("frames that arrived twice", seen.frames.length - arrived.size, 0)
      }
      const denied = sends.calls.flatMap(([error], i) => (error?.sent === "no" && arrived.has(String(i)) ? [i] : []))
      yield* same("frames that arrived although their error says `sent: no`", denied, [])
    })
  )
]
