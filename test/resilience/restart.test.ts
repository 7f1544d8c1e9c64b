import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Queue, Schedule } from "effect"
import { CallError, Caller } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

/** Another process with a service: succeeds when it would answer, ends it with SIGTERM, and tells how it ended. */
const interopService = (name: string, url: string) =>
  Effect.acquireRelease(
    Effect.gen(function* () {
      const child = spawn(
        process.execPath,
        ["--conditions=fiberbus-source", "test/interop/service.ts", name, "--redis", url],
        { stdio: ["ignore", "pipe", "pipe"] }
      )
      const ready = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<number | string | null>()
      const log = yield* Queue.sliding<string>(1_000)
      createInterface(child.stdout).on("line", (line) => {
        if (line === `READY ${name}`) Deferred.doneUnsafe(ready, Effect.void)
      })
      createInterface(child.stderr).on("line", (line) => {
        Queue.offerUnsafe(log, line)
      })
      child.on("exit", (code, signal) => Deferred.doneUnsafe(ended, Effect.succeed(code ?? signal)))
      yield* Deferred.await(ready)
      return {
        ended,
        log,
        stop: Effect.andThen(
          Effect.sync(() => child.kill("SIGTERM")),
          Deferred.await(ended)
        )
      }
    }),
    ({ stop }) => stop
  )

// Real time: it is about sockets of two processes and a server that goes away.
describe("two processes and a Redis that is restarted between calls", () => {
  it.live(
    "keep working, without help and without new callers",
    () =>
      Effect.gen(function* () {
        const redis = yield* RedisServer.RedisServer
        const service = yield* interopService("restarted", redis.url)
        yield* Effect.gen(function* () {
          const caller = yield* Caller.dynamic("restarted")
          const add = (a: number) => caller.call("add", { a, b: 1 })
          assert.deepStrictEqual(yield* add(1), { sum: 2 })
          for (const round of [1, 2]) {
            yield* redis.restart
            // Meanwhile each call ends in a typed outcome that tells whether it may be tried again.
            const outcomes = yield* Queue.unbounded<CallError.CallError>()
            const sum = yield* add(round).pipe(
              Effect.tapError((error) => Queue.offer(outcomes, error)),
              Effect.retry(Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "20 seconds" })))
            )
            assert.deepStrictEqual(sum, { sum: round + 1 })
            for (const error of yield* Queue.clear(outcomes)) {
              assert.instanceOf(error, CallError.CallError)
              assert.include(["TransportError", "NoResponders", "DeadlineExceeded"], error.reason._tag)
            }
            assert.deepStrictEqual(yield* add(round), { sum: round + 1 })
          }
        }).pipe(Effect.scoped, Effect.provide(RedisPubSub.layer({ url: redis.url })))
        assert.strictEqual(yield* service.stop, 0)
      }).pipe(Effect.provide(RedisServer.layerOptions({}))),
    60_000
  )
})
