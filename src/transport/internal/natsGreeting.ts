/** Looks whether a NATS server is there before the client is asked to connect. */
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import type { TransportError } from "../Transport.ts"
import * as natsError from "./natsError.ts"
import type { Address, Settings } from "./natsOptions.ts"

/** What a server says of itself at once, as far as it concerns us. */
export interface Greeting {
  readonly tlsRequired: boolean
}

/** Larger than any INFO, which names all servers of a cluster. */
const maxGreetingBytes = 65_536

/**
 * Reads the server's first line over a connection of its own.
 *
 * The client leaves its socket open when a server takes the connection and then says nothing (a frozen one), once per
 * attempt. So it is given only servers that have just spoken; this look ends its own socket always.
 */
export const read = ({ host, name, port }: Address, settings: Settings): Effect.Effect<Greeting, TransportError> =>
  Effect.callback((resume) => {
    const socket = Net.connect({ host, port })
    let text = ""
    const finish = (result: Greeting | Error) => {
      clearTimeout(timer)
      socket.destroy()
      resume(
        result instanceof Error
          ? Effect.fail(
              natsError.fromUnknown(result, { operation: `connect to ${name}`, scrub: settings.scrub, sent: "no" })
            )
          : Effect.succeed(result)
      )
    }
    const timer = setTimeout(() => finish(new Error("timeout")), settings.connectTimeoutMillis)
    socket.on("error", finish)
    socket.on("close", () => finish(new Error("the server closed the connection during the handshake")))
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1")
      const line = /^INFO\s+(\{[^\r\n]*)\r\n/i.exec(text)?.[1]
      try {
        if (line !== undefined) return finish({ tlsRequired: JSON.parse(line).tls_required === true })
      } catch {
        return finish(new Error("the answer is not NATS' protocol"))
      }
      if (text.length > maxGreetingBytes || !/^I(N(F(O(\s|$)|$)|$)|$)/i.test(text)) {
        finish(new Error("the answer is not NATS' protocol"))
      }
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      socket.destroy()
    })
  })
