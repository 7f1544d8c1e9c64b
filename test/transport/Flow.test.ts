import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Layer, Logger, Queue, References, Schema, Stream } from "effect"
import { Broadcast, Caller, Flow, Listener, Memory, Topic, Transport } from "fiberbus"
import * as Scripted from "../scripted.ts"
import { Users, UsersLive } from "../users.ts"

/** Runs, and gives the lines of the log at level Debug; ids, names of inboxes and processes, and words of presence left out. */
const flowing = <A, E>(
  flow: Layer.Layer<Transport.Transport, any, Transport.Transport>,
  effect: Effect.Effect<A, E, Transport.Transport>
) =>
  Effect.map(flowingAll(flow, effect), (lines) =>
    lines.filter((line) => !/ presence /.test(line)).map((line) => line.replace(/\.instance:\S+/, ""))
  )

const flowingAll = <A, E>(
  flow: Layer.Layer<Transport.Transport, any, Transport.Transport>,
  effect: Effect.Effect<A, E, Transport.Transport>
) => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel === "Debug") lines.push(String(message))
  })
  return effect.pipe(
    Effect.andThen(Scripted.turns()),
    Effect.provide(flow.pipe(Layer.provide(Layer.fresh(Memory.layer)))),
    Effect.provide(Logger.layer([logger])),
    Effect.as(lines),
    Effect.map((lines) => lines.map((line) => line.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "*")))
  )
}

const get = Effect.scoped(
  Effect.gen(function* () {
    yield* Layer.build(Layer.fresh(UsersLive))
    const users = yield* Caller.make(Users)
    yield* users.get_user({ id: "1" })
  })
)

describe("the message flow", () => {
  it.effect("is a line for each frame out and in, without what they say", () =>
    Effect.gen(function* () {
      const lines = yield* flowing(Flow.layer(), get)
      assert.deepStrictEqual(
        lines.map((line) => line.replace(/, \d+ bytes/, "")),
        [
          "fiberbus → user_service request get_user *-1",
          "fiberbus ← user_service request get_user *-1",
          "fiberbus → caller:* reply success *-1",
          "fiberbus ✓ user_service request get_user *-1, 1 received it",
          "fiberbus ← caller:* reply success *-1",
          "fiberbus ✓ caller:* reply success *-1, 1 received it"
        ]
      )
      assert.match(lines[0]!, / \d{3} bytes$/)
      assert.notInclude(lines.join(), "Ann")
    })
  )

  it.effect("shows the frames where that is asked for, on one line each and cut", () =>
    Effect.gen(function* () {
      const lines = yield* flowing(Flow.layer({ payloads: true }), get)
      assert.include(lines[2], '"name":"Ann"')
      const [line] = yield* flowing(
        Flow.layer({ payloads: true }),
        Transport.publish("x", `{"a":"\u001b[31m\u2028${"y".repeat(2_000)}"}`)
      )
      assert.include(line, '{"a":"\\u001b[31m\\u2028yyy')
      assert.isBelow(line!.length, 1_100)
    })
  )

  it.effect("shows who says that it is there", () =>
    Effect.gen(function* () {
      const lines = yield* flowingAll(Flow.layer(), get)
      for (const what of ["user_service.instances presence here", "user_service presence who"]) {
        assert.isTrue(
          lines.some((line) => line.startsWith(`fiberbus → ${what}`)),
          what
        )
      }
    })
  )

  it.effect("names every kind of frame, and whatever else comes", () =>
    Effect.gen(function* () {
      const Events = Topic.make("events", { n: Schema.Finite })
      const lines = yield* flowing(
        Flow.layer(),
        Effect.scoped(
          Effect.gen(function* () {
            const heard = yield* Queue.unbounded<number>()
            yield* Layer.build(
              Layer.mergeAll(
                Layer.fresh(UsersLive),
                Listener.layer(Events, ({ n }) => Queue.offer(heard, n))
              )
            )
            const users = yield* Caller.make(Users)
            yield* Effect.exit(users.get_user({ id: "nobody" }))
            yield* Stream.runDrain(Stream.take(users.import_users.stream({ rows: ["a"] }), 1))
            yield* users.ping.send()
            yield* Broadcast.publish(Events, { n: 1 })
            yield* Queue.take(heard)
            const nobody = yield* Caller.dynamic("no body\n")
            yield* Effect.exit(nobody.call("x\u001b".repeat(100)))
            yield* Transport.publish("events", "{")
          })
        )
      )
      const kinds = lines.filter((line) => line.includes("→")).map((line) => line.replace(/, \d+ bytes/, ""))
      assert.deepStrictEqual(
        kinds.filter((line) => !/ reply (progress|success) | control /.test(line)),
        [
          "fiberbus → user_service request get_user *-1",
          "fiberbus → caller:* reply error *-1",
          "fiberbus → user_service request import_users *-2",
          "fiberbus → user_service request ping",
          "fiberbus → events message",
          `fiberbus → "no body\\n" request "${"x\\u001b".repeat(31)}x…" *-3`,
          "fiberbus → events garbage NotJson"
        ]
      )
      assert.include(kinds, "fiberbus → caller:* reply progress *-2")
      assert.isTrue(lines.some((line) => line.startsWith('fiberbus ✓ "no body\\n"') && line.endsWith("0 received it")))
    })
  )

  it.effect("tells of what was not sent, and is otherwise the transport below", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const flow = Flow.layer().pipe(Layer.provideMerge(Scripted.make({ request: () => "refused" }).layer))
      yield* Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        yield* Effect.exit(users.ping())
      }).pipe(Effect.scoped, Effect.provide(flow), Effect.provide(Logger.layer([logger])))
      const failed = lines.filter((line) => line.includes("✗"))
      assert.match(failed[0]!, /^fiberbus ✗ user_service request ping .* bytes, Unreachable$/)
    })
  )

  it.effect("is off, and nothing is wrapped, unless the environment asks for it", () =>
    Effect.gen(function* () {
      const transport = (env: Record<string, string>) =>
        Effect.gen(function* () {
          const memory = Memory.make()
          const { transport } = yield* Effect.map(Transport.Transport, (transport) => ({ transport })).pipe(
            Effect.provide(Flow.layerConfig.pipe(Layer.provide(Layer.succeed(Transport.Transport, memory)))),
            Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
          )
          return transport === memory
        })
      assert.isTrue(yield* transport({}))
      assert.isTrue(yield* transport({ FIBERBUS_FLOW: "" }))
      assert.isTrue(yield* transport({ FIBERBUS_FLOW: "off" }))
      assert.isFalse(yield* transport({ FIBERBUS_FLOW: "frames" }))
      assert.isFalse(yield* transport({ FIBERBUS_FLOW: "payloads" }))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(transport({ FIBERBUS_FLOW: "yes" }))))
    })
  )

  it.effect("is shown whatever the minimum level is", () =>
    Effect.gen(function* () {
      const lines = yield* flowing(Flow.layer(), Effect.asVoid(Transport.publish("x", "{}")))
      assert.lengthOf(lines, 2)
    }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"))
  )
})
