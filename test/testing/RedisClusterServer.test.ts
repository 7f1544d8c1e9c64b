import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schedule, Scope } from "effect"
import { RedisClusterServer } from "fiberbus/testing"
import { Redis } from "ioredis"

const pingable = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const redis = new Redis(port, "127.0.0.1", {
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0
    })
    redis.on("error", () => {})
    redis
      .connect()
      .then(() => redis.ping())
      .then(
        () => resume(Effect.succeed(true)),
        () => resume(Effect.succeed(false))
      )
      .finally(() => redis.disconnect())
  })

describe("RedisClusterServer", () => {
  it.live("is ready: all nodes agree on all slots, and tell others where a key is", () =>
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      assert.lengthOf(cluster.nodes, 3)
      const masters = yield* cluster.masters
      assert.deepStrictEqual(masters, cluster.members)
      for (const { server } of cluster.members) {
        assert.include(String(yield* server.command("CLUSTER", "INFO")), "cluster_state:ok")
      }
      const owner = yield* cluster.ownerOf("a-key")
      assert.strictEqual(yield* owner.server.command("SET", "a-key", "1"), "OK")
      for (const other of masters.filter(({ id }) => id !== owner.id)) {
        const error = yield* Effect.flip(other.server.command("GET", "a-key"))
        assert.include(error.detail, `MOVED ${cluster.slotOf("a-key")} 127.0.0.1:${owner.server.port}`)
      }
    }).pipe(Effect.scoped)
  )

  it.live("counts slots as Redis does", () =>
    Effect.gen(function* () {
      const { members, slotOf } = yield* RedisClusterServer.make()
      const { server } = members[0]!
      const names = [
        "",
        "a",
        "123456789",
        "{a}b",
        "x{a}b",
        "{}b",
        "a{}b{c}",
        "{",
        "}{a}",
        "{a",
        "{{a}}b",
        "ü漢🧵",
        "{ü}x"
      ]
      for (const name of names)
        assert.strictEqual(slotOf(name), Number(yield* server.command("CLUSTER", "KEYSLOT", name)))
    }).pipe(Effect.scoped)
  )

  it.live(
    "fails over by hand, and to the replica of a master that was killed; both come back as replicas",
    () =>
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({ replicas: 1 })
        assert.lengthOf(cluster.nodes, 6)
        const before = yield* cluster.ownerOf("a-key")
        const after = yield* cluster.failover(before)
        assert.strictEqual(yield* cluster.ownerOf("a-key"), after)
        assert.notStrictEqual(after, before)
        assert.deepStrictEqual(yield* cluster.replicasOf(after), [before])
        const [first] = cluster.members.filter((member) => member.id !== before.id) as [RedisClusterServer.Member]
        const [replica] = yield* cluster.replicasOf(first)
        yield* first.server.kill
        assert.strictEqual(yield* cluster.promoted(first), replica)
        yield* first.server.start
        yield* cluster.ready
        yield* Effect.repeat(cluster.replicasOf(replica!), {
          until: (replicas) => replicas.includes(first),
          schedule: Schedule.spaced("50 millis")
        })
        // And once more: now the one that was a replica is lost.
        yield* replica!.server.kill
        assert.strictEqual(yield* cluster.promoted(replica!), first)
      }).pipe(Effect.scoped),
    90_000
  )

  it.live("moves a slot with its keys, and on the way asks for those that have left elsewhere", () =>
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const from = yield* cluster.ownerOf("a-key")
      const to = cluster.members.find(({ id }) => id !== from.id)!
      yield* from.server.command("SET", "a-key", "value")
      const moving = yield* cluster.beginMove(cluster.slotOf("a-key"), to)
      const error = yield* Effect.flip(from.server.command("GET", "{a-key}other"))
      assert.strictEqual(error.detail, `ASK ${cluster.slotOf("a-key")} 127.0.0.1:${to.server.port}`)
      yield* moving.finish
      assert.strictEqual(yield* cluster.ownerOf("a-key"), to)
      assert.strictEqual(yield* to.server.command("GET", "a-key"), "value")
    }).pipe(Effect.scoped)
  )

  it.live(
    "takes users and a password, and freezes and restarts its members",
    () =>
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({
          password: "open",
          acl: ["user ann on >word ~* &* +@all"],
          replicas: 1
        })
        assert.strictEqual(cluster.password, "open")
        const owner = yield* cluster.ownerOf("a-key")
        yield* owner.server.pause
        yield* owner.server.resume
        yield* owner.server.restart
        yield* cluster.ready
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "speaks TLS, to clients and within",
    () =>
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({ tls: true, replicas: 1 })
        const { port } = cluster.nodes[0]!
        assert.notStrictEqual(port, cluster.members[0]!.server.port)
        const slots = yield* Effect.promise(async () => {
          const redis = new Redis(port, "127.0.0.1", {
            tls: { ca: cluster.tls!.ca },
            retryStrategy: () => null,
            replyMapping: "legacy"
          })
          return redis.cluster("SLOTS").finally(() => redis.disconnect())
        })
        const ports = slots.map(([, , master]) => master![1])
        const tlsPorts = cluster.nodes.map((node) => node.port)
        assert.isTrue(ports.every((port) => tlsPorts.includes(port)))
        const before = yield* cluster.ownerOf("a-key")
        yield* before.server.command("SET", "a-key", "value")
        const other = (yield* cluster.masters).find(({ id }) => id !== before.id)!
        yield* cluster.moveSlot(cluster.slotOf("a-key"), other)
        assert.strictEqual(yield* other.server.command("GET", "a-key"), "value")
      }).pipe(Effect.scoped),
    90_000
  )

  it.live("leaves nothing behind its Scope", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const cluster = yield* Scope.provide(RedisClusterServer.make(), scope)
      assert.isTrue(yield* pingable(cluster.nodes[0]!.port))
      yield* Scope.close(scope, Exit.void)
      for (const { port } of cluster.nodes) assert.isFalse(yield* pingable(port))
    })
  )

  it.live("refuses what is no cluster", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(RedisClusterServer.make({ masters: 2 })))
      assert.strictEqual(error.kind, "ClusterFailed")
    })
  )
})
