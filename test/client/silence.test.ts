import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Result, Scope } from "effect"
import { type Balance, Caller, type Transport } from "fiberbus"
import { turns } from "../scripted.ts"
import * as Replicated from "./replicated.ts"

/** Barriers that the test ends. */
const barriers = () => {
  const open: Array<(passed: boolean) => void> = []
  const transport: Partial<Transport.Transport["Service"]> = { barrier: (done) => void open.push(done) }
  return { open, transport }
}

const reasonOf = (exit: Exit.Exit<Result.Result<unknown, any>> | undefined) => {
  assert.isTrue(exit !== undefined && Exit.isSuccess(exit) && Result.isFailure(exit.value))
  const { reason, started } = ((exit as any).value as Result.Failure<unknown, any>).failure
  return [reason._tag, started]
}

describe("a process that is not called and says nothing any more", () => {
  it.effect("is looked for once after six and a half seconds, and forgotten where it gives no sign", () =>
    Effect.gen(function* () {
      const { call, here, pass, probes, silent } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* pass(7_999)
      assert.deepStrictEqual(probes, [])
      yield* pass(1)
      assert.deepStrictEqual(probes, [["a", 8_000]])
      assert.strictEqual((yield* call).to, "*")
    })
  )

  it.effect("gets requests as long as it is known", () =>
    Effect.gen(function* () {
      const { call, here, pass, silent } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* pass(7_999)
      assert.strictEqual((yield* call).to, "a")
    })
  )

  it.effect("is kept where it gives a sign, and looked for again when it is as silent as before", () =>
    Effect.gen(function* () {
      const { call, here, pass, probes } = yield* Replicated.make()
      yield* here("a")
      yield* here("b")
      yield* pass(23_999)
      assert.deepStrictEqual(probes, [
        ["a", 8_000],
        ["b", 8_000],
        ["a", 16_000],
        ["b", 16_000]
      ])
      assert.strictEqual((yield* call).to, "a")
    })
  )

  it.effect("is not looked for while it announces itself", () =>
    Effect.gen(function* () {
      const { here, pass, probes } = yield* Replicated.make()
      for (let beats = 0; beats < 20; beats++) {
        yield* here("a")
        yield* pass(2_000)
      }
      assert.deepStrictEqual(probes, [])
    })
  )

  it.effect("is forgotten only when three barriers have passed, without a sign of it", () =>
    Effect.gen(function* () {
      for (const sign of [undefined, "up", "here"] as const) {
        const { open, transport } = barriers()
        const { announce, call, here, pass, probes, silent } = yield* Replicated.make({ transport })
        silent.add("a")
        yield* here("a")
        yield* pass(8_000)
        for (const passed of [1, 2]) {
          assert.lengthOf(open, passed)
          open[passed - 1]!(true)
        }
        assert.lengthOf(open, 3)
        // However long that takes, it is looked for once.
        yield* pass(10_000)
        assert.lengthOf(probes, 1)
        if (sign !== undefined) yield* announce({ fiberbus: { v: 1, [sign]: "a" } })
        open[2]!(true)
        assert.lengthOf(open, 3)
        assert.strictEqual((yield* call).to, sign === undefined ? "*" : "a")
      }
    })
  )

  it.effect("is not judged while the own link does not work, and looked for again", () =>
    Effect.gen(function* () {
      const { open, transport } = barriers()
      const { call, here, pass, probes, silent } = yield* Replicated.make({ transport })
      silent.add("a")
      yield* here("a")
      yield* pass(8_000)
      open[0]!(true)
      open[1]!(false)
      assert.lengthOf(open, 2)
      yield* pass(2_000)
      assert.deepStrictEqual(probes, [
        ["a", 8_000],
        ["a", 10_000]
      ])
      assert.strictEqual((yield* call).to, "a")
    })
  )

  it.effect("is judged at once where there is no barrier to wait for", () =>
    Effect.gen(function* () {
      const { call, here, pass } = yield* Replicated.make({ transport: { barrier: undefined as never } })
      yield* here("a")
      yield* pass(8_000)
      assert.strictEqual((yield* call).to, "*")
    })
  )

  it.effect("is not looked for within one process, where nobody vanishes without a word", () =>
    Effect.gen(function* () {
      const { call, here, pass, probes, silent } = yield* Replicated.make({ inProcess: true })
      silent.add("a")
      yield* here("a")
      yield* pass(60_000)
      const { to } = yield* call
      assert.strictEqual(to, "a")
      yield* pass(60_000)
      assert.deepStrictEqual(probes, [])
    })
  )

  it.effect("is forgotten at once where its own channel has nobody, and looked for again when it is back", () =>
    Effect.gen(function* () {
      const { open, transport } = barriers()
      const { absent, call, here, pass, probes } = yield* Replicated.make({ transport })
      absent.add("a")
      yield* here("a")
      yield* pass(8_000)
      const asked = yield* call
      assert.strictEqual(asked.to, "*")
      absent.delete("a")
      yield* here("a")
      // What it was looked for before says nothing of it now.
      for (const done of open) done(true)
      yield* turns()
      assert.strictEqual((yield* call).to, "a")
      yield* pass(60_000)
      assert.isAbove(probes.length, 1)
    })
  )

  it.effect("has its time from when this process goes on, where that stood still", () =>
    Effect.gen(function* () {
      const { call, here, pass, probes, silent, stall } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* pass(5_000)
      yield* stall(60_000)
      yield* pass(7_999)
      assert.deepStrictEqual(probes, [])
      yield* pass(1)
      assert.deepStrictEqual(probes, [["a", 73_000]])
      assert.strictEqual((yield* call).to, "*")
    })
  )

  it.effect("has no more time where this process was only late", () =>
    Effect.gen(function* () {
      const { here, pass, probes, stall } = yield* Replicated.make()
      yield* here("a")
      yield* pass(6_000)
      yield* stall(3_000)
      assert.deepStrictEqual(probes, [["a", 9_000]])
    })
  )

  it.effect("is asked for nothing once its caller has gone, whoever else calls what over the same link", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const replicated = yield* Scope.provide(Replicated.make(), scope)
      const { announce, call, here, link, pass, provide, sent, silent, transport } = replicated
      const others = yield* Effect.exit(provide(Caller.dynamic("others")))
      assert.isTrue(Exit.isSuccess(others))
      silent.add("a")
      yield* here("a")
      yield* call
      yield* Scope.close(scope, Exit.void)
      yield* turns()
      sent.length = 0
      yield* announce({ fiberbus: { v: 1, here: "a" } })
      transport.send("work.instances", JSON.stringify({ fiberbus: { v: 1, here: "b" } }), () => {})
      link.change({ _tag: "Ready", gaps: 1 })
      yield* pass(60_000)
      assert.deepStrictEqual(
        sent.map(({ channel }) => channel),
        ["work.instances", "others"]
      )
    })
  )
})

describe("a process that is called", () => {
  it.effect("is asked for a sign each quarter of a second while it owes an answer, and no longer", () =>
    Effect.gen(function* () {
      const { answer, call, here, pass, probes } = yield* Replicated.make()
      yield* here("a")
      yield* here("b")
      yield* pass(1_000)
      const { fiber, request } = yield* call
      yield* pass(1_000)
      // Not just after it was sent to, as its answer may be on its way.
      assert.deepStrictEqual(probes, [
        ["a", 1_500],
        ["a", 1_750],
        ["a", 2_000]
      ])
      answer(request)
      yield* turns()
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(Result.succeed(5)))
      yield* pass(5_000)
      assert.lengthOf(probes, 3)
      yield* call
      yield* pass(499)
      assert.lengthOf(probes, 3)
      yield* pass(1)
      assert.lengthOf(probes, 4)
    })
  )

  it.effect("is not asked where it has just answered another call", () =>
    Effect.gen(function* () {
      const { answer, call, here, pass, probes } = yield* Replicated.make()
      yield* here("a")
      yield* call
      yield* pass(600)
      const { request } = yield* call
      yield* pass(50)
      answer(request)
      yield* pass(350)
      assert.deepStrictEqual(probes, [
        ["a", 500],
        ["a", 1_000]
      ])
    })
  )

  it.effect("gets no more calls when it owes a sign for a second, while there is another, until it gives one", () =>
    Effect.gen(function* () {
      for (const sign of ["up", "here"] as const) {
        const { announce, call, here, pass, silent } = yield* Replicated.make()
        silent.add("a")
        yield* here("a")
        yield* here("b")
        yield* call
        yield* pass(1_499)
        assert.strictEqual((yield* call).to, "a")
        yield* pass(1)
        assert.strictEqual((yield* call).to, "b")
        yield* announce({ fiberbus: { v: 1, [sign]: "a" } })
        assert.strictEqual((yield* call).to, "a")
        // It owes another one from the next question on.
        yield* pass(1_249)
        assert.strictEqual((yield* call).to, "a")
        yield* pass(1)
        assert.strictEqual((yield* call).to, "b")
      }
    })
  )

  it.effect("is not suspected where it gives its sign each time, or answers", () =>
    Effect.gen(function* () {
      const { answer, call, here, pass, silent } = yield* Replicated.make()
      yield* here("a")
      yield* here("b")
      yield* call
      yield* pass(5_000)
      silent.add("a")
      for (let i = 0; i < 20; i++) {
        const { request, to } = yield* call
        assert.strictEqual(to, "a")
        answer(request)
        yield* pass(750)
      }
    })
  )

  it.effect("is kept where it answers another call while it is looked for", () =>
    Effect.gen(function* () {
      const { open, transport } = barriers()
      const { answer, call, here, pass, silent } = yield* Replicated.make({ transport })
      silent.add("a")
      yield* here("a")
      const one = yield* call
      const two = yield* call
      yield* pass(6_500)
      open[0]!(true)
      open[1]!(true)
      answer(two.request)
      yield* turns()
      open[2]!(true)
      yield* turns()
      assert.strictEqual((yield* call).to, "a")
      assert.isUndefined(one.fiber.pollUnsafe())
    })
  )

  it.effect("leaves the others as they are while it is not asked", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const balance: Balance.Balance = {
        begin: () => (candidates) => {
          seen.push(candidates)
          return 0
        }
      }
      const { call, here, pass, silent } = yield* Replicated.make({ caller: { balance } })
      for (const by of ["a", "b", "c"]) yield* here(by)
      silent.add("a")
      yield* call
      yield* pass(1_600)
      yield* call
      yield* pass(1_000)
      yield* call
      assert.lengthOf(seen[1] as Array<unknown>, 2)
      assert.strictEqual(seen[2], seen[1])
    })
  )

  it.effect("gets calls all the same where there is nobody else", () =>
    Effect.gen(function* () {
      const { call, here, pass, silent } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* call
      yield* pass(3_000)
      assert.strictEqual((yield* call).to, "a")
    })
  )

  it.effect("loses its calls after six and a half seconds without a sign, when what was on its way has come", () =>
    Effect.gen(function* () {
      const { call, here, pass, silent } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      const one = yield* call
      yield* pass(6_499)
      assert.isUndefined(one.fiber.pollUnsafe())
      yield* pass(1)
      assert.deepStrictEqual(reasonOf(one.fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
      assert.strictEqual((yield* call).to, "*")
    })
  )

  it.effect("has its time from when this process goes on, where that stood still", () =>
    Effect.gen(function* () {
      const { call, here, pass, silent, stall } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* here("b")
      const { fiber } = yield* call
      yield* pass(1_000)
      yield* stall(20_000)
      yield* pass(999)
      assert.strictEqual((yield* call).to, "a")
      yield* pass(1)
      assert.strictEqual((yield* call).to, "b")
      yield* pass(5_499)
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass(1)
      assert.deepStrictEqual(reasonOf(fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
    })
  )

  it.effect("has no more time where this process was only late", () =>
    Effect.gen(function* () {
      const { call, here, pass, silent, stall } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      const { fiber } = yield* call
      yield* pass(6_000)
      yield* stall(1_250)
      assert.deepStrictEqual(reasonOf(fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
    })
  )

  it.effect("loses them as soon as a question reaches nobody, where the transport can tell", () =>
    Effect.gen(function* () {
      for (const receivers of ["exact", "at-least"] as const) {
        const { absent, call, here, pass } = yield* Replicated.make({ receivers })
        yield* here("a")
        const { fiber } = yield* call
        absent.add("a")
        yield* pass(1_000)
        if (receivers === "exact") assert.deepStrictEqual(reasonOf(fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
        else assert.isUndefined(fiber.pollUnsafe())
      }
    })
  )

  it.effect("has lost nothing where a question could not be sent", () =>
    Effect.gen(function* () {
      const { call, here, pass, probes, transport } = yield* Replicated.make()
      yield* here("a")
      const { fiber } = yield* call
      const { send } = transport
      Object.assign(transport, {
        send: (channel: string, frame: string, done: Transport.Sent) =>
          JSON.parse(frame).fiberbus?.probe
            ? done({ _tag: "TransportError" } as Transport.TransportError, 0)
            : send(channel, frame, done)
      })
      yield* pass(2_000)
      assert.deepStrictEqual(probes, [])
      assert.isUndefined(fiber.pollUnsafe())
      assert.strictEqual((yield* call).to, "a")
    })
  )
})
