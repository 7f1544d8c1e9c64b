import { Context, Effect, type Layer, Schema, Stream } from "effect"
import { Action, Handlers, type Response, Service, type Transport } from "fiberbus"
import * as WorkerPool from "fiberbus/worker/WorkerPool"
import * as WorkerRunner from "fiberbus/worker/WorkerRunner"
import { describe, expectTypeOf, it } from "vitest"

class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", {}) {}
class Images extends Service.make(
  "images",
  Action.make("resize", { payload: { width: Schema.Int }, success: Schema.String, error: TooLarge }),
  Action.make("info", { success: Schema.String }),
  Action.make("tiles", { items: Schema.String })
) {}
const rest = { info: () => Effect.succeed(""), tiles: () => Stream.empty }
class Fonts extends Context.Service<Fonts, string>()("Fonts") {}

describe("WorkerPool", () => {
  it("makes a service require its threads", () => {
    const resize = WorkerPool.handler(Images, "resize")
    expectTypeOf(resize).returns.toEqualTypeOf<
      Effect.Effect<string | Response.Sent, TooLarge, WorkerPool.Pool<"images">>
    >()
    const live = Handlers.layer(Images, { ...rest, resize })
    expectTypeOf<Layer.Services<typeof live>>().toEqualTypeOf<Transport.Transport | WorkerPool.Pool<"images">>()
  })

  it("knows the actions of its service", () => {
    // @ts-expect-error: no such action
    WorkerPool.handler(Images, "resise")
    // @ts-expect-error: the wrong action's result
    Handlers.layer(Images, { ...rest, resize: WorkerPool.handler(Images, "info") })
    // @ts-expect-error: an Effect is no Stream
    Handlers.layer(Images, { ...rest, resize: rest.info, tiles: WorkerPool.handler(Images, "tiles") })
  })
})

describe("WorkerRunner.run", () => {
  it("takes some of the handlers, and requires what they need", () => {
    const run = WorkerRunner.run(Images, { resize: ({ width }) => Effect.map(Fonts, (font) => font.repeat(width)) })
    expectTypeOf(run).toEqualTypeOf<Effect.Effect<void, never, Fonts>>()
  })

  it("refuses others, wrong results and undeclared errors", () => {
    // @ts-expect-error: no such action
    WorkerRunner.run(Images, { resise: () => Effect.succeed("") })
    // @ts-expect-error: a number is no string
    WorkerRunner.run(Images, { resize: () => Effect.succeed(1) })
    // @ts-expect-error: not declared
    WorkerRunner.run(Images, { info: () => Effect.fail(new TooLarge()) })
    // @ts-expect-error: answers with a Stream
    WorkerRunner.run(Images, { tiles: () => Effect.succeed("") })
  })
})
