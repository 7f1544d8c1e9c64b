/** As fiberbus-memory, with a tracer: two spans per call, which nobody exports. */
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import * as Fiberbus from "./fiberbus.ts"

const tracer = Layer.succeed(Tracer.Tracer, Tracer.make({ span: (options) => new Tracer.NativeSpan(options) }))

Fiberbus.run(
  Fiberbus.caller.pipe(Layer.provide(Fiberbus.server), Layer.provide(Fiberbus.memory), Layer.provide(tracer))
)
