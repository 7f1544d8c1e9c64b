/**
 * Counts at the handlers: `node --conditions=fiberbus-source test/resilience/one-account.ts [calls] [redis-url]`.
 *
 * Three replicas over one Redis, half of the calls by a fiberbus caller and half as Daebus writes them, a thousand at once. Each must be handled
 * once, and answered once. Ends with status 1 where one is not. Default 100,000 calls, on a Redis of its own.
 */
import { randomUUID } from "node:crypto"
import { Effect, Layer, Logger, Schema, type Scope } from "effect"
import { Action, Caller, Handlers, Service, Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const Counted = Service.make(
  "counted",
  Action.make("count", { payload: { n: Schema.Finite }, success: { n: Schema.Finite } })
)

/** What became of so many calls over transports of their own: how often each was handled and answered, as far as that is not once. */
export const run = Effect.fnUntraced(function* (
  connect: Effect.Effect<Transport.Transport["Service"], Transport.TransportError, Scope.Scope>,
  calls: number
) {
  const handled = new Uint8Array(calls)
  const answered = new Uint8Array(calls)
  const shares = [0, 0, 0]
  for (const replica of shares.keys()) {
    const Live = Handlers.layer(
      Counted,
      {
        count: ({ n }) =>
          Effect.sync(() => {
            handled[n]!++
            shares[replica]!++
            return { n }
          })
      },
      { concurrency: 2_000, backlog: 10_000 }
    )
    yield* Layer.build(Layer.fresh(Layer.provide(Live, Layer.effect(Transport.Transport, connect))))
  }
  const transport = yield* connect
  const counted = yield* Effect.provideService(Caller.make(Counted), Transport.Transport, transport)

  const inbox = `caller:${randomUUID()}`
  const waiting = new Map<string, (n: number) => void>()
  yield* transport.subscribe({ _tag: "Channel", channel: inbox }, (frame) => {
    const { payload, request_id } = JSON.parse(String(frame))
    waiting.get(request_id)?.(payload.n)
  })
  /** As Daebus writes it, and waits for the first answer. */
  const asDaebus = (n: number) =>
    Effect.callback<{ readonly n: number }>((resume) => {
      const request_id = `r${n}`
      waiting.set(request_id, (answer) => {
        answered[n]!++
        resume(Effect.succeed({ n: answer }))
      })
      const frame = { action: "count", service: "counted", reply_to: inbox, payload: { n }, request_id }
      transport.send("counted", JSON.stringify(frame), () => {})
    })
  const failures: Array<string> = []
  yield* Effect.forEach(
    Array.from({ length: calls }, (_, n) => n),
    (n) =>
      n % 2 === 0
        ? asDaebus(n)
        : counted.count({ n }, { timeout: "1 minute" }).pipe(
            Effect.tap(() => Effect.sync(() => answered[n]!++)),
            Effect.catch((error) => Effect.sync(() => void failures.push(error.message)))
          ),
    { concurrency: 1_000, discard: true }
  )
  // Behind all that is still on its way: a second answer would come before it.
  for (let i = 0; i < 3; i++) yield* counted.count({ n: 0 }).pipe(Effect.andThen(Effect.sync(() => handled[0]!--)))
  const notOnce = Array.from({ length: calls }, (_, n) => n).filter((n) => handled[n] !== 1 || answered[n] !== 1)
  return { calls, notOnce, failures, shares }
})

if (process.argv[1] === import.meta.filename) {
  const [calls = "100000", given] = process.argv.slice(2)
  const program = Effect.gen(function* () {
    const url = given ?? (yield* RedisServer.make()).url
    const began = performance.now()
    const { failures, notOnce, shares } = yield* run(RedisPubSub.make({ url }), Number(calls))
    const seconds = ((performance.now() - began) / 1_000).toFixed(1)
    console.log(`${calls} calls in ${seconds} s, handled by replica: ${shares.join(", ")}`)
    console.log(`not handled and answered once: ${notOnce.length}, failed: ${failures.length}`, failures.slice(0, 3))
    if (notOnce.length > 0 || failures.length > 0) process.exitCode = 1
  })
  Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
}
