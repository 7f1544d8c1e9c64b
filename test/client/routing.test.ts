import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Logger, Metric, Queue, Result } from "effect"
import { type Balance, Caller, Memory, type Policy, Transport } from "fiberbus"
import { turns } from "../scripted.ts"
import * as Replicated from "./replicated.ts"

/** A choice that a test makes, and what it was made from. */
const chosen = () => {
  const seen: Array<ReadonlyArray<Balance.Candidate>> = []
  const choice = { at: 0 }
  const balance: Balance.Balance = {
    begin: () => (candidates) => {
      seen.push(candidates)
      return choice.at
    }
  }
  return { balance, choice, seen, names: () => seen.at(-1)?.map(({ by }) => by) }
}

const reasonOf = (exit: Exit.Exit<Result.Result<unknown, any>> | undefined) => {
  assert.isTrue(exit !== undefined && Exit.isSuccess(exit) && Result.isFailure(exit.value))
  const { reason, started } = ((exit as any).value as Result.Failure<unknown, any>).failure
  return [reason._tag, started]
}

describe("the processes of a service", () => {
  it.effect("are asked for when it is first called, and again when words of them may have been lost", () =>
    Effect.gen(function* () {
      const { link, provide, questions } = yield* Replicated.make()
      assert.deepStrictEqual(questions, [0])
      // Another caller knows what is known.
      yield* provide(Caller.make(Replicated.Work))
      const error = new Transport.TransportError({
        kind: "ConnectionLost",
        operation: "test",
        detail: "cut",
        hint: "",
        sent: "no"
      })
      for (const [state, asked] of [
        [{ _tag: "Degraded", gaps: 0, error, down: true }, 1],
        [{ _tag: "Ready", gaps: 0 }, 1],
        [{ _tag: "Degraded", gaps: 1, error, down: true }, 1],
        [{ _tag: "Ready", gaps: 1 }, 2],
        [{ _tag: "Ready", gaps: 1 }, 2],
        [{ _tag: "Ready", gaps: 3 }, 3]
      ] as const) {
        link.change(state)
        yield* turns()
        assert.lengthOf(questions, asked)
      }
    })
  )

  it.effect("have their time again after words may have been lost", () =>
    Effect.gen(function* () {
      const { call, here, link, pass, probes, silent } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* here("b")
      yield* pass(7_000)
      link.change({ _tag: "Ready", gaps: 1 })
      yield* pass(6_900)
      assert.deepStrictEqual(probes, [])
      assert.strictEqual((yield* call).to, "a")
    })
  )

  it.effect("owe a sign from when they are asked for it after that", () =>
    Effect.gen(function* () {
      const { call, here, link, pass, silent } = yield* Replicated.make()
      silent.add("a")
      yield* here("a")
      yield* here("b")
      yield* call
      // Asked at 500.
      yield* pass(1_000)
      link.change({ _tag: "Ready", gaps: 1 })
      // And at 1,500.
      assert.strictEqual((yield* call).to, "a")
      yield* pass(1_499)
      assert.strictEqual((yield* call).to, "a")
      yield* pass(1)
      assert.strictEqual((yield* call).to, "b")
    })
  )

  it.effect("are the same list for as long as nobody comes, goes or changes", () =>
    Effect.gen(function* () {
      const { balance, names, seen } = chosen()
      const { begin, call, gone, here } = yield* Replicated.make({ caller: { balance } })
      yield* here("a")
      yield* here("b")
      yield* call
      assert.deepStrictEqual(names(), ["a", "b"])
      yield* here("a")
      yield* here("b")
      yield* call
      assert.strictEqual(seen[1], seen[0])
      yield* here("c")
      yield* call
      assert.deepStrictEqual(names(), ["a", "b", "c"])
      assert.deepStrictEqual(
        seen[0]!.map(({ by }) => by),
        ["a", "b"]
      )
      yield* here("c", { actions: ["other"] })
      yield* call
      assert.deepStrictEqual(names(), ["a", "b"])
      for (const actions of [["run"], ["other", "run"], ["run", "other"], ["run"]]) {
        yield* here("c", { actions })
        yield* call
        assert.deepStrictEqual(names(), ["a", "b", "c"])
        const before = seen.at(-1)
        yield* here("c", { actions })
        yield* call
        assert.strictEqual(seen.at(-1), before)
      }
      // It is of the action whether it changes.
      assert.notStrictEqual((yield* begin({}, "other")).to, "c")
      yield* gone("a")
      yield* call
      assert.deepStrictEqual(names(), ["b", "c"])
      yield* gone("a")
      yield* gone("nobody")
      yield* call
      assert.strictEqual(seen.at(-1), seen.at(-2))
      yield* here("a")
      yield* call
      assert.sameMembers([...names()!], ["a", "b", "c"])
    })
  )

  it.effect("get requests where the choice falls, and where it falls on none the first of them does", () =>
    Effect.gen(function* () {
      const { balance, choice } = chosen()
      const { call, here } = yield* Replicated.make({ caller: { balance } })
      assert.strictEqual((yield* call).to, "*")
      yield* here("a")
      choice.at = 7
      assert.strictEqual((yield* call).to, "a")
      yield* here("b")
      yield* here("c")
      for (const [at, to] of [
        [0, "a"],
        [1, "b"],
        [2, "c"],
        [3, "a"],
        [-1, "a"],
        [Number.NaN, "a"]
      ] as const) {
        choice.at = at
        assert.strictEqual((yield* call).to, to)
      }
    })
  )

  it.effect("are tried after each other, the one that failed last only where there is no other one", () =>
    Effect.gen(function* () {
      const { balance, choice, names, seen } = chosen()
      const { begin, here, next, say } = yield* Replicated.make({ caller: { balance } })
      const again: Policy.Policy = (call) => Effect.retry(call, { times: 1 })
      /** Who gets a request that the first one has no room for. */
      const second = Effect.gen(function* () {
        const { request } = yield* begin({ policies: [again] })
        const { reply_to, request_id } = request.frame
        const payload = { reason: { _tag: "Busy", retryAfterMillis: 0 }, started: "no" }
        say(reply_to, { status: "error", payload, request_id, final: true })
        return [request.to, (yield* next).to]
      })
      yield* here("a")
      assert.deepStrictEqual(yield* second, ["a", "a"])
      yield* here("b")
      assert.deepStrictEqual(yield* second, ["a", "b"])
      assert.lengthOf(seen, 2)
      yield* here("c")
      assert.deepStrictEqual(yield* second, ["a", "b"])
      assert.deepStrictEqual(names(), ["b", "c"])
      choice.at = 1
      assert.deepStrictEqual(yield* second, ["b", "c"])
      choice.at = 2
      assert.deepStrictEqual(yield* second, ["c", "a"])
    })
  )

  it.effect("are chosen with numbers of the caller's own Random, so that a test can say which", () =>
    Effect.gen(function* () {
      const rolls: Array<number> = []
      const balance: Balance.Balance = {
        begin: (random) => () => {
          rolls.push(random())
          return 0
        }
      }
      const { call, here } = yield* Replicated.make({ caller: { balance } })
      yield* here("a")
      yield* here("b")
      for (let i = 0; i < 20; i++) yield* call
      for (const roll of rolls) assert.isTrue(roll >= 0 && roll < 1)
      assert.isAbove(new Set(rolls).size, 10)
    })
  )

  it.effect("say how many calls of this process they have in hand", () =>
    Effect.gen(function* () {
      const { balance, seen } = chosen()
      const { answer, begin, call, here } = yield* Replicated.make({ caller: { balance } })
      yield* here("a")
      yield* here("b")
      const pending = () => seen.at(-1)!.map(({ pending }) => pending)
      const one = yield* call
      const two = yield* call
      assert.deepStrictEqual(pending(), [2, 0])
      answer(one.request)
      yield* turns()
      assert.deepStrictEqual(pending(), [1, 0])
      // One that is for it alone is one of them.
      const named = yield* begin({ instance: "b" })
      assert.strictEqual(named.to, "b")
      assert.deepStrictEqual(pending(), [1, 1])
      yield* Fiber.interrupt(named.fiber)
      yield* Fiber.interrupt(two.fiber)
      assert.deepStrictEqual(pending(), [0, 0])
    })
  )

  it.effect("are told apart up to 1,024 of them; of more, none is added", () =>
    Effect.gen(function* () {
      const { balance, names } = chosen()
      const { call, gone, here } = yield* Replicated.make({ caller: { balance } })
      yield* here("a")
      for (let i = 0; i < 1_022; i++) yield* here(`ghost${i}`)
      yield* here("b", { actions: ["other"] })
      yield* here("c")
      yield* call
      assert.lengthOf(names()!, 1_023)
      assert.notInclude(names()!, "c")
      // Who is known is heard all the same.
      yield* here("b")
      yield* call
      assert.lengthOf(names()!, 1_024)
      yield* gone("ghost7")
      yield* here("c")
      yield* call
      assert.include(names()!, "c")
    })
  )

  it.effect("get several messages in one frame where they say that they take them", () =>
    Effect.gen(function* () {
      const { call, here, sent } = yield* Replicated.make()
      const packs = Effect.gen(function* () {
        yield* call
        return sent.at(-1)
      })
      yield* here("a")
      assert.deepStrictEqual(yield* packs, { channel: "work.instance:a", pack: false })
      yield* here("a", { pack: 64 })
      assert.deepStrictEqual(yield* packs, { channel: "work.instance:a", pack: true })
      yield* here("a")
      assert.deepStrictEqual(yield* packs, { channel: "work.instance:a", pack: false })
    })
  )

  it.effect("are asked all, once they have had a tenth of a second to say that they are there", () =>
    Effect.gen(function* () {
      const { answer, here, pass, provide, requests, work } = yield* Replicated.make()
      const gathering = yield* Effect.forkChild(provide(work.run.gather()), { startImmediately: true })
      yield* here("a")
      yield* pass(90)
      yield* here("b")
      yield* pass(9)
      assert.strictEqual(yield* Queue.size(requests), 0)
      yield* pass(1)
      yield* turns()
      for (const request of yield* Queue.clear(requests)) answer(request)
      yield* turns()
      const answers = Exit.match(gathering.pollUnsafe()!, { onFailure: () => [], onSuccess: (all) => all })
      assert.deepStrictEqual(
        answers.map(({ instance, result }) => [instance, result]),
        [
          ["a", Result.succeed(5)],
          ["b", Result.succeed(5)]
        ]
      )
      // Later there is nothing to wait for.
      yield* Effect.forkChild(provide(work.run.gather()), { startImmediately: true })
      yield* turns()
      assert.strictEqual(yield* Queue.size(requests), 2)
    })
  )

  it.effect("are asked all within one process as soon as a question and its answer have passed", () =>
    Effect.gen(function* () {
      const memory = Memory.make()
      let asked = 0
      const { here, provide, requests, work } = yield* Replicated.make({
        inProcess: true,
        transport: {
          barrier: (done) => {
            asked++
            memory.barrier!(done)
          }
        }
      })
      yield* here("a")
      yield* Effect.forkChild(provide(work.run.gather()), { startImmediately: true })
      yield* turns(30)
      assert.strictEqual(yield* Queue.size(requests), 1)
      assert.isAtLeast(asked, 2)
      const without = yield* Replicated.make({ inProcess: true, transport: { barrier: undefined as never } })
      yield* without.here("a")
      yield* Effect.forkChild(without.provide(without.work.run.gather()), { startImmediately: true })
      yield* turns(30)
      assert.strictEqual(yield* Queue.size(without.requests), 0)
      yield* without.pass(100)
      assert.strictEqual(yield* Queue.size(without.requests), 1)
    })
  )
})

describe("a process that says that it goes", () => {
  it.effect("gets no more calls, and ends those that it has", () =>
    Effect.gen(function* () {
      const { answer, call, gone, here, pass } = yield* Replicated.make()
      yield* here("a")
      yield* here("b")
      const one = yield* call
      assert.strictEqual(one.to, "a")
      yield* gone("a")
      assert.strictEqual((yield* call).to, "b")
      yield* pass(5_000)
      assert.isUndefined(one.fiber.pollUnsafe())
      answer(one.request)
      yield* turns()
      assert.deepStrictEqual(one.fiber.pollUnsafe(), Exit.succeed(Result.succeed(5)))
      yield* here("a")
      assert.include(["a", "b"], (yield* call).to)
    })
  )

  it.effect("is forgotten with its last call, so that another one may be remembered", () =>
    Effect.gen(function* () {
      const { call, gone, here, pass, probes } = yield* Replicated.make()
      yield* here("a")
      const { fiber } = yield* call
      yield* gone("a")
      yield* pass(600)
      assert.lengthOf(probes, 1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual((yield* call).to, "*")
      yield* pass(60_000)
      assert.lengthOf(probes, 1)
    })
  )

  it.effect("may take its time for its last answers once nobody hears its channel", () =>
    Effect.gen(function* () {
      const { absent, call, gone, here, pass } = yield* Replicated.make()
      yield* here("a")
      const { fiber } = yield* call
      yield* gone("a")
      absent.add("a")
      // Asked at 500.
      yield* pass(2_499)
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass(1)
      assert.deepStrictEqual(reasonOf(fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
    })
  )
})

describe("a process that nobody hears any more", () => {
  /** Calls a process that has gone when it is asked for a sign, after half a second. */
  const lost = Effect.fnUntraced(function* (transport: Partial<Transport.Transport["Service"]>) {
    const replicated = yield* Replicated.make({ transport })
    yield* replicated.here("a")
    const one = yield* replicated.call
    const two = yield* replicated.call
    replicated.absent.add("a")
    yield* replicated.pass(500)
    return { ...replicated, one, two }
  })

  it.effect("loses its calls when what it had sent before has come", () =>
    Effect.gen(function* () {
      const open: Array<(passed: boolean) => void> = []
      const { answer, call, one, pass, two } = yield* lost({ barrier: (done) => void open.push(done) })
      yield* pass(5_000)
      assert.isUndefined(one.fiber.pollUnsafe())
      // Nobody else is sent to it, and it is mourned once.
      assert.strictEqual((yield* call).to, "*")
      assert.lengthOf(open, 1)
      answer(two.request, 6)
      yield* turns()
      open[0]!(true)
      yield* turns()
      assert.deepStrictEqual(two.fiber.pollUnsafe(), Exit.succeed(Result.succeed(6)))
      const end = one.fiber.pollUnsafe()
      assert.deepStrictEqual(reasonOf(end), ["ConnectionLost", "unknown"])
      assert.include(String((end as any).value.failure.message), "the process that had the request is gone")
    })
  )

  it.effect("loses them a fifth of a second later where nothing tells that that has come", () =>
    Effect.gen(function* () {
      for (const barrier of [undefined, (done: (passed: boolean) => void) => done(false)]) {
        const { one, pass, two } = yield* lost({ barrier: barrier as never })
        yield* pass(199)
        assert.isUndefined(one.fiber.pollUnsafe())
        yield* pass(1)
        for (const { fiber } of [one, two]) {
          assert.deepStrictEqual(reasonOf(fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
        }
      }
    })
  )

  it.effect(
    "has a fifth of a second first where its answers come by another broker, then what came by that is read",
    () =>
      Effect.gen(function* () {
        const open: Array<(passed: boolean) => void> = []
        const { one, pass } = yield* lost({ linkOf: () => undefined, barrier: (done) => void open.push(done) })
        yield* pass(199)
        assert.lengthOf(open, 0)
        yield* pass(1)
        assert.lengthOf(open, 1)
        assert.isUndefined(one.fiber.pollUnsafe())
        open[0]!(true)
        yield* turns()
        assert.deepStrictEqual(reasonOf(one.fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
      })
  )

  it.effect("loses also the call whose sending is confirmed after all the others were lost", () =>
    Effect.gen(function* () {
      const replicated = yield* Replicated.make()
      const { absent, call, here, pass, transport } = replicated
      yield* here("a")
      const { send } = transport
      const unconfirmed: Array<Transport.Sent> = []
      Object.assign(transport, {
        send: (channel: string, frame: string, done: Transport.Sent) => {
          if (JSON.parse(frame).action === undefined) return send(channel, frame, done)
          unconfirmed.push(done)
          send(channel, frame, () => {})
        }
      })
      const slow = yield* call
      const other = yield* call
      unconfirmed[1]!(undefined, 1)
      absent.add("a")
      yield* pass(1_000)
      assert.deepStrictEqual(reasonOf(other.fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
      assert.isUndefined(slow.fiber.pollUnsafe())
      unconfirmed[0]!(undefined, 1)
      yield* turns()
      assert.deepStrictEqual(reasonOf(slow.fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
    })
  )

  it.effect("is another one when it is back, whose calls are its own", () =>
    Effect.gen(function* () {
      const open: Array<(passed: boolean) => void> = []
      const { absent, answer, call, here, one, pass } = yield* lost({ barrier: (done) => void open.push(done) })
      absent.delete("a")
      yield* here("a")
      const again = yield* call
      assert.strictEqual(again.to, "a")
      open[0]!(true)
      yield* turns()
      assert.deepStrictEqual(reasonOf(one.fiber.pollUnsafe()), ["ConnectionLost", "unknown"])
      yield* pass(1_000)
      assert.isUndefined(again.fiber.pollUnsafe())
      answer(again.request)
      yield* turns()
      assert.deepStrictEqual(again.fiber.pollUnsafe(), Exit.succeed(Result.succeed(5)))
      assert.strictEqual((yield* call).to, "a")
    })
  )
})

describe("what is said of processes", () => {
  it.effect("and cannot be read is dropped and counted, and harms nothing", () =>
    Effect.gen(function* () {
      const registry: Metric.MetricRegistry = new Map()
      yield* Effect.gen(function* () {
        const { announce, call, here, memory } = yield* Replicated.make()
        yield* announce({})
        yield* announce({ fiberbus: { v: 1, here: "no name" } })
        memory.send("work.instances", "no JSON", () => {})
        memory.send("work.instances", JSON.stringify({ fiberbus: { v: 1, here: "x".repeat(1_100_000) } }), () => {})
        yield* here("a")
        assert.strictEqual((yield* call).to, "a")
        const lines = Array.from(registry.values(), ({ attributes, hooks, id }) => [
          id,
          attributes?.["where"],
          attributes?.["reason"],
          (hooks.get(Context.empty()) as { count?: number }).count
        ]).filter(([id]) => id === "fiberbus_discarded_total")
        assert.sameDeepMembers(lines, [
          ["fiberbus_discarded_total", "inbox", "NoPresence", 2],
          ["fiberbus_discarded_total", "inbox", "NotJson", 1],
          ["fiberbus_discarded_total", "inbox", "TooLarge", 1]
        ])
      }).pipe(Effect.provideService(Metric.MetricRegistry, registry), Effect.provide(Logger.layer([])))
    })
  )

  it.effect("and cannot be listened to leaves requests to all of them, and a warning", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      const memory = Memory.make()
      const denied = new Transport.TransportError({
        kind: "PermissionDenied",
        operation: "SUBSCRIBE work.instances",
        detail: "no permission",
        hint: "",
        sent: "no"
      })
      yield* Effect.gen(function* () {
        const { answer, call, here } = yield* Replicated.make({
          transport: {
            subscribe: (target, receive) =>
              target._tag === "Channel" && target.channel === "work.instances"
                ? Effect.fail(denied)
                : memory.subscribe(target, receive)
          }
        })
        void answer
        yield* here("a")
        assert.isTrue(logged.some((line) => line.includes("the processes of work are not known")))
        assert.isTrue(logged.some((line) => line.includes("no permission")))
        assert.strictEqual((yield* call).to, "*")
      }).pipe(Effect.provide(Logger.layer([logger])))
    })
  )
})
