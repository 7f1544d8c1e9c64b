import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Logger, Schema } from "effect"
import { Action, Handlers, Service, Transport } from "fiberbus"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as RedisPubSub from "../../src/transport/RedisPubSub.ts"
import { UsersLive } from "../users.ts"
import * as Program from "./program.ts"

/** The Redis, a prefix that nobody else has, and a transport on both. */
const place = Effect.map(RedisServer.RedisServer, ({ url }) => {
  const prefix = `${randomUUID()}:`
  return { url, env: { REDIS_URL: url, FIBERBUS_PREFIX: prefix }, bus: RedisPubSub.layer({ url, prefix }), prefix }
})

it.layer(RedisServer.layer, { excludeTestServices: true })("the program fiberbus", (it) => {
  it.effect("calls a service", () =>
    Effect.gen(function* () {
      const { url, env, bus, prefix } = yield* place
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* Program.run(["call", "user_service", "get_user", '{"id":"1"}'], env), {
          status: 0,
          stdout: '{"id":"1","name":"Ann","born":"2000-01-01T00:00:00.000Z"}\n',
          stderr: ""
        })
        assert.deepStrictEqual(
          yield* Program.run(["call", "user_service", "import_users", "-"], env, '{"rows":["a"]}'),
          { status: 0, stdout: '{"imported":1}\n', stderr: 'progress {"done":1,"total":1}\n' }
        )
        const shown = yield* Program.run(["call", "user_service", "ping"], { ...env, FIBERBUS_FLOW: "frames" })
        assert.deepStrictEqual([shown.status, shown.stdout], [0, "null\n"])
        assert.match(shown.stderr, /^fiberbus: debug: fiberbus → \S+user_service request ping \S+, \d+ bytes$/m)
        assert.match(shown.stderr, /^fiberbus: debug: fiberbus ← \S+ reply success \S+, \d+ bytes$/m)
        const misspelt = yield* Program.run(["call", "user_service", "ping"], { ...env, FIBERBUS_FLOW: "yes" })
        assert.strictEqual(misspelt.status, 2)
        assert.include(misspelt.stderr, "FIBERBUS_FLOW")
        const args = ["call", "user_service", "get_user", '{"id":"9"}', "--redis", url, "--prefix", prefix]
        const missing = yield* Program.run(args)
        assert.deepStrictEqual([missing.status, missing.stdout], [1, ""])
        assert.include(missing.stderr, 'UserNotFound {"id":"9"}')
        const unknown = yield* Program.run(["call", "user_service", "fly"], env)
        assert.strictEqual(unknown.status, 5)
        const bug = yield* Program.run(["call", "user_service", "get_user", '{"id":"bug"}'], env)
        assert.strictEqual(bug.status, 6)
        assert.notInclude(bug.stderr, "secret")
        const late = yield* Program.run(["call", "user_service", "wait", '{"millis":60000}', "--timeout", "50"], env)
        assert.strictEqual(late.status, 4)
      }).pipe(Effect.provide(UsersLive), Effect.provide(bus), Effect.provide(Logger.layer([])))
    })
  )

  it.effect("lists, describes, checks and watches services", () =>
    Effect.gen(function* () {
      const { bus, env } = yield* place
      yield* Effect.gen(function* () {
        const listed = yield* Program.run(["ls"], env)
        assert.match(
          listed.stdout,
          /^SERVICE .*\nuser_service {2}[\w-]{13} {2}- .* get_user, import_users, ping, wait\n$/
        )
        const described = yield* Program.run(["describe", "user_service"], env)
        assert.include(described.stdout, "\n    payload   { rows: string[] }\n")
        assert.strictEqual((yield* Program.run(["health", "user_service"], env)).status, 0)
        assert.strictEqual((yield* Program.run(["health", "nobody"], env)).status, 3)
        const once = yield* Program.run(["top", "--once"], env)
        assert.match(once.stdout, /\nuser_service .* Ready\n$/)
        const live = yield* Program.start(["top"], env)
        assert.match(yield* live.nextOut, /^1 services, 1 processes, /)
        live.process.kill("SIGINT")
        const ended = yield* live.ended
        assert.strictEqual(ended.status, 0)
        // What is no terminal gets no control sequences.
        assert.notInclude(ended.stdout, "\u001b")
      }).pipe(Effect.provide(UsersLive), Effect.provide(bus), Effect.provide(Logger.layer([])))
    })
  )

  it.effect("sends, and tells that nobody is there", () =>
    Effect.gen(function* () {
      const { env, bus, prefix } = yield* place
      yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        yield* transport.subscribe({ _tag: "Channel", channel: `${prefix}audit` }, () => {})
        assert.deepStrictEqual(yield* Program.run(["send", "audit", "log"], env), {
          status: 0,
          stdout: "1\n",
          stderr: ""
        })
        const nobody = yield* Program.run(["send", "nobody", "log"], env)
        assert.deepStrictEqual([nobody.status, nobody.stdout], [3, "0\n"])
        assert.strictEqual((yield* Program.run(["call", "nobody", "log"], env)).status, 3)
      }).pipe(Effect.scoped, Effect.provide(bus))
    })
  )

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    it.effect(`taps until ${signal}, and ends with 0`, () =>
      Effect.gen(function* () {
        const { env, bus, prefix } = yield* place
        yield* Effect.gen(function* () {
          const tap = yield* Program.start(["tap", "events", "user*"], env)
          assert.match(yield* tap.nextErr, /^listening on events, user\* at redis:\/\//)
          const frame = '{"type":"created"}'
          assert.strictEqual(yield* Transport.publish(`${prefix}events`, frame), 1)
          assert.match(yield* tap.nextOut, /^\d\d:\d\d:\d\d\.\d{3}Z events message - - \{"type":"created"\}$/)
          yield* Transport.publish(`${prefix}user_service`, "not json")
          assert.match(yield* tap.nextOut, / user_service garbage NotJson - 8 bytes "not json"$/)
          tap.process.kill(signal)
          const { status, stdout, stderr } = yield* tap.ended
          assert.deepStrictEqual([status, stdout.split("\n").length, stderr.split("\n").length], [0, 3, 2])
        }).pipe(Effect.scoped, Effect.provide(bus))
      })
    )
  }

  it.effect("ends a tap whose reader has gone", () =>
    Effect.gen(function* () {
      const { env, bus, prefix } = yield* place
      yield* Effect.gen(function* () {
        const tap = yield* Program.start(["tap", "events"], env)
        yield* tap.nextErr
        yield* Transport.publish(`${prefix}events`, "{}")
        yield* tap.nextOut
        tap.process.stdout?.destroy()
        // The first write after it may still be taken.
        const more = Effect.forever(Effect.andThen(Transport.publish(`${prefix}events`, "{}"), Effect.sleep(5)))
        const { status, stderr } = yield* Effect.raceFirst(tap.ended, more)
        assert.deepStrictEqual([status, stderr.split("\n").length], [141, 2])
      }).pipe(Effect.scoped, Effect.provide(bus))
    })
  )

  it.effect("ends a call with 130 when it is interrupted", () =>
    Effect.gen(function* () {
      const { env, bus } = yield* place
      const asked = yield* Deferred.make<void>()
      class Slow extends Service.make("slow", Action.make("never")) {}
      const live = Handlers.layer(
        Slow,
        { never: () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never) },
        { grace: 0 }
      )
      yield* Effect.gen(function* () {
        const call = yield* Program.start(["call", "slow", "never", "--timeout", "1 hour"], env)
        yield* Deferred.await(asked)
        call.process.kill("SIGINT")
        assert.deepStrictEqual(yield* call.ended, { status: 130, stdout: "", stderr: "" })
      }).pipe(Effect.scoped, Effect.provide(live), Effect.provide(bus))
    })
  )

  it.effect("writes all of a large result and of a large error, more than a pipe takes at once", () =>
    Effect.gen(function* () {
      const { env, bus } = yield* place
      const text = "x".repeat(300_000)
      class TooMuch extends Schema.TaggedError<TooMuch>()("TooMuch", { text: Schema.String }) {}
      class Large extends Service.make(
        "large",
        Action.make("result", { success: Schema.String }),
        Action.make("error", { error: TooMuch })
      ) {}
      const live = Handlers.layer(Large, {
        result: () => Effect.succeed(text),
        error: () => Effect.fail(new TooMuch({ text }))
      })
      yield* Effect.gen(function* () {
        const result = yield* Program.run(["call", "large", "result"], env)
        assert.deepStrictEqual(result, { status: 0, stdout: `"${text}"\n`, stderr: "" })
        const error = yield* Program.run(["call", "large", "error"], env)
        assert.strictEqual(error.status, 1)
        assert.isTrue(error.stderr.endsWith(`{"_tag":"TooMuch","text":"${text}"}\n`))
      }).pipe(Effect.scoped, Effect.provide(live), Effect.provide(bus))
    })
  )
})

describe("the program fiberbus", () => {
  it.live("prints the package's version", () =>
    Effect.gen(function* () {
      const { version }: { version: string } = JSON.parse(
        readFileSync(new URL("../../package.json", import.meta.url), "utf8")
      )
      assert.deepStrictEqual(yield* Program.run(["--version"]), { status: 0, stdout: `${version}\n`, stderr: "" })
    })
  )

  it.live("never shows a password", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ password: "s3cret-word" })
      const tap = yield* Program.start(["tap", "events"], { REDIS_URL: server.url })
      assert.strictEqual(yield* tap.nextErr, `listening on events at redis://127.0.0.1:${server.port}`)
      tap.process.kill("SIGINT")
      assert.strictEqual((yield* tap.ended).status, 0)
      const wrong = yield* Program.run(["call", "a", "b", "--redis", server.url.replace("s3cret", "wr0ng")])
      assert.strictEqual(wrong.status, 7)
      assert.include(wrong.stderr, "Check username and password")
      assert.notMatch(wrong.stderr, /wr0ng|-word/)
      yield* server.stop
      const gone = yield* Program.run(["call", "a", "b", "--redis", server.url])
      assert.strictEqual(gone.status, 7)
      assert.include(gone.stderr, "ECONNREFUSED")
      assert.notInclude(gone.stderr, "s3cret")
      const malformed = yield* Program.run(["call", "a", "b"], { REDIS_URL: "http://u:s3cret@h" })
      assert.strictEqual(malformed.status, 2)
      assert.notInclude(malformed.stderr, "s3cret")
    })
  )
})
