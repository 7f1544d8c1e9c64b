import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, type Scope } from "effect"
import { type CallError, Caller, Transport } from "fiberbus"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as Child from "./child.ts"
import { Worker } from "./worker.ts"

// Real time: it is about processes that are killed, frozen and restarted. Everything waits for a signal; no duration is asserted.

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope | RedisServer.RedisServer>) =>
  it.live(name, () => Effect.provide(effect, [RedisServer.layerOptions({}), Logger.layer([])]), 120_000)

interface Ended {
  readonly id: string
  readonly begunAt: number
  readonly endedAt: number
  /** The process that answered, or why none did. */
  readonly outcome: number | CallError.CallError
}

/** Three replicas in processes of their own, a caller here that knows them all, and loops that call without a pause. */
const setUpOver = Effect.fnUntraced(function* (url: string, transport: Transport.Transport["Service"]) {
  const start = Effect.gen(function* () {
    const child = yield* Child.make("replica", url)
    yield* child.said("ready")
    return child
  })
  const children = yield* Effect.all([start, start, start], { concurrency: 3 })
  const worker = yield* Effect.provideService(Caller.make(Worker), Transport.Transport, transport)
  let count = 0
  const once = (millis: number) =>
    Effect.suspend((): Effect.Effect<Ended> => {
      const id = `c${++count}`
      const begunAt = performance.now()
      return worker.work({ id, millis }, { timeout: "30 seconds" }).pipe(
        Effect.match({
          onSuccess: ({ pid }) => pid as Ended["outcome"],
          onFailure: (error) => error
        }),
        Effect.map((outcome) => ({ id, begunAt, endedAt: performance.now(), outcome }))
      )
    })
  /** Calls until each of the processes has answered. */
  const knows = (pids: ReadonlyArray<number>) =>
    Effect.gen(function* () {
      const missing = new Set(pids)
      while (missing.size > 0) {
        const { outcome } = yield* once(0)
        if (typeof outcome === "number") missing.delete(outcome)
      }
    })
  yield* knows(children.map(({ pid }) => pid))
  /** So many loops, until they are told to end; `answers` waits for so many more. */
  const load = Effect.fnUntraced(function* (loops: number, millis: number) {
    const ended: Array<Ended> = []
    const waiting = new Set<{ readonly at: number; readonly done: Deferred.Deferred<void> }>()
    let isOver = false
    const call = Effect.map(once(millis), (one) => {
      ended.push(one)
      for (const wait of waiting) {
        if (ended.length < wait.at) continue
        waiting.delete(wait)
        Deferred.doneUnsafe(wait.done, Effect.void)
      }
    })
    const loop = Effect.whileLoop({ while: () => !isOver, body: () => call, step: () => {} })
    const fiber = yield* Effect.forkChild(
      Effect.all(
        Array.from({ length: loops }, () => loop),
        { concurrency: "unbounded", discard: true }
      )
    )
    return {
      ended,
      answers: (more: number) =>
        Effect.suspend(() => {
          const wait = { at: ended.length + more, done: Deferred.makeUnsafe<void>() }
          waiting.add(wait)
          return Deferred.await(wait.done)
        }),
      over: Effect.suspend(() => {
        isOver = true
        return Fiber.join(fiber)
      })
    }
  })
  return { start, children, load, knows, once }
})

const setUp = Effect.gen(function* () {
  const { url } = yield* RedisServer.RedisServer
  return yield* setUpOver(url, yield* RedisPubSub.make({ url }))
})

const failures = (ended: ReadonlyArray<Ended>) => ended.filter(({ outcome }) => typeof outcome !== "number")

const longestGap = (ended: ReadonlyArray<Ended>) => {
  const times = ended.map(({ endedAt }) => endedAt).sort((one, other) => one - other)
  return Math.max(...times.slice(1).map((at, i) => at - times[i]!))
}

/** How often each call ran, by what the processes said. */
const runs = (children: ReadonlyArray<Child.Child>) => {
  const counted = new Map<string, number>()
  for (const { lines } of children) {
    for (const line of lines) if (line.startsWith("ran ")) counted.set(line, (counted.get(line) ?? 0) + 1)
  }
  return counted
}

const assertOnce = (children: ReadonlyArray<Child.Child>) => {
  for (const [what, times] of runs(children)) assert.strictEqual(times, 1, what)
}

describe("three replicas of a service", () => {
  const losesOne = ({ children, load }: Effect.Success<typeof setUp>) =>
    Effect.gen(function* () {
      const [dead, ...others] = children
      const { answers, ended, over } = yield* load(100, 20)
      yield* answers(1_000)
      const killedAt = performance.now()
      yield* dead!.signal("SIGKILL")
      yield* answers(2_000)
      yield* over
      const lost = failures(ended)
      const ranElsewhere = runs(others)
      for (const { begunAt, id, outcome } of lost) {
        const { message, reason, started } = outcome as CallError.CallError
        assert.deepStrictEqual([reason._tag, started], ["ConnectionLost", "unknown"], message)
        // It was the dead one's, and had begun before the death was found.
        assert.isFalse(ranElsewhere.has(`ran ${id}`), id)
        assert.isBelow(begunAt, Math.min(...lost.map(({ endedAt }) => endedAt)))
      }
      assert.isBelow(lost.length, 100)
      const found = Math.max(...lost.map(({ endedAt }) => endedAt)) - killedAt
      const gap = longestGap(ended.filter(({ outcome }) => typeof outcome === "number"))
      console.log(
        `${ended.length} calls, ${lost.length} lost with the dead, told after ${found.toFixed(1)} ms, longest gap between answers ${gap.toFixed(1)} ms`
      )
      for (const { outcome, begunAt } of ended)
        if (begunAt > killedAt + 5_000) assert.notStrictEqual(outcome, dead!.pid)
      assertOnce(children)
    })

  test(
    "lose one that is killed (-9) under 100 calls in flight: only its own calls end without an answer, and no later one",
    Effect.flatMap(setUp, losesOne)
  )

  test(
    "lose one that is killed (-9) over a Cluster: only its own calls end without an answer, and no later one",
    Effect.gen(function* () {
      const { nodes } = yield* RedisClusterServer.make()
      const url = `redis+cluster://${nodes.map(({ host, port }) => `${host}:${port}`).join(",")}`
      yield* losesOne(yield* setUpOver(url, yield* RedisCluster.make({ nodes })))
    })
  )

  test(
    "are restarted one after the other under load: no call ends without its answer, and no policy is needed",
    Effect.gen(function* () {
      const { children, knows, load, start } = yield* setUp
      const { answers, ended, over } = yield* load(50, 5)
      const all = [...children]
      for (const child of children) {
        yield* answers(300)
        const next = yield* start
        all.push(next)
        yield* knows([next.pid])
        yield* child.signal("SIGTERM")
        yield* child.ended
      }
      yield* answers(300)
      yield* over
      assert.deepStrictEqual(
        failures(ended).map(({ outcome }) => (outcome as CallError.CallError).message),
        []
      )
      console.log(
        `${ended.length} calls over three restarts, longest gap between answers ${longestGap(ended).toFixed(1)} ms`
      )
      const counted = runs(all)
      for (const { id } of ended) assert.strictEqual(counted.get(`ran ${id}`), 1, id)
    })
  )

  test(
    "go on without one that is frozen (SIGSTOP): new calls go to the others, its own end, and it is back when it is thawed",
    Effect.gen(function* () {
      const { children, knows, load } = yield* setUp
      const [frozen] = children
      const { answers, ended, over } = yield* load(30, 10)
      yield* answers(300)
      yield* frozen!.signal("SIGSTOP")
      // Those that it has end when its silence has lasted; the other loops go on.
      yield* answers(3_000)
      yield* Effect.gen(function* () {
        while (failures(ended).length === 0) yield* answers(100)
      })
      yield* answers(100)
      yield* over
      for (const { outcome } of failures(ended)) {
        const { message, reason } = outcome as CallError.CallError
        assert.strictEqual(reason._tag, "ConnectionLost", message)
      }
      assert.isBelow(failures(ended).length, 31)
      yield* frozen!.signal("SIGCONT")
      yield* knows([frozen!.pid])
      assertOnce(children)
    })
  )
})
