/** The start of what uses a Redis Cluster: over when each of the first nodes is connected, or its first attempt has failed. */
import * as Effect from "effect/Effect"
import { TransportError } from "../Transport.ts"
import * as RedisNodes from "./RedisNodes.ts"

/** @see {@link make} */
export interface ClusterStart {
  /** A node is one of the first, and is connecting. */
  readonly expect: (address: string) => void
  /** It is connected, or is not. */
  readonly settled: (address: string, error: TransportError | undefined) => void
  /** Waits for all. Fails where a node is there and refuses: so will the others. */
  readonly done: Effect.Effect<void, TransportError>
}

/** Knows no node yet. */
export const make = (): ClusterStart => {
  const pending = new Set<string>()
  let over = false
  let failed: TransportError | undefined
  let resume: ((outcome: Effect.Effect<void, TransportError>) => void) | undefined
  const look = () => {
    if (pending.size > 0 || resume === undefined) return
    over = true
    resume(Effect.void)
  }
  return {
    expect: (address: string) => {
      if (!over) pending.add(address)
    },
    settled: (address: string, error: TransportError | undefined) => {
      if (over) return
      if (error !== undefined && !RedisNodes.passing.has(error.kind)) {
        over = true
        failed = error
        return resume?.(Effect.fail(error))
      }
      pending.delete(address)
      look()
    },
    done: Effect.callback<void, TransportError>((done) => {
      resume = done
      if (failed !== undefined) return done(Effect.fail(failed))
      look()
    })
  }
}

/** Nobody has a slot. */
export const uncovered = (name: string, slot: number) =>
  new TransportError({
    kind: "Unreachable",
    operation: `use ${name}`,
    detail: `no master has slot ${slot}`,
    hint: "Check CLUSTER INFO of its nodes",
    sent: "no"
  })
