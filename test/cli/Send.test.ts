import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue } from "effect"
import { Memory, Transport } from "fiberbus"
import { isPresence } from "../scripted.ts"
import * as CommandLine from "./commandLine.ts"

describe("fiberbus send", () => {
  it.effect("sends a one-way message and prints how many it reached", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const frames = yield* Queue.unbounded<string>()
      const target = { _tag: "Channel", channel: "test:audit" } as const
      yield* transport.subscribe(target, (frame) => {
        if (!isPresence(JSON.parse(String(frame)))) Queue.offerUnsafe(frames, String(frame))
      })
      yield* transport.subscribe(target, () => {})
      const result = yield* commandLine.run(["send", "audit", "log", '{"k":1}', "--header", "a=b", "--prefix", "test:"])
      assert.deepStrictEqual(result, { status: 0, stdout: "2\n", stderr: "" })
      const { fiberbus, ...rest } = JSON.parse(yield* Queue.take(frames))
      assert.deepStrictEqual(rest, { action: "log", service: "audit", payload: { k: 1 } })
      assert.deepInclude(fiberbus, { v: 1, headers: { a: "b" } })
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("prints 0 and ends with 3 where nobody listens", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* CommandLine.make().run(["send", "audit", "log"]), {
        status: 3,
        stdout: "0\n",
        stderr: "fiberbus: audit.log: nobody listens on the service's channel\n"
      })
    })
  )

  it.effect("says so where a 0 proves nothing", () =>
    Effect.gen(function* () {
      const inner = Memory.make()
      const { status, stderr } = yield* CommandLine.make().run(["send", "audit", "log"], {
        connect: () =>
          Layer.succeed(Transport.Transport, {
            ...inner,
            capabilities: { ...inner.capabilities, receivers: "hint" }
          })
      })
      assert.strictEqual(status, 3)
      assert.include(stderr, "no receivers seen, but this Redis cannot count all of them")
    })
  )

  it.effect("adds no headers where none are given", () => {
    const commandLine = CommandLine.make()
    return Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const frames = yield* Queue.unbounded<string>()
      yield* transport.subscribe(
        { _tag: "Channel", channel: "audit" },
        (frame) => void Queue.offerUnsafe(frames, String(frame))
      )
      yield* commandLine.run(["send", "audit", "log"])
      assert.notInclude(yield* Queue.take(frames), "headers")
    }).pipe(Effect.scoped, Effect.provide(commandLine.layer))
  })

  it.effect("refuses what is no JSON", () =>
    Effect.gen(function* () {
      const { status, stdout } = yield* CommandLine.make().run(["send", "audit", "log", "nope"])
      assert.deepStrictEqual([status, stdout], [2, ""])
    })
  )
})
