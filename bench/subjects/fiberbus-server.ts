/** fiberbus' service over Redis. */
import * as Layer from "effect/Layer"
import * as Fiberbus from "./fiberbus.ts"

Fiberbus.run(Fiberbus.announced.pipe(Layer.provide(Fiberbus.server), Layer.provide(Fiberbus.redis)))
