/** Finds a free TCP port of 127.0.0.1. */
import * as Net from "node:net"
import * as Effect from "effect/Effect"

/** No free port after 50 attempts. */
export class NoFreePort extends Error {
  override readonly name = "NoFreePort"
}

// Below the range from which systems take the ports of outgoing connections (32768 on Linux, 49152 elsewhere). While a
// server is stopped, a client that keeps trying its port could otherwise be given that very port and meet itself.
const first = 15_000
const last = 32_000

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = Net.createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => {
      server.close(() => resume(Effect.succeed(true)))
    })
    return Effect.sync(() => server.close())
  })

/** A port that was free a moment ago: someone else may take it first, so be ready to try again. */
export const find: Effect.Effect<number> = Effect.gen(function* () {
  for (let attempt = 0; attempt < 50; attempt++) {
    const port = first + Math.floor(Math.random() * (last - first))
    if (yield* isFree(port)) return port
  }
  return yield* Effect.die(new NoFreePort("no free port on 127.0.0.1 after 50 attempts"))
})
