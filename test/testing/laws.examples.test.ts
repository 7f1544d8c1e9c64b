/** The laws on services of our own: those that the tests share, and those of the examples. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema } from "effect"
import { Laws, TestBus } from "fiberbus/testing"
import { vi } from "vitest"
import { Bank, BankLive } from "../../examples/02_errors.ts"
import { Importer, ImporterLive } from "../../examples/03_progress.ts"
import { Documents, DocumentsLive } from "../../examples/05_context.ts"
import { Carts, CartsLive, Prices, PricesLive } from "../../examples/06_dependencies.ts"
import { Files, FilesLive } from "../../examples/07_daebus_style.ts"
import { Weather, WeatherLive } from "../../examples/08_dynamic.ts"
import { Counter, CounterLive } from "../../examples/10_redis.ts"
import { Shop, ShopLive } from "../../examples/12_retries.ts"
import { Wifi, WifiLive } from "../../examples/20_conversation.ts"
import { Sensors, SensorsLive } from "../../examples/34_items.ts"
import { Notifications, Orders, Payments, Warehouse } from "../../examples/shop/contract.ts"
import { NotificationsLive } from "../../examples/shop/notifications.ts"
import { OrdersLive } from "../../examples/shop/orders.ts"
import { PaymentsLive } from "../../examples/shop/payments.ts"
import { Story } from "../../examples/shop/story.ts"
import { WarehouseLive } from "../../examples/shop/warehouse.ts"
import { Users, UsersLive } from "../users.ts"

// The examples are programs: here only their services are wanted.
vi.mock("@effect/platform-node", async (original) => ({
  ...(await original<object>()),
  NodeRuntime: { runMain: () => {} }
}))

const quiet = Logger.layer([])

const files = (options: Laws.Options<typeof Files>): Laws.Options<typeof Files> => ({
  payloads: { upload: Schema.Struct({ name: Schema.Literals(["notes.txt", "virus.exe"]) }) },
  ...options
})

describe("laws", () => {
  describe("of the tests' users", () => {
    it.layer(TestBus.layer(UsersLive))((it) => {
      Laws.service(it, Users, {
        payloads: { get_user: Schema.Struct({ id: Schema.Literals(["1", "secret", "nobody"]) }) },
        isolated: ["get_user", "ping"]
      })
    })
  })

  describe("of the shop", () => {
    const ShopAsAWhole = Layer.mergeAll(OrdersLive, PaymentsLive, WarehouseLive, NotificationsLive).pipe(
      Layer.provide(Story.layer),
      Layer.provide(quiet)
    )
    it.layer(TestBus.layer(ShopAsAWhole))((it) => {
      const card = Schema.Literals(["4242", "1111"])
      Laws.service(it, Payments, { payloads: { charge: Schema.Struct({ card, euros: Schema.Int }) } })
      Laws.service(it, Orders, {
        payloads: { place: Schema.Struct({ customer: Schema.String, article: Schema.String, count: Schema.Int, card }) }
      })
      Laws.service(it, Warehouse)
      Laws.service(it, Notifications)
    })
  })

  describe("of the examples", () => {
    const Live = Layer.mergeAll(
      Layer.mergeAll(BankLive, ImporterLive, DocumentsLive, PricesLive, CartsLive, FilesLive),
      Layer.mergeAll(WeatherLive, CounterLive, ShopLive, WifiLive, SensorsLive)
    )
    it.layer(TestBus.layer(Live))((it) => {
      Laws.service(it, Bank)
      Laws.service(it, Importer)
      Laws.service(it, Documents, { isolated: ["open"] })
      Laws.service(it, Prices, { isolated: ["price_of"] })
      Laws.service(it, Carts, { isolated: ["total"] })
      Laws.service(it, Files, files({ except: { upload: [Laws.fitsContract.name] } }))
      Laws.service(it, Weather)
      Laws.service(it, Counter)
      Laws.service(it, Shop)
      Laws.service(it, Wifi)
      Laws.service(it, Sensors)
    })
  })

  it.effect("of the example that answers by hand: its error is one that no contract declares", () =>
    Effect.gen(function* () {
      const [check] = Laws.all(Files, files({ laws: [Laws.fitsContract] }))
      const { message } = yield* Effect.flip(check!.check)
      assert.include(message, "the contract declares no such error")
      assert.include(message, '{"name":"virus.exe"}')
    }).pipe(Effect.provide(TestBus.layer(FilesLive)))
  )

  it("are many", () => {
    const services = [Users, Payments, Orders, Warehouse, Notifications, Bank, Importer, Wifi, Sensors]
    assert.isAbove(services.flatMap((service) => Laws.all(service)).length, 60)
  })
})
