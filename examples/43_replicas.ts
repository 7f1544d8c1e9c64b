// Three replicas of one service: each request is handled by one of them, by key or by load, and a restart loses nothing.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Layer, Result, Schema, Scope } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Orders extends Service.make(
  "orders",
  Action.make("place", { payload: { item: Schema.String }, success: Schema.String }),
  // What belongs to one customer goes to one replica.
  Action.make("cart", { payload: { customer: Schema.String }, success: Schema.String }).pipe(
    Action.annotate(Action.Key, ({ customer }: { readonly customer: string }) => customer)
  ),
  // What all of them are to do.
  Action.make("flush", { success: Schema.Void }).pipe(Action.annotate(Action.Delivery, "live"))
) {}

const broker = Memory.makeBroker()
const process = Memory.layerOptions({ broker })
let placed = 0
let flushed = 0

/** Starts a replica, as a process of its own would, and gives what stops it. */
const start = Effect.fnUntraced(function* (name: string) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const OrdersLive = Handlers.layer(Orders, {
    place: () => Effect.sync(() => `${name} took order ${++placed}`),
    cart: () => Effect.succeed(name),
    flush: () => Effect.sync(() => void flushed++)
  })
  yield* Layer.buildWithScope(Layer.fresh(Layer.provide(OrdersLive, process)), scope)
  return Scope.close(scope, Exit.void)
})

const program = Effect.gen(function* () {
  const [stopAnna] = yield* Effect.forEach(["anna", "bert", "cleo"], start)
  const orders = yield* Effect.provideContext(Caller.make(Orders), yield* Layer.build(Layer.fresh(process)))

  yield* Effect.forEach(Array.from({ length: 99 }), () => orders.place({ item: "tea" }))
  yield* Console.log(`99 orders were placed, and ${placed} handled`)

  const all = yield* orders.place.gather({ item: "sugar" })
  yield* Console.log(`each replica was asked: ${all.filter(({ result }) => Result.isSuccess(result)).length} answers`)

  const customers = Array.from({ length: 20 }, (_, n) => `customer ${n}`)
  const carts = () => Effect.forEach(customers, (customer) => orders.cart({ customer }))
  const before = yield* carts()
  const again = yield* carts()
  yield* Console.log(`every customer has the same replica again: ${before.every((name, n) => name === again[n])}`)

  // Anna is shut down while orders come in. Nobody retries, and nobody notices.
  const [outcomes] = yield* Effect.all(
    [Effect.forEach(Array.from({ length: 200 }), () => Effect.exit(orders.place({ item: "milk" }))), stopAnna!],
    { concurrency: 2 }
  )
  yield* Console.log(`200 orders during a shutdown, ${outcomes.filter(Exit.isFailure).length} failed`)

  const after = yield* carts()
  const moved = after.filter((name, n) => name !== before[n])
  const hers = before.filter((name) => name === "anna")
  yield* Console.log(`only anna's customers moved: ${moved.length === hers.length}`)

  yield* orders.flush()
  while (flushed < 2) yield* Effect.sleep("5 millis")
  yield* Console.log("both that are left have flushed")
})

program.pipe(Effect.scoped, NodeRuntime.runMain)
