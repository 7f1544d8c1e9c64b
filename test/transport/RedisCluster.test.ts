import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Fiber, Layer, Logger, Redacted, Schedule, Scope, Stream } from "effect"
import { Broadcast, Caller, Listener, Topic, Transport } from "fiberbus"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import { Redis } from "ioredis"
import { vi } from "vitest"
import { RedisDefences } from "../../src/transport/internal/redisDefences.ts"
import * as KeySlot from "../../src/transport/KeySlot.ts"
import * as Account from "../resilience/account.ts"
import { ann, Users, UsersLive } from "../users.ts"
import * as StandIn from "./clusterStandIn.ts"

const { isReady, untilState } = Account
type Bus = Transport.Transport["Service"]

const live = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.scoped(effect as Effect.Effect<A, E>).pipe(Effect.provide(Logger.layer([]))), 90_000)

/** Waits for something that callbacks of sockets bring about. */
const until = (condition: () => boolean) =>
  Effect.callback<void>((resume) => {
    let timer: NodeJS.Timeout | undefined
    const look = () => {
      if (condition()) return resume(Effect.void)
      timer = setTimeout(look, 5)
    }
    look()
    return Effect.sync(() => clearTimeout(timer))
  })

const publish = (bus: Bus, channel: string, frame: string) =>
  Transport.publish(channel, frame).pipe(Effect.provideService(Transport.Transport, bus))

const hear = Effect.fnUntraced(function* (bus: Bus, channel: string) {
  const frames: Array<string> = []
  yield* bus.subscribe({ _tag: "Channel", channel }, (frame) => {
    frames.push(Buffer.from(frame as Uint8Array).toString())
  })
  return frames
})

/** Nothing but what it is told makes it look at the map again. */
const unhurried = Effect.provideService(RedisDefences, { heartbeat: true, resubscribe: true, roleMillis: undefined })

it.layer(RedisClusterServer.layer({ replicas: 1 }), { timeout: 120_000, excludeTestServices: true })(
  "RedisCluster",
  (it) => {
    const shared = <A, E>(
      name: string,
      run: (cluster: RedisClusterServer.RedisClusterServer["Service"]) => Effect.Effect<A, E, Scope.Scope>
    ) =>
      it.effect(
        name,
        () =>
          RedisClusterServer.RedisClusterServer.use((cluster) => Effect.scoped(run(cluster))).pipe(
            Effect.provide(Logger.layer([]))
          ),
        90_000
      )

    shared(
      "finds all masters by one node, which may be a replica, and may come behind others that are away",
      ({ members, nodes }) =>
        Effect.gen(function* () {
          const away = { host: "127.0.0.1", port: 1 }
          const bus = yield* RedisCluster.make({ nodes: [away, nodes[3]!] })
          assert.strictEqual(bus.name, `redis+cluster://127.0.0.1:1,127.0.0.1:${nodes[3]!.port}`)
          assert.deepStrictEqual(bus.state, { _tag: "Ready", gaps: 0 })
          for (const { server } of members.slice(0, 3)) {
            const clients = String(yield* server.command("CLIENT", "LIST"))
            assert.lengthOf(clients.match(/name=fiberbus:(cluster|subscriber)/g) ?? [], 2)
          }
        })
    )

    shared("leaves no connection behind", ({ members, nodes }) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const bus = yield* Scope.provide(RedisCluster.make({ nodes }), scope)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(bus.state._tag, "Closed")
        assert.strictEqual((yield* Effect.flip(publish(bus, "a", "b"))).kind, "Closed")
        const late = yield* Effect.flip(Effect.scoped(bus.subscribe({ _tag: "Channel", channel: "a" }, () => {})))
        assert.strictEqual(late.kind, "Closed")
        const clients = Effect.forEach(members, ({ server }) => server.command("CLIENT", "LIST"))
        yield* Effect.repeat(clients, {
          until: (lists) => !lists.some((list) => String(list).includes("fiberbus:")),
          schedule: Schedule.spaced("10 millis")
        })
      })
    )

    shared("carries calls, progress, broadcasts and answers of services on all shards", ({ nodes }) =>
      Effect.gen(function* () {
        const Over = Layer.effect(Transport.Transport, RedisCluster.make({ nodes }))
        const heard: Array<unknown> = []
        const events = Array.from({ length: 6 }, (_, i) => Topic.make(`events${i}`, Users.actions.get_user.success))
        assert.isAbove(
          new Set(events.map(({ channel }) => Math.floor((KeySlot.of(channel) * 3) / KeySlot.slots))).size,
          1
        )
        const listeners = events.map((topic) =>
          Listener.layer(topic, (user) => Effect.sync(() => void heard.push([topic.channel, user.id])))
        )
        yield* Layer.build(Layer.provide(Layer.mergeAll(UsersLive, ...(listeners as [Layer.Layer<never>])), Over))
        const context = yield* Layer.build(Layer.fresh(Over))
        yield* Effect.provideContext(
          Effect.gen(function* () {
            const users = yield* Caller.make(Users)
            assert.deepStrictEqual(yield* users.get_user({ id: "1" }), ann)
            const steps = yield* Stream.runCollect(users.import_users.stream({ rows: ["a", "b"] }))
            assert.strictEqual(steps.at(-1)?._tag, "Success")
            for (const topic of events) assert.strictEqual(yield* Broadcast.publish(topic, ann), 1)
            const nobody = Topic.make("nobody", Users.actions.get_user.success)
            assert.strictEqual(yield* Broadcast.publish(nobody, ann), 0)
          }),
          context
        )
        yield* until(() => heard.length === events.length)
      })
    )

    shared("publishes and hears past ioredis, also while claims are on their way", ({ nodes }) =>
      Effect.gen(function* () {
        const bus = yield* RedisCluster.make({ nodes })
        const names = ["direct1", "direct2", "direct3", "direct4"]
        const heard = yield* Effect.forEach(names, (name) => hear(bus, name))
        const call = vi.spyOn(Redis.prototype, "call")
        const emit = vi.spyOn(Redis.prototype, "emit")
        yield* Effect.addFinalizer(() => Effect.sync(() => vi.restoreAllMocks()))
        const claims: Array<unknown> = []
        const told: Array<unknown> = []
        for (let i = 0; i < 200; i++) {
          bus.claim!(`direct:${i}`, 1000, (error, won) => claims.push(error ?? won))
          bus.send(names[i % 4]!, String(i), (error, receivers) => told.push(error ?? receivers))
        }
        yield* until(() => told.length === 200 && claims.length === 200)
        assert.deepStrictEqual(new Set(told), new Set([1]))
        assert.deepStrictEqual(new Set(claims), new Set([true]))
        yield* until(() => heard.every((frames) => frames.length === 50))
        for (const [i, frames] of heard.entries()) {
          assert.deepStrictEqual(
            frames,
            Array.from({ length: 50 }, (_, j) => String(j * 4 + i))
          )
        }
        assert.isFalse(call.mock.calls.some(([name]) => name !== "set" && name !== "info" && name !== "cluster"))
        assert.isFalse(emit.mock.calls.some(([name]) => String(name).includes("message")))
      })
    )

    shared("lets frames share one where they may, in order, each with its own word of it", ({ nodes }) =>
      Effect.gen(function* () {
        const here = yield* RedisCluster.make({ nodes })
        const there = yield* RedisCluster.make({ nodes })
        assert.isTrue(here.capabilities.packs)
        const frames: Array<string> = []
        for (const channel of ["{packed}", "also {packed}"]) {
          yield* there.subscribe({ _tag: "Channel", channel }, (frame) => {
            frames.push(Buffer.from(frame as Uint8Array).toString())
          })
        }
        const told: Array<unknown> = []
        const say = (frame: string, pack = true, channel = "{packed}") =>
          here.send(channel, frame, (error, receivers) => told.push(error ?? [frame, receivers]), pack)
        for (const n of [1, 2, 3]) say(`{"n":${n}}`)
        say('{"n":4}', false)
        say('{"n":5}')
        say('"ü"')
        say('{"n":6}', true, "also {packed}")
        say('{"n":7}', false)
        yield* until(() => told.length === 8 && frames.length === 5)
        assert.deepStrictEqual(frames, ['[{"n":1},{"n":2},{"n":3}]', '{"n":4}', '[{"n":5},"ü"]', '{"n":6}', '{"n":7}'])
        assert.deepStrictEqual(
          told,
          ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}', '{"n":5}', '"ü"', '{"n":6}', '{"n":7}'].map((frame) => [
            frame,
            1
          ])
        )
        assert.isFalse((yield* RedisCluster.make({ nodes, maxFrameBytes: 32_767 })).capabilities.packs)
      })
    )

    shared("passes a barrier behind all that each master had given out, and none while one is away", (cluster) =>
      Effect.gen(function* () {
        const here = yield* RedisCluster.make({ nodes: cluster.nodes })
        const there = yield* RedisCluster.make({ nodes: cluster.nodes })
        const barrier = (bus: Bus) =>
          Effect.callback<boolean>((resume) => bus.barrier!((passed) => resume(Effect.succeed(passed))))
        assert.isTrue(yield* barrier(there))
        const channels = Array.from({ length: 6 }, (_, i) => `line${i}`)
        const owners = yield* Effect.forEach(channels, cluster.ownerOf)
        assert.strictEqual(new Set(owners.map(({ id }) => id)).size, 3)
        const heard: Array<ReadonlyArray<string>> = []
        for (const name of channels) heard.push(yield* hear(there, name))
        for (let round = 1; round <= 5; round++) {
          // Each of the masters has them in its hands for us when the last count is told.
          yield* Effect.forEach(
            Array.from({ length: 600 }, (_, i) => channels[i % 6]!),
            (name) => publish(here, name, "x"),
            { concurrency: "unbounded" }
          )
          assert.isTrue(yield* barrier(there))
          for (const frames of heard) assert.lengthOf(frames, round * 100)
        }
        // A master that is frozen says nothing, and so do we until it does.
        const owner = owners[0]!
        const passed: Array<boolean> = []
        yield* owner.server.pause
        there.barrier!((one) => passed.push(one))
        const elsewhere = channels.find((_, i) => owners[i]!.id !== owner.id)!
        yield* publish(there, elsewhere, "y")
        assert.lengthOf(passed, 0)
        yield* owner.server.resume
        yield* until(() => passed.length === 1)
        // The connection is cut under one that waits, and what was subscribed over it is not yet again.
        const back = yield* Effect.forkChild(
          untilState(there, (state) => state.gaps > 0 && isReady(state)),
          { startImmediately: true }
        )
        yield* owner.server.pause
        there.barrier!((one) => passed.push(one))
        yield* owner.server.kill
        yield* until(() => passed.length === 2)
        assert.isFalse(passed[1])
        assert.isFalse(yield* barrier(there))
        // Who subscribes elsewhere has nothing to miss.
        yield* hear(here, elsewhere)
        assert.isTrue(yield* barrier(here))
        yield* owner.server.start
        yield* cluster.ready
        yield* Fiber.join(back)
        assert.isTrue(yield* barrier(there))
      })
    )

    shared("gives a claim to one of those who make it, at the master of its key", (cluster) =>
      Effect.gen(function* () {
        const here = yield* RedisCluster.make({ nodes: cluster.nodes })
        const there = yield* RedisCluster.make({ nodes: cluster.nodes })
        const claim = (bus: Bus, key: string) =>
          Effect.callback<boolean, Transport.TransportError>((resume) =>
            bus.claim!(key, 60_000, (error, won) =>
              resume(error === undefined ? Effect.succeed(won) : Effect.fail(error))
            )
          )
        for (let i = 0; i < 20; i++) {
          const both = yield* Effect.all([claim(here, `claim${i}`), claim(there, `claim${i}`)], { concurrency: 2 })
          assert.sameMembers(both, [true, false])
        }
      })
    )

    shared("lets nobody win a claim whose master is lost, neither while it is away nor of the next one", (cluster) =>
      Effect.gen(function* () {
        const here = yield* RedisCluster.make({ nodes: cluster.nodes })
        const owner = yield* cluster.ownerOf("claimed")
        const outcomes: Array<readonly [string, boolean]> = []
        const claim = (key: string) =>
          here.claim!(key, 60_000, (error, won) => outcomes.push([error?.sent ?? "asked", won] as const))
        // One that it has not answered, one behind it, and one that comes when it is gone.
        yield* owner.server.pause
        claim("claimed")
        claim("{claimed} as well")
        const gone = yield* Effect.forkChild(untilState(here, Account.isDown), { startImmediately: true })
        yield* owner.server.kill
        yield* Fiber.join(gone)
        claim("again {claimed}")
        yield* until(() => outcomes.length >= 3)
        assert.deepStrictEqual(outcomes, [
          ["unknown", false],
          ["unknown", false],
          ["unknown", false]
        ])
        yield* cluster.promoted(owner)
        yield* untilState(here, isReady)
        claim("{claimed} later")
        yield* until(() => outcomes.length === 4)
        assert.deepStrictEqual(outcomes[3], ["asked", true])
        yield* owner.server.start
        yield* cluster.ready
      })
    )

    shared("has no patterns when sharded, and says what to do", ({ nodes }) =>
      Effect.gen(function* () {
        const bus = yield* RedisCluster.make({ nodes })
        assert.isFalse(bus.capabilities.patterns)
        const events = Topic.make("events.*", Users.actions.get_user.success)
        const error = yield* Layer.build(Listener.layer(events, () => Effect.void)).pipe(
          Effect.provideService(Transport.Transport, bus),
          Effect.flip
        )
        assert.strictEqual(error.kind, "InvalidOptions")
        assert.include(error.message, "events.*")
        assert.include(error.hint, "classic")
      })
    )

    shared(
      "in classic mode hears what is published at any node, by pattern too, and is heard there",
      ({ members, nodes }) =>
        Effect.gen(function* () {
          const bus = yield* RedisCluster.make({ nodes, pubsub: "classic" })
          assert.isTrue(bus.capabilities.patterns)
          assert.strictEqual(bus.capabilities.receivers, "hint")
          const frames = yield* hear(bus, "plain")
          const byPattern: Array<string> = []
          yield* bus.subscribe({ _tag: "Pattern", pattern: "pl*" }, (_, channel) => void byPattern.push(channel))
          for (const { server } of members) yield* server.command("PUBLISH", "plain", String(server.port))
          yield* until(() => frames.length === members.length && byPattern.length === members.length)
          assert.sameMembers(
            frames,
            members.map(({ server }) => String(server.port))
          )
          const there = yield* RedisCluster.make({ nodes, pubsub: "classic" })
          yield* publish(there, "plain", "from a peer")
          yield* until(() => frames.includes("from a peer"))
        })
    )

    shared("is not deceived by a master that was demoted: neither by its 0 nor by its confirmation", (cluster) =>
      Effect.gen(function* () {
        const owner = yield* cluster.ownerOf("demoted")
        const here = yield* unhurried(RedisCluster.make({ nodes: cluster.nodes }))
        const late = yield* unhurried(RedisCluster.make({ nodes: cluster.nodes }))
        const there = yield* RedisCluster.make({ nodes: cluster.nodes })
        const frames = yield* hear(there, "demoted")
        assert.strictEqual(yield* publish(here, "demoted", "before"), 1)
        const follows = yield* Effect.forkChild(
          untilState(there, (state) => state.gaps === 1 && isReady(state)),
          {
            startImmediately: true
          }
        )
        yield* cluster.failover(owner)
        yield* Fiber.join(follows)
        // Nobody has told `here`, and the old master takes the frame, which reaches `there` by way of the new one.
        const error = yield* Effect.flip(publish(here, "demoted", "during"))
        assert.strictEqual(error.kind, "ConnectionLost")
        assert.strictEqual(error.sent, "unknown")
        yield* Effect.repeat(Effect.result(publish(here, "demoted", "after")), {
          until: (result) => result._tag === "Success" && result.success === 1,
          schedule: Schedule.spaced("20 millis")
        })
        // Nor `late`: it asks at the old master, and is confirmed only by the new one.
        const lateFrames = yield* hear(late, "demoted")
        assert.strictEqual(yield* publish(here, "demoted", "to both"), 2)
        yield* until(() => lateFrames.includes("to both") && frames.includes("to both"))
        for (const word of ["before", "during", "to both"]) {
          assert.lengthOf(
            frames.filter((frame) => frame === word),
            1
          )
        }
        // Where it asked first, an "after" that was on its way to the replicas may have come as well.
        assert.deepStrictEqual(
          lateFrames.filter((frame) => frame !== "after"),
          ["to both"]
        )
      })
    )

    shared("follows a slot also with a server that knows no HELLO", ({ members }) =>
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({ args: ["--rename-command", "HELLO", ""] })
        assert.notStrictEqual(cluster.members, members)
        const here = yield* RedisCluster.make({ nodes: cluster.nodes })
        const frames = yield* hear(here, "line")
        const other = yield* hear(here, "another line")
        const owner = yield* cluster.ownerOf("line")
        const to = cluster.members.find(({ id }) => id !== owner.id)!
        const follows = yield* Effect.forkChild(
          untilState(here, (state) => state.gaps === 1 && isReady(state)),
          {
            startImmediately: true
          }
        )
        yield* cluster.moveSlot(cluster.slotOf("line"), to)
        yield* Fiber.join(follows)
        assert.strictEqual(yield* publish(here, "line", "x"), 1)
        assert.strictEqual(yield* publish(here, "another line", "y"), 1)
        yield* until(() => frames.length === 1 && other.length === 1)
      })
    )

    for (const pubsub of ["sharded", "classic"] as const) {
      shared(`runs with the rights that are documented, and tells which one is missing (${pubsub})`, () =>
        Effect.gen(function* () {
          const p = pubsub === "sharded" ? "s" : ""
          const cluster = yield* RedisClusterServer.make({
            acl: [
              `user bus on >word resetkeys resetchannels -@all +ping +info +cluster|slots +cluster|info (+${p}subscribe +${p}unsubscribe &mine) (+${p}publish &mine &yours)`,
              "user blind on >word resetkeys resetchannels -@all +ping +cluster|slots +spublish &mine",
              "user stranger on >word resetkeys resetchannels -@all +ping"
            ]
          })
          const password = Redacted.make("word")
          const common = { nodes: cluster.nodes, pubsub, password }
          const bus = yield* RedisCluster.make({ ...common, username: "bus" })
          const frames = yield* hear(bus, "mine")
          yield* publish(bus, "mine", "x")
          yield* until(() => frames.length === 1)
          assert.strictEqual(bus.capabilities.receivers, pubsub === "sharded" ? "exact" : "hint")
          const deaf = yield* Effect.flip(hear(bus, "yours"))
          assert.strictEqual(deaf.kind, "PermissionDenied")
          assert.include(deaf.message, `+${p}subscribe +${p}unsubscribe &yours`)
          const mute = yield* Effect.flip(publish(bus, "theirs", "x"))
          assert.strictEqual(mute.kind, "PermissionDenied")
          assert.include(mute.message, `+${p}publish &theirs`)
          if (pubsub === "sharded") {
            const blind = yield* RedisCluster.make({ ...common, username: "blind" })
            assert.strictEqual(blind.capabilities.receivers, "hint")
            assert.strictEqual(yield* publish(blind, "mine", "x"), 1)
          }
          const refused = yield* Effect.flip(RedisCluster.make({ ...common, username: "stranger" }))
          assert.strictEqual(refused.kind, "PermissionDenied")
          assert.notInclude(JSON.stringify(refused), "word")
        })
      )
    }
  }
)

describe("RedisCluster at the start", () => {
  live(
    "names what keeps it from working, without secrets",
    Effect.gen(function* () {
      const failure = (options: RedisCluster.Options) => Effect.flip(RedisCluster.make({ ...options }))
      const away = yield* failure({ nodes: [{ host: "127.0.0.1", port: 1 }] })
      assert.strictEqual(away.kind, "Unreachable")
      const lone = yield* RedisServer.make({ password: "the-word" })
      const nodes = [{ host: lone.host, port: lone.port }]
      const wrong = yield* failure({ nodes, password: "not-the-word" })
      assert.strictEqual(wrong.kind, "AuthenticationFailed")
      assert.notInclude(JSON.stringify(wrong), "not-the-word")
      const none = yield* failure({ nodes, password: "the-word" })
      assert.strictEqual(none.kind, "InvalidOptions")
      assert.include(none.message, "RedisPubSub")
      const unformed = yield* RedisServer.make({ args: ["--cluster-enabled", "yes"] })
      const unready = yield* failure({ nodes: [{ host: unformed.host, port: unformed.port }] })
      assert.strictEqual(unready.kind, "Unreachable")
      assert.include(unready.message, "no slots")
    })
  )

  live(
    "refuses options that are no good",
    Effect.gen(function* () {
      const nodes = [{ host: "127.0.0.1" }]
      for (const [what, options] of [
        ["nodes", {}],
        ["nodes", { nodes: [] }],
        ["host", { nodes: [{}] }],
        ["port", { nodes: [{ host: "a", port: 0 }] }],
        ["pubsub", { nodes, pubsub: "other" }],
        ["url", { nodes, url: "redis://127.0.0.1" }],
        ["db", { nodes, db: 1 }],
        ["sentinels", { nodes, sentinels: [] }],
        ["prefix", { nodes, prefix: "a b" }],
        ["commandTimeout", { nodes, commandTimeout: -1 }]
      ] as const) {
        const error = yield* Effect.flip(RedisCluster.make(options as never))
        assert.strictEqual(error.kind, "InvalidOptions", what)
        assert.include(error.message, what)
        assert.include(error.operation, "RedisCluster")
      }
    })
  )

  live(
    "reads the environment",
    Effect.gen(function* () {
      const read = (env: Record<string, string>) =>
        Effect.provide(
          Effect.suspend(() => RedisCluster.environment.parse(ConfigProvider.fromEnv({ env }))),
          Layer.empty
        )
      const options = yield* read({
        REDIS_CLUSTER_NODES: "a:7000, [::1]:7001,c",
        REDIS_CLUSTER_PUBSUB: "classic",
        REDIS_USERNAME: "ann",
        FIBERBUS_PREFIX: "shop.",
        REDIS_URL: "redis://elsewhere"
      })
      assert.deepStrictEqual(options.nodes, [{ host: "a", port: 7000 }, { host: "::1", port: 7001 }, { host: "c" }])
      assert.strictEqual(options.pubsub, "classic")
      assert.strictEqual(options.username, "ann")
      assert.strictEqual(options.prefix, "shop.")
      assert.notProperty(options, "url")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(read({}))))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(read({ REDIS_CLUSTER_NODES: "a:b" }))))
    })
  )

  live(
    "waits for a cluster that is not there yet, where it is told to",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      for (const { server } of cluster.members) yield* server.kill
      const tried = { times: 0 }
      const bus = yield* Effect.forkChild(
        RedisCluster.make({
          nodes: cluster.nodes,
          connect: Schedule.spaced("20 millis").pipe(Schedule.tap(() => Effect.sync(() => tried.times++)))
        })
      )
      yield* until(() => tried.times > 1)
      yield* Effect.forEach(cluster.members, ({ server }) => server.start, { concurrency: 3 })
      assert.notStrictEqual((yield* Fiber.join(bus)).state._tag, "Closed")
    })
  )

  live(
    "begins without a shard that is down, degraded, and takes it when it is there",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const owner = yield* cluster.ownerOf("line")
      const channel = Array.from({ length: 100 }, (_, i) => `line${i}`).find(
        (name) => Math.floor((KeySlot.of(name) * 3) / 16_384) !== Math.floor((KeySlot.of("line") * 3) / 16_384)
      )!
      yield* owner.server.kill
      const bus = yield* RedisCluster.make({ nodes: cluster.nodes, whileDown: "fail" })
      assert.isTrue(Account.isDown(bus.state))
      yield* hear(bus, channel)
      assert.strictEqual(yield* publish(bus, channel, "x"), 1)
      const error = yield* Effect.flip(publish(bus, "line", "x"))
      assert.strictEqual(error.sent, "no")
      assert.strictEqual((yield* Effect.flip(hear(bus, "line"))).kind, "ConnectionLost")
      yield* owner.server.start
      yield* untilState(bus, isReady)
      yield* hear(bus, "line")
      assert.strictEqual(yield* publish(bus, "line", "x"), 1)
    })
  )

  live(
    "speaks TLS to all nodes, with a password",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make({ tls: true, password: "word" })
      const options = { nodes: cluster.nodes, password: Redacted.make("word") }
      const bus = yield* RedisCluster.make({ ...options, tls: { ca: cluster.tls!.ca } })
      assert.match(bus.name, /^rediss\+cluster:/)
      for (let i = 0; i < 10; i++) {
        const frames = yield* hear(bus, `line${i}`)
        assert.strictEqual(yield* publish(bus, `line${i}`, "x"), 1)
        yield* until(() => frames.length === 1)
      }
      const strange = yield* Effect.flip(RedisCluster.make({ ...options, tls: true }))
      assert.strictEqual(strange.kind, "ProtocolError")
      const plain = yield* Effect.flip(RedisCluster.make(options))
      assert.oneOf(plain.kind, ["ProtocolError", "ConnectionLost"])
    })
  )

  live(
    "tells that an older Redis knows no sharded pub/sub",
    Effect.gen(function* () {
      const renamed = ["SPUBLISH", "SSUBSCRIBE"].flatMap((name) => ["--rename-command", name, ""])
      const cluster = yield* RedisClusterServer.make({ args: renamed })
      const bus = yield* RedisCluster.make({ nodes: cluster.nodes })
      for (const error of [yield* Effect.flip(hear(bus, "line")), yield* Effect.flip(publish(bus, "line", "x"))]) {
        assert.strictEqual(error.kind, "ProtocolError")
        assert.include(error.hint, "Redis 7")
      }
    })
  )
})

describe("RedisCluster in classic mode", () => {
  live(
    "goes to another node when its own is lost",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const bus = yield* RedisCluster.make({ nodes: cluster.nodes, pubsub: "classic" })
      const frames = yield* hear(bus, "plain")
      // Its home is where the subscription is.
      const homes = yield* Effect.filter(cluster.members, ({ server }) =>
        Effect.map(server.command("PUBSUB", "NUMSUB", "plain"), (reply) => String(reply).endsWith(",1"))
      )
      assert.lengthOf(homes, 1)
      const back = yield* Effect.forkChild(
        untilState(bus, (state) => state.gaps === 1 && isReady(state)),
        {
          startImmediately: true
        }
      )
      yield* homes[0]!.server.kill
      yield* Fiber.join(back)
      yield* publish(bus, "plain", "x")
      yield* until(() => frames.length === 1)
    })
  )
})

describe("RedisCluster among nodes that do not agree", () => {
  const two = Effect.gen(function* () {
    const nodes = [yield* StandIn.make, yield* StandIn.make] as const
    for (const node of nodes) node.masters = nodes.map(({ port }) => port)
    return nodes
  })
  const inFirst = Array.from({ length: 100 }, (_, i) => `line${i}`).find((name) => KeySlot.of(name) < 8192)!

  live(
    "keeps the newer map when a master that is cut off tells the older one",
    Effect.gen(function* () {
      const [old, other] = yield* two
      const bus = yield* unhurried(
        RedisCluster.make({ nodes: [{ host: "127.0.0.1", port: old.port }], whileDown: "fail" })
      )
      yield* hear(bus, inFirst)
      // The others have chosen one of theirs; the old one does not know that yet, only of this slot.
      other.masters = [other.port]
      other.epoch = 2
      old.says.set("spublish", `-MOVED ${KeySlot.of(inFirst)} 127.0.0.1:${other.port}\r\n`)
      const moved = yield* Effect.forkChild(
        untilState(bus, (state) => state.gaps === 1 && isReady(state)),
        { startImmediately: true }
      )
      assert.strictEqual(yield* publish(bus, inFirst, "x"), 1)
      yield* Fiber.join(moved)
      const before = old.asked.filter((line) => line === "cluster slots").length
      other.masters = [other.port, old.port]
      other.epoch = 3
      old.masters = [old.port]
      // Now both are masters, and asked in turn: what the old one says of the others is not believed.
      while (old.asked.filter((line) => line === "cluster slots").length < before + 3) {
        other.says.set("spublish", "-CLUSTERDOWN on purpose\r\n")
        assert.include((yield* Effect.flip(publish(bus, inFirst, "x"))).detail, "on purpose")
        other.says.delete("spublish")
        assert.strictEqual(yield* publish(bus, inFirst, "x"), 1)
      }
      assert.strictEqual(yield* publish(bus, inFirst, "x"), 1)
      assert.strictEqual(bus.state.gaps, 1)
    })
  )

  live(
    "ends a frame that they send to each other, and rests before it subscribes again",
    Effect.gen(function* () {
      const [one, two_] = yield* two
      const slot = KeySlot.of(inFirst)
      for (const [from, to] of [
        [one, two_],
        [two_, one]
      ] as const) {
        from.says.set("spublish", `-MOVED ${slot} 127.0.0.1:${to.port}\r\n`)
        from.says.set("ssubscribe", `-MOVED ${slot} 127.0.0.1:${to.port}\r\n`)
      }
      const bus = yield* unhurried(
        RedisCluster.make({ nodes: [{ host: "127.0.0.1", port: one.port }], commandTimeout: "300 millis" })
      )
      const error = yield* Effect.flip(publish(bus, inFirst, "x"))
      assert.strictEqual(error.kind, "Unreachable")
      assert.strictEqual(error.sent, "no")
      assert.include(error.detail, "sent on 8 times")
      const deaf = yield* Effect.flip(hear(bus, inFirst))
      assert.strictEqual(deaf.kind, "Timeout")
      const asked = [...one.asked, ...two_.asked].filter((line) => line.startsWith("ssubscribe"))
      assert.isAbove(asked.length, 4)
      assert.isBelow(asked.length, 100)
    })
  )
})

describe("RedisCluster that cannot ask whether a 0 was a master's", () => {
  live(
    "does not say that the frame was not sent",
    Effect.gen(function* () {
      const node = yield* StandIn.make
      node.masters = [node.port]
      const bus = yield* unhurried(RedisCluster.make({ nodes: [{ host: "127.0.0.1", port: node.port }] }))
      node.says.set("spublish", ":0\r\n")
      assert.strictEqual(yield* publish(bus, "line", "x"), 0)
      node.says.set("info", "-ERR on purpose\r\n")
      const error = yield* Effect.flip(publish(bus, "line", "y"))
      assert.include(error.detail, "on purpose")
      assert.strictEqual(error.sent, "unknown")
    })
  )
})

describe("RedisCluster that is told of a slot's leaving", () => {
  live(
    "as soon as it has subscribed, asks again, and hears",
    Effect.gen(function* () {
      const node = yield* StandIn.make
      node.masters = [node.port]
      const subscribed = `*3\r\n${StandIn.bulk("ssubscribe")}${StandIn.bulk("line")}:1\r\n`
      const left = `*3\r\n${StandIn.bulk("sunsubscribe")}${StandIn.bulk("line")}:0\r\n`
      let times = 0
      node.says.set("ssubscribe", () => (++times === 1 ? subscribed + left : subscribed))
      const bus = yield* unhurried(RedisCluster.make({ nodes: [{ host: "127.0.0.1", port: node.port }] }))
      const frames = yield* hear(bus, "line")
      assert.strictEqual(times, 2)
      node.push(`*3\r\n${StandIn.bulk("smessage")}${StandIn.bulk("line")}${StandIn.bulk("x")}`)
      yield* until(() => frames.length === 1)
      assert.strictEqual(bus.state.gaps, 0)
      // Once it is confirmed, that is a gap.
      const back = yield* Effect.forkChild(
        untilState(bus, (state) => state.gaps === 1 && isReady(state)),
        { startImmediately: true }
      )
      node.push(left)
      yield* Fiber.join(back)
      assert.strictEqual(times, 3)
    })
  )
})

describe("RedisCluster whose schedule of reconnects ends", () => {
  live(
    "is closed, and says why",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const bus = yield* RedisCluster.make({
        nodes: cluster.nodes,
        reconnect: Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 2 }))
      })
      const closed = yield* Effect.forkChild(
        untilState(bus, (state) => state._tag === "Closed"),
        { startImmediately: true }
      )
      yield* cluster.members[0]!.server.kill
      const state = yield* Fiber.join(closed)
      assert.isTrue(state._tag === "Closed" && state.error?.kind === "Closed")
      const error = yield* Effect.flip(publish(bus, "line", "x"))
      assert.include(error.detail, "given up")
    })
  )
})
