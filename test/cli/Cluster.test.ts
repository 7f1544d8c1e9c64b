import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schedule, Schema } from "effect"
import { Action, Caller, DeadLetters, Handlers, Service, Transport } from "fiberbus"
import { RedisClusterServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import { UsersLive } from "../users.ts"
import * as CommandLine from "./commandLine.ts"

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { n: Schema.Finite } }).pipe(Action.annotate(Action.Delivery, "durable"))
)

/** A place to run commands, and a Cluster with a service on it. */
const setUp = Effect.gen(function* () {
  const { nodes } = yield* RedisClusterServer.make()
  const bus = yield* RedisCluster.make({ nodes })
  yield* Layer.build(Layer.provide(UsersLive, Layer.succeed(Transport.Transport, bus)))
  return { bus, addresses: nodes.map(({ host, port }) => `${host}:${port}`), commandLine: CommandLine.make() }
})

const live = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.scoped(effect as Effect.Effect<A, E>).pipe(Effect.provide(Logger.layer([]))), 90_000)

live(
  "call and send reach a service over a Cluster that the flag names, or the environment",
  Effect.gen(function* () {
    const { addresses, commandLine } = yield* setUp
    const given = ["--cluster", addresses[0]!]
    const called = yield* commandLine.run(["call", "user_service", "get_user", '{"id":"1"}', ...given])
    assert.deepStrictEqual([called.status, called.stderr], [0, ""])
    assert.include(called.stdout, '"name"')
    const env = { REDIS_CLUSTER_NODES: addresses.join(","), REDIS_URL: "redis://127.0.0.1:1" }
    assert.deepStrictEqual(yield* commandLine.run(["call", "user_service", "get_user", '{"id":"1"}'], { env }), called)
    const sent = yield* commandLine.run(["send", "user_service", "get_user", '{"id":"1"}', ...given])
    assert.deepStrictEqual(sent, { status: 0, stdout: "1\n", stderr: "" })
    const nobody = yield* commandLine.run(["send", "nobody", "x", ...given])
    assert.strictEqual(nobody.status, 3)
  })
)

live(
  "tap shows the channels that it is given, and says what it cannot show",
  Effect.gen(function* () {
    const { addresses, bus, commandLine } = yield* setUp
    const given = ["--cluster", addresses[0]!]
    const tap = commandLine.start(["tap", "events", ...given])
    yield* Effect.forkScoped(tap.status)
    assert.include(yield* tap.nextErr, "listening on events at redis+cluster://")
    assert.include(yield* tap.nextErr, "are not shown")
    yield* Transport.publish("events", '{"a":1}').pipe(Effect.provideService(Transport.Transport, bus))
    assert.include(yield* tap.nextOut, '{"a":1}')
    const patterns = yield* commandLine.run(["tap", "ev*", ...given])
    assert.strictEqual(patterns.status, 2)
    assert.include(patterns.stderr, "sharded pub/sub has no patterns")
  })
)

live(
  "dead shows, replays and discards what is kept in a Cluster",
  Effect.gen(function* () {
    const { nodes } = yield* RedisClusterServer.make()
    const commandLine = CommandLine.make()
    const given = ["--cluster", `${nodes[0]!.host}:${nodes[0]!.port}`, "--prefix", "shop."]
    let fails = true
    const bus = RedisStreams.layerCluster({ nodes, prefix: "shop." })
    yield* Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      for (const n of [1, 2]) yield* jobs.run.enqueue({ n }, { id: `job-${n}` })
      while ((yield* DeadLetters.size(Jobs)) < 2) yield* Effect.sleep("10 millis")
      const listed = yield* commandLine.run(["dead", "list", "jobs", ...given])
      assert.deepStrictEqual([listed.status, listed.stderr], [0, ""])
      const [one, two] = listed.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      assert.sameMembers([one.id, two.id], ["job-1", "job-2"])
      const shown = yield* commandLine.run(["dead", "show", "jobs", one.letter, ...given])
      assert.include(JSON.parse(shown.stdout).cause, "no disk")
      assert.strictEqual((yield* commandLine.run(["dead", "discard", "jobs", two.letter, ...given])).stdout, "1\n")
      fails = false
      const env = { REDIS_CLUSTER_NODES: given[1]!, FIBERBUS_PREFIX: "shop." }
      assert.strictEqual((yield* commandLine.run(["dead", "replay", "jobs", "--all"], { env })).stdout, "1\n")
      yield* jobs.run.receipt(one.id).await()
    }).pipe(
      Effect.provide(
        Layer.provideMerge(
          Handlers.layer(
            Jobs,
            { run: () => Effect.suspend(() => (fails ? Effect.die(new Error("no disk")) : Effect.void)) },
            { durable: { retry: Schedule.recurs(0) } }
          ),
          bus
        )
      )
    )
  })
)

live(
  "two places, and addresses that are none, are refused",
  Effect.gen(function* () {
    const commandLine = CommandLine.make()
    for (const [args, text] of [
      [["--redis", "redis://127.0.0.1:1", "--cluster", "127.0.0.1:1"], "--redis and --cluster are two places"],
      [["--cluster", "127.0.0.1:none"], "host:port"]
    ] as const) {
      const { status, stderr, stdout } = yield* commandLine.run(["call", "a", "b", ...args])
      assert.deepStrictEqual([status, stdout], [2, ""])
      assert.include(stderr, text)
    }
  })
)
