// The code of docs/discovery.md: type-checked here, compared with the page by snippets.test.ts, run by nothing.
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Action, Discovery, Handlers, Health, Service } from "fiberbus"

export class Database extends Context.Service<Database, { readonly ping: Effect.Effect<void, Error> }>()("Database") {}

export class Orders extends Service.make("orders", Action.make("place", { payload: { count: Schema.Int } })) {}

const handlers = { place: () => Effect.void }
const loopTurns = Effect.yieldNow

export const overview = Effect.gen(function* () {
  for (const { instances, service } of yield* Discovery.services()) {
    yield* Console.log(service, instances.length)
  }
  for (const { actions, version } of yield* Discovery.info(Orders)) {
    yield* Console.log(version, actions[0]?.payload)
  }
})

export const OrdersLive = Handlers.layer(Orders, handlers, { version: "1.2.0" })

export const DatabaseCheck = Health.check(
  "database",
  Effect.flatMap(Database, ({ ping }) => ping),
  { timeout: "1 second" }
)
export const LoopCheck = Health.check("loop", loopTurns, { kind: "liveness", service: Orders })

export const Process = Layer.mergeAll(OrdersLive, DatabaseCheck, LoopCheck)
