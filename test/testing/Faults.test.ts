import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
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

    it.effect("passes no more bytes than a slow link would, whole and in order, until it is told otherwise", () =>
      Effect.gen(function* () {
        const { proxy } = yield* through
        const client = yield* connect(proxy.port)
        yield* client.say("PING 1\r\n")
        yield* client.hear
        yield* proxy.throttle(4_000)
        const text = "x".repeat(1_000)
        yield* client.say(`ECHO ${text}\r\n`)
        const pieces: Array<string> = []
        while (pieces.join("").length < 1_009) {
          const heard = yield* client.hear
          if (heard._tag === "Data") pieces.push(heard.text)
        }
        assert.strictEqual(pieces.join(""), `$1000\r\n${text}\r\n`)
        // A twentieth of a second's bytes at most.
        assert.isAtLeast(pieces.length, 2)
        yield* proxy.throttle(0)
        yield* client.say(`ECHO ${text}\r\n`)
        assert.deepStrictEqual(yield* client.hear, { _tag: "Data", text: `$1000\r\n${text}\r\n` })
      })
    )

    it.effect("resets all connections by RST, and takes new ones", () =>
      Effect.gen(function* () {
        const { server, proxy } = yield* through
        const client = yield* connect(proxy.port)
        yield* client.say("SUBSCRIBE reset\r\n")
        yield* client.hear
        const reason = yield* Effect.forkChild(
          Effect.callback<unknown>(
            (resume) => void client.socket.once("error", (error) => resume(Effect.succeed(error)))
          ),
          { startImmediately: true }
        )
        assert.strictEqual(yield* proxy.reset, 1)
        assert.propertyVal(yield* Fiber.join(reason), "code", "ECONNRESET")
        assert.deepStrictEqual(yield* client.hear, closed)
        yield* Effect.repeat(received(server, "reset"), { until: (count) => count === 0 })
        const again = yield* connect(proxy.port)
        yield* again.say("PING\r\n")
        assert.deepStrictEqual(yield* again.hear, pong)
      })
    )

    describe("cuts at an exact place", () => {
      /** Three times RPUSH in one write, by a client that then hears what it may; and how many the server did. */
      const pushes = Effect.fnUntraced(function* (key: string, point: Faults.CutPoint) {
        const { server, proxy } = yield* through
        const bystander = yield* connect(proxy.port)
        const client = yield* connect(proxy.port)
        yield* proxy.awaitConnections(2)
        const cut = yield* proxy.cutAt(point)
        const command = `*3\r\n$5\r\nRPUSH\r\n$${key.length}\r\n${key}\r\n$1\r\nx\r\n`
        yield* client.say(command.repeat(3))
        yield* cut
        let text = ""
        for (let heard = yield* client.hear; heard._tag === "Data"; heard = yield* client.hear) text += heard.text
        yield* bystander.say("PING\r\n")
        assert.deepStrictEqual(yield* bystander.hear, pong)
        // Sprung once.
        yield* bystander.say(`RPUSH other-${key} x\r\n`)
        assert.deepStrictEqual(yield* bystander.hear, { _tag: "Data", text: ":1\r\n" })
        return { text, length: yield* server.command("LLEN", key) }
      })

      it.effect("before a command reaches the server", () =>
        Effect.gen(function* () {
          const { length } = yield* pushes("unsent", { command: "rpush", count: 2, when: "unsent" })
          assert.strictEqual(length, 1)
        })
      )

      it.effect("after the server has done it, and before its reply", () =>
        Effect.gen(function* () {
          const { text, length } = yield* pushes("forwarded", { command: "RPUSH", count: 2, when: "forwarded" })
          assert.strictEqual(length, 2)
          assert.strictEqual(text, ":1\r\n")
        })
      )

      it.effect("after its reply", () =>
        Effect.gen(function* () {
          const { text, length } = yield* pushes("answered", { command: "RPUSH", count: 2, when: "answered" })
          assert.strictEqual(length, 2)
          assert.strictEqual(text, ":1\r\n:2\r\n")
        })
      )

      it.effect("at the next such command when the connection was lost before the reply", () =>
        Effect.gen(function* () {
          const heard = yield* Deferred.make<void>()
          let count = 0
          const server = yield* Effect.acquireRelease(
            Effect.callback<Net.Server>((resume) => {
              // Says nothing to the first.
              const server = Net.createServer((socket) => {
                const isFirst = ++count === 1
                socket.on("error", () => {})
                socket.on("data", () => {
                  if (isFirst) Deferred.doneUnsafe(heard, Exit.void)
                  else socket.write("+PONG\r\n")
                })
              }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
            }),
            (server) => Effect.sync(() => server.close())
          )
          const proxy = yield* Faults.proxy({ host: "127.0.0.1", port: (server.address() as Net.AddressInfo).port })
          const first = yield* connect(proxy.port)
          const cut = yield* proxy.cutAt({ command: "PING", when: "answered" })
          yield* first.say("PING\r\n")
          yield* Deferred.await(heard)
          yield* proxy.cut
          const second = yield* connect(proxy.port)
          yield* second.say("PING\r\n")
          yield* cut
          assert.deepStrictEqual(yield* second.hear, pong)
          assert.deepStrictEqual(yield* second.hear, closed)
        })
      )

      for (const version of [2, 3]) {
        it.effect(`before the confirmation of a SUBSCRIBE among messages, under RESP${version}`, () =>
          Effect.gen(function* () {
            const { server, proxy } = yield* through
            const client = yield* connect(proxy.port)
            yield* client.say(`HELLO ${version}\r\n`)
            yield* client.hear
            yield* client.say("SUBSCRIBE one two\r\n")
            let text = ""
            while (!/two\r\n:2\r\n$/.test(text)) {
              const heard = yield* client.hear
              if (heard._tag === "Data") text += heard.text
            }
            assert.strictEqual(yield* received(server, "one"), 1)
            assert.match(JSON.stringify(yield* client.hear), /message.*one/)
            const cut = yield* proxy.cutAt({ command: "SUBSCRIBE", when: "forwarded" })
            yield* client.say("SUBSCRIBE three\r\n")
            yield* cut
            assert.deepStrictEqual(yield* client.hear, closed)
          })
        )
      }
    })

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
