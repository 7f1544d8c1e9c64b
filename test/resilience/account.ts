/** A caller and a service on transports of their own, and the account of every call between them. */
import { assert } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schema } from "effect"
import { Action, CallError, Caller, Handlers, Service, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"

class Echo extends Service.make(
  "echo_service",
  Action.make("echo", { payload: { id: Schema.String, millis: Schema.Finite }, success: { id: Schema.String } })
) {}

type Outcome = { readonly id: string } | CallError.CallError

/** Waits until the link of a transport is so. */
export const untilState = (transport: Transport.Transport["Service"], is: (state: Transport.LinkState) => boolean) =>
  Effect.callback<Transport.LinkState>((resume) => {
    const look = (state: Transport.LinkState) => {
      if (!is(state)) return
      leave()
      resume(Effect.succeed(state))
    }
    const leave = transport.watch(look)
    look(transport.state)
    return Effect.sync(leave)
  })

export const isReady = ({ _tag }: Transport.LinkState) => _tag === "Ready"
export const isDown = (state: Transport.LinkState) => state._tag === "Degraded" && state.down

export const make = Effect.fnUntraced(function* (
  here: Transport.Transport["Service"],
  there: Transport.Transport["Service"]
) {
  const executions = new Map<string, number>()
  const handlers = Handlers.layer(
    Echo,
    {
      echo: ({ id, millis }) =>
        Effect.suspend(() => {
          executions.set(id, (executions.get(id) ?? 0) + 1)
          return Effect.as(millis === 0 ? Effect.void : Effect.sleep(millis), { id })
        })
    },
    { concurrency: 10_000, grace: 0 }
  )
  yield* Layer.build(Layer.provide(handlers, Layer.succeed(Transport.Transport, there)))
  const context = Context.make(Transport.Transport, here)
  const echo = yield* Effect.provideContext(Caller.make(Echo), context)
  const { size } = yield* Effect.provideContext(inbox, context)

  const outcomes = new Map<string, Array<Outcome>>()
  let count = 0
  const call = (options?: { readonly millis?: number; readonly timeout?: number }) =>
    Effect.suspend(() => {
      const id = `call ${count++}`
      const ended: Array<Outcome> = []
      outcomes.set(id, ended)
      return echo.echo({ id, millis: options?.millis ?? 0 }, { timeout: options?.timeout ?? 5000 }).pipe(
        Effect.catch((error) => Effect.succeed(error)),
        Effect.tap((outcome) => Effect.sync(() => ended.push(outcome)))
      )
    })

  const calls = (count: number, options?: { readonly millis?: number; readonly timeout?: number }) =>
    Effect.all(
      Array.from({ length: count }, () => call(options)),
      { concurrency: "unbounded" }
    )

  return {
    call,
    calls,
    pending: size,
    /** All of so many calls succeed. */
    allSucceed: (count: number) =>
      Effect.map(calls(count), (all) => {
        for (const outcome of all) assert.notInstanceOf(outcome, CallError.CallError, String(outcome))
      }),
    /** Calls on and on, twenty at once, for as long as the fault takes; then waits for their outcomes. */
    during: <A, E, R>(fault: Effect.Effect<A, E, R>) =>
      Effect.gen(function* () {
        let over = false
        const one = Effect.whileLoop({
          while: () => !over,
          body: () => Effect.andThen(call({ millis: 5 }), Effect.sleep(1)),
          step: () => {}
        })
        const traffic = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 20 }, () => one),
            { concurrency: "unbounded", discard: true }
          )
        )
        const result = yield* fault
        over = true
        yield* Fiber.join(traffic)
        return result
      }),
    /** The balance: one outcome for each call, none run twice, none run that is told not to have been. Gives the reasons' numbers. */
    balance: (allowed: ReadonlyArray<CallError.CallErrorReason["_tag"]>) => {
      const reasons: Record<string, number> = {}
      for (const [id, ended] of outcomes) {
        assert.lengthOf(ended, 1, id)
        const [outcome] = ended
        const runs = executions.get(id) ?? 0
        assert.isAtMost(runs, 1, id)
        if (!(outcome instanceof CallError.CallError)) {
          assert.strictEqual(outcome!.id, id)
          assert.strictEqual(runs, 1, id)
          continue
        }
        const { reason, started } = outcome
        const name = reason._tag === "TransportError" ? `TransportError ${reason.kind} ${started}` : reason._tag
        reasons[name] = (reasons[name] ?? 0) + 1
        assert.include(allowed, reason._tag, outcome.message)
        if (started === "no") assert.strictEqual(runs, 0, outcome.message)
        if (reason._tag === "ConnectionLost") assert.notStrictEqual(started, "no")
      }
      for (const id of executions.keys()) assert.isTrue(outcomes.has(id), id)
      assert.strictEqual(size(), 0)
      return { sent: outcomes.size, failed: reasons }
    }
  }
})
