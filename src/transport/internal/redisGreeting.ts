/** Finds out why a server hung up on us: it may have said so, and lost the word when we spoke at the same time. */
import * as net from "node:net"
import * as Effect from "effect/Effect"
import type { TransportError } from "../Transport.ts"
import * as redisError from "./redisError.ts"
import type { Settings } from "./redisOptions.ts"

/** Redis speaks first only to refuse, and then at once. */
const listenMillis = 300

/** Puts the server's own reason, or the likeliest one, in the place of a bare reset during the first handshake. */
export const explain = (settings: Settings, error: TransportError): Effect.Effect<TransportError> => {
  const place = {
    operation: error.operation,
    sent: "no",
    user: settings.user,
    tls: settings.tls,
    scrub: settings.scrub
  } as const
  const unexplained = () => redisError.fromUnknown(new Error(`${redisError.closedEarly}: ${error.detail}`), place)
  if (settings.tls) return Effect.sync(unexplained)
  return Effect.callback((resume) => {
    const socket = net.connect(settings.address)
    let heard = ""
    const finish = () => {
      clearTimeout(timer)
      socket.destroy()
      const refusal = /^-([^\r\n]+)/.exec(heard)?.[1]
      resume(Effect.succeed(refusal === undefined ? unexplained() : redisError.fromUnknown(new Error(refusal), place)))
    }
    const timer = setTimeout(finish, listenMillis)
    socket.setEncoding("utf8")
    socket.on("data", (text: string) => {
      heard += text
      if (heard.includes("\n") || heard.length > 1024) finish()
    })
    socket.on("error", finish)
    socket.on("close", finish)
    return Effect.sync(() => {
      clearTimeout(timer)
      socket.destroy()
    })
  })
}
