/**
 * effect/rpc over TCP, newline-delimited JSON, without a broker. The variant `jit` compiles all schemas
 * (`effect/schema/SchemaJITCompiler/enable`), `plain` none, as by default.
 */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Rpc, RpcClient, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { effects } from "../Meter.ts"
import * as Payload from "../Payload.ts"
import { type Peer, type Setting, waitMillis } from "../Peer.ts"
import * as schemas from "../schemas.ts"

class Echo extends RpcGroup.make(
  Rpc.make("echo", { payload: schemas.payload, success: Schema.Struct(schemas.payload) }),
  Rpc.make("wait", { payload: schemas.payload, success: Schema.Struct(schemas.payload) }),
  Rpc.make("hold", { payload: schemas.payload, success: Schema.Struct(schemas.payload) }),
  Rpc.make("blob", { payload: schemas.blob, success: Schema.Struct(schemas.blob) }),
  Rpc.make("items", { payload: { count: Schema.Int }, success: Schema.Struct(schemas.payload), stream: true })
) {}

const EchoLive = Echo.toLayer({
  echo: (payload) => Effect.succeed(payload),
  wait: (payload) => Effect.delay(Effect.succeed(payload), waitMillis),
  hold: () => Effect.never,
  blob: (blob) => Effect.succeed(blob),
  items: ({ count }) => Stream.map(Stream.range(0, count - 1), Payload.make)
})

const compile = async (setting: Setting) => {
  if (setting.variant === "jit") await import("effect/schema/SchemaJITCompiler/enable")
}

/** Builds a layer that lives as long as the process. */
const forever = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.runPromise(Effect.scoped(Effect.never).pipe(Effect.provide(layer)))

export const peer: Peer = {
  serve: async (setting) => {
    await compile(setting)
    await new Promise<void>((resolve, reject) => {
      const Live = Layer.effectDiscard(Effect.sync(resolve)).pipe(
        Layer.provideMerge(RpcServer.layer(Echo)),
        Layer.provide(EchoLive),
        Layer.provide(RpcServer.layerProtocolSocketServer),
        Layer.provide(RpcSerialization.layerNdjson),
        Layer.provide(NodeSocketServer.layer({ host: "127.0.0.1", port: setting.port }))
      )
      forever(Live).catch(reject)
    })
  },
  connect: async (setting) => {
    await compile(setting)
    return new Promise((resolve, reject) => {
      const client = Effect.gen(function* () {
        const echo = yield* RpcClient.make(Echo)
        const calls = effects(
          { echo: echo.echo, wait: echo.wait, blob: echo.blob, hold: echo.hold } as any,
          yield* Effect.context<never>()
        )
        resolve({
          calls,
          stream: (count, take) =>
            Effect.runPromise(Stream.runForEach(echo.items({ count }), (item) => Effect.sync(() => take(item))))
        })
        return yield* Effect.never
      })
      const Live = RpcClient.layerProtocolSocket().pipe(
        Layer.provide(RpcSerialization.layerNdjson),
        Layer.provide(NodeSocket.layerNet({ host: "127.0.0.1", port: setting.port }))
      )
      Effect.runPromise(Effect.scoped(client).pipe(Effect.provide(Live))).catch(reject)
    })
  }
}
