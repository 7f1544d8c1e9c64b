import * as Net from "node:net"
import * as Util from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { createUser } from "@nats-io/nkeys"
import * as Clock from "effect/Clock"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Action, Broadcast, Caller, Handlers, Listener, Memory, Service, Topic } from "fiberbus"
import * as FreePort from "../../src/testing/internal/FreePort.ts"
import * as NatsServer from "../../src/testing/NatsServer.ts"
import * as Nats from "../../src/transport/Nats.ts"
import { publish, type Target, Transport, type TransportError } from "../../src/transport/Transport.ts"
import * as Resources from "../resilience/resources.ts"

const channel = (name: string): Target => ({ _tag: "Channel", channel: name })

/** Why a transport could not be made. */
const failure = (options: Nats.Options) => Effect.flip(Effect.scoped(Nats.make(options)))

const send = (transport: Transport["Service"], to: string, frame: string) =>
  publish(to, frame).pipe(Effect.provideService(Transport, transport))

/** Repeats a question until the answer is yes; the test's limit ends it. */
const eventually = (question: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    while (!question()) yield* Effect.sleep(10)
  }).pipe(Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()))

const isDown = ({ state }: Transport["Service"]) => state._tag === "Degraded" && state.down
const isReady = ({ state }: Transport["Service"]) => state._tag === "Ready"

/** What comes over a channel. */
const heard = Effect.fnUntraced(function* (transport: Transport["Service"], name: string) {
  const frames: Array<string> = []
  yield* transport.subscribe(channel(name), (frame) => void frames.push(Buffer.from(frame).toString()))
  return frames
})

const quiet = Logger.layer([])

/** TCP connections of this process. */
const connections = () => process.getActiveResourcesInfo().filter((name) => /^TCP(Socket|Connect)W/i.test(name)).length

const listening = (answer: (socket: Net.Socket) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly address: string; readonly sockets: Set<Net.Socket> }>((resume) => {
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        // A socket that nobody reads does not learn of its end.
        socket.resume()
        answer(socket)
      })
      server.listen(0, "127.0.0.1", () =>
        resume(Effect.succeed({ address: `127.0.0.1:${(server.address() as Net.AddressInfo).port}`, sockets, server }))
      )
    }),
    (listener) => Effect.sync(() => (listener as unknown as { readonly server: Net.Server }).server.close())
  )

describe("Nats, at the start", () => {
  it.live("says that nobody is there, and what to do", () =>
    Effect.gen(function* () {
      const port = yield* FreePort.find
      const error = yield* failure({ servers: `nats://127.0.0.1:${port}` })
      assert.strictEqual(error.kind, "Unreachable")
      assert.strictEqual(error.operation, `connect to nats://127.0.0.1:${port}`)
      assert.strictEqual(error.sent, "no")
      assert.match(error.hint, /nats-server runs/)
    })
  )

  it.live("tries all servers", () =>
    Effect.gen(function* () {
      const { url } = yield* NatsServer.make()
      const nowhere = `nats://127.0.0.1:${yield* FreePort.find}`
      for (const servers of [[nowhere, url], [url, nowhere], `${nowhere},${url}`]) {
        const transport = yield* Nats.make({ servers })
        assert.strictEqual(transport.state._tag, "Ready")
        assert.strictEqual(transport.name, Array.isArray(servers) ? servers.join(",") : servers)
      }
    }).pipe(Effect.scoped)
  )

  it.live("waits for a server that is not there yet, where it is told to", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      yield* server.kill
      const options = { servers: server.url, connect: Schedule.spaced("20 millis") }
      const made = yield* Effect.forkChild(Nats.make(options), { startImmediately: true })
      yield* server.start
      assert.strictEqual((yield* Fiber.join(made)).state._tag, "Ready")
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  const secret = "correct-horse"
  for (const [how, config, right, wrong] of [
    [
      "a user's password",
      `authorization { user: ann, password: "${secret}" }`,
      { user: "ann", password: Redacted.make(secret) },
      { user: "ann", password: "battery-staple" }
    ],
    ["a token", `authorization { token: "${secret}" }`, { token: secret }, { token: Redacted.make("battery-staple") }]
  ] as const) {
    it.live(`proves itself with ${how}, and never tells it`, () =>
      Effect.gen(function* () {
        const { url } = yield* NatsServer.make({ config: [config] })
        const transport = yield* Nats.make({ servers: url, ...right })
        assert.strictEqual(yield* send(transport, "a", "x"), 1)
        assert.notInclude(Util.inspect(transport, { depth: 20, showHidden: true }), secret)
        for (const options of [wrong, {}]) {
          const error = yield* failure({ servers: url, ...options })
          assert.strictEqual(error.kind, "AuthenticationFailed")
          assert.notInclude(Util.inspect(error, { depth: 20 }), "battery-staple")
        }
      }).pipe(Effect.scoped)
    )
  }

  it.live("proves itself with an NKey", () =>
    Effect.gen(function* () {
      const [ann, bob] = [createUser(), createUser()]
      const seed = (user: typeof ann) => new TextDecoder().decode(user.getSeed())
      const { url } = yield* NatsServer.make({
        config: [`authorization { users: [ { nkey: ${ann.getPublicKey()} } ] }`]
      })
      const transport = yield* Nats.make({ servers: url, nkeySeed: Redacted.make(seed(ann)) })
      assert.strictEqual(transport.state._tag, "Ready")
      const error = yield* failure({ servers: url, nkeySeed: seed(bob) })
      assert.strictEqual(error.kind, "AuthenticationFailed")
      assert.strictEqual((yield* failure({ servers: url, nkeySeed: "SUNOSEED" })).kind, "InvalidOptions")
    }).pipe(Effect.scoped)
  )

  it.live("knows what is not NATS from a server that is silent, and leaves no socket at either", () =>
    Effect.gen(function* () {
      const other = yield* listening((socket) => socket.write("SSH-2.0-OpenSSH_9.2\r\n"))
      const silent = yield* listening(() => {})
      assert.strictEqual((yield* failure({ servers: other.address })).kind, "ProtocolError")
      const error = yield* failure({ servers: silent.address, connectTimeout: "50 millis" })
      assert.strictEqual(error.kind, "Timeout")
      yield* eventually(() => other.sockets.size === 0 && silent.sockets.size === 0)
    }).pipe(Effect.scoped)
  )

  it.live("says what is wrong with TLS", () =>
    Effect.gen(function* () {
      const plain = yield* NatsServer.make()
      const secure = yield* NatsServer.make({ tls: {} })
      const nats = secure.url.replace("tls://", "nats://")
      const kinds = yield* Effect.forEach(
        [
          { servers: nats },
          { servers: plain.url, tls: true },
          { servers: secure.url },
          { servers: secure.url, tls: { ca: secure.tls!.ca, servername: "elsewhere" } }
        ],
        (options) => Effect.map(failure(options), ({ detail, kind }) => `${kind}: ${detail}`)
      )
      assert.strictEqual(kinds[0], "ProtocolError: the server wants TLS")
      for (const kind of kinds) assert.match(kind, /^ProtocolError: /)
      const transport = yield* Nats.make({ servers: secure.url, tls: { ca: secure.tls!.ca } })
      assert.strictEqual(transport.state._tag, "Ready")
    }).pipe(Effect.scoped)
  )

  it.live("takes what the server takes, and not more", () =>
    Effect.gen(function* () {
      const { url } = yield* NatsServer.make({ config: ["max_payload: 1000"] })
      assert.strictEqual((yield* Nats.make({ servers: url })).capabilities.maxFrameBytes, 1000)
      assert.strictEqual((yield* Nats.make({ servers: url, maxFrameBytes: 10 })).capabilities.maxFrameBytes, 10)
      const error = yield* failure({ servers: url, maxFrameBytes: 1001 })
      assert.strictEqual(error.kind, "InvalidOptions")
      assert.match(error.message, /max_payload/)
    }).pipe(Effect.scoped)
  )

  const wrong: ReadonlyArray<Nats.Options> = [
    { servers: "" },
    { servers: [] },
    { servers: "redis://127.0.0.1" },
    { servers: "nats://ann:hidden-word@127.0.0.1" },
    { servers: "nats://127.0.0.1/path" },
    { servers: "nats://127.0.0.1:99999999" },
    { servers: ["tls://127.0.0.1", "nats://127.0.0.1"] },
    { servers: "tls://127.0.0.1", tls: false },
    { tls: { cert: "hidden-word" } },
    { password: "hidden-word" },
    { user: "ann", token: "hidden-word" },
    { token: 5 as never },
    { prefix: "a b" },
    { prefix: "a*" },
    { maxFrameBytes: 0 },
    { maxFrameBytes: 2000, maxBytesInFlight: 1000 },
    { connectTimeout: 0 },
    { commandTimeout: "soon" as never },
    { reconnect: 5 as never },
    { whileDown: "wait" as never },
    { whileDown: { buffer: -1 } }
  ]
  it.live("refuses wrong options before it connects, without quoting a secret", () =>
    Effect.forEach(wrong, (options) =>
      Effect.gen(function* () {
        const error = yield* failure(options)
        assert.strictEqual(error.kind, "InvalidOptions", Util.inspect(options))
        assert.notInclude(Util.inspect(error, { depth: 20 }), "hidden-word")
      })
    )
  )

  it.live("reads the environment", () =>
    Effect.gen(function* () {
      const { url, tls } = yield* NatsServer.make({ tls: {}, config: ['authorization { token: "s3cret" }'] })
      const env = { NATS_SERVERS: url, NATS_TOKEN: "s3cret", NATS_TLS_CA: tls!.ca, FIBERBUS_PREFIX: "shop." }
      const transport = yield* Layer.build(Nats.layerConfig()).pipe(
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
        Effect.flatMap((context) => Effect.provide(Transport, Layer.succeedContext(context)))
      )
      assert.deepStrictEqual([transport.name, transport.prefix, transport.state._tag], [url, "shop.", "Ready"])
    }).pipe(Effect.scoped)
  )
})

describe("Nats, while it runs", () => {
  it.live("finds that a frozen server is gone, ends what it has not confirmed, and sends none of it late", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      const options = { servers: server.url, commandTimeout: "1 second", whileDown: "fail" } as const
      const here = yield* Nats.make(options)
      const there = yield* Nats.make({ ...options, commandTimeout: "10 seconds" })
      const frames = yield* heard(there, "news")
      yield* server.pause
      // It may answer a few before the signal stops it.
      let count = 0
      const first = yield* Effect.flip(
        Effect.forever(Effect.suspend(() => send(here, "news", `on its way ${count++}`)))
      )
      assert.deepInclude(["ConnectionLost", "Timeout"], first.kind)
      assert.strictEqual(first.sent, "unknown")
      yield* eventually(() => isDown(here))
      assert.strictEqual(here.state.gaps, 1)
      const second = yield* Effect.flip(send(here, "news", "while down"))
      assert.strictEqual(second.sent, "no")
      yield* server.resume
      yield* eventually(() => isReady(here))
      yield* send(here, "news", "after")
      yield* eventually(() => frames.includes("after"))
      assert.notInclude(frames, "while down")
      assert.strictEqual(new Set(frames).size, frames.length)
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  it.live("asks a link that is idle for a sign of life, and leaves it be when one comes", () =>
    Effect.gen(function* () {
      let pings = 0
      const { address } = yield* listening((socket) => {
        socket.write('INFO {"server_id":"x","version":"2.9.10","proto":1,"max_payload":1000}\r\n')
        socket.on("data", (chunk) => {
          for (const _ of chunk.toString().matchAll(/PING\r\n/g)) {
            pings++
            socket.write("PONG\r\n")
          }
        })
      })
      const transport = yield* Nats.make({ servers: address, commandTimeout: "400 millis" })
      const before = pings
      yield* eventually(() => pings >= before + 3)
      assert.deepStrictEqual(transport.state, { _tag: "Ready", gaps: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("holds what is sent while it is down for a while, and sends it once", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      const options = { servers: server.url, whileDown: { for: "20 seconds", buffer: 2 } } as const
      const here = yield* Nats.make(options)
      const frames = yield* heard(here, "news")
      yield* server.kill
      yield* eventually(() => isDown(here))
      const held = yield* Effect.forEach(["a", "b"], (frame) =>
        Effect.forkChild(send(here, "news", frame), { startImmediately: true })
      )
      assert.strictEqual((yield* Effect.flip(send(here, "news", "c"))).sent, "no")
      yield* server.start
      for (const fiber of held) assert.strictEqual(yield* Fiber.join(fiber), 1)
      yield* eventually(() => frames.length >= 2)
      assert.deepStrictEqual(frames, ["a", "b"])
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  it.live("holds one socket through any number of outages, and nothing when it is closed", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      yield* eventually(() => connections() === 0)
      const timers = Resources.timers()
      yield* Effect.gen(function* () {
        const transport = yield* Nats.make({ servers: server.url, reconnect: Schedule.spaced("10 millis") })
        yield* heard(transport, "news")
        for (let i = 0; i < 5; i++) {
          yield* server.kill
          yield* eventually(() => isDown(transport))
          yield* server.start
          yield* eventually(() => isReady(transport))
        }
        assert.strictEqual(transport.state.gaps, 5)
        yield* eventually(() => connections() === 1)
      }).pipe(Effect.scoped)
      yield* eventually(() => connections() === 0 && Resources.timers() <= timers + 1)
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  it.live("leaves no socket behind while the server is frozen, however often it tries", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      yield* eventually(() => connections() === 0)
      const attempts: Array<string> = []
      yield* Effect.gen(function* () {
        const transport = yield* Nats.make({
          servers: server.url,
          commandTimeout: "500 millis",
          connectTimeout: "100 millis",
          reconnect: Schedule.tap(Schedule.spaced("1 millis"), ({ input }) =>
            Effect.sync(() => void attempts.push((input as TransportError).kind))
          )
        })
        yield* server.pause
        yield* eventually(() => attempts.filter((kind) => kind === "Timeout").length >= 5)
        // One that tries, at most.
        assert.isAtMost(connections(), 1)
        yield* server.resume
        yield* eventually(() => isReady(transport))
      }).pipe(Effect.scoped)
      yield* eventually(() => connections() === 0)
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  it.live("gives up when the schedule ends, and says so to all", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      const transport = yield* Nats.make({ servers: server.url, reconnect: Schedule.recurs(1), whileDown: "fail" })
      yield* server.kill
      yield* eventually(() => transport.state._tag === "Closed")
      assert.deepInclude(transport.state, { _tag: "Closed", gaps: 1 })
      assert.strictEqual((yield* Effect.flip(send(transport, "a", "x"))).kind, "Closed")
      assert.strictEqual(
        (yield* Effect.flip(Effect.scoped(transport.subscribe(channel("a"), () => {})))).kind,
        "Closed"
      )
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  const permissions = (subscribe: string) =>
    `authorization { users: [ { user: ann, password: pw, permissions: { publish: ["ok.>"], subscribe: [${subscribe}] } } ] }`

  it.live("tells of a right that is missing, to the one that lacks it alone", () =>
    Effect.gen(function* () {
      const { url } = yield* NatsServer.make({ config: [permissions('"ok.>"')] })
      const transport = yield* Nats.make({ servers: url, user: "ann", password: "pw" })
      const frames = yield* heard(transport, "ok.a")
      const [one, refused, other] = yield* Effect.all(
        [send(transport, "ok.a", "1"), Effect.flip(send(transport, "no.a", "2")), send(transport, "ok.a", "3")],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([one, refused.kind, refused.sent, other], [1, "PermissionDenied", "no", 1])
      const denied = yield* Effect.flip(Effect.scoped(transport.subscribe(channel("no.a"), () => {})))
      assert.deepStrictEqual([denied.kind, denied.operation], ["PermissionDenied", "SUB no.a"])
      yield* eventually(() => frames.length === 2)
      assert.deepStrictEqual(transport.state, { _tag: "Ready", gaps: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("is degraded, but not down, while a subscription is refused that it had", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make({ config: [permissions('"ok.>", "more.>"')] })
      const transport = yield* Nats.make({ servers: server.url, user: "ann", password: "pw" })
      yield* heard(transport, "ok.a")
      yield* heard(transport, "more.a")
      yield* server.reload([permissions('"ok.>"')])
      yield* server.stop
      yield* eventually(() => isDown(transport))
      yield* server.start
      yield* eventually(() => transport.state._tag === "Degraded" && !transport.state.down)
      assert.strictEqual(transport.state._tag === "Degraded" && transport.state.error.kind, "PermissionDenied")
      // What is allowed goes on.
      assert.strictEqual(yield* send(transport, "ok.a", "x"), 1)
      yield* server.reload([permissions('"ok.>", "more.>"')])
      yield* eventually(() => isReady(transport))
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  it.live("refuses what would be too much, and what the server would end the link for", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      const transport = yield* Nats.make({ servers: server.url, maxFrameBytes: 1000, maxBytesInFlight: 10_000 })
      const frame = "x".repeat(1000)
      const exits = yield* Effect.forEach(Array.from({ length: 50 }), () => Effect.exit(send(transport, "a", frame)), {
        concurrency: "unbounded"
      })
      const kinds = exits.map((exit) => (Exit.isSuccess(exit) ? "sent" : "refused"))
      assert.includeMembers(kinds, ["sent", "refused"])
      const overloaded = yield* Effect.flip(
        Effect.all(
          Array.from({ length: 50 }, () => send(transport, "a", frame)),
          { concurrency: "unbounded" }
        )
      )
      assert.deepStrictEqual([overloaded.kind, overloaded.sent], ["Overloaded", "no"])
      const long = yield* Effect.flip(send(transport, "é".repeat(2000), "x"))
      assert.deepStrictEqual([long.kind, long.sent], ["InvalidOptions", "no"])
      const longest = "y".repeat(3500)
      const frames = yield* heard(transport, longest)
      yield* send(transport, longest, "x")
      yield* eventually(() => frames.length === 1)
      assert.deepStrictEqual(transport.state, { _tag: "Ready", gaps: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("takes a Redis glob as a pattern, in the midst of other traffic", () =>
    Effect.gen(function* () {
      const { url } = yield* NatsServer.make()
      const transport = yield* Nats.make({ servers: url })
      const seen: Array<string> = []
      yield* transport.subscribe({ _tag: "Pattern", pattern: "sens*.[kc]*" }, (_, name) => void seen.push(name))
      for (const name of ["sensors.kitchen", "sensors", "other.kitchen", "sensors.x", "sens é.cellar", "sens.."]) {
        yield* send(transport, name, "x")
      }
      yield* send(transport, "sensors.c.end", "x")
      yield* eventually(() => seen.includes("sensors.c.end"))
      assert.deepStrictEqual(seen, ["sensors.kitchen", "sens é.cellar", "sensors.c.end"])
    }).pipe(Effect.scoped)
  )
})

class Shop extends Service.make(
  "shop",
  Action.make("price", {
    payload: { item: Schema.String, count: Schema.Int },
    success: { cents: Schema.Finite, said: Schema.String },
    error: Schema.Struct({ unknown: Schema.String })
  }),
  Action.make("count", { payload: { to: Schema.Int }, items: Schema.Int }),
  Action.make("wait")
) {}

const ShopLive = Handlers.layer(
  Shop,
  {
    price: ({ count, item }) =>
      item.length % 3 === 1 ? Effect.fail({ unknown: item }) : Effect.succeed({ cents: count * 5, said: item }),
    count: ({ to }) => Stream.range(1, to),
    wait: () => Effect.never
  },
  // A handler whose caller is lost without a word goes on; nobody waits for it at the end of a test.
  { grace: "10 millis" }
)

describe("A service over Nats", () => {
  const overNats = (url: string) => ShopLive.pipe(Layer.provideMerge(Nats.layer({ servers: url })))

  it.live("answers, streams and hears as over any other transport", () =>
    Effect.gen(function* () {
      const { url } = yield* NatsServer.make()
      const Sensors = Topic.make("sensors.*", { celsius: Schema.Finite })
      const heard: Array<number> = []
      const OnSensors = Listener.layer(Sensors, ({ celsius }) => Effect.sync(() => void heard.push(celsius)))
      yield* Effect.gen(function* () {
        const shop = yield* Caller.make(Shop)
        assert.deepStrictEqual(yield* shop.price({ item: "mug", count: 2 }), { cents: 10, said: "mug" })
        assert.deepStrictEqual(yield* Effect.flip(shop.price({ item: "a", count: 2 })), { unknown: "a" } as never)
        assert.deepStrictEqual(
          yield* Stream.runCollect(shop.count({ to: 200 })),
          Array.from({ length: 200 }, (_, i) => i + 1)
        )
        yield* Broadcast.publish(Topic.at(Sensors, "sensors.kitchen"), { celsius: 21 })
        yield* eventually(() => heard.length === 1)
      }).pipe(Effect.scoped, Effect.provide(OnSensors.pipe(Layer.provideMerge(overNats(url)))))
    }).pipe(Effect.scoped)
  )

  it.live("ends each call once in a typed outcome, whatever becomes of the server", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make()
      yield* Effect.gen(function* () {
        const transport = yield* Transport
        const shop = yield* Caller.make(Shop)
        const elsewhere = yield* Caller.make(Service.make("nobody", Action.make("ask")))
        // Nobody counts, so it is the deadline that tells.
        const nobody = yield* Effect.flip(elsewhere.ask({ timeout: "50 millis" }))
        assert.deepStrictEqual([nobody.reason._tag, nobody.started], ["DeadlineExceeded", "unknown"])

        const waiting = yield* Effect.forkChild(Effect.flip(shop.wait({ timeout: "1 minute" })), {
          startImmediately: true
        })
        yield* send(transport, "barrier", "x")
        yield* server.kill
        const lost = yield* Fiber.join(waiting)
        assert.strictEqual(lost.reason._tag, "ConnectionLost")
        yield* eventually(() => isDown(transport))
        // Begun while it is down, and sent when it is back.
        const price = yield* Effect.forkChild(Effect.exit(shop.price({ item: "mug", count: 1 })), {
          startImmediately: true
        })
        yield* server.start
        const exit = yield* Fiber.join(price)
        if (Exit.isFailure(exit)) {
          const error = yield* Effect.flip(exit)
          assert.strictEqual((error as { readonly started: string }).started, "no")
        }
        yield* eventually(() => isReady(transport))
        assert.deepStrictEqual(yield* shop.price({ item: "mug", count: 3 }), { cents: 15, said: "mug" })
        assert.strictEqual(transport.state.gaps, 1)
      }).pipe(Effect.scoped, Effect.provide(overNats(server.url)))
    }).pipe(Effect.scoped, Effect.provide(quiet))
  )

  it.layer(
    Layer.unwrap(Effect.map(NatsServer.NatsServer, ({ url }) => overNats(url))).pipe(
      Layer.provideMerge(NatsServer.layer)
    )
  )((it) => {
    it.effect.prop(
      "gives any call the outcome that it has in memory",
      [Shop.actions.price.payload],
      ([payload]) =>
        Effect.gen(function* () {
          const outcome = Effect.exit(Effect.scoped(Effect.flatMap(Caller.make(Shop), (shop) => shop.price(payload))))
          const here = yield* outcome
          const inMemory = yield* outcome.pipe(
            Effect.provide(ShopLive.pipe(Layer.provideMerge(Layer.fresh(Memory.layer))), { local: true })
          )
          assert.deepStrictEqual(here, inMemory)
        }),
      { arbitrary: { runs: 100 } }
    )
  })
})
