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

/** What was given to a connection, and is not confirmed yet. */
interface Line {
  /** Given after the last question. */
  next: Array<Given>
  isAsking: boolean
}

interface Given {
  readonly done: RedisLink.Done
  error: TransportError | undefined
  reply: unknown
}

/**
 * Fails with kind `Unreachable`, sent: unknown, unless so many replicas have in time what the command wrote, or what was there before it.
 *
 * One question at a time is for all that was given before it. The connection stands still until it is answered: it is for nothing else.
 */
export const confirmed = (replicas: number, millis: number): Give => {
  const lines = new WeakMap<RedisLink.RedisLink, Line>()
  const ask = (link: RedisLink.RedisLink, line: Line) => {
    const asked = line.next
    line.next = []
    line.isAsking = true
    link.commandWhenUp("wait", [String(replicas), String(millis)], 0, (failure, count) => {
      line.isAsking = false
      // What comes next is asked for before anybody is told, who may give more.
      if (line.next.length > 0) ask(link, line)
      const error =
        failure !== undefined
          ? unknown(failure)
          : Number(count) < replicas
            ? missing(replicas, Number(count), millis)
            : undefined
      // Replies come in the order of the commands: theirs are here.
      for (const given of asked) given.done(given.error ?? error, given.reply)
    })
  }
  return (link, name, args, bytes, done, asBytes) => {
    const line = lines.get(link) ?? { next: [], isAsking: false }
    lines.set(link, line)
    const given: Given = { done, error: undefined, reply: undefined }
    line.next.push(given)
    plainly(
      link,
      name,
      args,
      bytes,
      (failure, reply) => {
        given.error = failure
        given.reply = reply
      },
      asBytes
    )
    if (!line.isAsking) ask(link, line)
  }
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
