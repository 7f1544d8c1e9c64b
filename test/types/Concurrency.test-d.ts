import { Effect, Schema } from "effect"
import { Action, Concurrency, Handlers, Listener, Service, Topic } from "fiberbus"
import { describe, it } from "vitest"

const Jobs = Service.make("jobs", Action.make("ping"))
const News = Topic.make("news", { text: Schema.String })
const ping = () => Effect.void

describe("limits", () => {
  it("are a number or a Concurrency, for handlers and listeners", () => {
    const limit = Concurrency.makeUnsafe(1)
    Handlers.layer(Jobs, { ping }, { concurrency: 1, backlog: 1 })
    Handlers.layer(
      Jobs,
      { ping },
      { concurrency: limit, backlog: { whenFull: "dropOldest" }, fairBy: ({ headers }) => headers["tenant"] ?? "" }
    )
    Listener.layer(News, ping, { concurrency: limit, backlog: { size: 1 }, handlerTimeout: "1 second" })
  })

  it("are nothing else", () => {
    // @ts-expect-error no way to deal with a full backlog
    Handlers.layer(Jobs, { ping }, { backlog: { whenFull: "wait" } })
    // @ts-expect-error a key is a text
    Handlers.layer(Jobs, { ping }, { fairBy: () => undefined })
    // @ts-expect-error an Effect that makes one is no Concurrency
    Handlers.layer(Jobs, { ping }, { concurrency: Concurrency.make(1) })
    // @ts-expect-error an action's limit is a number
    Action.make("go").pipe(Action.annotate(Action.Concurrency, "2"))
  })
})
