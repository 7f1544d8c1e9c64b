/**
 * A process of its own for tests that kill, freeze and block it: `worker.ts serve URL`, `worker.ts call URL`, or `worker.ts replica URL`,
 * which serves with more slots than a test fills. `worker.ts group URL` is one of a group of listeners. URL is a Redis' own, or that of some nodes of a
 * Cluster: `redis+cluster://host:port,host:port`.
 *
 * `serve` runs the service below; `call` asks the service `endless` for its stream. Each line of output is one event.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Logger, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Listener, Service, Topic } from "fiberbus"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

export class Worker extends Service.make(
  "worker",
  Action.make("work", { payload: { id: Schema.String, millis: Schema.Finite }, success: { pid: Schema.Finite } }),
  Action.make("block", { payload: { millis: Schema.Finite, pid: Schema.Finite } })
) {}

export class Endless extends Service.make("endless", Action.make("count", { progress: { n: Schema.Finite } })) {}

export const Jobs = Topic.make("jobs", { n: Schema.Finite }).pipe(Topic.annotate(Topic.Numbered, true))

const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

const serve = (concurrency: number) =>
  Layer.effectDiscard(say("ready")).pipe(
    Layer.provide(
      Handlers.layer(
        Worker,
        {
          work: ({ id, millis }) =>
            say(`ran ${id}`).pipe(Effect.andThen(Effect.sleep(millis)), Effect.as({ pid: process.pid })),
          // The whole process stands still, as by an endless loop; the others of its name do not.
          block: ({ millis, pid }) =>
            Effect.sync(() => {
              if (pid === process.pid) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
            })
        },
        { concurrency }
      )
    )
  )

const call = Layer.effectDiscard(
  Effect.gen(function* () {
    const endless = yield* Caller.make(Endless)
    yield* endless.count.stream({ timeout: "1 minute" }).pipe(Stream.runForEach(() => say("step")))
  })
)

const group = Layer.effectDiscard(say("ready")).pipe(
  Layer.provide(Listener.layer(Jobs, ({ n }) => say(`got ${n}`), { group: "workers", backlog: 20_000 }))
)

if (process.argv[1] === import.meta.filename) {
  const [role, url = ""] = process.argv.slice(2)
  // A claim that nobody knows the end of is a message lost, which a busy machine must not bring about.
  const commandTimeout = role === "group" ? "1 minute" : "500 millis"
  const [, addresses] = /^redis\+cluster:\/\/(.+)$/.exec(url) ?? []
  const nodes = addresses?.split(",").map((address) => {
    const [host = "", port] = address.split(":")
    return { host, port: Number(port) }
  })
  const transport =
    nodes === undefined ? RedisPubSub.layer({ url, commandTimeout }) : RedisCluster.layer({ nodes, commandTimeout })
  const roles = { call, group, replica: serve(500) }
  const program = Layer.provide(roles[role as keyof typeof roles] ?? serve(2), transport)
  NodeRuntime.runMain(Layer.launch(Layer.provide(program, Logger.layer([]))))
}
