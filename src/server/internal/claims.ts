/**
 * Which one of several replicas has a request that all of them hear: the one that claims it first.
 *
 * A request is claimed once for each sending of it. Who has no room for it waits a moment, so that one with room comes first. Who cannot
 * tell whether it won drops it: a request is begun at most once.
 */
import { createHash } from "node:crypto"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import * as Channels from "../../wire/Channels.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import type { Link } from "./exchange.ts"

/** A claim is kept for so long, in milliseconds: twice the request's own time, within these. */
export const shortestClaimMillis = 60_000
/** @see {@link shortestClaimMillis} */
export const longestClaimMillis = 3_600_000

/** What a replica without room waits before it claims, in milliseconds. */
export const deferMillis = 20

/** A claim that could not leave is asked for again after so many milliseconds, so often at most. */
const askAgainMillis = 100
const maxAsked = 20

/** Requests that are being claimed, or wait for it; more are dropped. */
export const maxClaiming = 20_000

/** Messages without any id are told apart by their text, and by how often it came: counted anew after so many milliseconds without it. */
export const repeatedMillis = 2_000
/** Such a claim is kept for so long, in milliseconds. */
export const anonymousClaimMillis = 1_000
/** Texts that are counted at most; of more, the oldest are forgotten. */
const maxRepeated = 10_000

/** A process that stood still for so long may hold requests whose claims are over, in milliseconds. */
export const stallMillis = shortestClaimMillis / 2

/** Who has no barrier to ask waits so long after a stall, in milliseconds. */
const blindMillis = 1_000

/** @see {@link make} */
export interface Claims {
  /** Claims a request, now or after a moment; `settled` is told once whether it is this process's. */
  readonly claim: (
    service: string,
    envelope: Envelope.Request,
    frame: string | Uint8Array,
    defer: boolean,
    settled: (won: boolean) => void
  ) => void
  /** Claims a key for so many milliseconds, after a wait for others to come first. */
  readonly take: (key: string, ttlMillis: number, waitMillis: number, settled: (won: boolean) => void) => void
  /** Is told that time goes by, at least every `stallMillis` / 2 while claims are made. */
  readonly look: () => void
}

/**
 * Makes the claims of one process over a transport that has them. What it heard before it stood still for `stall` milliseconds is not
 * claimed.
 */
export const make = (
  link: Link,
  claim: NonNullable<Link["transport"]["claim"]>,
  stall: number = stallMillis
): Claims => {
  const { discards, transport, wheel } = link
  const repeated = new Map<string, { count: number; at: number }>()
  let claiming = 0
  let seenAt = wheel.now()
  let stalled = false

  /** What had been waiting in a socket for longer than claims last has run elsewhere: all that came before a barrier is dropped. */
  const look = () => {
    const now = wheel.now()
    const gap = now - seenAt
    seenAt = now
    if (stalled || gap < stall || transport.capabilities.inProcess) return
    stalled = true
    recover()
  }
  const recover = () => {
    const again = () => wheel.add(new Later(recover), blindMillis)
    if (transport.barrier === undefined) return wheel.add(new Later(over), blindMillis)
    transport.barrier((passed) => (passed ? over() : again()))
  }
  const over = () => {
    stalled = false
    seenAt = wheel.now()
  }

  const occurrence = (digest: string): number => {
    const now = wheel.now()
    const before = repeated.get(digest)
    const count = before === undefined || now - before.at > repeatedMillis ? 1 : before.count + 1
    repeated.delete(digest)
    repeated.set(digest, { count, at: now })
    if (repeated.size > maxRepeated)
      for (const oldest of repeated.keys()) return repeated.delete(oldest) ? count : count
    return count
  }

  const take: Claims["take"] = (key, ttlMillis, waitMillis, settled) => {
    look()
    if (stalled || claiming >= maxClaiming) {
      discards.note(stalled ? "Stalled" : "TooManyClaims")
      return settled(false)
    }
    claiming++
    let asked = 0
    const { gaps } = transport.state
    const ask = () =>
      claim(key, ttlMillis, (error, mine) => {
        // It was not asked for: the link may be back in a moment, and nobody else may have heard the request. After a gap the
        // store may be another one, or empty, and know nothing of who has won.
        if (
          error?.sent === "no" &&
          transport.state.gaps === gaps &&
          error.kind !== "PermissionDenied" &&
          error.kind !== "Closed" &&
          ++asked < maxAsked
        ) {
          return wheel.add(new Later(ask), askAgainMillis)
        }
        claiming--
        if (error !== undefined) discards.note(`NotClaimed:${error.kind}`)
        settled(mine)
      })
    if (waitMillis === 0) ask()
    // Within a process the others hear it in this very turn; and a clock that nobody moves is nothing to wait for.
    else if (transport.capabilities.inProcess || link.shutDownClock === undefined) setImmediate(ask)
    else wheel.add(new Later(ask), waitMillis)
  }

  return {
    look,
    take,
    claim: (service, envelope, frame, defer, settled) => {
      const { oneWayId, requestId, timeoutMillis } = envelope
      // Of the whole frame: who uses an id again means another request.
      const digest = digestOf(frame)
      const isNamed = requestId !== null || oneWayId !== undefined
      const name = isNamed ? digest : `${digest}.${occurrence(digest)}`
      const ttl = isNamed
        ? Math.min(longestClaimMillis, Math.max(shortestClaimMillis, (timeoutMillis ?? 0) * 2))
        : anonymousClaimMillis
      take(Channels.claim(transport.prefix, service, name), ttl, defer ? deferMillis : 0, settled)
    }
  }
}

/** Names a frame by its content. */
export const digestOf = (data: string | Uint8Array) =>
  createHash("sha256").update(data).digest("base64url").slice(0, 22)

/** Calls a function when its time has come. */
export class Later extends TimerWheel.Entry {
  readonly act: () => void
  constructor(act: () => void) {
    super()
    this.act = act
  }
  override expire() {
    this.act()
  }
}
