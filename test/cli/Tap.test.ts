import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Transport } from "fiberbus"
import * as Backlog from "../../src/cli/Backlog.ts"
import * as CommandLine from "./commandLine.ts"

/** Starts a tap, waits until it listens, and stops it at the end of the test. */
const tapping = Effect.fnUntraced(function* (
  commandLine: ReturnType<typeof CommandLine.make>,
  args: ReadonlyArray<string>,
  options?: CommandLine.Options
) {
  yield* TestClock.setTime(Date.UTC(2030, 0, 2, 3, 4, 5, 678))
  const tap = commandLine.start(["tap", ...args], options)
  const fiber = yield* Effect.forkScoped(tap.status)
  const listening = yield* tap.nextErr
  return { ...tap, fiber, listening }
})

const send = (channel: string, frame: string) => Transport.publish(channel, frame)

describe("fiberbus tap", () => {
  it.effect("shows what goes to a service's processes, and what they say of being there only where asked", () =>
    Effect.gen(function* () {
      for (const args of [["users"], ["users", "--presence"]]) {
        const commandLine = CommandLine.make()
        yield* Effect.gen(function* () {
          const tap = yield* tapping(commandLine, args)
          yield* send("users", '{"fiberbus":{"v":1,"who":true}}')
          yield* send("users.instance:p1", '{"action":"get","request_id":"r1"}')
          const first = yield* tap.nextOut
          assert.include(first, args.length === 1 ? "users.instance:p1 request get r1" : "users presence who -")
        }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
      }
    })
  )

  it.effect("prints a line per message: time, channel, kind, what, id, payload", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const tap = yield* tapping(commandLine, ["users", "caller:*", "events"])
      assert.strictEqual(tap.listening, "listening on users, caller:*, events at memory")
      const line = (channel: string, frame: string) => Effect.andThen(send(channel, frame), tap.nextOut)
      const time = "03:04:05.678Z"
      assert.strictEqual(
        yield* line("users", '{"action":"get", "payload": {"id": "u1"}, "reply_to":"caller:1","request_id":"r1"}'),
        `${time} users request get r1 {"id":"u1"}`
      )
      assert.strictEqual(yield* line("users", '{"action":"log","k":1}'), `${time} users request log - {"k":1}`)
      assert.strictEqual(
        yield* line("caller:1", '{"status":"success","payload":[1],"request_id":"r1","final":false}'),
        `${time} caller:1 reply progress r1 [1]`
      )
      assert.strictEqual(
        yield* line("caller:1", '{"status":"success","payload":null,"request_id":"r1","final":true}'),
        `${time} caller:1 reply success r1 null`
      )
      assert.strictEqual(
        yield* line("caller:1", '{"status":"error","payload":{"error":"no"},"request_id":7}'),
        `${time} caller:1 reply error 7 {"error":"no"}`
      )
      const by = '"fiberbus":{"v":1,"by":"p1","seq":0'
      assert.strictEqual(
        yield* line(
          "caller:1",
          `{"status":"success","payload":null,"request_id":"r1","final":false,${by},"alive":true}}`
        ),
        `${time} caller:1 reply alive r1 null`
      )
      assert.strictEqual(
        yield* line(
          "caller:1",
          `{"status":"success","payload":{"n":1},"request_id":"r1","final":false,${by},"ask":{"id":0,"name":"square"}}}`
        ),
        `${time} caller:1 reply question r1 {"n":1}`
      )
      const say = (payload: string, fiberbus: string) =>
        line("users", `{"reply_to":"caller:1"${payload},"fiberbus":{"v":1,${fiberbus}}}`)
      assert.strictEqual(yield* say("", '"cancel":"r1"'), `${time} users control cancel r1 {}`)
      assert.strictEqual(yield* say("", '"credit":"r1","until":512'), `${time} users control credit r1 512`)
      assert.strictEqual(
        yield* say(',"payload":4', '"answer":"r1","ask":0'),
        `${time} users control answer r1 {"json":4}`
      )
      assert.strictEqual(yield* line("events", '{"type": "x"}'), `${time} events message - - {"type":"x"}`)
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("survives garbage and says what it was", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const tap = yield* tapping(commandLine, ["c", "--width", "12"])
      const line = (frame: string) => Effect.andThen(send("c", frame), tap.nextOut)
      assert.strictEqual(yield* line("nope"), '03:04:05.678Z c garbage NotJson - 4 bytes "nope"')
      assert.strictEqual(yield* line("[1]"), '03:04:05.678Z c garbage NotAnObject - 3 bytes "[1]"')
      assert.strictEqual(yield* line("[".repeat(100)), `03:04:05.678Z c garbage TooDeep - 100 bytes "[[[[[[[[[[…`)
      assert.strictEqual(
        yield* line("x".repeat(1_048_577)),
        `03:04:05.678Z c garbage TooLarge - 1048577 bytes "xxxxxxxxxx…`
      )
      assert.strictEqual(yield* line('{"a":1}'), '03:04:05.678Z c message - - {"a":1}')
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("escapes what would act on a terminal or break a column", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const tap = yield* tapping(commandLine, ["*"])
      yield* send("a b\u001b[2J", JSON.stringify({ action: "x\n\u202e y", request_id: "\u009b", payload: "\u007f" }))
      assert.strictEqual(
        yield* tap.nextOut,
        '03:04:05.678Z "a b\\u001b[2J" request "x\\n\\u202e y" "\\u009b" "\\u007f"'
      )
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("cuts payloads at the width, and not at all for 0", () => {
    const commandLine = CommandLine.make()
    const payload = JSON.stringify({ text: "x".repeat(500) })
    return Effect.gen(function* () {
      const cut = yield* tapping(commandLine, ["c"])
      const whole = yield* tapping(commandLine, ["c", "--width", "0"])
      yield* send("c", payload)
      const start = "03:04:05.678Z c message - - "
      assert.strictEqual(yield* cut.nextOut, `${start}${payload.slice(0, 119)}…`)
      assert.strictEqual(yield* whole.nextOut, start + payload)
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("prints JSON objects with everything", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const tap = yield* tapping(commandLine, ["c", "--json", "--prefix", "p:"])
      const object = (frame: string) =>
        Effect.map(Effect.andThen(send("p:c", frame), tap.nextOut), (line): unknown => JSON.parse(line))
      const common = { time: "2030-01-02T03:04:05.678Z", channel: "c" }
      const request = { action: "a", payload: {}, reply_to: "caller:1", request_id: "r" }
      assert.deepStrictEqual(yield* object(JSON.stringify(request)), {
        ...common,
        kind: "request",
        bytes: JSON.stringify(request).length,
        action: "a",
        id: "r",
        message: request
      })
      assert.deepStrictEqual(yield* object('{"status":"error","final":true}'), {
        ...common,
        kind: "reply",
        bytes: 31,
        status: "error",
        final: true,
        id: null,
        message: { status: "error", final: true }
      })
      assert.deepStrictEqual(yield* object("x"), { ...common, kind: "garbage", bytes: 1, reason: "NotJson", text: "x" })
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("prints a message once, however many of its channels and patterns fit", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const tap = yield* tapping(commandLine, ["a*", "ab", "*b", "ab"])
      yield* send("ab", '{"n":1}')
      yield* send("xb", '{"n":2}')
      assert.match(yield* tap.nextOut, /ab message .*\{"n":1\}$/)
      assert.match(yield* tap.nextOut, /xb message .*\{"n":2\}$/)
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("drops what a slow output cannot take, and says how many", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const blocked = yield* Deferred.make<void>()
      const open = yield* Deferred.make<void>()
      const tap = yield* tapping(commandLine, ["c"], {
        onStdout: Effect.andThen(Deferred.succeed(blocked, undefined), Deferred.await(open))
      })
      yield* send("c", '{"n":0}')
      yield* Deferred.await(blocked)
      yield* Effect.forEach(Array.from({ length: Backlog.maxFrames + 5 }), (_, n) => send("c", `{"n":${n + 1}}`), {
        concurrency: "unbounded"
      })
      yield* Deferred.succeed(open, undefined)
      for (let n = 0; n <= Backlog.maxFrames; n++) assert.include(yield* tap.nextOut, `{"n":${n}}`)
      assert.strictEqual(
        yield* tap.nextOut,
        "03:04:05.678Z - dropped - - 5 messages: they come faster than this output takes them"
      )
      yield* send("c", '{"n":"after"}')
      assert.include(yield* tap.nextOut, '{"n":"after"}')
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("ends with success when it is stopped, having printed what had come", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const blocked = yield* Deferred.make<void>()
      let writes = 0
      const tap = yield* tapping(commandLine, ["c"], {
        // The first write never ends.
        onStdout: Effect.suspend(() =>
          ++writes > 1 ? Effect.void : Effect.andThen(Deferred.succeed(blocked, undefined), Effect.never)
        )
      })
      yield* send("c", '{"n":1}')
      yield* Deferred.await(blocked)
      yield* send("c", '{"n":2}')
      yield* Fiber.interrupt(tap.fiber)
      const exit = yield* Fiber.await(tap.fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.strictEqual(tap.whenInterrupted.status, 0)
      assert.include(tap.stdout(), '{"n":2}')
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("ends silently with 141 when its reader is gone", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const tap = yield* tapping(commandLine, ["c"], { onStdout: Effect.fail(CommandLine.writeFailed("EPIPE")) })
      yield* send("c", "{}")
      assert.strictEqual(yield* Fiber.join(tap.fiber), 141)
      assert.strictEqual(tap.stderr(), "listening on c at memory\n")
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("refuses no channel, an empty one and a negative width", () =>
    Effect.gen(function* () {
      for (const args of [["tap"], ["tap", ""], ["tap", "c", "--width", "-1"]]) {
        const { status, stdout } = yield* CommandLine.make().run(args)
        assert.deepStrictEqual([args, status, stdout], [args, 2, ""])
      }
    })
  )
})

describe("Backlog", () => {
  it.effect("is bounded in bytes too, but takes one frame of any size", () =>
    Effect.gen(function* () {
      const backlog = yield* Backlog.make
      const frame = (length: number) => ({ timeMillis: 0, channel: "c", frame: "x".repeat(length) })
      backlog.offer(frame(Backlog.maxBytes + 1))
      backlog.offer(frame(1))
      backlog.offer(frame(1))
      const first = yield* backlog.take
      assert.deepStrictEqual([first.sightings.length, first.dropped], [1, 2])
      backlog.offer(frame(Backlog.maxBytes - 1))
      backlog.offer(frame(1))
      const second = yield* backlog.take
      assert.deepStrictEqual([second.sightings.length, second.dropped], [2, 0])
      assert.deepStrictEqual(yield* backlog.rest, { sightings: [], dropped: 0 })
    })
  )
})
