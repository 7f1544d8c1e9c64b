import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Prefixed, Service, Transport } from "fiberbus"
import * as Resources from "../resilience/resources.ts"

class Users extends Service.make("users", Action.make("name", { success: Schema.String })) {}

/** An adapter in the way of classes: its methods need their own `this`. */
class Own {
  readonly #memory = Memory.make()
  readonly name = "own"
  readonly prefix = "own:"
  readonly whileDown = undefined
  get capabilities() {
    return this.#memory.capabilities
  }
  get state() {
    return this.#memory.state
  }
  send(channel: string, frame: string, sent: Transport.Sent) {
    return this.#memory.send(channel, frame, sent)
  }
  subscribe(target: Transport.Target, receive: Transport.Receive) {
    return this.#memory.subscribe(target, receive)
  }
  watch(watcher: (state: Transport.LinkState) => void) {
    return this.#memory.watch(watcher)
  }
}

describe("A view of a transport", () => {
  it.effect("is of any transport, also of one that is the instance of a class", () =>
    Effect.gen(function* () {
      yield* Layer.build(Handlers.layer(Users, { name: () => Effect.succeed("Ada") }))
      const users = yield* Caller.make(Users)
      assert.strictEqual(yield* users.name(), "Ada")
    }).pipe(Prefixed.inside("v2."), Effect.provideService(Transport.Transport, new Own()))
  )

  it("is the same for the same prefix, and forgotten when nobody has it", async () => {
    const root = Memory.make()
    const view = Prefixed.make(root, "v2.")
    assert.strictEqual(Prefixed.make(Prefixed.make(root, "v"), "2."), view)
    const rest = new Set<WeakRef<object>>()
    for (let tenant = 0; tenant < 1_000; tenant++) rest.add(new WeakRef(Prefixed.make(root, `tenant-${tenant}.`)))
    // A WeakRef holds what it refers to until the end of the turn.
    await new Promise(setImmediate)
    Resources.memory()
    assert.lengthOf(
      Array.from(rest).filter((ref) => ref.deref() !== undefined),
      0
    )
    assert.strictEqual(Prefixed.make(root, "v2."), view)
  })
})
