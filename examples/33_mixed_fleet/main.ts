// A mixed fleet: a Python Daebus service and fiberbus on one Redis, called, streamed and heard as if they were alike.
import { spawn, spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Deferred, Effect, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { Action, Broadcast, Caller, Handlers, Listener, Service, Topic } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

// A contract for what Python serves: a Daebus error is an object with a text.
class Python extends Service.make(
  `python_${process.pid}`,
  Action.make("add", { payload: { a: Schema.Int, b: Schema.Int }, success: { sum: Schema.Int } }),
  Action.make("count", {
    payload: { to: Schema.Int },
    progress: { step: Schema.Int },
    success: { counted: Schema.Int }
  }),
  Action.make("fail", { error: Schema.Struct({ error: Schema.String }) })
) {}

class Node extends Service.make(
  `node_${process.pid}`,
  Action.make("double", { payload: { n: Schema.Int }, success: { doubled: Schema.Int } })
) {}

const Greetings = Topic.make(`${Python.serviceName}.greetings`, { text: Schema.String })
const Answers = Topic.make(`${Python.serviceName}.answers`, { from: Schema.String, heard: Schema.String })

// A fiberbus handler that asks its peer: neither side knows what the other is.
const NodeLive = Handlers.layer(
  Node,
  Effect.map(Caller.make(Python), (python) => ({
    double: ({ n }) => Effect.orDie(Effect.map(python.add({ a: n, b: n }), ({ sum }) => ({ doubled: sum })))
  }))
)

const url = Effect.map(
  Config.Redacted("REDIS_URL").pipe(Config.withDefault(Redacted.make("redis://127.0.0.1:6379"))),
  (url) => new URL(Redacted.value(url))
)

/** Starts the Python service, or what stands in for it, until the Scope closes. Gives the name of what runs. */
const startPython = Effect.gen(function* () {
  const { hostname, port } = yield* url
  const installed = spawnSync("python3", ["-c", "import daebus"]).status === 0
  yield* Console.log(
    installed
      ? "fleet   Python's Daebus is installed: daebus_service.py is started"
      : "fleet   Python's Daebus is not installed: a stand-in speaks its frames, and this shows the wire only"
  )
  const file = fileURLToPath(new URL(installed ? "./daebus_service.py" : "./stand_in.ts", import.meta.url))
  const args = [file, Python.serviceName, hostname, port === "" ? "6379" : port]
  yield* Effect.acquireRelease(
    Effect.sync(() => spawn(installed ? "python3" : process.execPath, args, { stdio: "ignore" })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  return installed ? "Daebus" : "the stand-in"
})

const program = Effect.gen(function* () {
  const peer = yield* startPython
  const python = yield* Caller.make(Python)
  const node = yield* Caller.make(Node)

  // It takes its time to start: nobody is there until it is.
  const { sum } = yield* python.add({ a: 2, b: 40 }).pipe(
    Effect.retry({
      while: (error) => error.reason._tag === "NoResponders",
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "20 seconds" }))
    })
  )
  yield* Console.log(`call    2 + 40 is ${sum}, says ${peer}`)
  yield* Console.log(`hops    twice 21 is ${(yield* node.double({ n: 21 })).doubled}, says Node, who asked ${peer}`)

  yield* python.count
    .stream({ to: 3 })
    .pipe(Stream.runForEach(({ _tag, value }) => Console.log(`stream  ${_tag} ${JSON.stringify(value)}`)))

  yield* Effect.catch(python.fail(), (error) =>
    Console.log(`error   ${"error" in error ? error.error : error.message}`)
  )

  const heard = yield* Deferred.make<string>()
  yield* Layer.build(
    Listener.layer(Answers, (answer) => Deferred.succeed(heard, `${answer.from} heard ${answer.heard}`))
  )
  yield* Broadcast.publish(Greetings, { text: "Grüße" })
  yield* Console.log(`events  ${yield* Deferred.await(heard)}`)
})

// No prefix: Daebus knows none.
const Live = NodeLive.pipe(
  Layer.provideMerge(Layer.unwrap(Effect.map(url, (url) => RedisPubSub.layer({ url: url.href }))))
)

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
