/**
 * fiberbus' durable actions over Redis Streams: built JavaScript, schemas checked on both sides, each request kept, deduplicated by its id,
 * and settled with its result in one step. As many slots as the other durable peers take at once.
 */
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { effects } from "../Meter.ts"
import { type Client, type Peer, type Setting, waitMillis } from "../Peer.ts"
import * as schemas from "../schemas.ts"

const load = async (setting: Setting) => {
  const file = (name: string) => import(pathToFileURL(Path.join(setting.build, name)).href)
  const bus = (await file("index.js")) as typeof import("../../src/index.ts")
  const RedisStreams = (await file("transport/RedisStreams.js")) as typeof import("../../src/transport/RedisStreams.ts")
  const { Action, Service } = bus
  const parts = { payload: schemas.payload, success: schemas.payload }
  const Echo = Service.make(
    setting.name,
    Action.make("echo", parts).pipe(Action.annotate(Action.Delivery, "durable")),
    Action.make("wait", parts).pipe(Action.annotate(Action.Delivery, "durable"))
  )
  const EchoLive = bus.Handlers.layer(
    Echo,
    {
      echo: (payload) => Effect.succeed(payload),
      wait: (payload) => Effect.delay(Effect.succeed(payload), waitMillis)
    },
    { concurrency: setting.pool ?? 100 }
  )
  return { bus, Echo, EchoLive, Redis: RedisStreams.layer({ url: setting.redis }) }
}

export const peer: Peer = {
  serve: async (setting) => {
    const { EchoLive, Redis } = await load(setting)
    await new Promise<void>((resolve, reject) => {
      const live = EchoLive.pipe(Layer.provide(Redis))
      const standing = Layer.effectDiscard(Effect.sync(resolve)).pipe(Layer.provide(live))
      Effect.runPromise(Layer.launch(Layer.merge(live, standing))).catch(reject)
    })
  },
  connect: async (setting) => {
    const { bus, Echo, Redis } = await load(setting)
    const options = setting.limits === "default" ? undefined : { timeout: "10 minutes" as const }
    return new Promise<Client>((resolve, reject) => {
      const client = Effect.gen(function* () {
        const echo = yield* bus.Caller.make(Echo)
        const context = yield* Effect.context<never>()
        resolve({
          calls: effects(
            { echo: (payload) => echo.echo(payload, options), wait: (payload) => echo.wait(payload, options) },
            context
          )
        })
        return yield* Effect.never
      })
      Effect.runPromise(Effect.scoped(client).pipe(Effect.provide(Redis))).catch(reject)
    })
  }
}
