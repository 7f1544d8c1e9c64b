import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Redacted, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Handlers, Memory, Request, Service, Transport } from "fiberbus"
import type * as RedisPubSub from "../../src/transport/RedisPubSub.ts"
import * as Reason from "../../src/wire/Reason.ts"
import { UsersLive } from "../users.ts"
import * as CommandLine from "./commandLine.ts"

/** A peer that answers every request in its own words, as Daebus does. */
const peer = (payload: Schema.Json, status: "success" | "error" = "error") =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      yield* transport.subscribe({ _tag: "Channel", channel: "peer" }, (frame) => {
        const { reply_to, request_id }: { reply_to: string; request_id: string } = JSON.parse(String(frame))
        transport.send(reply_to, JSON.stringify({ status, payload, request_id, final: true }), () => {})
      })
    })
  )

const noConnection = () => Layer.effectContext(Effect.die(new Error("nothing may be sent")))

describe("fiberbus call", () => {
  it.effect("prints the result alone on stdout", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      assert.deepStrictEqual(yield* commandLine.run(["call", "user_service", "get_user", '{"id":"1"}']), {
        status: 0,
        stdout: '{"id":"1","name":"Ann","born":"2000-01-01T00:00:00.000Z"}\n',
        stderr: ""
      })
    }).pipe(Effect.provide(UsersLive), Effect.provide(commandLine.layer))
  })

  it.effect("indents the result on request", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const { stdout } = yield* commandLine.run(["call", "peer", "any", "--pretty"])
      assert.strictEqual(stdout, '{\n  "a": [\n    1\n  ]\n}\n')
    }).pipe(Effect.provide(peer({ a: [1] }, "success")), Effect.provide(commandLine.layer))
  })

  it.effect("prints steps on stderr, in order", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const { status, stdout, stderr } = yield* commandLine.run(["call", "user_service", "import_users", "-"], {
        stdin: '{"rows":["a","b"]}'
      })
      assert.strictEqual(status, 0)
      assert.strictEqual(stdout, '{"imported":2}\n')
      assert.strictEqual(stderr, 'progress {"done":1,"total":2}\nprogress {"done":2,"total":2}\n')
    }).pipe(Effect.provide(UsersLive), Effect.provide(commandLine.layer))
  })

  it.effect("prints the items of a stream on stdout, as long as it lasts", () => {
    const commandLine = CommandLine.make()
    const Logs = Service.make("logs", Action.make("tail", { items: { line: Schema.String } }))
    const live = Handlers.layer(Logs, {
      tail: () => Stream.make("a", "b").pipe(Stream.map((line) => ({ line })))
    })
    return Effect.gen(function* () {
      assert.deepStrictEqual(yield* commandLine.run(["call", "logs", "tail", "--items"]), {
        status: 0,
        stdout: '{"line":"a"}\n{"line":"b"}\n',
        stderr: ""
      })
    }).pipe(Effect.provide(live), Effect.provide(commandLine.layer))
  })

  it.effect("prints steps as they came, URLs and addresses included", () => {
    const commandLine = CommandLine.make()
    const step = { url: "http://a/", mail: "b@c", text: "\u009b" }
    class Steps extends Service.make("steps", Action.make("walk", { progress: Schema.Json })) {}
    const live = Handlers.layer(Steps, { walk: (_, { progress }) => progress(step) })
    return Effect.gen(function* () {
      const { stdout, stderr } = yield* commandLine.run(["call", "steps", "walk"])
      assert.deepStrictEqual([stdout, stderr.slice(0, 9)], ["null\n", "progress "])
      assert.deepStrictEqual(JSON.parse(stderr.slice(9)), step)
    }).pipe(Effect.provide(live), Effect.provide(commandLine.layer))
  })

  it.effect("sends headers, the timeout, and an empty object where no payload is given", () => {
    const commandLine = CommandLine.make()
    class Mirror extends Service.make("mirror", Action.make("look", { payload: Schema.Json, success: Schema.Json })) {}
    const live = Handlers.layer(Mirror, {
      look: (payload) =>
        Effect.map(Request.current, ({ headers, remainingMillis }) => ({
          payload,
          headers: { ...headers },
          remaining: remainingMillis ?? null
        }))
    })
    return Effect.gen(function* () {
      const look = (...args: ReadonlyArray<string>) =>
        Effect.map(commandLine.run(["call", "mirror", "look", ...args]), ({ stdout }): unknown => JSON.parse(stdout))
      assert.deepStrictEqual(yield* look("--header", "tenant=a=b", "--header=empty=", "--timeout", "1500"), {
        payload: {},
        headers: { tenant: "a=b", empty: "" },
        remaining: 1500
      })
      assert.deepStrictEqual(yield* look("-5", "--timeout", "2 seconds"), { payload: -5, headers: {}, remaining: 2000 })
      assert.deepStrictEqual(yield* look('"text"'), { payload: "text", headers: {}, remaining: 5000 })
    }).pipe(Effect.provide(live), Effect.provide(commandLine.layer))
  })

  it.effect("refuses what is no JSON before it connects", () =>
    Effect.gen(function* () {
      const refused = Effect.fnUntraced(function* (json: string, stdin: string | Uint8Array = "") {
        const { status, stdout, stderr } = yield* CommandLine.make().run(["call", "a", "b", json], {
          stdin,
          connect: noConnection
        })
        assert.deepStrictEqual([status, stdout, stderr.split("\n").length], [2, "", 2])
        return stderr
      })
      assert.include(yield* refused("{x"), "fiberbus: the payload is not JSON: ")
      assert.include(yield* refused(""), "the payload is empty")
      assert.include(yield* refused("-", ""), "standard input is empty")
      assert.include(yield* refused("-", "{]"), "standard input is not JSON")
      assert.include(yield* refused("-", Uint8Array.of(34, 0xff, 34)), "standard input is not UTF-8")
      assert.include(yield* refused("-", new Uint8Array(8 * 1_048_576 + 1)), "more than 8388608 bytes")
      assert.include(yield* refused(`${"[".repeat(64)}${"]".repeat(64)}`), "nests deeper than the 63 levels")
    })
  )

  it.effect("refuses wrong usage with status 2 and nothing on stdout", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
        [[], "a command is missing"],
        [["cal"], 'Unknown subcommand "cal"'],
        [["call", "a"], "Missing required argument: action"],
        [["call", "a", "b", "--nope"], "Unrecognized flag: --nope"],
        [["call", "a", "b", "--timeout", "soon"], "--timeout"],
        [["call", "a", "b", "--timeout", "0"], "--timeout"],
        [["call", "a", "b", "--timeout", "-1"], "--timeout"],
        [["call", "a", "b", "--header", "=x"], "--header"],
        [["call", "a b", "c"], 'service name "a b"'],
        [["call", "a", ""], "the action's name is empty"]
      ]
      for (const [args, text] of cases) {
        const { status, stdout, stderr } = yield* CommandLine.make().run(args, { connect: noConnection })
        assert.deepStrictEqual([args, status, stdout], [args, 2, ""])
        assert.include(stderr, text)
        assert.notInclude(stderr, "\\u000a")
      }
    })
  )

  it.effect("says a declared error with its JSON and ends with 1", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const { status, stdout, stderr } = yield* commandLine.run(["call", "user_service", "get_user", '{"id":"9"}'])
      assert.deepStrictEqual([status, stdout], [1, ""])
      assert.strictEqual(stderr, 'fiberbus: user_service.get_user: UserNotFound {"id":"9"}\n')
    }).pipe(Effect.provide(UsersLive), Effect.provide(commandLine.layer))
  })

  it.effect("keeps an error of a peer on one line, whatever it holds", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const { status, stderr } = yield* commandLine.run(["call", "peer", "any"])
      assert.strictEqual(status, 1)
      assert.strictEqual(
        stderr,
        'fiberbus: peer.any: no\\u000a\\u001b[31m such user redis://u:pw@h {"code":"E1\\u009b"}\n'
      )
    }).pipe(
      Effect.provide(peer({ error: "no\n\u001b[31m such user redis://u:pw@h", code: "E1\u009b" })),
      Effect.provide(commandLine.layer)
    )
  })

  const reasons: ReadonlyArray<readonly [number, Reason.Sent]> = [
    [4, new CallError.DeadlineExceeded({ timeoutMillis: 10 })],
    [5, new CallError.UnknownAction({ action: "any" })],
    [5, new CallError.InvalidPayload({ path: ["id"], expected: "Expected string" })],
    [5, new CallError.PayloadTooLarge({ what: "reply", bytes: 2, maxBytes: 1 })],
    [5, new CallError.Busy({ retryAfterMillis: 5 })],
    [5, new CallError.Draining({})],
    [6, new CallError.RemoteDefect({ id: "d1" })]
  ]
  for (const [expected, reason] of reasons) {
    it.effect(`ends with ${expected} for ${reason._tag}`, () => {
      const commandLine = CommandLine.make()
      return Effect.gen(function* () {
        const { status, stdout, stderr } = yield* commandLine.run(["call", "peer", "any"])
        assert.deepStrictEqual([status, stdout], [expected, ""])
        assert.strictEqual(stderr, `fiberbus: peer.any: ${reason._tag}, ${reason.message} (the handler did not run)\n`)
      }).pipe(
        Effect.provide(peer({ error: "words", reason: Reason.encode(reason), started: "no" })),
        Effect.provide(commandLine.layer)
      )
    })
  }

  it.effect("ends with 3 where nobody listens", () =>
    Effect.gen(function* () {
      const { status, stdout, stderr } = yield* CommandLine.make().run(["call", "nobody", "any"])
      assert.deepStrictEqual([status, stdout], [3, ""])
      assert.include(stderr, "fiberbus: nobody.any: NoResponders")
    })
  )

  it.effect("ends with 4 when no answer came in time", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const transport = yield* Transport.Transport
      yield* transport.subscribe({ _tag: "Channel", channel: "silent" }, () => {
        Deferred.doneUnsafe(asked, Effect.void)
      })
      const running = yield* Effect.forkChild(commandLine.run(["call", "silent", "any", "--timeout", "2 seconds"]))
      yield* Deferred.await(asked)
      yield* TestClock.adjust("3 seconds")
      const { status, stderr } = yield* Fiber.join(running)
      assert.strictEqual(status, 4)
      assert.include(stderr, "no answer within 2000 ms (the handler may have run)")
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("ends with 7 without a link, with 2 for options that make none, and hides credentials", () =>
    Effect.gen(function* () {
      const failing = (kind: Transport.TransportError["kind"]) => () =>
        Layer.effectContext(
          Effect.fail(
            new Transport.TransportError({
              kind,
              operation: "connect to redis://user:p@ss/word@host",
              detail: "no",
              hint: "",
              sent: "no"
            })
          )
        )
      const run = (kind: Transport.TransportError["kind"]) =>
        CommandLine.make().run(["call", "a", "b"], { connect: failing(kind) })
      assert.deepStrictEqual(yield* run("Unreachable"), {
        status: 7,
        stdout: "",
        stderr: "fiberbus: connect to redis://***@host: no\n"
      })
      assert.strictEqual((yield* run("InvalidOptions")).status, 2)
    })
  )

  it.effect("takes Redis and the prefix from flags, else from the environment", () =>
    Effect.gen(function* () {
      const connected = Effect.fnUntraced(function* (args: ReadonlyArray<string>, env: Record<string, string>) {
        const seen: Array<RedisPubSub.Options> = []
        const { status } = yield* CommandLine.make().run(["call", "a", "b", ...args], {
          env,
          connect: (options) => {
            seen.push(options)
            return Memory.layer
          }
        })
        assert.strictEqual(status, 3)
        const { url, host, password, prefix, sentinels, name } = seen[0]!
        const plain = (secret: typeof url) => (Redacted.isRedacted(secret) ? Redacted.value(secret) : secret)
        return { url: plain(url), host, password: plain(password), prefix, sentinels, name }
      })
      const none = {
        url: undefined,
        host: undefined,
        password: undefined,
        prefix: undefined,
        sentinels: undefined,
        name: undefined
      }
      const watched = { REDIS_SENTINELS: "a:1", REDIS_SENTINEL_NAME: "shop" }
      assert.deepStrictEqual(yield* connected([], watched), {
        ...none,
        sentinels: [{ host: "a", port: 1 }],
        name: "shop"
      })
      assert.deepStrictEqual(yield* connected(["--redis", "redis://flag:1"], watched), {
        ...none,
        url: "redis://flag:1"
      })
      assert.deepStrictEqual(yield* connected([], {}), none)
      const env = { REDIS_URL: "redis://env:1", FIBERBUS_PREFIX: "env:" }
      assert.deepStrictEqual(yield* connected([], env), { ...none, url: "redis://env:1", prefix: "env:" })
      assert.deepStrictEqual(yield* connected(["--redis", "redis://flag:1", "--prefix", "flag:"], env), {
        ...none,
        url: "redis://flag:1",
        prefix: "flag:"
      })
      assert.deepStrictEqual(
        yield* connected(["--redis", "redis://flag:1"], { REDIS_HOST: "env", REDIS_PASSWORD: "secret" }),
        { ...none, url: "redis://flag:1", password: "secret" }
      )
    })
  )

  it.effect("ends with 70 for a mistake of its own, in one line", () =>
    Effect.gen(function* () {
      const { status, stderr } = yield* CommandLine.make().run(["call", "a", "b"], {
        connect: () => Layer.effectContext(Effect.die(new Error("a bug\nof two lines")))
      })
      assert.strictEqual(status, 70)
      assert.strictEqual(stderr, "fiberbus: internal error, please report it: Error: a bug\\u000aof two lines\n")
    })
  )

  it.effect("ends silently with 141 when its reader is gone, with 70 when the disk is full", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const run = (code: string) =>
        commandLine.run(["call", "peer", "any"], { onStdout: Effect.fail(CommandLine.writeFailed(code)) })
      assert.deepStrictEqual(yield* run("EPIPE"), { status: 141, stdout: "", stderr: "" })
      assert.deepStrictEqual(yield* run("ENOSPC"), {
        status: 70,
        stdout: "",
        stderr: "fiberbus: cannot write to stdout: ENOSPC\n"
      })
    }).pipe(Effect.provide(peer({}, "success")), Effect.provide(commandLine.layer))
  })

  it.effect("tells its version, its help and its exit statuses", () =>
    Effect.gen(function* () {
      const { run } = CommandLine.make()
      assert.deepStrictEqual(yield* run(["--version"]), { status: 0, stdout: "1.2.3\n", stderr: "" })
      const help = yield* run(["--help"])
      assert.deepStrictEqual([help.status, help.stderr], [0, ""])
      for (const text of ["call", "send", "tap", "3    no responders", "7    transport failure"]) {
        assert.include(help.stdout, text)
      }
      assert.include((yield* run(["call", "--help"])).stdout, "--timeout duration")
    })
  )
})
