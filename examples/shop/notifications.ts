// Writes to customers: when it is asked to, and by itself when it hears of an order.
import { Context, Effect, Layer } from "effect"
import { Handlers, Listener } from "fiberbus"
import { Notifications, OrderPlaced } from "./contract.ts"
import { Story } from "./story.ts"

/** Shared by the handler and the listener, as their Layers are provided with the same one. */
class Letters extends Context.Service<Letters, { readonly write: Effect.Effect<number> }>()("shop/Letters") {
  static readonly layer = Layer.sync(this, () => {
    let letters = 0
    return { write: Effect.sync(() => ++letters) }
  })
}

const Tell = Handlers.layer(Notifications, {
  tell: () => Letters.use(({ write }) => Effect.map(write, (letter) => ({ letter })))
})

const OnOrderPlaced = Listener.layer(
  OrderPlaced,
  Effect.fnUntraced(function* ({ id, customer }) {
    const { write } = yield* Letters
    const story = yield* Story
    yield* story.heard("mail", `writes letter ${yield* write}: thank you for ${id}, ${customer}`)
  })
)

export const NotificationsLive = Layer.merge(Tell, OnOrderPlaced).pipe(Layer.provide(Letters.layer))
