import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, type Exit, Layer, Queue, Schedule, Schema } from "effect"
import {
  Action,
  Background,
  Blueprint,
  Broadcast,
  Caller,
  Daemon,
  Handlers,
  Listener,
  Memory,
  Prefixed,
  Request,
  Service,
  Topic,
  Transport
} from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

class Users extends Service.make("users", Action.make("name", { success: Schema.String })) {}
class Payments extends Service.make("payments", Action.make("pay", { success: Schema.String })) {}
const Created = Topic.make("created", { id: Schema.String })

/** Which of several mounts it is. */
class Mount extends Context.Service<Mount, string>()("Mount") {}

const UsersLive = Handlers.layer(Users, {
  name: () =>
    Effect.gen(function* () {
      const { service } = yield* Request.current
      return `${service} of ${yield* Mount}`
    })
})

const heardBy = (heard: Queue.Queue<string>) =>
  Listener.layer(
    Created,
    Effect.map(
      Mount,
      (mount) =>
        ({ id }, { channel }) =>
          Queue.offer(heard, `${mount} hears of ${id} on ${channel}`)
    )
  )

const as = (mount: string) => Layer.provide(Layer.succeed(Mount, mount))

const call = Effect.flatMap(Caller.make(Users), (users) => users.name())

const defectOf = (exit: Exit.Exit<unknown, unknown>) =>
  exit._tag === "Failure" ? String(exit.cause.reasons.find(Cause.isDieReason)?.defect) : "it succeeded"

const mounts = (heard: Queue.Queue<string>) => {
  const blueprint = Blueprint.make("users", [UsersLive, heardBy(heard)])
  return Layer.mergeAll(
    blueprint.pipe(as("v1")),
    blueprint.pipe(Blueprint.prefixed("v2."), as("v2")),
    blueprint.pipe(Blueprint.prefixed("3."), Blueprint.prefixed("v"), as("v3"))
  )
}

const bothSides = Effect.gen(function* () {
  const heard = yield* Queue.unbounded<string>()
  yield* Layer.build(mounts(heard))
  const answers = yield* Effect.all([call, Prefixed.inside("v2.")(call), Prefixed.inside("v3.")(call)])
  assert.deepStrictEqual(answers, ["users of v1", "users of v2", "users of v3"])

  // By its whole name too, as a Daebus caller or the command line would.
  const byName = yield* Caller.dynamic("v2.users")
  assert.strictEqual(yield* byName.call("name"), "users of v2")

  const publish = (id: string) => Broadcast.publish(Created, { id })
  yield* publish("a")
  assert.strictEqual(yield* Queue.take(heard), "v1 hears of a on created")
  yield* Prefixed.inside("v2.")(publish("b"))
  assert.strictEqual(yield* Queue.take(heard), "v2 hears of b on created")
})

describe("A blueprint", () => {
  it.effect("is served as it is and behind prefixes, each apart from the others", () =>
    bothSides.pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("keeps the prefix of the transport before its own", () =>
    Effect.gen(function* () {
      yield* bothSides
      const { prefix } = yield* Prefixed.inside("v2.")(Transport.Transport)
      assert.strictEqual(prefix, "shop:v2.")
    }).pipe(Effect.provide(Memory.layerOptions({ prefix: "shop:" })))
  )

  it.effect("asks once for what its layers need, and gives what they give", () =>
    Effect.gen(function* () {
      class Reports extends Background.Service<Reports>()("reports") {}
      const blueprint = Blueprint.make("reports", [
        UsersLive,
        Background.layer(Reports, Schedule.spaced("1 hour"), Effect.void)
      ])
      const layer: Layer.Layer<Reports, Transport.TransportError, Transport.Transport | Mount> = blueprint
      const context = yield* Layer.build(layer.pipe(as("v1")))
      assert.strictEqual(Context.get(context, Reports).name, "reports")
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("mounted twice in one program as it is, is there once", () =>
    Effect.gen(function* () {
      const heard = yield* Queue.unbounded<string>()
      const blueprint = Blueprint.make("users", [heardBy(heard)])
      const one = Layer.mergeAll(blueprint, Daemon.layer("one", Effect.never))
      const two = Layer.mergeAll(blueprint, Daemon.layer("two", Effect.never))
      yield* Layer.build(Layer.mergeAll(one, two).pipe(as("both")))
      yield* Broadcast.publish(Created, { id: "a" })
      yield* Broadcast.publish(Created, { id: "b" })
      assert.strictEqual(yield* Queue.take(heard), "both hears of a on created")
      assert.strictEqual(yield* Queue.take(heard), "both hears of b on created")
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("calls what lies outside of its prefix, and what lies inside", () =>
    Effect.gen(function* () {
      const PaymentsLive = (where: string) => Handlers.layer(Payments, { pay: () => Effect.succeed(`paid ${where}`) })
      const Asking = Service.make("asking", Action.make("ask", { success: Schema.Array(Schema.String) }))
      const AskingLive = Handlers.layer(
        Asking,
        Effect.gen(function* () {
          const inside = yield* Caller.make(Payments)
          const outside = yield* Prefixed.outside(Caller.make(Payments))
          return { ask: () => Effect.orDie(Effect.all([inside.pay(), outside.pay()])) }
        })
      )
      yield* Layer.build(
        Layer.mergeAll(
          PaymentsLive("outside"),
          Blueprint.make("shop", [AskingLive, PaymentsLive("inside")]).pipe(Blueprint.prefixed("v2."))
        )
      )
      const asking = yield* Prefixed.inside("v2.")(Caller.make(Asking))
      assert.deepStrictEqual(yield* asking.ask(), ["paid inside", "paid outside"])
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("shares the process's one inbox, whatever the prefix", () =>
    Effect.gen(function* () {
      const transport = Memory.make()
      const channels: Array<string> = []
      const counting: Transport.Transport["Service"] = {
        ...transport,
        subscribe: (target, receive) => {
          channels.push(target._tag === "Channel" ? target.channel : target.pattern)
          return transport.subscribe(target, receive)
        }
      }
      yield* Effect.provideService(bothSides, Transport.Transport, counting)
      const named = channels.map((channel) =>
        channel.replace(/^caller:.*/, "caller").replace(/instance:.*/, "instance")
      )
      assert.deepStrictEqual([...new Set(named)].sort(), [
        "caller",
        "created",
        "fiberbus.who",
        "users",
        "users.instance",
        "users.instances",
        "v2.created",
        "v2.fiberbus.who",
        "v2.users",
        "v2.users.instance",
        "v2.users.instances",
        "v3.created",
        "v3.fiberbus.who",
        "v3.users",
        "v3.users.instance",
        "v3.users.instances"
      ])
      assert.lengthOf(
        named.filter((name) => name === "caller"),
        1
      )
    })
  )

  it.effect("gives its background tasks and daemons the prefix too", () =>
    Effect.gen(function* () {
      const blueprint = Blueprint.make("jobs", [
        Background.layer("beat", Schedule.spaced("1 second"), Effect.void),
        Daemon.layer("poll", Effect.never)
      ])
      yield* Layer.build(Layer.mergeAll(blueprint, blueprint.pipe(Blueprint.prefixed("v2."))))
      assert.deepStrictEqual([...(yield* Daemon.all).keys()].sort(), ["poll", "v2.poll"])
      const inside = yield* Prefixed.inside("v2.")(Daemon.get("poll"))
      assert.strictEqual(inside.name, "v2.poll")
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )
})

describe("Two of one name", () => {
  const build = (layer: Layer.Layer<never, unknown, Transport.Transport>) =>
    Effect.map(Effect.exit(Layer.build(Layer.provide(layer, Layer.fresh(Memory.layer)))), defectOf)

  it.effect("are refused, with both places", () =>
    Effect.gen(function* () {
      const one = Blueprint.make("jobs", [Daemon.layer("poll", Effect.never)])
      const two = Blueprint.make("jobs", [Daemon.layer("poll", Effect.never)])
      assert.match(
        yield* build(Layer.mergeAll(one, two)),
        /There are two blueprints named jobs: Blueprint\.make at .*Blueprint\.test\.ts:\d+:\d+.* and Blueprint\.make at .*Blueprint\.test\.ts:\d+/
      )
    })
  )

  it.effect("are refused behind one prefix, with the places of the prefixes", () =>
    Effect.gen(function* () {
      const jobs = Blueprint.make("jobs", [Daemon.layer("poll", Effect.never)])
      const message = yield* build(
        Layer.mergeAll(jobs.pipe(Blueprint.prefixed("v2.")), jobs.pipe(Blueprint.prefixed("v2.")))
      )
      const places = [...message.matchAll(/prefixed at .*?Blueprint\.test\.ts:(\d+:\d+)/g)].map(([, place]) => place)
      assert.lengthOf(places, 2)
      assert.notStrictEqual(places[0], places[1])
    })
  )

  it.effect("of a service in different blueprints are refused behind one prefix, as without", () =>
    Effect.gen(function* () {
      const one = Blueprint.make("one", [UsersLive]).pipe(Blueprint.prefixed("v2."))
      const two = Blueprint.make("two", [UsersLive]).pipe(Blueprint.prefixed("v2."))
      assert.match(yield* build(Layer.mergeAll(one, two).pipe(as("v2"))), /users\.name has two handlers/)
    })
  )

  it.effect("are refused also where one bears the prefix in its own name", () =>
    Effect.gen(function* () {
      const Whole = Service.make("v2.users", Action.make("name", { success: Schema.String }))
      const whole = Handlers.layer(Whole, { name: () => Effect.succeed("Ada") })
      const behind = Blueprint.make("users", [UsersLive]).pipe(Blueprint.prefixed("v2."), as("v2"))
      assert.match(yield* build(Layer.mergeAll(whole, behind)), /users\.name has two handlers/)
    })
  )

  it("and names that are none are told where they are given", () => {
    assert.throws(() => Blueprint.make("two words", [Layer.empty]), /The blueprint name "two words"/)
    assert.throws(() => Blueprint.prefixed("v*."), /The prefix name "v\*\."/)
  })
})

it.layer(RedisServer.layer)("Over Redis", (it) => {
  it.effect("it is the same", () =>
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      yield* Effect.provide(bothSides, RedisPubSub.layer({ url, prefix: "blueprints:" }))
    })
  )
})
