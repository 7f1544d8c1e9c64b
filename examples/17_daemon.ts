// Daemon: work that never ends, started again when it fails, and stopped and started by its name.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Logger, Queue, Schedule } from "effect"
import { Action, Caller, Daemon, Handlers, Memory, Service } from "fiberbus"

class Orders extends Context.Service<Orders, Queue.Queue<string>>()("Orders") {
  static readonly layer = Layer.effect(this, Queue.bounded<string>(100))
}
class Packed extends Context.Service<Packed, Queue.Queue<string>>()("Packed") {
  static readonly layer = Layer.effect(this, Queue.bounded<string>(100))
}

const pack = Effect.gen(function* () {
  yield* Console.log("packer   begins")
  // Closed before it is started again, when it is stopped, and when the program ends.
  yield* Effect.addFinalizer(() => Console.log("packer   sweeps the floor"))
  while (true) {
    const order = yield* Queue.take(yield* Orders)
    if (order === "a vase") return yield* Effect.die(new Error("it fell"))
    yield* Queue.offer(yield* Packed, order)
  }
})

// Without a schedule it would be 100 ms doubling to 30 s. When a schedule ends, the daemon is given up, loudly.
const PackerLive = Daemon.layer("packer", pack, { restart: Schedule.spaced("20 millis") })

class Office extends Service.make("office", Action.make("holiday"), Action.make("back_to_work")) {}

const OfficeLive = Handlers.layer(Office, {
  holiday: () => Effect.orDie(Daemon.stop("packer")),
  back_to_work: () => Effect.orDie(Daemon.start("packer"))
})

const program = Effect.gen(function* () {
  const [orders, packed] = [yield* Orders, yield* Packed]
  const order = Effect.fnUntraced(function* (...things: ReadonlyArray<string>) {
    yield* Queue.offerAll(orders, things)
    for (const thing of things) {
      if (thing !== "a vase") yield* Console.log(`packed   ${yield* Queue.take(packed)}`)
    }
  })
  yield* order("a mug")
  yield* order("a vase", "a book")

  const office = yield* Caller.make(Office)
  yield* office.holiday()
  const { state } = yield* Daemon.get("packer")
  yield* Console.log(`holiday  the packer is ${(yield* state)._tag}`)
  yield* office.back_to_work()
  yield* order("a lamp")
})

const plain = Logger.layer([Logger.make(({ message }) => console.log(`log      ${[message].flat()[0]}`))])

const Live = Layer.mergeAll(PackerLive, OfficeLive).pipe(
  Layer.provideMerge(Layer.mergeAll(Orders.layer, Packed.layer, Memory.layer, plain))
)

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
