/** fiberbus' service and caller in one process, through the same codec. */
import * as Layer from "effect/Layer"
import * as Fiberbus from "./fiberbus.ts"

Fiberbus.run(Fiberbus.caller.pipe(Layer.provide(Fiberbus.server), Layer.provide(Fiberbus.memory)))
