/**
 * The port: what every way of carrying frames does, and the facts about what it promises.
 *
 * An adapter is one file with `make` and `layer`. Rings above it know only this file, so an adapter is replaced by
 * providing another Layer.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { LinkState } from "./LinkState.ts"

export type { LinkState } from "./LinkState.ts"

/**
 * One message as it travels: text, mostly JSON, or the bytes of that text as they came from a socket. Receivers take either;
 * bytes may be anything (a hostile peer), so nothing before `Codec.parse` may trust them.
 */
export type Frame = string | Uint8Array

/** What a transport promises. Each fact changes what the rings below may conclude. */
export interface Capabilities {
  /** `at-most-once`: a frame nobody is subscribed to is lost, and none arrives twice. */
  readonly delivery: "at-most-once" | "at-least-once"
  /**
   * What the number of `send` means. `exact`: 0 says that nobody got the frame. `hint`: it says nothing certain (a
   * replica, one node of a cluster). Even when exact, 1 or more does not prove that a subscriber read the frame.
   */
  readonly receivers: "exact" | "hint"
  /**
   * Frames that one process sends to one channel arrive in the order of their `send`, and so do those to channels that share a hash tag
   * (`{…}`, as in a Redis Cluster). Between other channels some transports keep an order as well; do not rely on it.
   */
  readonly ordered: boolean
  /** `subscribe` takes glob patterns. */
  readonly patterns: boolean
  /** Largest frame in bytes, both ways: `send` is never given more, receivers drop more. */
  readonly maxFrameBytes: number
  /** All who can be reached are in this process, and frames don't get lost: who is silent is there all the same. Absent is false. */
  readonly inProcess?: boolean
  /** Several frames may travel as one, where `send` allows it. Absent is false: that is ignored. */
  readonly packs?: boolean
}

/** A channel by its exact name, or all channels that match a Redis glob (`*`, `?`, `[…]`). */
export type Target =
  | { readonly _tag: "Channel"; readonly channel: string }
  | { readonly _tag: "Pattern"; readonly pattern: string }

/** Called once per frame, in order of arrival, on the reader's own turn: it must return quickly and never throw. */
export type Receive = (frame: Frame, channel: string) => void

/** Called exactly once per `send`: with the receivers count, or with the error. */
export type Sent = (error: TransportError | undefined, receivers: number) => void

/** Called exactly once per claim: whether it was won, or why nobody knows. */
export type Claimed = (error: TransportError | undefined, won: boolean) => void

/** The kinds a transport's failure comes in; each has its own advice in `hint`. */
export const TransportErrorKind = Schema.Literals([
  "Unreachable",
  "AuthenticationFailed",
  "PermissionDenied",
  "ProtocolError",
  "InvalidOptions",
  "Timeout",
  "ConnectionLost",
  "Overloaded",
  "Closed",
  "Unknown"
])
/** @see {@link TransportErrorKind} */
export type TransportErrorKind = typeof TransportErrorKind.Type

/**
 * The link, the broker or its settings did not allow an operation.
 *
 * `sent` is `no` when nothing left this process, so that sending again is safe; `unknown` when the broker may have
 * acted. Carries no secret and no payload: texts are built from the command's name and the broker's message alone.
 */
export class TransportError extends Schema.TaggedError<TransportError>()("TransportError", {
  kind: TransportErrorKind,
  /** What was tried, e.g. `connect to redis://127.0.0.1:6379` or `SUBSCRIBE user_service`. */
  operation: Schema.String,
  /** What went wrong, in the words of the broker or of the system. */
  detail: Schema.String,
  /** What to do about it. Empty when there is no advice. */
  hint: Schema.String,
  sent: Schema.Literals(["no", "unknown"])
}) {
  override get message() {
    return `${this.operation}: ${this.detail.replace(/\.$/, "")}${this.hint === "" ? "" : `. ${this.hint}`}`
  }
}

/** The state of the way to a channel, and the later ones as for `watch`. */
export interface LinkOf {
  readonly current: () => LinkState
  readonly watch: (watcher: (state: LinkState) => void) => () => void
}

/** How many calls may wait for the link to come back, and how long each. */
export interface WhileDown {
  readonly calls: number
  readonly millis: number
}

/**
 * Carries frames between processes, or within one.
 *
 * Channel names given here are the names on the wire, `prefix` included (`wire/Channels` builds them).
 */
export class Transport extends Context.Service<
  Transport,
  {
    /** For people: `memory`, `redis://127.0.0.1:6379`. Never holds a secret. */
    readonly name: string
    /** Put before every channel name, so that systems can share one broker. Empty by default. */
    readonly prefix: string
    readonly capabilities: Capabilities
    /**
     * Hands a frame over for sending. Returns at once, never throws, and calls `sent` exactly once, possibly before
     * it returns and always within a limit of the adapter's own, whatever the link does. Nothing is sent twice.
     *
     * `pack`: the frame is a JSON object, or longer than packs take, and whoever hears the channel takes several in one frame, as an array (`wire/Pack`). Their
     * order stays, and each gets its `sent`, with the receivers of them all.
     */
    readonly send: (channel: string, frame: string, sent: Sent, pack?: boolean) => void
    /**
     * Subscribes for as long as the Scope is open. Succeeds when the broker has confirmed: every frame sent after that
     * reaches `receive` while the link is up. Any number of subscriptions may name the same target; each gets each
     * frame. After a lost link the adapter subscribes again by itself; frames sent meanwhile are lost.
     */
    readonly subscribe: (target: Target, receive: Receive) => Effect.Effect<void, TransportError, Scope.Scope>
    /** How the link is now. */
    readonly state: LinkState
    /**
     * Calls a function with each later state, in order, on the turn of the change; the result ends that. The function must
     * return quickly and never throw. Users take {@link states}.
     */
    readonly watch: (watcher: (state: LinkState) => void) => () => void
    /**
     * How the way to one channel is, where channels may fail apart from each other and this process subscribes it; undefined
     * otherwise, then `state` and `watch` are all there is. `down`: its frames do not arrive. Lasts as long as the subscription.
     */
    readonly linkOf?: (channel: string) => LinkOf | undefined
    /**
     * Claims a key for so many milliseconds: of all that claim it meanwhile, over this broker, one wins. Returns at once, never throws, and
     * calls `done` exactly once, within a limit of the adapter's own. After an error whose `sent` is `no` it may be asked for again: what the
     * broker had granted before it still knows then. Where it is absent, requests that reach several replicas of a
     * service are handled by each of them.
     */
    readonly claim?: (key: string, ttlMillis: number, done: Claimed) => void
    /**
     * Calls back when every frame that the broker had given out to this process by then has come to its receivers: `true`. `false` where
     * that cannot be told, as the link is down. Exactly once, within a limit of the adapter's own.
     */
    readonly barrier?: (done: (passed: boolean) => void) => void
    /** What calls do that begin while the link is down: wait for it within these limits, or fail at once if there are none. */
    readonly whileDown: WhileDown | undefined
  }
>()("fiberbus/transport/Transport") {}

/**
 * Sends one frame as an Effect. The rings that send thousands a second use `send` itself.
 *
 * Shape: the receivers count, as far as `capabilities.receivers` says. Interrupting it does not take the frame back.
 */
export const publish = (channel: string, frame: string): Effect.Effect<number, TransportError, Transport> =>
  Effect.flatMap(Transport, (transport) =>
    Effect.callback<number, TransportError>((resume) => {
      transport.send(channel, frame, (error, receivers) =>
        resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(error))
      )
    })
  )

/** States that wait for a slow reader of {@link states}; then the oldest are left out. */
export const statesBuffer = 16

/**
 * Streams the state of the link: the present one first, then each change. Ends after `Closed`.
 *
 * A reader that falls behind by more than 16 changes misses the oldest of them; the last one always comes, and its `gaps`
 * still tells of every loss.
 */
export const states: Stream.Stream<LinkState, never, Transport> = Stream.unwrap(
  Effect.map(Transport, (transport) =>
    Stream.callback<LinkState>(
      (queue) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const offer = (state: LinkState) => {
              Queue.offerUnsafe(queue, state)
              if (state._tag === "Closed") Queue.endUnsafe(queue)
            }
            offer(transport.state)
            return transport.watch(offer)
          }),
          (leave) => Effect.sync(leave)
        ),
      { bufferSize: statesBuffer, strategy: "sliding" }
    )
  )
)
