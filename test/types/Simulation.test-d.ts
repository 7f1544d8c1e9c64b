import { Context, Effect, Layer, Schema } from "effect"
import { Action, type Caller, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { describe, expectTypeOf, it } from "vitest"

class Store extends Context.Service<Store, { readonly n: number }>()("Store") {}
class Other extends Context.Service<Other, { readonly n: number }>()("Other") {}
const StoreLive = Layer.succeed(Store, { n: 1 })
const Users = Service.make("users", Action.make("get", { payload: { id: Schema.String }, success: Schema.Finite }))
const UsersLive = Handlers.layer(Users, { get: () => Effect.map(Store, ({ n }) => n) })
const UsersAlone = Handlers.layer(Users, { get: () => Effect.succeed(1) })
const client = Effect.asVoid(Simulation.caller(Users))

describe("Simulation", () => {
  it("needs what services and clients need beside a transport", () => {
    Simulation.run({ seed: 1, services: { users: UsersAlone }, clients: { client } })
    Simulation.run({ seed: 1, services: { users: UsersLive }, clients: { client }, outside: StoreLive })
    // @ts-expect-error Store is missing.
    Simulation.run({ seed: 1, services: { users: UsersLive }, clients: { client } })
    // @ts-expect-error Store is missing.
    Simulation.check({ seeds: 1, services: { users: UsersLive }, clients: { client } })
    // @ts-expect-error Other is missing.
    Simulation.run({ seed: 1, services: { users: UsersLive }, clients: { client: Other }, outside: StoreLive })
  })

  it("has callers of the same type as any", () => {
    expectTypeOf(Simulation.caller(Users)).toEqualTypeOf<ReturnType<typeof Caller.make<typeof Users>>>()
  })
})
