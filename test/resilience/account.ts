/** A caller and one or several replicas of a service on transports of their own, and the account of every call between them. */
import assert from "node:assert/strict"
import { Context, Effect, Fiber, Layer, Schema, Stream } from "effect"
import { Action, CallError, Caller, Handlers, Service, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"
import * as Ledger from "./ledger.ts"

class Echo extends Service.make(
  "echo_service",
  Action.make("echo", {
    payload: { id: Schema.String, millis: Schema.Finite, text: Schema.optionalKey(Schema.String) },
    success: { id: Schema.String, text: Schema.optionalKey(Schema.String) }
  }),
  Action.make("count", { payload: { id: Schema.String, to: Schema.Finite }, items: Schema.Finite })
) {}

/** How a call is made: the time its handler takes, its own time, and a text that travels both ways. */
export interface CallOptions {
  readonly millis?: number
  readonly timeout?: number
  readonly text?: string
}

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
  there: Transport.Transport["Service"] | ReadonlyArray<Transport.Transport["Service"]>,
  limits: { readonly concurrency: number; readonly backlog?: number } = { concurrency: 10_000 }
) {
  const ledger = Ledger.make()
  let producing = 0
  const handlers = Handlers.layer(
    Echo,
    {
      echo: ({ id, millis, ...text }) =>
        Effect.suspend(() => {
          ledger.ran(id)
          return Effect.as(millis === 0 ? Effect.void : Effect.sleep(millis), { id, ...text })
        }),
      count: ({ id, to }) =>
        Stream.unwrap(
          Effect.sync(() => {
            ledger.ran(id)
            producing++
            return Stream.range(1, to).pipe(
              Stream.rechunk(10),
              Stream.tap((n) => (n % 10 === 0 ? Effect.sleep(1) : Effect.void)),
              Stream.ensuring(Effect.sync(() => producing--))
            )
          })
        )
    },
    { ...limits, grace: 0 }
  )
  const replicas = "send" in there ? [there] : there
  for (const replica of replicas) {
    yield* Layer.build(Layer.fresh(Layer.provide(handlers, Layer.succeed(Transport.Transport, replica))))
  }
  const context = Context.make(Transport.Transport, here)
  const echo = yield* Effect.provideContext(Caller.make(Echo), context)
  const { router, size } = yield* Effect.provideContext(inbox, context)
  // From now on each request goes to one process that serves; a faulty link may keep that from being known.
  const processes = yield* router(Echo.serviceName)
  for (let look = 0; look < 100 && [...processes.all()].length < replicas.length; look++) {
    yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
  }

  const call = (options?: CallOptions) =>
    Effect.suspend(() => {
      const id = ledger.begin()
      const { millis = 0, timeout = 5000, text } = options ?? {}
      return echo.echo({ id, millis, ...(text === undefined ? {} : { text }) }, { timeout }).pipe(
        Effect.catch((error) => Effect.succeed(error)),
        Effect.tap((outcome) => Effect.sync(() => ledger.ended(id, outcome)))
      )
    })

  /** A stream of items: whole and in order, or a failure. */
  const stream = (to: number, timeout: number) =>
    Effect.suspend(() => {
      const id = ledger.begin()
      let last = 0
      return Stream.runForEach(echo.count({ id, to }, { timeout }), (n) =>
        Effect.sync(() => {
          if (n !== ++last) ledger.wrong(`${id} brought ${n} in the place of ${last}`)
        })
      ).pipe(
        Effect.match({
          onFailure: (error): Ledger.Outcome => error,
          onSuccess: (): Ledger.Outcome => {
            if (last !== to) ledger.wrong(`${id} ended with ${last} of ${to}`)
            return { id }
          }
        }),
        Effect.tap((outcome) => Effect.sync(() => ledger.ended(id, outcome)))
      )
    })

  const calls = (count: number, options?: CallOptions) =>
    Effect.all(
      Array.from({ length: count }, () => call(options)),
      { concurrency: "unbounded" }
    )

  return {
    call,
    calls,
    stream,
    /** Streams whose producers have begun and not ended. */
    producing: () => producing,
    pending: size,
    ledger,
    /** All of so many calls succeed. */
    allSucceed: (count: number, options?: CallOptions) =>
      Effect.map(calls(count, options), (all) => {
        for (const outcome of all) assert.ok(!(outcome instanceof CallError.CallError), String(outcome))
      }),
    /** Calls on and on, twenty at once, for as long as the fault takes; then waits for their outcomes. */
    during: <A, E, R>(fault: Effect.Effect<A, E, R>, options: CallOptions = { millis: 5 }) =>
      Effect.gen(function* () {
        let over = false
        const one = Effect.whileLoop({
          while: () => !over,
          body: () => Effect.andThen(call(options), Effect.sleep(1)),
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
      const { problems, ...balance } = ledger.balance()
      assert.deepEqual(problems, [])
      for (const reason of Object.keys(balance.failed)) {
        assert.ok((allowed as ReadonlyArray<string>).includes(reason.split(" ")[0]!), `${reason} must not happen here`)
      }
      assert.equal(size(), 0)
      return balance
    }
  }
})
