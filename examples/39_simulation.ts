// Simulation: a service and its callers while everything goes wrong, in virtual time; a seed decides all of it, so a failure comes again.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Action, Handlers, Request, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"

class Shop extends Service.make(
  "shop",
  Action.make("pay", { payload: { cents: Schema.Finite }, success: { receipt: Schema.String } })
) {}

// The bank is no process of ours: it outlives them all.
class Bank extends Context.Service<Bank, { readonly receipts: Map<string, string> }>()("Bank") {}
const BankLive = Layer.sync(Bank, () => ({ receipts: new Map() }))

const charge = Effect.fnUntraced(function* (id: string) {
  const { receipts } = yield* Bank
  yield* Simulation.note("charged", id)
  yield* Effect.sleep("20 millis")
  receipts.set(id, `r-${receipts.size + 1}`)
  return { receipt: receipts.get(id)! }
})

// What comes a second time has its receipt already, unless the first one is not done yet: the bug.
const ShopLive = Handlers.layer(Shop, {
  pay: Effect.fnUntraced(function* () {
    const { id } = yield* Request.current
    const receipt = (yield* Bank).receipts.get(id)
    return receipt === undefined ? yield* charge(id) : { receipt }
  })
})

const ann = Effect.gen(function* () {
  const shop = yield* Simulation.caller(Shop)
  for (let n = 1; n <= 10; n++) {
    yield* Effect.exit(shop.pay({ cents: 100 * n }, { timeout: "2 seconds" }))
    yield* Effect.sleep("500 millis")
  }
  // When all faults are over, all is well again.
  yield* Simulation.calm
  yield* shop.pay({ cents: 1 })
})

const chargedOnce = Simulation.invariant("nobody is charged twice", () => {
  const charged = new Set<unknown>()
  return {
    along: (event) => {
      if (event._tag !== "Noted") return undefined
      if (charged.has(event.value)) return { call: event.call, text: `${event.call} is charged twice` }
      charged.add(event.value)
      return undefined
    }
  }
})

const simulation = {
  services: { shop: ShopLive },
  clients: { ann },
  outside: BankLive,
  invariants: [...Simulation.Promises.all, chargedOnce]
}

const program = Effect.gen(function* () {
  const { calls, outcomes, seeds } = yield* Simulation.check({ ...simulation, seeds: 100 })
  yield* Console.log(`${calls} calls in ${seeds} runs, and every promise was kept`)
  for (const [outcome, count] of Object.entries(outcomes)) yield* Console.log(`  ${outcome.padEnd(16)} ${count}`)

  // A network that may also repeat what it carries, as one that promises "at least once" does.
  const found = yield* Effect.flip(Simulation.check({ ...simulation, seeds: 100, faults: Simulation.hostile }))
  yield* Console.log(`\n${found.message}`)
})

program.pipe(NodeRuntime.runMain)
