/** The laws on services of our own: those that the tests share, the shop's, and those of the examples. */
import { readdirSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema } from "effect"
import type { Service, Topic, Transport } from "fiberbus"
import { Laws, TestBus, TopicLaws } from "fiberbus/testing"
import { vi } from "vitest"
import { Notifications, OrderPlaced, Orders, Payments, Warehouse } from "../../examples/shop/contract.ts"
import { NotificationsLive } from "../../examples/shop/notifications.ts"
import { OrdersLive } from "../../examples/shop/orders.ts"
import { PaymentsLive } from "../../examples/shop/payments.ts"
import { Story } from "../../examples/shop/story.ts"
import { WarehouseLive } from "../../examples/shop/warehouse.ts"
import { Users, UsersLive } from "../users.ts"

interface Made {
  readonly service: Service.Any
  readonly live: Layer.Layer<never, Transport.TransportError, Transport.Transport>
}

interface Listening {
  readonly topic: Topic.Any | Topic.AnyPattern
  readonly live: Made["live"]
}

const made = vi.hoisted((): Array<Made> => [])
const listening = vi.hoisted((): Array<Listening> => [])

// The examples are programs: here they do not run, and what they serve and listen to is noted.
vi.mock("@effect/platform-node", async (original) => ({
  ...(await original<object>()),
  NodeRuntime: { runMain: () => {} }
}))
vi.mock("fiberbus", async (original) => {
  const actual = await original<typeof import("fiberbus")>()
  const layer = (service: Service.Any, ...rest: [any]) => {
    const live = actual.Handlers.layer(service, ...rest) as Made["live"]
    made.push({ service, live })
    return live
  }
  const listener = (topic: Listening["topic"], ...rest: [any]) => {
    const live = actual.Listener.layer(topic, ...rest) as Made["live"]
    listening.push({ topic, live })
    return live
  }
  return {
    ...actual,
    Handlers: { ...actual.Handlers, layer },
    Listener: { ...actual.Listener, layer: listener }
  }
})

// What the examples' services say would be thousands of lines.
vi.spyOn(console, "log").mockImplementation(() => {})
/** The same calls in every run of the tests, so that what fails has been changed. */
const seed = "examples"
const quiet = Layer.provide(Logger.layer([]))

describe("laws of the tests' users", () => {
  it.layer(TestBus.layer(UsersLive))((it) => {
    Laws.service(it, Users, {
      seed,
      payloads: { get_user: Schema.Struct({ id: Schema.Literals(["1", "secret", "nobody"]) }) },
      isolated: ["get_user", "ping"]
    })
  })
})

describe("laws of the shop", () => {
  const Shop = Layer.mergeAll(OrdersLive, PaymentsLive, WarehouseLive, NotificationsLive)
  it.layer(TestBus.layer(Shop.pipe(Layer.provide(Story.layer))).pipe(quiet))((it) => {
    const card = Schema.Literals(["4242", "1111"])
    Laws.service(it, Payments, { seed, payloads: { charge: Schema.Struct({ card, euros: Schema.Int }) } })
    Laws.service(it, Orders, {
      seed,
      payloads: { place: Schema.Struct({ customer: Schema.String, article: Schema.String, count: Schema.Int, card }) }
    })
    Laws.service(it, Warehouse, { seed })
    Laws.service(it, Notifications, { seed })
    Laws.topic(it, OrderPlaced, { seed })
  })
})

const folder = resolve(import.meta.dirname, "../../examples")

/** The shop is above; one needs its daemon, one what it stubs; one has a bug planted. */
const apart = ["09_shop.ts", "17_daemon.ts", "37_testing.ts", "38_laws.ts"]
const services: Array<Made & { readonly file: string; readonly beside: ReadonlyArray<Made> }> = []
const listeners: Array<Listening & { readonly file: string; readonly beside: ReadonlyArray<Made> }> = []
for (const file of readdirSync(folder).filter((file) => file.endsWith(".ts") && !apart.includes(file))) {
  made.length = 0
  listening.length = 0
  await import(resolve(folder, file))
  const all = [...made]
  services.push(...all.map((one) => ({ ...one, file, beside: all.filter((other) => other !== one) })))
  listeners.push(...listening.map((one) => ({ ...one, file, beside: all })))
}

const checks = services.flatMap(({ beside, file, live, service }) =>
  Laws.all(service, { runs: 40, seed }).map((check) => ({ ...check, file, beside, live }))
)

let judged = 0

describe("laws of the examples", () => {
  for (const { beside, check, file, live, name, service } of checks) {
    it(`${file} ${service}.${name}`, async (context) => {
      const system = TestBus.layer(Layer.mergeAll(live, ...beside.map(({ live }) => live)))
      const report = await Effect.runPromise(
        check.pipe(
          Effect.as(""),
          Effect.catch(({ message }) => Effect.succeed(message)),
          Effect.provide(system.pipe(quiet)),
          Effect.catchCause((cause) => Effect.succeed(String(cause)))
        )
      )
      // What an example provides to its services is known to its program alone.
      if (report.includes("Service not found")) return context.skip("it needs what only the example provides")
      judged++
      assert.strictEqual(report, "")
    })
  }

  it("are many", () => {
    assert.isAbove(judged, 100)
  })

  let heard = 0
  for (const { beside, file, live, topic } of listeners) {
    // Each listener by itself: what one of them does must not be put down to another.
    for (const { check, name } of TopicLaws.all(topic, { runs: 40, seed })) {
      it(`${file} ${name}`, async (context) => {
        const system = TestBus.layer(Layer.mergeAll(live, ...beside.map(({ live }) => live)))
        const report = await Effect.runPromise(
          check.pipe(
            Effect.as(""),
            Effect.catch(({ message }) => Effect.succeed(message)),
            Effect.provide(system.pipe(quiet)),
            Effect.catchCause((cause) => Effect.succeed(String(cause)))
          )
        )
        if (report.includes("Service not found")) return context.skip("it needs what only the example provides")
        heard++
        assert.strictEqual(report, "")
      })
    }
  }

  it("are many for listeners, too", () => {
    assert.isAbove(heard, 15)
  })

  const serving = (file: string) => services.filter((one) => one.file === file)
  const broken = ({ live, service }: Made, options: Laws.Options<any>) =>
    Effect.forEach(Laws.all(service, options), ({ check }) => check).pipe(
      Effect.flip,
      Effect.provide(TestBus.layer(live).pipe(quiet))
    )

  it.effect("07: an error by hand is one that no contract declares", () =>
    Effect.gen(function* () {
      const [files] = serving("07_daebus_style.ts")
      const name = Schema.Literals(["notes.txt", "virus.exe"])
      const options = { laws: [Laws.fitsContract], payloads: { upload: Schema.Struct({ name }) } }
      const { message } = yield* broken(files!, options)
      assert.include(message, "the contract declares no such error")
      assert.include(message, '{"name":"virus.exe"}')
    })
  )

  it.effect("22, 26: shelves and price lists have no articles that JavaScript's objects have", () =>
    Effect.gen(function* () {
      const article = Schema.Literals(["toString", "__proto__", "constructor", "mug"])
      const payloads = { price_of: Schema.Struct({ article }), take: Schema.Struct({ article, count: Schema.Int }) }
      const options: Laws.Options<any> = { laws: [Laws.fitsContract], payloads }
      // Loaded above: what it serves was noted then.
      const { Shelf } = yield* Effect.promise(() => import("../../examples/22_rest.ts"))
      assert.lengthOf(serving("22_rest.ts"), 1)
      for (const { live, service } of [...serving("22_rest.ts"), ...serving("26_gather.ts")]) {
        const system = TestBus.layer(live.pipe(Layer.provide(Shelf.layer))).pipe(quiet)
        for (const { check } of Laws.all(service, options)) yield* Effect.provide(check, system)
      }
    })
  )
})
