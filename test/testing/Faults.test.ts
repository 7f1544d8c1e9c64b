import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import * as Faults from "../../src/testing/Faults.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"

type Heard = { readonly _tag: "Data"; readonly text: string } | { readonly _tag: "Closed" }

/** A plain client; what it hears comes in a queue. */
const connect = Effect.fnUntraced(function* (port: number) {
  const heard = yield* Queue.bounded<Heard>(1_024)
  const socket = yield* Effect.acquireRelease(
    Effect.callback<Net.Socket, Error>((resume) => {
      const socket = Net.connect({ host: "127.0.0.1", port })
      socket.on("data", (piece) => Queue.offerUnsafe(heard, { _tag: "Data", text: piece.toString() }))
      socket.on("close", () => Queue.offerUnsafe(heard, { _tag: "Closed" }))
      socket.on("error", (error) => resume(Effect.fail(error)))
      socket.on("connect", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const say = (text: string) => Effect.callback<void>((resume) => void socket.write(text, () => resume(Effect.void)))
  return { say, socket, hear: Queue.take(heard), heard: Queue.size(heard) }
})

const received = (server: RedisServer.RedisServer["Service"], channel: string) =>
  server.command("PUBLISH", channel, "x")

const pong = { _tag: "Data", text: "+PONG\r\n" } as const
const closed = { _tag: "Closed" } as const

describe("Faults", () => {
  it.layer(RedisServer.layerOptions({}))("proxy", (it) => {
    const through = Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      return { server, proxy: yield* Faults.proxy(server) }
    })

    it.effect("passes what is said, both ways", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => new Redis(proxy.url)),
          (redis) => Effect.sync(() => redis.disconnect())
        )
        const large = "x".repeat(4 * 1024 * 1024)
        yield* Effect.tryPromise(() => redis.set("large", large))
        assert.strictEqual(yield* Effect.tryPromise(() => redis.get("large")), large)
        yield* proxy.awaitConnections(1)
        assert.strictEqual(yield* proxy.connections, 1)
      })
    )

    it.effect("rewrites a URL to lead through it", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        assert.strictEqual(
          proxy.through("rediss://user:p%40ss@example.com:1/3"),
          `rediss://user:p%40ss@127.0.0.1:${proxy.port}/3`
        )
        assert.strictEqual(proxy.through("redis://example.com"), proxy.url)
      })
    )

    it.effect("cuts all connections and takes new ones", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        const clients = yield* Effect.all([connect(proxy.port), connect(proxy.port)])
        yield* proxy.awaitConnections(2)
        assert.strictEqual(yield* proxy.cut, 2)
        assert.strictEqual(yield* proxy.connections, 0)
        for (const { hear } of clients) assert.deepStrictEqual(yield* hear, closed)
        const again = yield* connect(proxy.port)
        yield* again.say("PING\r\n")
        assert.deepStrictEqual(yield* again.hear, pong)
      })
    )

    it.effect("refuses new connections until it accepts them, and keeps the present ones", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        const present = yield* connect(proxy.port)
        yield* proxy.awaitConnections(1)
        yield* proxy.refuse
        yield* proxy.refuse
        assert.match((yield* Effect.flip(connect(proxy.port))).message, /ECONNREFUSED/)
        yield* present.say("PING\r\n")
        assert.deepStrictEqual(yield* present.hear, pong)
        yield* proxy.accept
        yield* proxy.accept
        const later = yield* connect(proxy.port)
        yield* later.say("PING\r\n")
        assert.deepStrictEqual(yield* later.hear, pong)
      })
    )

    it.effect("keeps what a blackhole met silent for ever, while both sides believe in each other", () =>
      Effect.gen(function* () {
        const { server, proxy } = yield* through
        const subscriber = yield* connect(proxy.port)
        yield* subscriber.say("SUBSCRIBE news\r\n")
        yield* subscriber.hear
        yield* proxy.blackhole
        const during = yield* connect(proxy.port)
        yield* proxy.awaitConnections(2)
        yield* during.say("PING\r\n")
        // Redis takes the subscriber for present, though nothing reaches it.
        assert.strictEqual(yield* received(server, "news"), 1)
        yield* proxy.heal
        const later = yield* connect(proxy.port)
        yield* later.say("PING\r\n")
        assert.deepStrictEqual(yield* later.hear, pong)
        assert.strictEqual(yield* received(server, "news"), 1)
        yield* during.say("PING\r\n")
        yield* later.say("PING\r\n")
        assert.deepStrictEqual(yield* later.hear, pong)
        assert.strictEqual((yield* subscriber.heard) + (yield* during.heard), 0)

        subscriber.socket.destroy()
        during.socket.destroy()
        later.socket.end()
        yield* proxy.awaitConnections(0)
        // The news of its end went nowhere either, until the link is cut.
        assert.strictEqual(yield* received(server, "news"), 1)
        yield* proxy.cut
        yield* Effect.repeat(received(server, "news"), { until: (count) => count === 0 })
      })
    )

    it.effect("tells a client when the server goes", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const proxy = yield* Faults.proxy(server)
        const client = yield* connect(proxy.port)
        yield* proxy.awaitConnections(1)
        yield* server.stop
        assert.deepStrictEqual(yield* client.hear, closed)
        yield* proxy.awaitConnections(0)
        const unlucky = yield* connect(proxy.port)
        assert.deepStrictEqual(yield* unlucky.hear, closed)
        yield* server.start
        const lucky = yield* connect(proxy.port)
        yield* lucky.say("PING\r\n")
        assert.deepStrictEqual(yield* lucky.hear, pong)
      })
    )

    it.effect("delays, and keeps the order and the last word", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        yield* proxy.delay("5 millis")
        const client = yield* connect(proxy.port)
        yield* client.say("PING one\r\n")
        yield* client.say("PING two\r\n")
        client.socket.end("QUIT\r\n")
        let text = ""
        for (let heard = yield* client.hear; heard._tag === "Data"; heard = yield* client.hear) text += heard.text
        assert.strictEqual(text, "$3\r\none\r\n$3\r\ntwo\r\n+OK\r\n")
      })
    )

    it.effect("reaches a server by its socket", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ unixSocket: true })
        const proxy = yield* Faults.proxy({ path: server.socketPath! })
        const client = yield* connect(proxy.port)
        yield* client.say("PING\r\n")
        assert.deepStrictEqual(yield* client.hear, pong)
      })
    )

    it.effect("says how many came when not enough do", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        const error = yield* Effect.flip(proxy.awaitConnections(1, "10 millis"))
        assert.strictEqual(error.detail, "0 are connected after 10ms")
      })
    )

    it.effect("ends with its Scope", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const scope = yield* Scope.make()
        const proxy = yield* Faults.proxy(server).pipe(Scope.provide(scope))
        const client = yield* connect(proxy.port)
        yield* proxy.awaitConnections(1)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* client.hear, closed)
        assert.match((yield* Effect.flip(connect(proxy.port))).message, /ECONNREFUSED/)
      })
    )
  })
})
