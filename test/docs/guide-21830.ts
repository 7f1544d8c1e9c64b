import * as Effect from "effect/Effect"
import { TransportConformance } from "fiberbus/testing"
import * as Threads from "./adding-a-transport.snippets.ts"

const make = () => Effect.map(Threads.make(), (threads) => ({ ...threads, send: (c: string, f: string, s: never) => (threads.send(c, f, s), threads.send(c, f, () => {})) }))
const two = Effect.gen(function* () {
  return { here: yield* make(), there: yield* make(), another: Threads.make() }
})
const report = await Effect.runPromise(TransportConformance.run(TransportConformance.cases, two))
console.log(TransportConformance.format(report))
process.exitCode = report.failed === 0 ? 0 : 1
