/** Moleculer's caller. */
import * as Child from "../Child.ts"
import { drive } from "../Meter.ts"
import type { Payload } from "../Payload.ts"
import * as Moleculer from "./moleculer.ts"

const broker = Moleculer.make("client")
await broker.start()
await broker.waitForServices("echo", 10_000, 50)
Child.ready(drive((payload) => broker.call<Payload, Payload>("echo.echo", payload)))
