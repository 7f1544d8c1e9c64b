/** fiberbus' caller over Redis. */
import * as Layer from "effect/Layer"
import * as Fiberbus from "./fiberbus.ts"

Fiberbus.run(Fiberbus.caller.pipe(Layer.provide(Fiberbus.redis)))
