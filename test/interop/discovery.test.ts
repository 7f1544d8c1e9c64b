/** The frames of docs/wire.md, "What a process tells": those that travel. */
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue } from "effect"
import { Action, Discovery, Handlers, Health, Memory, Service, Transport } from "fiberbus"
import { NatsServer, RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as Nats from "fiberbus/transport/Nats"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const docs = readFileSync(resolve(import.meta.dirname, "../../docs/wire.md"), "utf8")
const section = docs.slice(docs.indexOf("## What a process tells"))
const golden = section
  .slice(section.indexOf("```json\n") + 8, section.indexOf("\n```", section.indexOf("```json\n") + 8))
  .split("\n")

class Orders extends Service.make("orders", Action.make("place")) {}
class Users extends Service.make("users", Action.make("get")) {}

const OrdersLive = Handlers.layer(Orders, { place: () => Effect.void }, { version: "1.2.0" })
const UsersLive = Handlers.layer(Users, { get: () => Effect.void })

// What differs from run to run.
const settled = (frame: string) =>
  frame
    .replaceAll(/"caller:[^"]*"/g, '"caller:0b5c…"')
    .replaceAll(/"[\w-]{8}-[\w-]{4}"/g, '"0b5c1f2e-77a1"')
    .replaceAll(/"request_id":"[^"]*"/g, '"request_id":"7e1f…"')

describe("discovery on the wire", () => {
  it.effect("asks and answers as documented", () => {
    const memory = Memory.make()
    const frames: Array<string> = []
    const recording = Transport.Transport.of({
      ...memory,
      send: (channel, frame, sent) => {
        frames.push(frame)
        memory.send(channel, frame, sent)
      }
    })
    return Effect.gen(function* () {
      frames.length = 0
      yield* Discovery.services()
      const [found] = yield* Discovery.instances(Orders)
      frames.length = 3
      yield* Discovery.health(Orders, { instance: found!.instance })
      // It has asked who is there before.
      frames.splice(3, 2)
      assert.deepStrictEqual(frames.map(settled), golden.map(settled))
    }).pipe(Effect.provide(Layer.merge(OrdersLive, UsersLive)), Effect.provideService(Transport.Transport, recording))
  })

  it.effect("answers nothing but these questions, to inboxes, on the channel that all hear", () =>
    Effect.gen(function* () {
      const { send, subscribe } = yield* Transport.Transport
      const answers = yield* Queue.unbounded<string>()
      for (const channel of ["caller:me", "elsewhere"]) {
        yield* subscribe({ _tag: "Channel", channel }, (frame) => void Queue.offerUnsafe(answers, frame.toString()))
      }
      const ask = (action: string, reply_to: string | undefined, more: object = {}) =>
        send("fiberbus.who", JSON.stringify({ action, reply_to, request_id: action + reply_to, ...more }), () => {})
      ask("$ping", "elsewhere")
      ask("$ping", undefined)
      ask("place", "caller:me", { service: "orders" })
      ask("$ping", "caller:me", { service: "nobody" })
      ask("$ping", "caller:me", { payload: { instance: "another" } })
      send("fiberbus.who", "[]", () => {})
      send("fiberbus.who", '{"action":7}', () => {})
      ask("$stats", "caller:me", { service: "users" })
      const { payload, request_id } = JSON.parse(yield* Queue.take(answers))
      assert.deepStrictEqual([request_id, payload.service], ["$statscaller:me", "users"])
      assert.strictEqual(yield* Queue.size(answers), 0)
    }).pipe(Effect.provide(Layer.merge(OrdersLive, UsersLive)), Effect.provide(Memory.layer))
  )
})

/** A process and a caller, each with a link of its own. */
const overNetwork = (transport: Layer.Layer<Transport.Transport, Transport.TransportError>) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(Layer.fresh(transport))
    const both = Layer.mergeAll(OrdersLive, UsersLive, Health.check("stock", Effect.succeed("42 left")))
    yield* Layer.build(Layer.provide(both, Layer.fresh(transport)))
    yield* Layer.build(Layer.provide(Layer.fresh(OrdersLive), Layer.fresh(transport)))
    yield* Effect.gen(function* () {
      assert.deepStrictEqual(
        (yield* Discovery.services()).map(({ instances, service }) => [service, instances.length]),
        [
          ["orders", 2],
          ["users", 1]
        ]
      )
      const all = yield* Discovery.health(Orders)
      assert.deepStrictEqual(all.map(({ checks, ready }) => [ready, checks.length]).sort(), [
        [true, 2],
        [true, 3]
      ])
      for (const { instance } of all) {
        assert.deepStrictEqual(
          (yield* Discovery.info(Orders, { instance })).map((info) => info.instance),
          [instance]
        )
      }
      assert.lengthOf(yield* Discovery.stats(Discovery.everything), 3)
      assert.instanceOf(yield* Effect.flip(Discovery.info("nobody")), Discovery.NotDiscoverable)
    }).pipe(Effect.provideContext(context))
  })

it.layer(NatsServer.layer, { excludeTestServices: true })("discovery over NATS, which counts nobody", (it) => {
  it.effect("finds, describes and checks", () =>
    Effect.flatMap(NatsServer.NatsServer, ({ url }) => overNetwork(Nats.layer({ servers: url })))
  )
})

it.layer(RedisServer.layer, { excludeTestServices: true })("discovery over Redis", (it) => {
  it.effect("finds, describes and checks", () =>
    Effect.flatMap(RedisServer.RedisServer, ({ url }) => overNetwork(RedisPubSub.layer({ url })))
  )
})

it.layer(RedisClusterServer.layer({}), { excludeTestServices: true, timeout: 120_000 })(
  "discovery over a Redis Cluster",
  (it) => {
    it.effect("finds, describes and checks", () =>
      Effect.flatMap(RedisClusterServer.RedisClusterServer, ({ nodes }) => overNetwork(RedisCluster.layer({ nodes })))
    )
  }
)
