import { spawn } from "node:child_process"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Util from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Faults from "../../src/testing/Faults.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as RedisPubSub from "../../src/transport/RedisPubSub.ts"
import { publish, type Sent, type Target, Transport, type TransportError } from "../../src/transport/Transport.ts"
import * as Resources from "../resilience/resources.ts"

const channel = (name: string): Target => ({ _tag: "Channel", channel: name })

/** Why a transport could not be made. */
const failure = (options: RedisPubSub.Options) => Effect.flip(Effect.scoped(RedisPubSub.make(options)))

/** Log lines, and a wait for one. */
const logs = () => {
  const lines: Array<string> = []
  const watchers = new Set<() => void>()
  const logger = Logger.make(({ message, cause }) => {
    lines.push(`${Util.format(message)}${cause.reasons.length === 0 ? "" : Util.inspect(cause, { depth: 20 })}`)
    for (const watcher of [...watchers]) watcher()
  })
  const find = (pattern: RegExp, from: number) => lines.slice(from).find((line) => pattern.test(line))
  return {
    lines,
    layer: Logger.layer([logger]),
    until: (pattern: RegExp, from = 0) =>
      Effect.callback<string>((resume) => {
        const watcher = () => {
          const line = find(pattern, from)
          if (line === undefined) return
          watchers.delete(watcher)
          resume(Effect.succeed(line))
        }
        watchers.add(watcher)
        watcher()
        return Effect.sync(() => watchers.delete(watcher))
      })
  }
}

/** Sends frames and keeps what each `sent` was told. */
const sendAll = (transport: Transport["Service"], to: string, count: number, frame = "x") => {
  const outcomes = Array.from({ length: count }, () => [] as Array<TransportError | number>)
  const done = Deferred.makeUnsafe<void>()
  let total = 0
  for (const outcome of outcomes) {
    const sent: Sent = (error, receivers) => {
      outcome.push(error ?? receivers)
      if (++total === count) Deferred.doneUnsafe(done, Exit.void)
    }
    transport.send(to, frame, sent)
  }
  return { outcomes, all: Deferred.await(done) }
}

const send = (transport: Transport["Service"], to: string, frame: string) =>
  publish(to, frame).pipe(Effect.provideService(Transport, transport))

/** Frames of a channel, and a wait for one. */
const listen = Effect.fnUntraced(function* (transport: Transport["Service"], name: string) {
  const frames: Array<string> = []
  const watchers = new Set<() => void>()
  yield* transport.subscribe(channel(name), (frame) => {
    frames.push(frame.toString())
    for (const watcher of [...watchers]) watcher()
  })
  return {
    frames,
    until: (wanted: string) =>
      Effect.callback<void>((resume) => {
        const watcher = () => {
          if (!frames.includes(wanted)) return
          watchers.delete(watcher)
          resume(Effect.void)
        }
        watchers.add(watcher)
        watcher()
        return Effect.sync(() => watchers.delete(watcher))
      })
  }
})

/** Repeats a question until the answer is the one wanted; the test's limit ends it. */
const eventually = <E, R>(question: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    while (!(yield* question)) yield* Effect.sleep(10)
  }).pipe(Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()))

/** A server that answers each command by its name, in RESP. It has no handshake trouble of its own. */
const fake = (answer: (name: string, args: ReadonlyArray<string>) => string | Promise<string>) =>
  listening(
    Net.createServer((socket) => {
      let rest = ""
      let answered: Promise<unknown> = Promise.resolve()
      socket.setEncoding("utf8")
      socket.on("error", () => {})
      socket.on("data", (text: string) => {
        rest += text
        for (;;) {
          const lines = rest.split("\r\n")
          const count = Number(lines[0]?.slice(1))
          if (lines.length < 2 || lines.length < 2 + 2 * count) return
          const [name = "", ...args] = Array.from({ length: count }, (_, i) => lines[2 + 2 * i]!)
          rest = lines.slice(1 + 2 * count).join("\r\n")
          answered = answered.then(async () => socket.write(await answer(name.toUpperCase(), args)))
        }
      })
    })
  )

const listening = (server: Net.Server | Http.Server) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly sockets: Set<Net.Socket> }>((resume) => {
      const sockets = new Set<Net.Socket>()
      server.on("connection", (socket: Net.Socket) => {
        sockets.add(socket)
        socket.on("close", () => sockets.delete(socket))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed({ port: typeof address === "object" && address !== null ? address.port : 0, sockets }))
      })
    }),
    ({ sockets }) =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )

const hello = "+OK\r\n"
const silentServer = Effect.suspend(() =>
  listening(Net.createServer((socket) => socket.on("error", () => {}).resume()))
)

describe("RedisPubSub at the start", () => {
  it.effect("names the address that refuses", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(silentServer)
      const error = yield* failure({ port })
      assert.strictEqual(error.kind, "Unreachable")
      assert.strictEqual(error.operation, `connect to redis://127.0.0.1:${port}`)
      assert.include(error.detail, "ECONNREFUSED")
      assert.notStrictEqual(error.hint, "")
      assert.strictEqual(error.sent, "no")
    })
  )

  it.effect("tells every address of a name that refuses", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(silentServer)
      const error = yield* failure({ host: "localhost", port })
      assert.strictEqual(error.kind, "Unreachable")
      assert.include(error.detail, "ECONNREFUSED")
    })
  )

  it.effect("names the host that is not known", () =>
    Effect.gen(function* () {
      const error = yield* failure({ host: "no-such-host.invalid" })
      assert.strictEqual(error.kind, "Unreachable")
      assert.match(error.detail, /ENOTFOUND|EAI_AGAIN/)
    })
  )

  it.effect("names the socket that is not there", () =>
    Effect.gen(function* () {
      const error = yield* failure({ url: "unix:///nowhere/redis.sock" })
      assert.strictEqual(error.kind, "Unreachable")
      assert.strictEqual(error.operation, "connect to unix:///nowhere/redis.sock")
      assert.include(error.detail, "ENOENT")
    })
  )

  it.effect("gives up on a silent server", () =>
    Effect.gen(function* () {
      const { port } = yield* silentServer
      const plain = yield* failure({ port, connectTimeout: "50 millis" })
      assert.strictEqual(plain.kind, "Timeout")
      assert.include(plain.detail, "accepted")
      const secure = yield* failure({ port, connectTimeout: "50 millis", tls: true })
      assert.strictEqual(secure.kind, "Timeout")
      assert.include(secure.detail, "TLS")
    })
  )

  it.effect("recognises what is no Redis", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.suspend(() =>
        listening(Http.createServer((_, response) => response.end("welcome")))
      )
      const error = yield* failure({ port })
      assert.strictEqual(error.kind, "ProtocolError")
      assert.include(error.detail, "not Redis' protocol")
      assert.notStrictEqual(error.hint, "")
    })
  )

  it.effect("recognises replies that do not fit their commands", () =>
    Effect.gen(function* () {
      const { port } = yield* fake((name) => (name === "PING" ? "+something else\r\n" : hello))
      const error = yield* failure({ port })
      assert.strictEqual(error.kind, "ProtocolError")
      assert.include(error.detail, "PING was answered with something else")
    })
  )

  it.effect("tells that Redis is loading", () =>
    Effect.gen(function* () {
      const { port } = yield* fake((name) =>
        name === "PING" ? "-LOADING Redis is loading the dataset in memory\r\n" : hello
      )
      const error = yield* failure({ port })
      assert.strictEqual(error.kind, "Unreachable")
      assert.include(error.detail, "LOADING")
    })
  )

  it.layer(RedisServer.layerOptions({ password: "correct-secret" }))("with a password", (it) => {
    it.effect("asks for one", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const error = yield* failure({ port })
        assert.strictEqual(error.kind, "AuthenticationFailed")
        assert.include(error.detail, "NOAUTH")
      })
    )

    it.effect("tells that it is wrong", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const error = yield* failure({ port, password: Redacted.make("wrong-secret") })
        assert.strictEqual(error.kind, "AuthenticationFailed")
        assert.include(error.detail, "WRONGPASS")
      })
    )

    it.effect("takes it from the url, redacted or not, or besides it", () =>
      Effect.gen(function* () {
        const { port, url } = yield* RedisServer.RedisServer
        const all: ReadonlyArray<RedisPubSub.Options> = [
          { url },
          { url: Redacted.make(url) },
          { url: `redis://127.0.0.1:${port}`, password: "correct-secret" },
          { port, password: Redacted.make("correct-secret") },
          { port, username: "default", password: Redacted.make("correct-secret") }
        ]
        for (const options of all) {
          const { name } = yield* Effect.scoped(RedisPubSub.make(options))
          assert.strictEqual(name, `redis://127.0.0.1:${port}`)
        }
      })
    )

    it.effect("reads the environment", () =>
      Effect.gen(function* () {
        const { url, port } = yield* RedisServer.RedisServer
        const read = (env: Record<string, string>) =>
          Transport.pipe(
            Effect.provide(RedisPubSub.layerConfig()),
            Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
            Effect.map(({ name, prefix }) => [name, prefix])
          )
        const expected = [`redis://127.0.0.1:${port}`, "shop."]
        assert.deepStrictEqual(yield* read({ REDIS_URL: url, FIBERBUS_PREFIX: "shop." }), expected)
        const apart = {
          REDIS_HOST: "127.0.0.1",
          REDIS_PORT: String(port),
          REDIS_USERNAME: "default",
          REDIS_PASSWORD: "correct-secret",
          REDIS_DB: "1",
          REDIS_TLS: "false",
          FIBERBUS_PREFIX: "shop."
        }
        assert.deepStrictEqual(yield* read(apart), expected)
      })
    )

    it.effect("reads Sentinels from the environment", () =>
      Effect.gen(function* () {
        const read = (env: Record<string, string>) =>
          Effect.gen(function* () {
            return yield* RedisPubSub.environment
          }).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))
        const options = yield* read({
          REDIS_SENTINELS: "one.example:26380, two.example,[::1]:26381",
          REDIS_SENTINEL_NAME: "shop",
          REDIS_SENTINEL_USERNAME: "watch",
          REDIS_SENTINEL_PASSWORD: "watch-word",
          REDIS_PASSWORD: "correct-secret"
        })
        assert.deepStrictEqual(options.sentinels, [
          { host: "one.example", port: 26_380 },
          { host: "two.example" },
          { host: "::1", port: 26_381 }
        ])
        assert.deepStrictEqual([options.name, options.sentinelUsername], ["shop", "watch"])
        assert.notInclude(Util.inspect(options, { depth: 5 }), "watch-word")
        for (const wrong of ["one.example:", "one.example:0", "one.example:x", "one.example,", "a b", ","]) {
          const error = yield* Effect.flip(read({ REDIS_SENTINELS: wrong, REDIS_SENTINEL_NAME: "shop" }))
          assert.include(String(error), "SENTINELS", wrong)
        }
        const { port } = yield* Effect.scoped(silentServer)
        const found = yield* Effect.flip(
          Effect.scoped(Layer.build(RedisPubSub.layerConfig())).pipe(
            Effect.provide(
              ConfigProvider.layer(
                ConfigProvider.fromEnv({
                  env: { REDIS_SENTINELS: `127.0.0.1:${port}`, REDIS_SENTINEL_NAME: "shop" }
                })
              )
            )
          )
        )
        assert.include(String(found), `sentinel 127.0.0.1:${port}`)
      })
    )

    it.effect("shows no secret in any error", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const { port: web } = yield* Effect.suspend(() => listening(Http.createServer((_, r) => r.end("hi"))))
        // As Redis before version 6 answers, with the arguments and the password among them.
        const { port: echo } = yield* fake(
          (name, args) =>
            `-ERR unknown command '${name}', with args beginning with: ${args.map((a) => `'${a}'`).join(" ")}\r\n`
        )
        const { port: parrot } = yield* fake((_, args) => `-ERR ${args.join(" ")}\r\n`)
        const errors = [
          yield* failure({ port, password: "hush-hush" }),
          yield* failure({ port, username: "who", password: Redacted.make("hush-hush") }),
          yield* failure({ url: `redis://who:hush-hush@127.0.0.1:${port}` }),
          yield* failure({ port: web, password: "hush-hush" }),
          yield* failure({ port: echo, password: "hush-hush" }),
          yield* failure({ port: parrot, password: "hush-hush" }),
          yield* failure({ url: "redis://who:hush-hush@127.0.0.1:port" }),
          yield* failure({ url: "hush-hush" }),
          yield* failure({ url: "hush-hush://x" }),
          yield* failure({ url: "redis://host/hush-hush" }),
          yield* failure({ url: "redis://host/?password=hush-hush" }),
          yield* failure({ tls: { key: "hush-hush", cert: "hush-hush" } })
        ]
        for (const error of errors) {
          const seen = [
            String(error),
            error.stack,
            JSON.stringify(error),
            Util.inspect(error, { depth: 20, showHidden: true }),
            Object.getOwnPropertyNames(error).map((name) => Util.inspect(Reflect.get(error, name), { depth: 20 }))
          ].join("\n")
          assert.notInclude(seen, "hush-hush")
          assert.isUndefined(error.cause)
        }
      })
    )
  })

  it.layer(
    RedisServer.layerOptions({
      acl: [
        "user nobody on >secret",
        "user narrow on >secret -@all +ping +publish +subscribe +unsubscribe +psubscribe +punsubscribe resetchannels &allowed",
        "user full on >secret -@all +ping +info +publish +subscribe +unsubscribe +psubscribe +punsubscribe &*"
      ]
    })
  )("with users of few rights", (it) => {
    const as = (username: string) =>
      Effect.map(RedisServer.RedisServer, ({ port }) => ({ port, username, password: "secret" }))

    it.effect("tells which right is missing", () =>
      Effect.gen(function* () {
        const error = yield* failure(yield* as("nobody"))
        assert.strictEqual(error.kind, "PermissionDenied")
        assert.include(error.detail, "NOPERM")
        assert.include(error.hint, "ACL SETUSER nobody +ping")
      })
    )

    it.effect("names the channel that may not be subscribed, and keeps the others", () =>
      Effect.gen(function* () {
        const transport = yield* RedisPubSub.make(yield* as("narrow"))
        const { frames, until } = yield* listen(transport, "allowed")
        const error = yield* Effect.flip(Effect.scoped(transport.subscribe(channel("orders"), () => {})))
        assert.strictEqual(error.kind, "PermissionDenied")
        assert.strictEqual(error.operation, "SUBSCRIBE orders")
        assert.include(error.hint, "ACL SETUSER narrow +subscribe +unsubscribe &orders")
        const pattern = yield* Effect.flip(
          Effect.scoped(transport.subscribe({ _tag: "Pattern", pattern: "or*" }, () => {}))
        )
        assert.strictEqual(pattern.operation, "PSUBSCRIBE or*")
        assert.include(pattern.hint, "+psubscribe +punsubscribe &or*")
        yield* send(transport, "allowed", "still here")
        yield* until("still here")
        assert.deepStrictEqual(frames, ["still here"])
      })
    )

    it.effect("names the channel that may not be published to, without the payload", () =>
      Effect.gen(function* () {
        const transport = yield* RedisPubSub.make(yield* as("narrow"))
        const error = yield* Effect.flip(send(transport, "orders", "a private payload"))
        assert.strictEqual(error.kind, "PermissionDenied")
        assert.strictEqual(error.operation, "PUBLISH orders")
        assert.strictEqual(error.sent, "no")
        assert.include(error.hint, "ACL SETUSER narrow +publish &orders")
        assert.notInclude(Util.inspect(error, { depth: 20, showHidden: true }), "private payload")
      })
    )

    it.effect("takes the receivers count for a hint when it may not ask for the role", () =>
      Effect.gen(function* () {
        const narrow = yield* RedisPubSub.make(yield* as("narrow"))
        assert.strictEqual(narrow.capabilities.receivers, "hint")
        const full = yield* RedisPubSub.make(yield* as("full"))
        assert.strictEqual(full.capabilities.receivers, "exact")
      })
    )
  })

  it.layer(RedisServer.layerOptions({ args: ["--rename-command", "PUBLISH", ""] }))("without PUBLISH", (it) => {
    it.effect("does not repeat the payload that Redis quotes", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const transport = yield* RedisPubSub.make({ url })
        const error = yield* Effect.flip(send(transport, "orders", "private"))
        assert.include(error.detail, "unknown command")
        assert.notInclude(Util.inspect(error, { depth: 20, showHidden: true }), "private")
      })
    )
  })

  it.layer(RedisServer.layerOptions({ args: ["--maxclients", "3"] }))("with few connections", (it) => {
    it.effect("tells that there are no more", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        yield* RedisPubSub.make({ port })
        const error = yield* failure({ port })
        assert.strictEqual(error.kind, "Unreachable")
        assert.include(error.detail, "max number of clients")
      })
    )
  })

  it.layer(RedisServer.layerOptions({ tls: {} }))("with TLS", (it) => {
    it.effect("connects with the right authority", () =>
      Effect.gen(function* () {
        const { url, port, tls } = yield* RedisServer.RedisServer
        const { name } = yield* RedisPubSub.make({ url, tls: { ca: tls!.ca } })
        assert.strictEqual(name, `rediss://127.0.0.1:${port}`)
      })
    )

    it.effect("refuses a certificate of another", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const error = yield* failure({ port, tls: true })
        assert.strictEqual(error.kind, "ProtocolError")
        assert.include(error.hint, "tls.ca")
      })
    )

    it.effect("refuses a certificate for another name", () =>
      Effect.gen(function* () {
        const { port, tls } = yield* RedisServer.RedisServer
        const error = yield* failure({ port, tls: { ca: tls!.ca, servername: "elsewhere.example" } })
        assert.strictEqual(error.kind, "ProtocolError")
        assert.include(error.detail, "elsewhere.example")
      })
    )

    it.effect("guesses TLS when spoken to in the clear", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const error = yield* failure({ port })
        assert.strictEqual(error.kind, "ProtocolError")
        assert.include(error.hint, "rediss://")
      })
    )
  })

  it.layer(RedisServer.layerOptions({ tls: { clients: "required" } }))("with certificates for clients", (it) => {
    it.effect("wants one, and takes it", () =>
      Effect.gen(function* () {
        const { port, tls } = yield* RedisServer.RedisServer
        const error = yield* failure({ port, tls: { ca: tls!.ca } })
        assert.strictEqual(error.kind, "ProtocolError")
        assert.match(error.hint, /certificate/)
        yield* RedisPubSub.make({
          port,
          tls: { ca: tls!.ca, cert: tls!.cert, key: Redacted.make(tls!.key) }
        })
      })
    )
  })

  it.layer(RedisServer.layerOptions({ unixSocket: true }))("with a Unix socket", (it) => {
    it.effect("connects by url, path or socketPath", () =>
      Effect.gen(function* () {
        const { socketPath } = yield* RedisServer.RedisServer
        const path = socketPath!
        const all: ReadonlyArray<RedisPubSub.Options> = [{ url: `unix://${path}` }, { url: path }, { socketPath: path }]
        for (const options of all) {
          const { name } = yield* Effect.scoped(RedisPubSub.make(options))
          assert.strictEqual(name, `unix://${path}`)
        }
      })
    )
  })

  it.layer(RedisServer.layer)("with a plain server", (it) => {
    it.effect("gets no answer by TLS", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const error = yield* failure({ port, tls: true, connectTimeout: "200 millis" })
        assert.oneOf(error.kind, ["Timeout", "ProtocolError"])
        assert.include(error.hint, "TLS")
      })
    )

    it.effect("refuses a db that is not there", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const error = yield* failure({ port, db: 99_999 })
        assert.strictEqual(error.kind, "InvalidOptions")
      })
    )

    it.effect("trusts the count of a lone master only", () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const master = yield* RedisPubSub.make({ port })
        assert.strictEqual(master.capabilities.receivers, "exact")
        const replica = yield* RedisServer.make({ args: ["--replicaof", "127.0.0.1", String(port)] })
        const second = yield* RedisPubSub.make({ port: replica.port })
        assert.strictEqual(second.capabilities.receivers, "hint")
        const clustered = yield* RedisServer.make({ args: ["--cluster-enabled", "yes"] })
        const third = yield* RedisPubSub.make({ port: clustered.port })
        assert.strictEqual(third.capabilities.receivers, "hint")
      })
    )
  })

  it.effect("refuses options that make no sense, before it connects", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [string, RedisPubSub.Options]> = [
        ["url is not well-formed", { url: "localhost" }],
        ["unknown scheme", { url: "http://localhost" }],
        ["not well-formed", { url: "redis://localhost:99999" }],
        ["not well-formed", { url: "redis://:%zz@localhost" }],
        ["no db number", { url: "redis://localhost/one" }],
        ["? or #", { url: "redis://localhost?db=1" }],
        ["no path", { url: "unix://" }],
        ["both url and host", { url: "redis://localhost", port: 1 }],
        ["both socketPath and host", { socketPath: "/a", host: "b" }],
        ["port", { port: 0 }],
        ["port", { port: 70_000 }],
        ["port", { port: 1.5 }],
        ["db", { db: -1 }],
        ["prefix", { prefix: "a b" }],
        ["prefix", { prefix: "a*" }],
        ["connectTimeout", { connectTimeout: 0 }],
        ["commandTimeout", { commandTimeout: "Infinity" as never }],
        ["commandTimeout", { commandTimeout: "soon" as never }],
        ["maxFrameBytes", { maxFrameBytes: 0 }],
        ["maxBytesInFlight", { maxBytesInFlight: 1000 }],
        ["host", { host: 7 as never }],
        ["password", { password: 7 as never }],
        ["tls", { url: "rediss://localhost", tls: false }],
        ["reconnect", { reconnect: 50 as never }],
        ["connect is no Schedule", { connect: "always" as never }],
        ["whileDown", { whileDown: "wait" as never }],
        ["whileDown.buffer", { whileDown: { buffer: 0 } }],
        ["whileDown.for", { whileDown: { for: "Infinity" as never } }],
        ["sentinels", { sentinels: [], name: "shop" }],
        ["without name", { sentinels: [{ host: "a" }] }],
        ["without sentinels", { name: "shop" }],
        ["a sentinel's port", { sentinels: [{ host: "a", port: 0 }], name: "shop" }],
        ["both sentinels and url", { sentinels: [{ host: "a" }], name: "shop", url: "redis://localhost" }],
        ["tls", { tls: { ca: "no certificate", cert: "none", key: "none" } }]
      ]
      for (const [part, options] of wrong) {
        const error = yield* failure(options)
        assert.strictEqual(error.kind, "InvalidOptions", part)
        assert.include(error.detail, part)
      }
    })
  )
})

describe("RedisPubSub on a good link", () => {
  it.layer(RedisServer.layerOptions({}))((it) => {
    const names = Effect.flatMap(RedisServer.RedisServer, ({ command }) =>
      Effect.map(command("CLIENT", "LIST"), (list) =>
        String(list)
          .split("\n")
          .flatMap((line) => / name=(fiberbus:\w+)/.exec(line)?.[1] ?? [])
          .sort()
      )
    )

    it.effect("holds two connections, whatever is going on, and none after the end", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        yield* Effect.scoped(
          Effect.gen(function* () {
            const transport = yield* RedisPubSub.make({ url })
            for (let i = 0; i < 50; i++) yield* transport.subscribe(channel(`c${i}`), () => {})
            yield* transport.subscribe({ _tag: "Pattern", pattern: "p*" }, () => {})
            yield* sendAll(transport, "c1", 1000).all
            assert.deepStrictEqual(yield* names, ["fiberbus:publisher", "fiberbus:subscriber"])
          })
        )
        yield* eventually(Effect.map(names, (list) => list.length === 0))
      })
    )

    it.effect("lets frames share one where they may, in order, each with its own word of it", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const here = yield* RedisPubSub.make({ url })
        assert.isTrue(here.capabilities.packs)
        const { frames, until } = yield* listen(yield* RedisPubSub.make({ url }), "packed")
        const told: Array<unknown> = []
        const all = Deferred.makeUnsafe<void>()
        const say = (frame: string, pack?: boolean) =>
          here.send(
            "packed",
            frame,
            (error, receivers) => {
              told.push(error ?? [frame, receivers])
              if (told.length === 6) Deferred.doneUnsafe(all, Exit.void)
            },
            pack
          )
        for (const n of [1, 2, 3]) say(`{"n":${n}}`, true)
        say('{"n":4}')
        say('{"n":5}', true)
        say('"ü"', true)
        yield* Deferred.await(all)
        yield* until('[{"n":5},"ü"]')
        assert.deepStrictEqual(frames, ['[{"n":1},{"n":2},{"n":3}]', '{"n":4}', '[{"n":5},"ü"]'])
        assert.deepStrictEqual(
          told,
          ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}', '{"n":5}', '"ü"'].map((frame) => [frame, 1])
        )
      })
    )

    it.effect("packs nothing for those who take only smaller frames", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const here = yield* RedisPubSub.make({ url, maxFrameBytes: 32_767 })
        assert.isFalse(here.capabilities.packs)
        const { frames, until } = yield* listen(here, "single")
        for (const n of [1, 2]) here.send("single", `{"n":${n}}`, () => {}, true)
        yield* until('{"n":2}')
        assert.deepStrictEqual(frames, ['{"n":1}', '{"n":2}'])
      })
    )

    it.effect("gives out the last frames before it closes", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const there = yield* RedisPubSub.make({ url })
        const { until, frames } = yield* listen(there, "last")
        const scope = yield* Scope.make()
        const here = yield* Scope.provide(RedisPubSub.make({ url }), scope)
        const { outcomes } = sendAll(here, "last", 500, "before the end")
        here.send("last", "the end", () => {})
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(outcomes.every((outcome) => outcome.length === 1 && outcome[0] === 1))
        yield* until("the end")
        assert.strictEqual(frames.length, 501)
        const error = yield* Effect.flip(send(here, "last", "after the end"))
        assert.strictEqual(error.kind, "Closed")
        assert.strictEqual(error.sent, "no")
        const late = yield* Effect.flip(Effect.scoped(here.subscribe(channel("late"), () => {})))
        assert.strictEqual(late.kind, "Closed")
      })
    )

    it.effect("gives a receiver that leaves all that Redis counted it for, and one that comes back its own alone", () =>
      Effect.gen(function* () {
        const { port, url } = yield* RedisServer.RedisServer
        const proxy = yield* Faults.proxy({ host: "127.0.0.1", port })
        const here = yield* RedisPubSub.make({ url })
        const there = yield* RedisPubSub.make({ url: proxy.through(url) })
        for (const target of [channel("leaves"), { _tag: "Pattern", pattern: "leave?" }] as const) {
          const got: Array<string> = []
          const again: Array<string> = []
          const scope = yield* Scope.make()
          yield* Scope.provide(
            there.subscribe(target, (frame) => void got.push(frame.toString())),
            scope
          )
          yield* Effect.gen(function* () {
            // They meet the UNSUBSCRIBE on their way.
            yield* proxy.delay("50 millis")
            const burst = sendAll(here, "leaves", 500)
            yield* burst.all
            const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
            yield* there.subscribe(target, (frame) => void again.push(frame.toString()))
            yield* proxy.delay(0)
            yield* Fiber.join(closing)
            yield* sendAll(here, "leaves", 1, "last").all
            yield* eventually(Effect.sync(() => again.at(-1) === "last"))
            assert.isTrue(burst.outcomes.every(([receivers]) => receivers === 1))
            assert.lengthOf(got, 500)
            assert.deepStrictEqual(again, ["last"])
          }).pipe(Effect.scoped)
        }
      })
    )

    it.effect.prop(
      "gives out frames of any size and text as they were, in order",
      [
        Schema.Array(
          Schema.Tuple([
            Schema.Literals([0, 1, 100, 8191, 8193, 16_384, 16_385, 50_000]),
            Schema.Literals(["x", "ü", "\r\n", "€", "𝄞"])
          ])
        )
      ],
      ([kinds]) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { url } = yield* RedisServer.RedisServer
            const transport = yield* RedisPubSub.make({ url, maxBytesInFlight: 512 * 1_048_576 })
            const heard: Array<string> = []
            const done = yield* Deferred.make<void>()
            const texts = kinds.map(([length, character], i) => `${i} ${character.repeat(length)}`)
            for (const name of ["any.size", "jede.größe"]) {
              yield* transport.subscribe(channel(name), (frame) => {
                if (heard.push(frame.toString()) === texts.length) Deferred.doneUnsafe(done, Exit.void)
              })
            }
            const outcomes: Array<unknown> = []
            for (const [i, text] of texts.entries()) {
              transport.send(i % 3 === 0 ? "jede.größe" : "any.size", text, (error, receivers) =>
                outcomes.push(error ?? receivers)
              )
            }
            if (texts.length > 0) yield* Deferred.await(done)
            assert.deepStrictEqual(heard, texts)
          })
        )
    )

    it.effect("refuses frames above what may be in flight, and goes on when there is room", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const transport = yield* RedisPubSub.make({ url, maxFrameBytes: 1000, maxBytesInFlight: 2500 })
        const { outcomes, all } = sendAll(transport, "full", 3, "x".repeat(1000))
        yield* all
        const [first, second, third] = outcomes.map(([outcome]) => outcome)
        assert.deepStrictEqual([first, second], [0, 0])
        assert.isTrue(typeof third === "object" && third.kind === "Overloaded" && third.sent === "no")
        assert.strictEqual(yield* send(transport, "full", "x".repeat(1000)), 0)
      })
    )

    it.effect("keeps a link whose answers were read late because this process was busy", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const { layer, lines } = logs()
        const transport = yield* RedisPubSub.make({ url, commandTimeout: "100 millis" }).pipe(Effect.provide(layer))
        const { outcomes, all } = sendAll(transport, "busy", 10)
        // Lets the frames out first.
        yield* Effect.callback<void>((resume) => {
          setImmediate(() => {
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
            resume(Effect.void)
          })
        })
        yield* all
        assert.isTrue(outcomes.every((outcome) => outcome[0] === 0))
        assert.deepStrictEqual(lines, [])
      })
    )

    it.effect("reports a receiver that throws, once a second", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const { layer, lines, until: logged } = logs()
        const transport = yield* RedisPubSub.make({ url }).pipe(Effect.provide(layer))
        yield* transport.subscribe(channel("throws"), () => {
          throw new Error("a bug of the receiver")
        })
        const { until } = yield* listen(transport, "throws")
        for (let i = 0; i < 100; i++) transport.send("throws", "x", () => {})
        transport.send("throws", "end", () => {
          throw new Error("a bug of the sender")
        })
        yield* until("end")
        yield* logged(/a bug of the/)
        assert.strictEqual(lines.length, 1)
      })
    )
  })

  it.layer(RedisServer.layerOptions({ args: ["--rename-command", "HELLO", ""] }))("that knows no RESP3", (it) => {
    it.effect("falls back to RESP2", () =>
      Effect.gen(function* () {
        const { url, command } = yield* RedisServer.RedisServer
        const transport = yield* RedisPubSub.make({ url })
        const { until } = yield* listen(transport, "old")
        yield* send(transport, "old", "x")
        yield* until("x")
        const list = String(yield* command("CLIENT", "LIST"))
        const ours = list.split("\n").filter((line) => line.includes("fiberbus:"))
        assert.strictEqual(ours.length, 2)
        assert.isTrue(ours.every((line) => line.includes("resp=2")))
      })
    )
  })
})

describe("RedisPubSub on a bad link", () => {
  const through = Effect.fnUntraced(function* (options?: RedisPubSub.Options) {
    const { port, url } = yield* RedisServer.RedisServer
    const proxy = yield* Faults.proxy({ host: "127.0.0.1", port })
    const log = logs()
    const transport = yield* RedisPubSub.make({
      url: proxy.through(url),
      commandTimeout: "100 millis",
      ...options
    }).pipe(Effect.provide(log.layer))
    const there = yield* RedisPubSub.make({ url })
    return { proxy, log, transport, there }
  })

  it.layer(RedisServer.layerOptions({}))((it) => {
    it.effect("comes back after a cut, with its subscriptions, and says so in two lines", () =>
      Effect.gen(function* () {
        // Nothing is lost here but by the cuts, however busy the machine is.
        const { proxy, log, transport, there } = yield* through({ commandTimeout: "10 seconds" })
        const exact = yield* listen(transport, "cut.exact")
        const matched: Array<string> = []
        yield* transport.subscribe({ _tag: "Pattern", pattern: "cut.*" }, (frame) => {
          matched.push(frame.toString())
        })
        for (let round = 0; round < 3; round++) {
          const from = log.lines.length
          assert.strictEqual(yield* proxy.cut, 2)
          const lost = yield* log.until(/lost redis:/, from)
          assert.match(lost, /reconnecting/)
          yield* log.until(/connected again/, from)
          assert.strictEqual(log.lines.length, from + 2, log.lines.join("\n"))
          yield* send(there, "cut.exact", `round ${round}`)
          yield* exact.until(`round ${round}`)
          assert.strictEqual(yield* send(transport, "cut.nobody", "pattern only"), 1)
        }
        assert.deepStrictEqual(exact.frames, ["round 0", "round 1", "round 2"])
        assert.includeMembers(matched, ["round 0", "round 1", "round 2"])
      })
    )

    it.effect("ends what is in flight once each when the link is lost", () =>
      Effect.gen(function* () {
        const { proxy, log, transport } = yield* through({ commandTimeout: "20 seconds" })
        yield* proxy.blackhole
        const { outcomes, all } = sendAll(transport, "inflight", 2000)
        // Into the blackhole, and some that never leave this process.
        yield* Effect.callback<void>((resume) => void setImmediate(() => setImmediate(() => resume(Effect.void))))
        const more = sendAll(transport, "inflight", 10)
        yield* proxy.heal
        yield* proxy.cut
        yield* all
        yield* more.all
        yield* log.until(/connected again/)
        yield* sendAll(transport, "inflight", 100).all
        for (const outcome of [...outcomes, ...more.outcomes]) {
          assert.strictEqual(outcome.length, 1)
          const [error] = outcome
          assert.isTrue(typeof error === "object")
          if (typeof error !== "object") return
          assert.strictEqual(error.kind, "ConnectionLost")
          assert.strictEqual(error.sent, "unknown")
        }
      })
    )

    it.effect("refuses at once while the link is down", () =>
      Effect.gen(function* () {
        const { proxy, log, transport } = yield* through()
        yield* proxy.refuse
        yield* proxy.cut
        yield* log.until(/lost/)
        yield* Effect.forEach([1, 2], () =>
          Effect.gen(function* () {
            const error = yield* Effect.flip(send(transport, "down", "x"))
            assert.strictEqual(error.kind, "ConnectionLost")
            assert.strictEqual(error.sent, "no")
          })
        )
        yield* proxy.accept
        yield* log.until(/connected again/)
        assert.strictEqual(yield* send(transport, "down", "x"), 0)
      })
    )

    it.effect("ends a send by its deadline and builds a new link", () =>
      Effect.gen(function* () {
        const { proxy, log, transport, there } = yield* through()
        const { frames } = yield* listen(transport, "deadline")
        yield* proxy.blackhole
        const { outcomes, all } = sendAll(transport, "deadline", 100)
        yield* all
        for (const outcome of outcomes) {
          assert.strictEqual(outcome.length, 1)
          const [error] = outcome
          assert.isTrue(typeof error === "object" && error.kind === "Timeout" && error.sent === "unknown")
        }
        yield* proxy.heal
        yield* log.until(/connected again/)
        // The subscriber may still be waiting for its own verdict.
        yield* eventually(Effect.map(send(there, "deadline", "healed"), () => frames.includes("healed")))
      })
    )

    it.effect("notices by itself that a quiet link is dead", () =>
      Effect.gen(function* () {
        const { proxy, log, transport, there } = yield* through()
        const { frames } = yield* listen(transport, "quiet")
        yield* proxy.blackhole
        yield* log.until(/no sign of life/)
        yield* proxy.heal
        yield* log.until(/connected again/)
        // One connection may be back before the other is known to be dead.
        yield* eventually(Effect.map(send(there, "quiet", "healed"), () => frames.includes("healed")))
      })
    )

    it.effect("ends sends by their deadline, and keeps a link that goes on answering", () =>
      Effect.gen(function* () {
        const { port } = yield* fake((name, [question]) => {
          if (name === "PING") return `+${question ?? "PONG"}\r\n`
          if (name !== "PUBLISH") return hello
          return new Promise((resolve) => setTimeout(() => resolve(":1\r\n"), 30))
        })
        const log = logs()
        const transport = yield* RedisPubSub.make({ port, commandTimeout: "300 millis" }).pipe(
          Effect.provide(log.layer)
        )
        const { outcomes, all } = sendAll(transport, "backlog", 30)
        yield* all
        const [last] = outcomes.at(-1)!
        assert.isTrue(typeof last === "object" && last.kind === "Timeout" && last.sent === "unknown")
        // Waits behind those that are answered after all, which must not be told twice.
        yield* eventually(Effect.map(Effect.exit(send(transport, "backlog", "x")), Exit.isSuccess))
        assert.isTrue(outcomes.every((outcome) => outcome.length === 1))
        assert.deepStrictEqual(log.lines, [])
      })
    )

    it.effect("keeps a slow link", () =>
      Effect.gen(function* () {
        const { proxy, log, transport, there } = yield* through({ commandTimeout: "400 millis" })
        const { until } = yield* listen(transport, "slow")
        yield* proxy.delay("100 millis")
        for (let i = 0; i < 10; i++) assert.strictEqual(yield* send(transport, "slow", String(i)), 1)
        yield* send(there, "slow", "through")
        yield* until("through")
        assert.deepStrictEqual(log.lines, [])
      })
    )

    it.effect("subscribes as soon as the link is back, if that is soon", () =>
      Effect.gen(function* () {
        const { proxy, log, transport, there } = yield* through({ commandTimeout: "10 seconds" })
        yield* proxy.refuse
        yield* proxy.cut
        yield* log.until(/lost/)
        const waiting = yield* Effect.forkChild(listen(transport, "soon"), { startImmediately: true })
        yield* proxy.accept
        const { until } = yield* Fiber.join(waiting)
        yield* send(there, "soon", "x")
        yield* until("x")
      })
    )

    it.effect("fails to subscribe when the link does not come back", () =>
      Effect.gen(function* () {
        const { proxy, log, transport, there } = yield* through()
        yield* proxy.refuse
        yield* proxy.cut
        yield* log.until(/lost/)
        const error = yield* Effect.flip(Effect.scoped(transport.subscribe(channel("late"), () => {})))
        assert.strictEqual(error.kind, "ConnectionLost")
        assert.strictEqual(error.operation, "SUBSCRIBE late")
        yield* proxy.accept
        yield* log.until(/connected again/)
        assert.strictEqual(yield* send(there, "late", "x"), 0)
      })
    )

    it.effect("fails to subscribe over a silent link by the deadline", () =>
      Effect.gen(function* () {
        const { proxy, transport } = yield* through()
        yield* proxy.blackhole
        const error = yield* Effect.flip(Effect.scoped(transport.subscribe(channel("silent"), () => {})))
        assert.oneOf(error.kind, ["Timeout", "ConnectionLost"])
        assert.strictEqual(error.operation, "SUBSCRIBE silent")
      })
    )

    for (const state of ["blackhole", "refuse"] as const) {
      it.effect(`closes although the link is in ${state}, with frames in flight and subscriptions`, () =>
        Effect.gen(function* () {
          const { port, url } = yield* RedisServer.RedisServer
          const proxy = yield* Faults.proxy({ host: "127.0.0.1", port })
          const log = logs()
          const scope = yield* Scope.make()
          const transport = yield* RedisPubSub.make({ url: proxy.through(url) }).pipe(
            Effect.provide(log.layer),
            Scope.provide(scope)
          )
          for (let i = 0; i < 20; i++) {
            yield* Scope.provide(
              transport.subscribe(channel(`closing${i}`), () => {}),
              scope
            )
          }
          yield* proxy[state]
          const { outcomes, all } = sendAll(transport, "closing", 100)
          if (state === "refuse") {
            yield* proxy.cut
            yield* log.until(/lost/)
          }
          yield* Scope.close(scope, Exit.void)
          yield* all
          assert.isTrue(outcomes.every((outcome) => outcome.length === 1))
          // The proxy counts a client until its socket is closed.
          yield* proxy.awaitConnections(0)
        })
      )
    }

    it.effect("can be interrupted while it connects", () =>
      Effect.gen(function* () {
        const { port, sockets } = yield* silentServer
        const fiber = yield* Effect.forkChild(Effect.scoped(RedisPubSub.make({ port })), { startImmediately: true })
        yield* eventually(Effect.sync(() => sockets.size === 2))
        yield* Fiber.interrupt(fiber)
        yield* eventually(Effect.sync(() => sockets.size === 0))
      })
    )

    it.effect("ends every send once through cuts in the middle of traffic", () =>
      Effect.gen(function* () {
        const { proxy, log, transport, there } = yield* through({ commandTimeout: "2 seconds" })
        const seen = new Map<string, number>()
        yield* there.subscribe(channel("traffic"), (frame) => {
          const id = frame.toString()
          seen.set(id, (seen.get(id) ?? 0) + 1)
        })
        const outcomes = new Map<string, Array<TransportError | number>>()
        let next = 0
        for (let round = 0; round < 5; round++) {
          const from = log.lines.length
          let open = 0
          const idle = Deferred.makeUnsafe<void>()
          for (let i = 0; i < 500; i++) {
            const id = String(next++)
            const outcome: Array<TransportError | number> = []
            outcomes.set(id, outcome)
            open++
            transport.send("traffic", id, (error, receivers) => {
              outcome.push(error ?? receivers)
              if (--open === 0) Deferred.doneUnsafe(idle, Exit.void)
            })
            // The cut meets some written, some corked and some answered ones.
            if (i % 100 === 0) yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
          }
          yield* proxy.cut
          yield* Deferred.await(idle)
          yield* log.until(/connected again/, from)
        }
        yield* send(there, "traffic", "end")
        for (const [id, outcome] of outcomes) {
          assert.strictEqual(outcome.length, 1, `callbacks of ${id}`)
          const [result] = outcome
          const times = seen.get(id) ?? 0
          if (result === 1) assert.strictEqual(times, 1, `confirmed ${id} arrived ${times} times`)
          else if (typeof result === "object" && result.sent === "no") assert.strictEqual(times, 0)
          else assert.isAtMost(times, 1)
        }
      })
    )
  })

  it.effect("gives up a link whose bytes keep coming and never make a message", () =>
    Effect.gen(function* () {
      const { port, sockets } = yield* fake((name, [question]) =>
        name === "PING" ? `+${question ?? "PONG"}\r\n` : name === "PUBLISH" ? "" : hello
      )
      const log = logs()
      const transport = yield* RedisPubSub.make({ port, commandTimeout: "100 millis" }).pipe(Effect.provide(log.layer))
      // As a reader sees it that has lost its place: it waits for the end of something that has none.
      for (const socket of sockets) socket.write("-")
      const bytes = yield* Effect.forkChild(
        Effect.forever(
          Effect.andThen(
            Effect.sync(() => {
              for (const socket of sockets) socket.write("x")
            }),
            Effect.sleep("5 millis")
          )
        ).pipe(Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())),
        { startImmediately: true }
      )
      const error = yield* Effect.flip(send(transport, "corrupt", "x"))
      assert.oneOf(error.kind, ["Timeout", "ConnectionLost"])
      yield* log.until(/no sign of life/)
      yield* Fiber.interrupt(bytes)
      yield* log.until(/connected again/)
    })
  )

  it.effect("waits for a Redis that is not there yet, where it is told to, and says so once", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      yield* server.stop
      const log = logs()
      // Steps of the schedule are attempts; they are counted, and the server comes after the third.
      const attempts = Deferred.makeUnsafe<void>()
      let count = 0
      const connect = Schedule.spaced("10 millis").pipe(
        Schedule.tap(() =>
          Effect.sync(() => {
            if (++count === 3) Deferred.doneUnsafe(attempts, Exit.void)
          })
        )
      )
      const sockets = Resources.sockets()
      const layer = RedisPubSub.layer({ url: server.url, connect }).pipe(Layer.provideMerge(log.layer))
      const built = yield* Effect.forkChild(Effect.provide(publish("x", "x"), layer), { startImmediately: true })
      yield* Deferred.await(attempts)
      // What an attempt had opened is gone before the next.
      assert.isAtMost(Resources.sockets() - sockets, 4)
      yield* server.start
      assert.strictEqual(yield* Fiber.join(built), 0)
      const [waiting, connected, ...more] = log.lines
      assert.match(waiting!, /is not there yet, waiting.*ECONNREFUSED/)
      assert.match(connected!, /connected to redis:/)
      assert.deepStrictEqual(more, [])
    })
  )

  it.effect("waits at the start for as long as the schedule says, and not for what waiting does not mend", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(silentServer)
      const { layer } = logs()
      let count = 0
      const connect = Schedule.recurs(3).pipe(Schedule.tap(() => Effect.sync(() => void count++)))
      const error = yield* Effect.provide(failure({ port, connect }), layer)
      assert.strictEqual(error.kind, "Unreachable")
      assert.strictEqual(count, 3)
      const server = yield* RedisServer.make({ password: "right" })
      const wrong = yield* failure({ port: server.port, password: "wrong", connect })
      assert.strictEqual(wrong.kind, "AuthenticationFailed")
      assert.strictEqual(count, 3)
    })
  )

  it.effect("comes back after a restart of Redis, with its subscriptions", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const log = logs()
      const transport = yield* RedisPubSub.make({ url: server.url }).pipe(Effect.provide(log.layer))
      const { until } = yield* listen(transport, "restart")
      for (const how of ["stop", "kill"] as const) {
        const from = log.lines.length
        yield* server[how]
        yield* log.until(/lost/, from)
        yield* server.start
        yield* log.until(/connected again/, from)
        assert.strictEqual(yield* send(transport, "restart", how), 1)
        yield* until(how)
      }
    })
  )

  it.effect("says once why it does not come back", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ password: "old-secret" })
      const log = logs()
      const transport = yield* RedisPubSub.make({ url: server.url }).pipe(Effect.provide(log.layer))
      yield* server.command("CONFIG", "SET", "requirepass", "new-secret")
      yield* server.command("CLIENT", "KILL", "TYPE", "pubsub")
      yield* server.command("CLIENT", "KILL", "TYPE", "normal")
      const why = yield* log.until(/does not come back/)
      assert.include(why, "WRONGPASS")
      yield* server.command("CONFIG", "SET", "requirepass", "old-secret")
      yield* log.until(/connected again/)
      assert.strictEqual(yield* send(transport, "rotated", "x"), 0)
      assert.strictEqual(log.lines.filter((line) => line.includes("WRONGPASS")).length, 1)
      assert.notInclude(log.lines.join("\n"), "-secret")
    })
  )

  it.effect("goes on when a right is taken away, and subscribes again when it is back", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({
        acl: ["user app on >secret -@all +ping +info +publish +subscribe +unsubscribe resetchannels &a &b"]
      })
      const log = logs()
      const transport = yield* RedisPubSub.make({
        port: server.port,
        username: "app",
        password: "secret"
      }).pipe(Effect.provide(log.layer))
      const [a, b] = [yield* listen(transport, "a"), yield* listen(transport, "b")]
      // Redis cuts the connections that use the right.
      yield* server.command("ACL", "SETUSER", "app", "resetchannels", "&b")
      const refused = yield* log.until(/NOPERM/)
      assert.include(refused, "SUBSCRIBE a")
      yield* log.until(/connected again/)
      yield* send(transport, "b", "not harmed")
      yield* b.until("not harmed")
      const { state: without } = transport
      assert.isTrue(without._tag === "Degraded" && !without.down && without.error.kind === "PermissionDenied")
      yield* server.command("ACL", "SETUSER", "app", "&a")
      yield* eventually(Effect.map(send(transport, "a", "back"), (receivers) => receivers === 1))
      yield* a.until("back")
      yield* eventually(Effect.sync(() => transport.state._tag === "Ready"))
      assert.strictEqual(log.lines.filter((line) => /NOPERM/.test(line)).length, 1)
    })
  )

  it.effect("ends a program on SIGTERM, also when Redis is frozen", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const proxy = yield* Faults.proxy({ host: "127.0.0.1", port: server.port })
      const program = `
        import { NodeRuntime } from "@effect/platform-node"
        import { Effect, Layer } from "effect"
        import * as RedisPubSub from "./src/transport/RedisPubSub.ts"
        import { Transport } from "./src/transport/Transport.ts"
        const App = Layer.effectDiscard(Effect.gen(function* () {
          const transport = yield* Transport
          yield* transport.subscribe({ _tag: "Channel", channel: "program" }, () => {})
          yield* Effect.addFinalizer(() => Effect.sync(() => transport.send("program.end", "bye", () => {})))
          process.stdout.write("ready\\n")
        })).pipe(Layer.provide(RedisPubSub.layer({ url: "${proxy.url}" })))
        NodeRuntime.runMain(Layer.launch(App))`
      const run = (before: Effect.Effect<void>) =>
        Effect.callback<number | null>((resume) => {
          const child = spawn(
            process.execPath,
            ["--conditions=fiberbus-source", "--input-type=module-typescript", "--eval", program],
            { stdio: ["ignore", "pipe", "inherit"] }
          )
          // Later lines are of the log.
          child.stdout.once("data", () => {
            child.stdout.resume()
            Effect.runFork(
              Effect.andThen(
                before,
                Effect.sync(() => child.kill("SIGTERM"))
              )
            )
          })
          child.on("exit", (code) => resume(Effect.succeed(code)))
          return Effect.sync(() => child.kill("SIGKILL"))
        })
      const there = yield* RedisPubSub.make({ url: server.url })
      const { until } = yield* listen(there, "program.end")
      assert.strictEqual(yield* run(Effect.void), 130)
      yield* until("bye")
      assert.strictEqual(yield* run(proxy.blackhole), 130)
    })
  )
})
