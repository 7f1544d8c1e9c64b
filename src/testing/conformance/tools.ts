/** What cases are written with. Waiting ends on a signal, or on real time as a failure that says what was missing. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Frame, Receive, Target, Transport, TransportError } from "../../transport/Transport.ts"
import { Nonconformance, Patience } from "./Case.ts"

/** Fails unless both are the same JSON. */
export const same = (what: string, actual: unknown, expected: unknown): Effect.Effect<void, Nonconformance> =>
  JSON.stringify(actual) === JSON.stringify(expected) ? Effect.void : new Nonconformance({ what, expected, actual })

/** A name nobody else uses. */
export const fresh = (label = "channel") => `conformance:${label}:${Math.random().toString(36).slice(2)}:${names++}`
let names = 0

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text of a frame, however the transport hands it over. */
export const textOf = (frame: Frame): string => (typeof frame === "string" ? frame : decoder.decode(frame))

/** A channel as a target. */
export const channel = (name: string): Target => ({ _tag: "Channel", channel: name })
/** A pattern as a target. */
export const pattern = (glob: string): Target => ({ _tag: "Pattern", pattern: glob })

/** Waits for a condition that callbacks bring about: call `look` whenever it may have come true. */
export const signal = (what: string, ready: () => boolean, actual: () => unknown) => {
  const watchers = new Set<() => void>()
  return {
    look: () => {
      for (const watcher of [...watchers]) watcher()
    },
    wait: Effect.flatMap(Patience, (patienceMillis) =>
      Effect.callback<void, Nonconformance>((resume) => {
        const finish = (result: Effect.Effect<void, Nonconformance>) => {
          clearTimeout(timer)
          watchers.delete(watcher)
          resume(result)
        }
        const watcher = () => {
          if (ready()) finish(Effect.void)
        }
        const timer = setTimeout(
          () => finish(new Nonconformance({ what, expected: "to happen", actual: actual() })),
          patienceMillis
        )
        watchers.add(watcher)
        watcher()
        return Effect.sync(() => {
          clearTimeout(timer)
          watchers.delete(watcher)
        })
      })
    )
  }
}

/** A receiver that remembers. */
export const recorder = () => {
  const frames: Array<string> = []
  const channels: Array<string> = []
  let wanted = 0
  const arrived = signal(
    "frames arrive",
    () => frames.length >= wanted,
    () => `${frames.length} of ${wanted}`
  )
  const receive: Receive = (frame, from) => {
    frames.push(textOf(frame))
    channels.push(from)
    if (frames.length >= wanted) arrived.look()
  }
  return {
    receive,
    frames,
    channels,
    until: (count: number) =>
      Effect.suspend(() => {
        wanted = count
        return arrived.wait
      })
  }
}

/** Sends one frame and waits until `sent` is called. */
export const send = (
  transport: Transport["Service"],
  to: string,
  frame: string
): Effect.Effect<number, TransportError> =>
  Effect.callback((resume) => {
    transport.send(to, frame, (error, receivers) =>
      resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(error))
    )
  })

/**
 * Waits until everything that was sent before to a channel has arrived where it should, so that what has not come will not come.
 * Relies on order, which the cases that use it ask for.
 */
export const barrier = Effect.fnUntraced(function* (
  from: Transport["Service"],
  to: Transport["Service"],
  after: string
) {
  // Behind what was sent to that channel: they share a hash tag.
  const name = fresh(`barrier:{${/\{(.+?)\}/.exec(after)?.[1] ?? after}}`)
  const seen = recorder()
  yield* Effect.scoped(
    Effect.gen(function* () {
      yield* to.subscribe(channel(name), seen.receive)
      yield* send(from, name, "barrier")
      yield* seen.until(1)
    })
  )
})

/** Subscribes in a Scope of its own, which `leave` closes. */
export const join = Effect.fnUntraced(function* (transport: Transport["Service"], target: Target, receive: Receive) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  yield* Scope.provide(transport.subscribe(target, receive), scope)
  return { leave: Scope.close(scope, Exit.void) }
})
