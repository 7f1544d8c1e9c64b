/** How a command is given to a connection: as it is, or with the question whether replicas have what it wrote. */
import { TransportError } from "../Transport.ts"
import type * as RedisLink from "./RedisLink.ts"

/** `asBytes`: the texts of the reply are bytes as they came. */
export type Give = (
  link: RedisLink.RedisLink,
  name: string,
  args: ReadonlyArray<string>,
  bytes: number,
  done: RedisLink.Done,
  asBytes: boolean
) => void

/** As it is. */
export const plainly: Give = (link, name, args, bytes, done, asBytes) =>
  asBytes ? link.bytesWhenUp(name, args, bytes, done) : link.commandWhenUp(name, args, bytes, done)

/**
 * Fails with kind `Unreachable`, sent: unknown, unless so many replicas have in time what the command wrote, or what was there before it.
 * The connection waits meanwhile: it is for nothing else.
 */
export const confirmed =
  (replicas: number, millis: number): Give =>
  (link, name, args, bytes, done, asBytes) => {
    let error: TransportError | undefined
    let reply: unknown
    plainly(
      link,
      name,
      args,
      bytes,
      (failure, result) => {
        error = failure
        reply = result
      },
      asBytes
    )
    // Replies come in the order of the commands.
    link.commandWhenUp("wait", [String(replicas), String(millis)], 0, (failure, count) => {
      if (error !== undefined) return done(error, undefined)
      if (failure !== undefined) return done(unknown(failure), undefined)
      done(Number(count) >= replicas ? undefined : missing(replicas, Number(count), millis), reply)
    })
  }

const unknown = ({ detail, hint, kind, operation }: TransportError) =>
  new TransportError({ kind, operation, detail, hint, sent: "unknown" })

const missing = (replicas: number, count: number, millis: number) =>
  new TransportError({
    kind: "Unreachable",
    operation: `copy to ${replicas} ${replicas === 1 ? "replica" : "replicas"}`,
    detail: `${count} had it within ${millis} ms`,
    hint: "Check the replicas of this master, or ask for fewer",
    sent: "unknown"
  })
