import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Glob, LinkState, Transport } from "fiberbus"

type Port = Transport.Transport["Service"]

/** What travels: a frame and its channel, or a mark that only its sender looks for. */
type Posted = { readonly channel: string; readonly frame: string } | { readonly mark: string }

/** Carries frames between the threads of one process, over Node's `BroadcastChannel`. */
export const make = (options?: { readonly prefix?: string }): Effect.Effect<Port, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => open(options?.prefix ?? "")),
      ({ close }) => Effect.sync(close)
    ),
    ({ transport }) => transport
  )

export const layer = (options?: { readonly prefix?: string }): Layer.Layer<Transport.Transport> =>
  Layer.effect(Transport.Transport, make(options))

const capabilities: Transport.Capabilities = {
  delivery: "at-most-once",
  receivers: "hint",
  ordered: true,
  patterns: true,
  maxFrameBytes: 1_048_576
}

const closed = new Transport.TransportError({
  kind: "Closed",
  operation: "use threads",
  detail: "the transport is closed",
  hint: "",
  sent: "no"
})

interface Subscription {
  readonly matches: (channel: string) => boolean
  readonly receive: Transport.Receive
}

const open = (prefix: string): { readonly transport: Port; readonly close: () => void } => {
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const isClosed = () => link.current()._tag === "Closed"
  const subscriptions = new Set<Subscription>()
  const marks = new Map<string, () => void>()
  // A BroadcastChannel does not hear itself, so we have one for each direction.
  const out = new BroadcastChannel("fiberbus")
  const into = new BroadcastChannel("fiberbus")

  into.onmessage = (event) => {
    const posted = (event as { readonly data: Posted }).data
    if ("mark" in posted) return marks.get(posted.mark)?.()
    // A copy: a receiver may subscribe or leave meanwhile.
    for (const { matches, receive } of [...subscriptions]) {
      if (!matches(posted.channel)) continue
      try {
        receive(posted.frame, posted.channel)
      } catch (defect) {
        Effect.runFork(Effect.logError(`A receiver of ${posted.channel} threw`, defect))
      }
    }
  }

  const send = (channel: string, frame: string, sent: Transport.Sent): void => {
    if (isClosed()) return sent(closed, 0)
    out.postMessage({ channel, frame } satisfies Posted)
    sent(undefined, 1)
  }

  // Succeeds when our own mark has come round: whatever was posted before it is behind us.
  const roundTrip = Effect.callback<void, Transport.TransportError>((resume) => {
    const mark = crypto.randomUUID()
    marks.set(mark, () => {
      marks.delete(mark)
      resume(isClosed() ? Effect.fail(closed) : Effect.void)
    })
    out.postMessage({ mark } satisfies Posted)
    return Effect.sync(() => marks.delete(mark))
  })

  const subscribe = (
    target: Transport.Target,
    receive: Transport.Receive
  ): Effect.Effect<void, Transport.TransportError, Scope.Scope> =>
    Effect.suspend(() => {
      if (isClosed()) return Effect.fail(closed)
      const matches =
        target._tag === "Pattern" ? Glob.matcher(target.pattern) : (channel: string) => channel === target.channel
      const subscription: Subscription = { matches, receive }
      return Effect.andThen(
        roundTrip,
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => subscriptions.add(subscription)),
            () => Effect.sync(() => subscriptions.delete(subscription))
          )
        )
      )
    })

  const transport: Port = {
    name: "threads",
    prefix,
    capabilities,
    send,
    subscribe,
    get state() {
      return link.current()
    },
    watch: link.watch,
    whileDown: undefined
  }
  const close = () => {
    link.change({ _tag: "Closed", gaps: 0, error: undefined })
    out.close()
    into.close()
    for (const wake of [...marks.values()]) wake()
  }
  return { transport, close }
}
