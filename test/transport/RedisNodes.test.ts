import { assert, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import { RedisClusterServer } from "fiberbus/testing"
import type * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisNodes from "../../src/transport/internal/RedisNodes.ts"
import * as redisClusterOptions from "../../src/transport/internal/redisClusterOptions.ts"
import { RedisDefences } from "../../src/transport/internal/redisDefences.ts"
import * as KeySlot from "../../src/transport/KeySlot.ts"
import type { TransportError } from "../../src/transport/Transport.ts"

type Server = RedisClusterServer.RedisClusterServer["Service"]

const connect = Effect.fnUntraced(function* (cluster: Server, options: Partial<RedisCluster.Options> = {}) {
  const resolved = redisClusterOptions.resolve({ nodes: cluster.nodes, ...options }, yield* RedisDefences)
  if (!("seeds" in resolved)) return yield* resolved
  const ups = new Set<string>()
  let look = () => {}
  const nodes = RedisNodes.make(resolved.settings, resolved.seeds, resolved.at, {
    added: () => {},
    removed: () => {},
    changed: () => look(),
    up: (node) => {
      ups.add(node.address)
      look()
    },
    down: (node) => void ups.delete(node.address),
    gaveUp: () => {},
    isLooking: () => ups.size < nodes.masters().length
  })
  yield* Effect.addFinalizer(() => nodes.close(undefined))
  yield* nodes.start
  yield* Effect.callback<void>((resume) => {
    look = () => {
      if (nodes.masters().every(({ address }) => ups.has(address))) resume(Effect.void)
    }
    look()
  })
  const run = (key: string, name: string, ...args: ReadonlyArray<string>) =>
    Effect.callback<unknown, TransportError>((resume) =>
      nodes.send(KeySlot.of(key), name, [key, ...args], key.length, (error, reply) =>
        resume(error === undefined ? Effect.succeed(reply) : Effect.fail(error))
      )
    )
  return { nodes, run }
})

it.layer(RedisClusterServer.layer(), { timeout: 120_000, excludeTestServices: true })("RedisNodes", (it) => {
  const test = <A, E>(name: string, run: (cluster: Server) => Effect.Effect<A, E, Scope.Scope>) =>
    it.effect(name, () => RedisClusterServer.RedisClusterServer.use((cluster) => Effect.scoped(run(cluster))), 90_000)

  test("runs each command at the master of its key", (cluster) =>
    Effect.gen(function* () {
      const { nodes, run } = yield* connect(cluster)
      assert.lengthOf(nodes.masters(), 3)
      assert.isUndefined(nodes.uncovered())
      for (let i = 0; i < 50; i++) {
        assert.strictEqual(yield* run(`key${i}`, "set", `value${i}`), "OK")
        const owner = yield* cluster.ownerOf(`key${i}`)
        assert.strictEqual(nodes.ownerOf(KeySlot.of(`key${i}`))?.address, `127.0.0.1:${owner.server.port}`)
        assert.strictEqual(yield* owner.server.command("GET", `key${i}`), `value${i}`)
      }
    }))

  test("follows a key that has left a slot on its way, by ASK, and asks the old master for the others", (cluster) =>
    Effect.gen(function* () {
      const { nodes, run } = yield* connect(cluster)
      yield* run("{way}stays", "set", "1")
      const from = yield* cluster.ownerOf("{way}")
      const to = cluster.members.find(({ id }) => id !== from.id)!
      const moving = yield* cluster.beginMove(cluster.slotOf("{way}"), to)
      // New keys are made at the new place.
      assert.strictEqual(yield* run("{way}new", "set", "2"), "OK")
      assert.strictEqual(yield* run("{way}stays", "get"), "1")
      assert.strictEqual(yield* run("{way}new", "get"), "2")
      assert.strictEqual(nodes.ownerOf(KeySlot.of("way"))?.address, `127.0.0.1:${from.server.port}`)
      yield* moving.finish
      assert.strictEqual(yield* run("{way}stays", "get"), "1")
      assert.strictEqual(yield* run("{way}new", "get"), "2")
      assert.strictEqual(nodes.ownerOf(KeySlot.of("way"))?.address, `127.0.0.1:${to.server.port}`)
    }))

  test("executes the commands for a key once and in order, while its slot moves to and fro", (cluster) =>
    Effect.gen(function* () {
      const { nodes } = yield* connect(cluster)
      const key = "{order}list"
      const slot = KeySlot.of(key)
      let next = 0
      let answered = 0
      let over = false
      const failures: Array<TransportError> = []
      const finished = yield* Effect.forkChild(
        Effect.callback<void>((resume) => {
          const burst = () => {
            for (let i = 0; i < 20; i++) {
              nodes.send(slot, "rpush", [key, String(next++)], 1, (error) => {
                if (error !== undefined) failures.push(error)
                if (++answered === next && over) resume(Effect.void)
              })
            }
            if (!over) setImmediate(burst)
          }
          burst()
        }),
        { startImmediately: true }
      )
      for (let i = 0; i < 3; i++) {
        const from = yield* cluster.ownerOf(key)
        const to = cluster.members.find(({ id }) => id !== from.id)!
        yield* cluster.moveSlot(slot, to)
      }
      over = true
      yield* Fiber.join(finished)
      assert.deepStrictEqual(failures, [])
      const list = yield* (yield* cluster.ownerOf(key)).server.command("LRANGE", key, 0, -1)
      assert.deepStrictEqual(
        list,
        Array.from({ length: next }, (_, i) => String(i))
      )
    }))

  test("waits for a master that is away as long as whileDown says, and bounds what waits", (cluster) =>
    Effect.gen(function* () {
      const { nodes, run } = yield* connect(cluster, {
        whileDown: { buffer: 3, for: "30 seconds" },
        commandTimeout: "1 second",
        maxFrameBytes: 100,
        maxBytesInFlight: 1000
      })
      const owner = yield* cluster.ownerOf("{away}")
      const node = nodes.ownerOf(KeySlot.of("away"))!
      yield* owner.server.kill
      yield* Effect.callback<void>((resume) => {
        const look = () => (node.link.isUp() ? void setTimeout(look, 5) : resume(Effect.void))
        look()
      })
      const waiting = yield* Effect.forkChild(
        Effect.all(
          [0, 1, 2].map((i) => run(`{away}${i}`, "set", String(i))),
          { concurrency: 3 }
        ),
        { startImmediately: true }
      )
      const refused = yield* Effect.flip(run("{away}3", "set", "3"))
      assert.strictEqual(refused.sent, "no")
      yield* owner.server.start
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["OK", "OK", "OK"])
      // Frozen, so that nothing is answered.
      yield* owner.server.pause
      const kinds: Array<string | undefined> = []
      yield* Effect.callback<void>((resume) => {
        for (let i = 0; i < 11; i++) {
          nodes.send(KeySlot.of("away"), "set", ["{away}", "x"], 100, (error) => {
            kinds.push(error?.kind)
            if (kinds.length === 11) resume(Effect.void)
          })
        }
      })
      assert.strictEqual(kinds[0], "Overloaded")
      assert.lengthOf(
        kinds.filter((kind) => kind === "Timeout"),
        10
      )
      yield* owner.server.resume
    }))
})
