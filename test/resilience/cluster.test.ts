import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Logger, Metric, Schedule, Schema } from "effect"
import { Action, Caller, Handlers, Service, Transport } from "fiberbus"
import { RedisClusterServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as KeySlot from "../../src/transport/KeySlot.ts"
import * as Channels from "../../src/wire/Channels.ts"
import * as Account from "./account.ts"

// Real time: it is about real servers that change their roles. Everything waits for a signal; no duration is asserted.

const { isReady, untilState } = Account
const outcomes = ["ConnectionLost", "TransportError", "NoResponders", "DeadlineExceeded"] as const

const whole = { timeout: 120_000, retry: 0 }

const suspend = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.scoped(effect as Effect.Effect<A, E>).pipe(Effect.provide(Logger.layer([]))), whole)

const service = "echo_service"

class Claimed extends Service.make("claimed", Action.make("note", { payload: { id: Schema.String } })) {}

/** Calls one at a time until one succeeds; so many may fail. */
const backWithin = (account: Effect.Success<ReturnType<typeof Account.make>>, attempts: number) =>
  Effect.gen(function* () {
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const outcome = yield* account.call()
      if (!(outcome instanceof Error)) return attempt
    }
    return assert.fail(`not back within ${attempts} attempts`)
  })

describe("a cluster under load", () => {
  for (const [how, fate] of [
    ["kill", "killed"],
    ["pause", "frozen"],
    ["failover", "relieved by CLUSTER FAILOVER"]
  ] as const) {
    suspend(
      `the service's master is ${fate}: typed outcomes during it, back without help`,
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({ replicas: 1 })
        const here = yield* RedisCluster.make({ nodes: cluster.nodes })
        const there = yield* RedisCluster.make({ nodes: cluster.nodes })
        assert.strictEqual(here.capabilities.receivers, "exact")
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(100)
        const owner = yield* cluster.ownerOf(service)
        yield* account.during(
          Effect.gen(function* () {
            const lost = yield* Effect.forkChild(
              untilState(there, (state) => state.gaps > 0),
              { startImmediately: true }
            )
            if (how === "failover") yield* cluster.failover(owner)
            else {
              yield* owner.server[how]
              yield* cluster.promoted(owner)
            }
            yield* Fiber.join(lost)
            yield* untilState(here, isReady)
            yield* untilState(there, isReady)
          })
        )
        yield* backWithin(account, 5)
        yield* account.allSucceed(100)
        account.balance(outcomes)
        // The old master comes back as a replica and disturbs nobody.
        const { gaps } = there.state
        if (how === "kill") yield* owner.server.start
        if (how === "pause") yield* owner.server.resume
        yield* cluster.ready
        yield* account.allSucceed(100)
        assert.strictEqual(there.state.gaps, gaps)
        account.balance(outcomes)
      })
    )
  }

  suspend(
    "the service's slot moves to and fro: typed outcomes during it, and subscriptions that follow",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const here = yield* RedisCluster.make({ nodes: cluster.nodes })
      const there = yield* RedisCluster.make({ nodes: cluster.nodes })
      const account = yield* Account.make(here, there)
      const slot = cluster.slotOf(service)
      const from = yield* cluster.ownerOf(service)
      const to = cluster.members.find(({ id }) => id !== from.id)!
      yield* account.during(
        Effect.gen(function* () {
          for (const [i, member] of [to, from, to].entries()) {
            yield* cluster.moveSlot(slot, member)
            yield* untilState(there, (state) => state.gaps > i && isReady(state))
          }
        })
      )
      yield* backWithin(account, 5)
      yield* account.allSucceed(100)
      account.balance(outcomes)
      // A move is no reason for a new connection.
      for (const { server } of cluster.members) {
        assert.lengthOf(String(yield* server.command("CLIENT", "LIST")).match(/name=fiberbus:/g) ?? [], 4)
      }
    })
  )

  suspend(
    "keeps the order of a channel whose slot moves while frames are on their way, and brings none twice",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const here = yield* RedisCluster.make({ nodes: cluster.nodes })
      const there = yield* RedisCluster.make({ nodes: cluster.nodes })
      const seen: Array<number> = []
      yield* there.subscribe({ _tag: "Channel", channel: "line" }, (frame) => {
        seen.push(Number(Buffer.from(frame as Uint8Array).toString()))
      })
      const from = yield* cluster.ownerOf("line")
      const to = cluster.members.find(({ id }) => id !== from.id)!
      let next = 0
      let ended = 0
      let over = false
      const idle = Deferred.makeUnsafe<void>()
      const settle = () => over && ended === next && Deferred.doneUnsafe(idle, Effect.void)
      const burst = () => {
        // What is sent after that would have the number of the last one.
        if (over) return
        // As many as stay on their way when a slot moves, and no flood that leaves no time for the move.
        for (let i = 0; i < 50 && next - ended < 500; i++) {
          here.send("line", String(next++), (error) => {
            ended++
            assert.isUndefined(error)
            settle()
          })
        }
        setImmediate(burst)
      }
      burst()
      for (const member of [to, from, to]) yield* cluster.moveSlot(cluster.slotOf("line"), member)
      yield* untilState(there, isReady)
      over = true
      settle()
      yield* Deferred.await(idle)
      // Behind all of them.
      yield* Transport.publish("line", String(next)).pipe(Effect.provideService(Transport.Transport, here))
      yield* Effect.callback<void>((resume) => {
        const look = () => (seen.at(-1) === next ? resume(Effect.void) : void setTimeout(look, 5))
        look()
      })
      assert.isAbove(seen.length, 100)
      for (let i = 1; i < seen.length; i++) assert.isAbove(seen[i]!, seen[i - 1]!)
      assert.isAbove(there.state.gaps, 0)
    })
  )
})

describe("three replicas over a cluster", () => {
  for (const [how, fate] of [
    ["kill", "killed"],
    ["failover", "relieved by CLUSTER FAILOVER"]
  ] as const) {
    suspend(
      `lose each master in turn, ${fate} under load: typed outcomes, none handled twice, back without help`,
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({ replicas: 1 })
        const connect = RedisCluster.make({ nodes: cluster.nodes })
        const here = yield* connect
        const there = yield* Effect.all([connect, connect, connect])
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(100)
        // One after the other has the service's channel, the replicas' own, the inbox, and what all of them say of being there.
        for (const owner of yield* cluster.masters) {
          yield* account.during(
            Effect.gen(function* () {
              const buses = [here, ...there]
              const gaps = buses.map(({ state }) => state.gaps)
              const lost = yield* Effect.forkChild(
                Effect.all(
                  buses.map((bus, i) => untilState(bus, (state) => state.gaps > gaps[i]! || Account.isDown(state))),
                  { concurrency: 4 }
                ),
                { startImmediately: true }
              )
              if (how === "failover") yield* cluster.failover(owner)
              else {
                yield* owner.server.kill
                yield* cluster.promoted(owner)
                yield* Fiber.join(lost)
              }
              yield* Fiber.interrupt(lost)
              for (const bus of buses) yield* untilState(bus, isReady)
            })
          )
          yield* backWithin(account, 10)
          yield* account.allSucceed(100)
          if (how === "kill") yield* owner.server.start
          yield* cluster.ready
        }
        const { succeeded, sent } = account.balance(outcomes)
        assert.isAbove(succeeded, sent / 2)
      })
    )
  }

  suspend(
    "drop and count what is claimed at a master that is lost, and handle the rest once",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const connect = RedisCluster.make({ nodes: cluster.nodes })
      const buses = yield* Effect.all([connect, connect, connect, connect])
      const [here] = buses
      const handled = new Map<string, number>()
      const noticed = new Set<() => void>()
      const handlers = Handlers.layer(
        Claimed,
        {
          note: ({ id }) =>
            Effect.sync(() => {
              handled.set(id, (handled.get(id) ?? 0) + 1)
              for (const look of [...noticed]) look()
            })
        },
        { concurrency: 1_000 }
      )
      for (const bus of buses.slice(1)) {
        yield* Layer.build(Layer.fresh(Layer.provide(handlers, Layer.succeed(Transport.Transport, bus))))
      }
      const allOf = (ids: ReadonlyArray<string>) =>
        Effect.callback<void>((resume) => {
          const look = () => {
            if (!ids.every((id) => handled.has(id))) return
            noticed.delete(look)
            resume(Effect.void)
          }
          noticed.add(look)
          look()
        })
      // As from a caller that knows none of the replicas: all hear it, and one claims it.
      const frameOf = (id: string) => JSON.stringify({ action: "note", payload: { id }, request_id: id })
      const publish = (id: string) =>
        Transport.publish("claimed", frameOf(id)).pipe(Effect.provideService(Transport.Transport, here!))
      const keyOf = (id: string) =>
        Channels.claim("", "claimed", createHash("sha256").update(frameOf(id)).digest("base64url").slice(0, 22))
      const ids = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name}${i}`)
      yield* Effect.forEach(ids("before", 100), publish, { concurrency: 100 })
      yield* allOf(ids("before", 100))

      const owner = yield* cluster.ownerOf("claimed")
      const lost = (yield* cluster.masters).find(({ id }) => id !== owner.id)!
      const during = ids("during", 90)
      const owners = yield* Effect.forEach(during, (id) => cluster.ownerOf(keyOf(id)))
      const kept = during.filter((_, i) => owners[i]!.id !== lost.id)
      assert.isAbove(kept.length, 0)
      assert.isBelow(kept.length, 90)
      const gone = yield* Effect.forkChild(
        Effect.all(
          buses.map((bus) => untilState(bus, Account.isDown)),
          { concurrency: 4 }
        ),
        { startImmediately: true }
      )
      // What is on its way while it is lost.
      let over = false
      let count = 0
      const traffic = yield* Effect.forkChild(
        Effect.whileLoop({
          while: () => !over,
          body: () => Effect.andThen(Effect.exit(publish(`amid${count++}`)), Effect.yieldNow),
          step: () => {}
        })
      )
      yield* lost.server.kill
      yield* Fiber.join(gone)
      for (const id of during) yield* publish(id)
      yield* allOf(kept)
      // It comes back without what it had granted.
      yield* lost.server.start
      yield* cluster.ready
      for (const bus of buses) yield* untilState(bus, isReady)
      over = true
      yield* Fiber.join(traffic)
      yield* Effect.forEach(ids("after", 100), publish, { concurrency: 100 })
      yield* allOf(ids("after", 100))
      for (const [id, times] of handled) assert.strictEqual(times, 1, id)
      assert.deepStrictEqual(
        during.filter((id) => handled.has(id)),
        kept
      )
      const dropped = (yield* Metric.snapshot).flatMap(({ attributes, id, state }) =>
        id === "fiberbus_discarded_total" && attributes?.["reason"]?.startsWith("NotClaimed:") && "count" in state
          ? [Number(state.count)]
          : []
      )
      // By each of the three that heard it.
      assert.isAtLeast(
        dropped.reduce((sum, one) => sum + one, 0),
        (during.length - kept.length) * 3
      )
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

class One extends Service.make(
  "one",
  Action.make("ask", { payload: { id: Schema.String }, success: Schema.String }).pipe(
    Action.annotate(Action.Delivery, "live")
  )
) {}

describe("a shard that is down", () => {
  suspend(
    "is the trouble of its own channels only: calls over the others go on, those to it end at once",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const owner = yield* cluster.ownerOf("one")
      // The inbox is on another shard than the service, and the second service on another one too.
      const there = yield* RedisCluster.make({ nodes: cluster.nodes })
      const serve = <S extends Service.Any>(service: S) =>
        Layer.build(
          Layer.provide(
            Handlers.layer(service as never, { ask: ({ id }: { id: string }) => Effect.succeed(id) } as never, {
              delivery: "live"
            }),
            Layer.succeed(Transport.Transport, there)
          ) as Layer.Layer<never>
        )
      yield* serve(One)
      const otherName = Array.from({ length: 100 }, (_, i) => `other${i}`).find(
        (name) => Math.floor((KeySlot.of(name) * 3) / 16_384) !== Math.floor((KeySlot.of("one") * 3) / 16_384)
      )!
      class Other extends Service.make(
        otherName,
        Action.make("ask", { payload: { id: Schema.String }, success: Schema.String }).pipe(
          Action.annotate(Action.Delivery, "live")
        )
      ) {}
      yield* serve(Other)
      // Until an inbox is elsewhere: its name is random.
      const caller = Effect.gen(function* () {
        const here = yield* RedisCluster.make({ nodes: cluster.nodes, whileDown: "fail" })
        let inbox = ""
        const noted = Transport.Transport.of({
          ...here,
          get state() {
            return here.state
          },
          subscribe: (target, receive) => {
            if (target._tag === "Channel") inbox = target.channel
            return here.subscribe(target, receive)
          }
        })
        const context = Context.make(Transport.Transport, noted)
        const one = yield* Effect.provideContext(Caller.make(One), context)
        const other = yield* Effect.provideContext(Caller.make(Other), context)
        return { here, one, other, inboxOwner: yield* cluster.ownerOf(inbox) }
      })
      let made = yield* caller
      while (made.inboxOwner.id === owner.id) made = yield* caller
      const { here, one, other } = made
      assert.strictEqual(yield* one.ask({ id: "a" }), "a")
      assert.strictEqual(yield* other.ask({ id: "b" }), "b")
      const gone = yield* Effect.forkChild(untilState(here, Account.isDown), { startImmediately: true })
      yield* owner.server.kill
      yield* Fiber.join(gone)
      for (let i = 0; i < 50; i++) assert.strictEqual(yield* other.ask({ id: String(i) }), String(i))
      const error = yield* Effect.flip(one.ask({ id: "c" }))
      assert.strictEqual(error._tag, "CallError")
      assert.strictEqual((error as { started?: string }).started, "no")
      yield* owner.server.start
      yield* untilState(here, isReady)
      yield* untilState(there, isReady)
      assert.strictEqual(yield* one.ask({ id: "d" }), "d")
    })
  )

  suspend(
    "is told in a line or two, however long it is away",
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const cluster = yield* RedisClusterServer.make()
      const attempts = { count: 0, dozens: Deferred.makeUnsafe<void>() }
      const reconnect = Schedule.spaced("20 millis").pipe(
        Schedule.tap(() =>
          Effect.sync(() => {
            if (++attempts.count === 60) Deferred.doneUnsafe(attempts.dozens, Effect.void)
          })
        )
      )
      const here = yield* RedisCluster.make({ nodes: cluster.nodes, reconnect }).pipe(
        Effect.provide(Logger.layer([logger]))
      )
      const owner = yield* cluster.ownerOf("one")
      yield* owner.server.kill
      yield* untilState(here, Account.isDown)
      yield* Deferred.await(attempts.dozens)
      const during = lines.length
      assert.isAtLeast(during, 1)
      assert.isAtMost(during, 3)
      yield* owner.server.start
      yield* untilState(here, isReady)
      assert.isAtMost(lines.length, during + 2)
      assert.include(lines[0], `lost 127.0.0.1:${owner.server.port}`)
      assert.include(lines.at(-1), "again")
    })
  )
})
