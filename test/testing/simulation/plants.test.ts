import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, type Scope, Stream } from "effect"
import { Action, Handlers, Service, Transport } from "fiberbus"
import { Simulation } from "fiberbus/testing"

const Shop = Service.make(
  "shop",
  Action.make("pay", { payload: { order: Schema.Finite }, success: { receipt: Schema.Finite } }),
  Action.make("list", { payload: { to: Schema.Finite }, items: Schema.Finite }),
  Action.make("watch", { payload: { n: Schema.Finite } })
)

const shopLive = (millis: number) =>
  Handlers.layer(Shop, {
    pay: ({ order }) =>
      Effect.as(Effect.andThen(Simulation.note("charged", order), Effect.sleep(millis)), { receipt: order }),
    list: ({ to }) => Stream.range(1, to).pipe(Stream.tap(() => Effect.sleep(2))),
    watch: () => Effect.never
  })
const ShopLive = shopLive(5)

const paying = Effect.gen(function* () {
  const shop = yield* Simulation.caller(Shop)
  yield* Effect.forEach(
    Array.from({ length: 12 }, (_, n) => n),
    (order) => Effect.andThen(Effect.sleep(order * 700), Effect.exit(shop.pay({ order }))),
    { concurrency: "unbounded" }
  )
  yield* Simulation.calm
  yield* Effect.exit(shop.pay({ order: 99 }))
})

type Port = Transport.Transport["Service"]

/** A transport with a bug: what it does otherwise than the one below it. */
const broken = (bug: (transport: Port) => Partial<Pick<Port, "send" | "subscribe">>) =>
  Layer.effect(
    Transport.Transport,
    Effect.map(Transport.Transport, (transport) => {
      const changed = bug(transport)
      return Transport.Transport.of({
        ...transport,
        ...changed,
        get state() {
          return transport.state
        }
      })
    })
  )

type Options = Simulation.Options<
  { readonly [process: string]: Layer.Layer<never, unknown, Transport.Transport> },
  { readonly [process: string]: Effect.Effect<unknown, unknown, Transport.Transport | Scope.Scope> }
>

const falsified = (options: Options) =>
  Effect.map(Effect.flip(Simulation.check({ ...options, seeds: 60 })), (found) => {
    // A failing seed does so each time, with the few faults that are left, and shows why.
    assert.include(found.message, found.report.violation!.text)
    assert.include(found.message, `seed: ${found.seed}, faults: [`)
    return found
  })

const again = (options: Options, found: Simulation.Falsified) =>
  Effect.map(Simulation.run({ ...options, seed: found.seed, faults: found.faults }), (report) => {
    assert.deepStrictEqual(report.violation, found.report.violation)
    assert.isTrue(report.trace === found.report.trace)
  })

/** Without the milliseconds, which follow from every frame that is sent. */
const timeless = (text: string) => text.replace(/\b\d{4}\b/g, "0000")

const chargedOnce = Simulation.invariant("nobody is charged twice", () => {
  const charged = new Set<unknown>()
  return {
    along: (event) => {
      if (event._tag !== "Noted" || event.name !== "charged") return undefined
      if (charged.has(event.value)) return { call: event.call, text: `order ${event.value} is charged twice` }
      charged.add(event.value)
      return undefined
    }
  }
})

describe("A planted bug", () => {
  it.live("is shrunk to its one fault, and drawn: a service that a network that repeats makes charge twice", () =>
    Effect.gen(function* () {
      const options = {
        services: { shop: ShopLive },
        clients: { ann: paying },
        faults: { twice: 0.05, late: 0.05, cuts: 2 },
        invariants: [...Simulation.Promises.all, chargedOnce]
      }
      const found = yield* falsified(options)
      assert.strictEqual(
        timeless(found.message),
        `seed 2 breaks "nobody is charged twice": order 6 is charged twice

It takes 1 of 4 faults:
  frame 8 of ann arrives twice

     ms  shop          ann
   0000  │             ●             ann#7: shop.pay
   0000  │◀────────────┤             pay ann#7
   0000  ●             │             runs ann#7
   0000  ●             │             charged 6
   0000  ├────────────▶│             success ann#7
   0000  │             ●             ann#7: Success
   0000  │◀────────────┤             pay ann#7, sent at 0000, again
   0000  ●             │             runs ann#7
   0000  ●             │             charged 6
   0000  │             │             ✗ order 6 is charged twice

To see it again: Simulation.run({ …, seed: 2, faults: [{"_tag":"Twice","process":"ann","frame":8}] })`
      )
      assert.strictEqual(
        timeless(found.report.mermaid),
        `sequenceDiagram
  participant shop
  participant ann
  Note over ann: 0000 ms ann#35;7: shop.pay
  ann->>shop: 0000 ms pay ann#35;7
  Note over shop: 0000 ms runs ann#35;7
  Note over shop: 0000 ms charged 6
  shop->>ann: 0000 ms success ann#35;7
  Note over ann: 0000 ms ann#35;7: Success
  ann->>shop: 0000 ms pay ann#35;7, sent at 0000, again
  Note over shop: 0000 ms runs ann#35;7
  Note over shop: 0000 ms charged 6
  Note over shop,ann: 0000 ms ✗ order 6 is charged twice`
      )
      yield* again(options, found)
      // The network's fault, by our own promises.
      assert.strictEqual(
        (yield* Simulation.check({ ...options, invariants: Simulation.Promises.all, seeds: 5 })).seeds,
        5
      )
    })
  )

  it.live("is found: a client that waits for its answers without an end", () =>
    Effect.gen(function* () {
      const asking = Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const waiting = new Map<string, () => void>()
        yield* transport.subscribe({ _tag: "Channel", channel: "caller:ann" }, (frame) =>
          waiting.get(JSON.parse(String(frame)).request_id)?.()
        )
        yield* Effect.forEach(
          Array.from({ length: 12 }, (_, n) => n),
          (order) =>
            Effect.callback<void>((resume) => {
              const request = { action: "pay", payload: { order }, reply_to: "caller:ann", request_id: `ann-${order}` }
              waiting.set(request.request_id, () => resume(Effect.void))
              transport.send("shop", JSON.stringify(request), (error) => error !== undefined && resume(Effect.void))
            }).pipe(Simulation.call("pay", { within: "5 seconds" }), Effect.delay(order * 700)),
          { concurrency: "unbounded" }
        )
      })
      const options = { services: { shop: ShopLive }, clients: { ann: asking } }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.endsInTime.name)
      assert.match(found.report.violation!.text, /^ann#\d+ has not ended by its deadline, \d+ ms$/)
      assert.lengthOf(found.faults, 1)
      yield* again(options, found)
    })
  )

  it.live("is found: a flow control whose steps are not numbered, so that a stream loses some without a word", () =>
    Effect.gen(function* () {
      const Uncounted = broken((transport) => ({
        send: (channel, frame, sent) => {
          const { fiberbus, ...rest } = JSON.parse(frame)
          const payload = fiberbus?.packed ? rest.payload[0] : rest.payload
          transport.send(channel, JSON.stringify({ ...rest, payload }), sent)
        }
      }))
      const options = {
        services: { shop: ShopLive.pipe(Layer.provide(Uncounted)) },
        clients: {
          ann: Effect.gen(function* () {
            const shop = yield* Simulation.caller(Shop)
            for (let n = 0; n < 5; n++) yield* Effect.exit(Stream.runDrain(shop.list({ to: 10 })))
          })
        },
        faults: { lost: 0.05 }
      }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.nothingLeftOut.name)
      assert.match(found.report.violation!.text, /^step \d+ of ann#\d is \d+, but \d+ was sent$/)
      assert.lengthOf(found.faults, 1)
      assert.deepInclude(found.faults[0], { _tag: "Lost", process: "shop" })
      assert.match(found.report.diagram, /├─+✗│ +step ann#\d: lost/)
      yield* again(options, found)
    })
  )

  it.live("is found: a client library that sends again what was not confirmed", () =>
    Effect.gen(function* () {
      const Resending = broken((transport) => ({
        send: (channel, frame, sent) =>
          transport.send(channel, frame, (error, receivers) =>
            error?.sent === "unknown" ? transport.send(channel, frame, sent) : sent(error, receivers)
          )
      }))
      const options = { services: { shop: ShopLive }, clients: { ann: Effect.provide(paying, Resending) } }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.runsOnce.name)
      assert.lengthOf(found.faults, 1)
      yield* again(options, found)
    })
  )

  it.live("is found: a transport that says that nothing was sent where it does not know", () =>
    Effect.gen(function* () {
      const Lying = broken((transport) => ({
        send: (channel, frame, sent) =>
          transport.send(channel, frame, (error, receivers) =>
            sent(error === undefined ? undefined : new Transport.TransportError({ ...error, sent: "no" }), receivers)
          )
      }))
      const options = { services: { shop: shopLive(2_500) }, clients: { ann: Effect.provide(paying, Lying) } }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.saysWhetherItRan.name)
      yield* again(options, found)
    })
  )

  it.live("is found: answers that go to the question before", () =>
    Effect.gen(function* () {
      const Mixing = broken((transport) => {
        let before: unknown
        return {
          send: (channel, frame, sent) => {
            const reply = JSON.parse(frame)
            const payload = before ?? reply.payload
            before = reply.payload
            transport.send(channel, JSON.stringify({ ...reply, payload }), sent)
          }
        }
      })
      const options = { services: { shop: ShopLive.pipe(Layer.provide(Mixing)) }, clients: { ann: paying } }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.answersItsQuestion.name)
      assert.lengthOf(found.faults, 0)
      assert.include(found.message, "It takes no fault.")
      yield* again(options, found)
    })
  )

  it.live("is found: a service that is deaf after its first gap", () =>
    Effect.gen(function* () {
      const Deaf = broken((transport) => ({
        subscribe: (target, receive) =>
          transport.subscribe(target, (frame, channel) => {
            if (transport.state.gaps === 0) receive(frame, channel)
          })
      }))
      const options = { services: { shop: ShopLive.pipe(Layer.provide(Deaf)) }, clients: { ann: paying } }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.recovers.name)
      assert.lengthOf(found.faults, 1)
      yield* again(options, found)
    })
  )

  it.live("is found: a handler that nobody ends", () =>
    Effect.gen(function* () {
      const watching = Effect.flatMap(Simulation.caller(Shop), (shop) => shop.watch.send({ n: 1 }))
      const options = { services: { shop: ShopLive }, clients: { ann: watching }, faults: {} }
      const found = yield* falsified(options)
      assert.strictEqual(found.invariant, Simulation.Promises.leavesNothing.name)
      assert.strictEqual(found.report.violation?.text, "shop.watch still runs in shop")
    })
  )

  it.live("is found: a client that fails, one that dies, and one that never ends", () =>
    Effect.gen(function* () {
      const withClient = (ann: Effect.Effect<unknown, unknown>) =>
        Simulation.run({ seed: 1, services: {}, clients: { ann }, limit: "1 minute", faults: {} })
      assert.deepInclude((yield* withClient(Effect.fail("oh"))).violation, {
        invariant: "processes end well",
        text: "ann failed: oh"
      })
      assert.deepInclude((yield* withClient(Effect.die(new Error("no")))).violation, { text: "ann failed: Error: no" })
      assert.deepInclude((yield* withClient(Effect.never)).violation, { text: "ann did not come to an end" })
      // Too little to be added to the time: it passes all the same.
      const napping = Effect.andThen(Effect.sleep("10 seconds"), Effect.repeat(Effect.sleep(1e-13), { times: 10 }))
      assert.isUndefined((yield* withClient(napping)).violation)
      const spinning = Effect.forever(Effect.yieldNow)
      assert.deepInclude((yield* withClient(spinning)).violation, {
        text: "ann did not come to an end, and time stands still at 0 ms"
      })
    })
  )
})
