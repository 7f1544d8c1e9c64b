import * as Util from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { vi } from "vitest"
import * as NatsServer from "../../src/testing/NatsServer.ts"
import * as RedisClusterServer from "../../src/testing/RedisClusterServer.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Memory from "../../src/transport/Memory.ts"
import * as Nats from "../../src/transport/Nats.ts"
import * as RedisCluster from "../../src/transport/RedisCluster.ts"
import * as RedisPubSub from "../../src/transport/RedisPubSub.ts"
import { Transport } from "../../src/transport/Transport.ts"

const { TwoTransports } = TransportConformance

/** What a case lets go wrong on purpose is kept from the terminal; it is all that may be logged. */
const expected = /thrown on purpose|lost .*, reconnecting|does not come back yet|connected again/
const quietly = <A, E, R>(run: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => vi.spyOn(console, "log").mockImplementation(() => {})),
    (spy) =>
      Effect.tap(run, () =>
        Effect.sync(() => {
          for (const line of spy.mock.calls) assert.match(Util.format(...line), expected)
        })
      ),
    (spy) => Effect.sync(() => spy.mockRestore())
  )

/** Each case is a test, but for those that need what this transport has not. */
const conforms = <E>(
  layer: Layer.Layer<TransportConformance.TwoTransports, E>,
  without: ReadonlyArray<TransportConformance.Need> = []
) =>
  it.layer(layer)((it) => {
    for (const { needs, applies, name, run } of TransportConformance.cases) {
      const expected = !needs.some((need) => without.includes(need))
      if (!expected) continue
      it.effect(name, () =>
        Effect.gen(function* () {
          assert.isTrue(applies(yield* TwoTransports))
          yield* run
        }).pipe(quietly)
      )
    }
  })

const inMemory = (prefix: string) =>
  Layer.sync(TwoTransports, () => {
    const broker = Memory.makeBroker()
    const another = Effect.map(Layer.build(Memory.layerOptions({ broker, prefix })), Context.get(Transport))
    return { here: Memory.make({ broker, prefix }), there: Memory.make({ broker, prefix }), another }
  })

describe("Memory", () => {
  conforms(inMemory(""), ["outage"])
})

describe("Memory with a prefix", () => {
  conforms(inMemory("shop."), ["outage"])
})

const overRedis = (server: RedisServer.Options, options?: RedisPubSub.Options) =>
  Layer.effect(
    TwoTransports,
    Effect.gen(function* () {
      const { kill, start, tls, url } = yield* RedisServer.RedisServer
      const all = { url, ...(tls === undefined ? {} : { tls: { ca: tls.ca } }), ...options }
      const another = RedisPubSub.make(all)
      const outage = { begin: Effect.orDie(kill), end: Effect.orDie(start) }
      return { here: yield* another, there: yield* another, another, outage }
    })
  ).pipe(Layer.provide(RedisServer.layerOptions(server)))

describe("RedisPubSub", () => {
  conforms(overRedis({}, { prefix: "shop." }))
})

describe("RedisPubSub over TLS", () => {
  conforms(overRedis({ tls: {} }))
})

describe("RedisPubSub over a Unix socket", () => {
  conforms(overRedis({ unixSocket: true }))
})

// As Redis 5 and some proxies: the library falls back to RESP2, where subscriptions take over the connection.
describe("RedisPubSub with a server that knows no HELLO", () => {
  conforms(overRedis({ args: ["--rename-command", "HELLO", ""] }))
})

const overCluster = (options?: Partial<RedisCluster.Options>) =>
  Layer.effect(
    TwoTransports,
    Effect.gen(function* () {
      const { members, nodes } = yield* RedisClusterServer.RedisClusterServer
      const another = RedisCluster.make({ nodes, ...options })
      const all = (what: "kill" | "start") =>
        Effect.orDie(Effect.forEach(members, ({ server }) => server[what], { concurrency: 3, discard: true }))
      const outage = { begin: all("kill"), end: all("start") }
      return { here: yield* another, there: yield* another, another, outage }
    })
  ).pipe(Layer.provide(RedisClusterServer.layer()))

describe("RedisCluster", () => {
  conforms(overCluster({ prefix: "shop." }), ["patterns"])
})

describe("RedisCluster in classic mode", () => {
  // Its nodes go away one after the other, and it goes from one to the next: those are several gaps.
  conforms(overCluster({ pubsub: "classic" }), ["exact receivers", "outage"])
})

const overNats = (server: NatsServer.Options, options?: Nats.Options) =>
  Layer.effect(
    TwoTransports,
    Effect.gen(function* () {
      const { kill, start, tls, url } = yield* NatsServer.NatsServer
      const another = Nats.make({ servers: url, ...(tls === undefined ? {} : { tls }), ...options })
      const outage = { begin: Effect.orDie(kill), end: Effect.orDie(start) }
      return { here: yield* another, there: yield* another, another, outage }
    })
  ).pipe(Layer.provide(NatsServer.layerOptions(server)))

describe("Nats", () => {
  conforms(overNats({}, { prefix: "shop." }), ["exact receivers"])
})

describe("Nats over TLS, with a client's certificate", () => {
  conforms(overNats({ tls: { clients: "required" } }), ["exact receivers"])
})

describe("Nats with few bytes in a frame", () => {
  conforms(overNats({ config: ["max_payload: 64KB"] }), ["exact receivers"])
})
