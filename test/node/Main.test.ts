import { type ChildProcess, spawn } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { CallError, Caller } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

interface Served {
  readonly child: ChildProcess
  /** Waits until a line has been printed. */
  readonly printed: (text: string) => Effect.Effect<void, Error>
  /** Waits for the end: status or signal, and all that was printed. */
  readonly ended: Effect.Effect<{ readonly status: number | string | null; readonly text: string }>
}

const serve = (name: string, url: string, graceMillis: number) =>
  Effect.acquireRelease(
    Effect.sync((): Served => {
      const child = spawn(
        process.execPath,
        ["--conditions=fiberbus-source", "test/node/service.ts", name, url, String(graceMillis)],
        { stdio: ["ignore", "pipe", "pipe"] }
      )
      let text = ""
      const end = Deferred.makeUnsafe<number | string | null>()
      const waiting = new Map<string, Deferred.Deferred<void, Error>>()
      const read = (chunk: string) => {
        text += chunk
        for (const [wanted, printed] of waiting) if (text.includes(wanted)) Deferred.doneUnsafe(printed, Effect.void)
      }
      child.stdout.setEncoding("utf8").on("data", read)
      child.stderr.setEncoding("utf8").on("data", read)
      child.on("close", (code, signal) => {
        Deferred.doneUnsafe(end, Effect.succeed(code ?? signal))
        for (const printed of waiting.values()) Deferred.doneUnsafe(printed, Effect.fail(new Error(text)))
      })
      return {
        child,
        printed: (wanted) =>
          Effect.suspend(() => {
            const printed = Deferred.makeUnsafe<void, Error>()
            waiting.set(wanted, printed)
            read("")
            return Deferred.await(printed)
          }),
        ended: Effect.map(Deferred.await(end), (status) => ({ status, text }))
      }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

const signal = ({ child }: Served, name: NodeJS.Signals) => Effect.sync(() => child.kill(name))

/** A call that the service holds, once it does. */
const held = Effect.fnUntraced(function* (served: Served, name: string, id: string) {
  const caller = yield* Caller.dynamic(name)
  const call = yield* Effect.forkChild(Effect.exit(caller.call("hold", { id }, { timeout: "60 seconds" })), {
    startImmediately: true
  })
  yield* served.printed(`holds ${id}\n`)
  return call
})

// Real processes and a real Redis: real time.
describe("A process of Main.run", () => {
  it.layer(RedisServer.layerOptions({}), { excludeTestServices: true, timeout: 60_000 })((it) => {
    const redisUrl = Effect.map(RedisServer.RedisServer, ({ url }) => url)

    for (const name of ["SIGTERM", "SIGINT"] as const) {
      it.effect(
        `shuts down at the first ${name} with status 0, and tells how that went`,
        () =>
          Effect.gen(function* () {
            const url = yield* redisUrl
            const service = `first_${name}`
            const served = yield* serve(service, url, 200)
            yield* served.printed("ready\n")
            yield* Effect.gen(function* () {
              const call = yield* held(served, service, "1")
              yield* signal(served, name)
              const error = yield* Effect.flip(yield* Fiber.join(call))
              assert.instanceOf(error, CallError.CallError)
              assert.deepInclude(error, { started: "yes" })
              assert.strictEqual(error.reason._tag, "Draining")
            }).pipe(Effect.scoped, Effect.provide(RedisPubSub.layer({ url })))
            const { status, text } = yield* served.ended
            assert.strictEqual(status, 0, text)
            assert.match(text, /fiberbus: shutting down, 1 running and 0 waiting/)
            assert.match(text, /lets 1 go/)
            assert.match(text, /fiberbus: shut down, 0 finished, 0 refused, 1 interrupted, \d+ ms/)
          }),
        60_000
      )

      it.effect(
        `ends at once at the second, ${name}`,
        () =>
          Effect.gen(function* () {
            const url = yield* redisUrl
            const service = `second_${name}`
            const served = yield* serve(service, url, 600_000)
            yield* served.printed("ready\n")
            yield* Effect.gen(function* () {
              yield* held(served, service, "1")
              yield* signal(served, "SIGTERM")
              yield* served.printed("shutting down")
              yield* signal(served, name)
              const { status, text } = yield* served.ended
              assert.strictEqual(status, name === "SIGTERM" ? 143 : 130, text)
              assert.notMatch(text, /shut down/)
            }).pipe(Effect.scoped, Effect.provide(RedisPubSub.layer({ url })))
          }),
        60_000
      )
    }

    it.effect(
      "ends with status 1 when a service gives up",
      () =>
        Effect.gen(function* () {
          const url = yield* redisUrl
          const served = yield* serve("gives_up", url, 200)
          yield* served.printed("ready\n")
          yield* Effect.gen(function* () {
            const caller = yield* Caller.dynamic("gives_up")
            assert.deepStrictEqual(yield* caller.call("echo", { id: "1" }), { id: "1" })
            yield* caller.call("break", {})
          }).pipe(Effect.scoped, Effect.provide(RedisPubSub.layer({ url })))
          const { status, text } = yield* served.ended
          assert.strictEqual(status, 1, text)
          assert.match(text, /ERROR .*the pool of gives_up broke down/)
          assert.match(text, /ERROR .*fiberbus: gives_up takes no more requests/)
        }),
      60_000
    )

    it.effect(
      "ends with status 1 when its layer cannot be built",
      () =>
        Effect.gen(function* () {
          const served = yield* serve("nowhere", "redis://127.0.0.1:1", 200)
          const { status, text } = yield* served.ended
          assert.strictEqual(status, 1, text)
          // One line that says what to do, and no stack.
          assert.match(text, /^\S+ ERROR \(#\d+\): fiberbus: connect to redis:.*\n$/)
        }),
      60_000
    )
  })

  for (const [how, fault, end] of [
    ["frozen", "pause", "resume"],
    ["gone", "kill", "start"]
  ] as const) {
    it.live(
      `shuts down at SIGTERM also while Redis is ${how}, with a handler that runs or without`,
      () =>
        Effect.gen(function* () {
          const redis = yield* RedisServer.RedisServer
          const busy = yield* serve("busy", redis.url, 300)
          const idle = yield* serve("idle", redis.url, 300)
          yield* busy.printed("ready\n")
          yield* idle.printed("ready\n")
          yield* Effect.gen(function* () {
            yield* held(busy, "busy", "1")
            yield* redis[fault]
            yield* signal(busy, "SIGTERM")
            yield* signal(idle, "SIGTERM")
            const busyEnd = yield* busy.ended
            assert.strictEqual(busyEnd.status, 0, busyEnd.text)
            assert.match(busyEnd.text, /lets 1 go/)
            assert.match(busyEnd.text, /fiberbus: shut down, 0 finished, 0 refused, 1 interrupted, \d+ ms/)
            const idleEnd = yield* idle.ended
            assert.strictEqual(idleEnd.status, 0, idleEnd.text)
            assert.match(idleEnd.text, /fiberbus: shut down, 0 finished, 0 refused, 0 interrupted, \d+ ms/)
            yield* redis[end]
          }).pipe(Effect.scoped, Effect.provide(RedisPubSub.layer({ url: redis.url })))
        }).pipe(Effect.scoped, Effect.provide(RedisServer.layerOptions({}))),
      60_000
    )
  }
})
