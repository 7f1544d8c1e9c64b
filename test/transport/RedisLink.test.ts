import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Schema } from "effect"
import { RedisServer } from "fiberbus/testing"
import { Redis } from "ioredis"
import { vi } from "vitest"
import * as RedisLink from "../../src/transport/internal/RedisLink.ts"
import { RedisDefences } from "../../src/transport/internal/redisDefences.ts"
import * as redisOptions from "../../src/transport/internal/redisOptions.ts"
import type * as RedisPubSub from "../../src/transport/RedisPubSub.ts"
import { TransportError } from "../../src/transport/Transport.ts"

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`

/** Reads commands as they come, and says what each is answered with; `undefined` ends the connection. */
const serve = (answer: (args: ReadonlyArray<string>) => string | undefined, options: Partial<Script> = {}) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const { cuts = [], protocol = 3 } = options
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer({ noDelay: true }, (socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        let input = ""
        let output: Buffer = Buffer.alloc(0)
        let turn = 0
        let writing = false
        const write = () => {
          const length = cuts.length === 0 ? output.length : cuts[turn++ % cuts.length]!
          socket.write(output.subarray(0, length))
          output = output.subarray(length)
          writing = output.length > 0
          if (writing) setImmediate(write)
        }
        socket.on("data", (chunk) => {
          input += chunk.toString("latin1")
          for (;;) {
            const read = readCommand(input)
            if (read === undefined) return
            input = input.slice(read.end)
            const [name = "", question] = read.args
            const said =
              name === "hello"
                ? protocol === 3
                  ? `%1\r\n${bulk("proto")}:3\r\n`
                  : "-ERR unknown command 'HELLO'\r\n"
                : name === "client"
                  ? "+OK\r\n"
                  : name === "ping"
                    ? bulk(question ?? "PONG")
                    : answer(read.args)
            if (said === undefined) return socket.destroy()
            output = Buffer.concat([output, Buffer.from(said)])
            if (writing || output.length === 0) continue
            writing = true
            setImmediate(write)
          }
        })
      })
      server.listen(0, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            port: (server.address() as Net.AddressInfo).port,
            close: () => {
              server.close()
              for (const socket of sockets) socket.destroy()
            }
          })
        )
      )
    }),
    ({ close }) => Effect.sync(close)
  )

interface Script {
  /** Lengths of the pieces in which replies leave, again and again. */
  readonly cuts: ReadonlyArray<number>
  readonly protocol: 2 | 3
}

/** The first command of a text in latin1, decoded. */
const readCommand = (text: string): { readonly args: ReadonlyArray<string>; readonly end: number } | undefined => {
  const line = (at: number) => {
    const end = text.indexOf("\r\n", at)
    return end < 0 ? undefined : { value: Number(text.slice(at + 1, end)), next: end + 2 }
  }
  const head = line(0)
  if (head === undefined) return undefined
  let { next } = head
  const args: Array<string> = []
  for (let i = 0; i < head.value; i++) {
    const length = line(next)
    if (length === undefined || text.length < length.next + length.value + 2) return undefined
    args.push(Buffer.from(text.slice(length.next, length.next + length.value), "latin1").toString())
    next = length.next + length.value + 2
  }
  return { args: [args[0]!.toLowerCase(), ...args.slice(1)], end: next }
}

const connect = Effect.fnUntraced(function* (
  options: RedisPubSub.Options,
  prepare: (client: Redis, link: RedisLink.RedisLink) => void = () => {}
) {
  const settings = redisOptions.resolve({ reconnect: Schedule.spaced("1 millis"), ...options }, yield* RedisDefences)
  if (settings instanceof TransportError) return yield* settings
  const errors: Array<TransportError> = []
  let changed = () => {}
  const link: RedisLink.RedisLink = RedisLink.make(settings, "test", {
    prepare: (client) => prepare(client, link),
    mayReconnect: () => true,
    gaveUp: () => {},
    up: () => changed(),
    down: (error) => void errors.push(error)
  })
  yield* Effect.addFinalizer(() => link.close)
  yield* link.start
  const up = Effect.callback<void>((resume) => {
    changed = () => {
      if (link.isUp()) resume(Effect.void)
    }
    changed()
  })
  return { link, errors, up }
})

/** What each command that was given is told, and a wait for all. */
const account = () => {
  const told: Array<Array<unknown>> = []
  const order: Array<number> = []
  let open = 0
  let look = () => {}
  return {
    told,
    /** In which they were told. */
    order,
    done: () => {
      const outcomes: Array<unknown> = []
      const place = told.push(outcomes) - 1
      open++
      return (error: TransportError | undefined, reply: unknown) => {
        if (outcomes.push(error ?? reply) > 1) return
        order.push(place)
        open--
        look()
      }
    },
    all: Effect.callback<void>((resume) => {
      look = () => {
        if (open === 0) resume(Effect.void)
      }
      look()
    })
  }
}

const Operation = Schema.Literals([
  "publish",
  "wide",
  "large",
  "refused",
  "sharded",
  "value",
  "list",
  "nothing",
  "denied",
  "turn"
])

/** What a command is answered with: its own number in each. */
const replyTo = ([name, first = "", second = ""]: ReadonlyArray<string>): string => {
  const number = Number.parseInt(name?.endsWith("publish") ? second : first, 10)
  if (name === "spublish") return `:${number + 1_000_000}\r\n`
  if (name === "publish") return first === "refused" ? `-NOPERM ${number}\r\n` : `:${number}\r\n`
  if (name === "lrange") return `*3\r\n:${number}\r\n$-1\r\n*1\r\n${bulk("-:+\r\n")}`
  if (name === "del") return "$-1\r\n"
  if (name === "set") return `-ERR ${number}\r\n`
  return bulk(`value ${number}\r\n:1`)
}

/** Gives one, and says what it should be told. */
const give = (link: RedisLink.RedisLink, operation: typeof Operation.Type, i: number, done: RedisLink.Done) => {
  const publish = (channel: string, frame: string) => link.publish(channel, frame, Buffer.byteLength(frame), done)
  switch (operation) {
    case "publish":
    case "refused":
      publish(operation, `${i} x`)
      return operation === "publish" ? i : `NOPERM ${i}`
    case "wide":
      publish("größe", `${i} ü€𝄞`)
      return i
    case "sharded":
      link.publish("publish", String(i), String(i).length, done, true)
      return i + 1_000_000
    case "large":
      publish("large", `${i} ${"x".repeat(20_000)}`)
      return i
    case "list":
      link.command("lrange", [String(i)], 0, done)
      return [i, null, ["-:+\r\n"]]
    case "nothing":
      link.command("del", [String(i)], 0, done)
      return null
    case "denied":
      link.command("set", [String(i)], 0, done)
      return `ERR ${i}`
    default:
      link.command("get", [String(i)], 0, done)
      return `value ${i}\r\n:1`
  }
}

const said = (outcome: unknown) =>
  outcome instanceof TransportError && outcome.kind !== "ConnectionLost" ? outcome.detail : outcome

const isRefused = (outcome: unknown) => outcome instanceof TransportError && outcome.sent === "no"

const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

describe("RedisLink", () => {
  it.effect.prop(
    "gives each command its own reply, however commands and pieces of replies are mixed, and whenever the connection is cut",
    [
      Schema.Array(Operation),
      Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))),
      Schema.Literals([2, 3]),
      Schema.UndefinedOr(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 })))
    ],
    ([operations, cuts, protocol, cutAfter]) =>
      Effect.scoped(
        Effect.gen(function* () {
          let served = 0
          const push = protocol === 3 ? ">2\r\n+invalidate\r\n*1\r\n+key\r\n" : ""
          const { port } = yield* serve(
            (args) => (served++ === cutAfter ? undefined : (served % 3 === 0 ? push : "") + replyTo(args)),
            { cuts, protocol }
          )
          const { link, up } = yield* connect({ port })
          const { all, done, order, told } = account()
          const wanted: Array<unknown> = []
          for (const [i, operation] of operations.entries()) {
            if (operation === "turn") yield* turn
            else wanted.push(give(link, operation, i, done()))
          }
          yield* all
          // What was given to a connection that had gone is refused at once, before those are told that were written to it.
          const written = order.filter((place) => !isRefused(told[place]![0]))
          assert.deepStrictEqual(
            written,
            [...written].sort((a, b) => a - b)
          )
          const lost = told.filter(
            ([outcome]) => outcome instanceof TransportError && outcome.kind === "ConnectionLost"
          )
          if (cutAfter === undefined) assert.strictEqual(lost.length, 0)
          assert.deepStrictEqual(
            told.filter((outcomes) => !lost.includes(outcomes)).map((outcomes) => outcomes.map(said)),
            wanted.filter((_, i) => !lost.includes(told[i]!)).map((one) => [one])
          )
          for (const outcomes of told) assert.lengthOf(outcomes, 1)
          assert.strictEqual(link.bytesInFlight(), 0)
          // And so it does afterwards.
          served = 1000
          yield* up
          const after = account()
          const wantedAfter = (["value", "publish", "list", "publish"] as const).map((operation, i) =>
            give(link, operation, i, after.done())
          )
          yield* after.all
          assert.deepStrictEqual(
            after.told,
            wantedAfter.map((one) => [one])
          )
        })
      )
  )

  it.effect("publishes past ioredis although its commands are on their way, now and for ever", () =>
    Effect.gen(function* () {
      const { port } = yield* serve(replyTo)
      const { link } = yield* connect({ port })
      const call = vi.spyOn(Redis.prototype, "call")
      yield* Effect.addFinalizer(() => Effect.sync(() => call.mockRestore()))
      const { all, done, told } = account()
      for (let i = 0; i < 300; i++) {
        give(link, i % 3 === 0 ? "value" : "publish", i, done())
        if (i % 10 === 0) yield* turn
      }
      yield* all
      assert.deepStrictEqual(
        told.map(([outcome]) => outcome),
        told.map((_, i) => (i % 3 === 0 ? `value ${i}\r\n:1` : i))
      )
      assert.deepStrictEqual([...new Set(call.mock.calls.map(([name]) => name))], ["get"])
      assert.lengthOf(call.mock.calls, 100)
    })
  )

  it.effect("tells tens of thousands of answers at once that were read behind one of ioredis'", () =>
    Effect.gen(function* () {
      const { port } = yield* serve(replyTo, { cuts: [1_000_000] })
      const { link } = yield* connect({ port })
      const { all, done, order } = account()
      give(link, "value", 0, done())
      for (let i = 1; i < 30_000; i++) give(link, "publish", i, done())
      yield* all
      assert.isTrue(order.every((place, i) => place === i))
      assert.lengthOf(order, 30_000)
    })
  )

  for (const [name, nonsense] of [
    ["another reply", "+OK\r\n"],
    ["nothing", "$-1\r\n"],
    ["a text without an end", "$100000000\r\n"],
    ["a list", "*2\r\n:1\r\n:2\r\n"],
    ["a number that is none", ":many\r\n"],
    ["fewer than nobody", ":-1\r\n"],
    ["what is no RESP", "HTTP/1.1 400 Bad Request\r\n\r\n"]
  ] as const) {
    it.effect(`gives the connection up where PUBLISH is answered with ${name}, and no reply to another`, () =>
      Effect.gen(function* () {
        let isNonsense = true
        const { port } = yield* serve((args) => {
          if (!isNonsense || args[0] !== "publish") return replyTo(args)
          isNonsense = false
          return nonsense
        })
        const { errors, link, up } = yield* connect({ port })
        const { all, done, told } = account()
        const operations = ["value", "publish", "value", "publish", "value"] as const
        for (const [i, operation] of operations.entries()) give(link, operation, i, done())
        yield* all
        const outcomes = told.map(([outcome]) =>
          outcome instanceof TransportError ? `${outcome.kind} ${outcome.sent}` : outcome
        )
        // ioredis tells it a moment later than it has come.
        assert.oneOf(outcomes.shift(), ["value 0\r\n:1", "ConnectionLost unknown"])
        assert.deepStrictEqual(outcomes, Array(4).fill("ConnectionLost unknown"))
        assert.strictEqual(errors[0]?.kind, "ProtocolError")
        yield* up
        const again = account()
        give(link, "publish", 7, again.done())
        yield* again.all
        assert.deepStrictEqual(again.told, [[7]])
      })
    )
  }

  it.effect("tells an answer that was read behind one of ioredis' also when the connection is given up just then", () =>
    Effect.gen(function* () {
      const { port } = yield* serve((args) => (args[2] === "2 x" ? "+OK\r\n" : replyTo(args)))
      const { errors, link } = yield* connect({ port })
      const { all, done, told } = account()
      for (const [i, operation] of (["value", "publish", "publish"] as const).entries())
        give(link, operation, i, done())
      yield* all
      assert.strictEqual(errors[0]?.kind, "ProtocolError")
      assert.deepStrictEqual(told[1], [1])
      assert.strictEqual((told[2]![0] as TransportError).kind, "ConnectionLost")
    })
  )

  // Deeper than the reader follows, which ioredis does.
  const deep = `${"*1\r\n".repeat(12)}:1\r\n`

  it.effect("gives the connection up when a reply before that to PUBLISH cannot be followed", () =>
    Effect.gen(function* () {
      let isDeep = true
      const { port } = yield* serve((args) => (isDeep && args[0] === "get" ? deep : replyTo(args)))
      const { errors, link, up } = yield* connect({ port })
      const { all, done, told } = account()
      for (const operation of ["value", "publish", "list"] as const) give(link, operation, 1, done())
      yield* all
      for (const [outcome] of told) assert.strictEqual((outcome as TransportError).kind, "ConnectionLost")
      assert.strictEqual(errors[0]?.kind, "ProtocolError")
      isDeep = false
      yield* up
      const again = account()
      give(link, "value", 2, again.done())
      give(link, "publish", 3, again.done())
      yield* again.all
      assert.deepStrictEqual(again.told, [["value 2\r\n:1"], [3]])
    })
  )

  it.effect("publishes by ioredis after a reply that it alone could follow", () =>
    Effect.gen(function* () {
      const { port } = yield* serve((args) => (args[0] === "get" ? deep : replyTo(args)))
      const { errors, link } = yield* connect({ port })
      const first = account()
      link.command("get", ["1"], 0, first.done())
      yield* first.all
      assert.notInstanceOf(first.told[0]![0], TransportError)
      const call = vi.spyOn(Redis.prototype, "call")
      yield* Effect.addFinalizer(() => Effect.sync(() => call.mockRestore()))
      const { all, done, told } = account()
      for (const [i, operation] of (["publish", "list", "publish"] as const).entries()) give(link, operation, i, done())
      yield* all
      assert.deepStrictEqual(told, [[0], [[1, null, ["-:+\r\n"]]], [2]])
      assert.deepStrictEqual(
        call.mock.calls.map(([name]) => name),
        ["publish", "lrange", "publish"]
      )
      assert.deepStrictEqual(errors, [])
    })
  )

  it.effect("publishes by ioredis where that has asked for more than the link knows of", () =>
    Effect.gen(function* () {
      const { port } = yield* serve(replyTo, { cuts: [1] })
      const before = account()
      const { errors, link } = yield* connect({ port }, (client, link) => {
        void client.get("1")
        // Behind the question that shows that the link is up.
        queueMicrotask(() => give(link, "value", 2, before.done()))
      })
      const { all, done, told } = account()
      for (const [i, operation] of (["publish", "value", "publish"] as const).entries()) {
        give(link, operation, i, done())
      }
      yield* all
      assert.deepStrictEqual(told, [[0], ["value 1\r\n:1"], [2]])
      assert.deepStrictEqual(before.told, [["value 2\r\n:1"]])
      assert.deepStrictEqual(errors, [])
    })
  )

  it.layer(RedisServer.layerOptions({ password: "correct-secret" }))("with Redis", (it) => {
    it.effect.prop(
      "gives each command its own reply",
      [Schema.Array(Operation), Schema.Literals([0, 1, 5])],
      ([operations, db]) =>
        RedisServer.RedisServer.use(({ port }) =>
          Effect.scoped(
            Effect.gen(function* () {
              const { errors, link } = yield* connect({ port, db, password: "correct-secret" })
              const listener = yield* connect(
                { port, password: "correct-secret" },
                (client) => void client.subscribe("publish")
              )
              assert.isTrue(listener.link.isUp())
              const call = vi.spyOn(Redis.prototype, "call")
              yield* Effect.addFinalizer(() => Effect.sync(() => call.mockRestore()))
              const { all, done, told } = account()
              const wanted: Array<unknown> = []
              for (const [i, operation] of operations.entries()) {
                const text = "ü".repeat(i % 40)
                switch (operation) {
                  case "turn":
                    yield* turn
                    break
                  case "publish":
                  case "wide":
                  case "refused":
                  case "sharded":
                  case "large": {
                    const frame = operation === "large" ? "x".repeat(40_000) : text
                    link.publish(operation, frame, Buffer.byteLength(frame), done(), operation === "sharded")
                    wanted.push(operation === "publish" ? 1 : 0)
                    break
                  }
                  case "denied":
                    link.command("get", [], 0, done())
                    wanted.push("ERR wrong number of arguments for 'get' command")
                    break
                  default:
                    link.command("echo", [`${i} ${text}`], 0, done())
                    wanted.push(`${i} ${text}`)
                }
              }
              yield* all
              assert.deepStrictEqual(
                told.map((outcomes) => outcomes.map(said)),
                wanted.map((one) => [one])
              )
              assert.isFalse(call.mock.calls.some(([name]) => name === "publish"))
              assert.deepStrictEqual(errors, [])
            })
          )
        )
    )
  })
})
