/** What a peer is: one file of peers/ that exports `peer`, with the roles that it can play in processes of their own. */
import type { Calls } from "./Meter.ts"
import type { Blob, Payload } from "./Payload.ts"

/** What a process is told at its start. */
export interface Setting {
  /** Tells apart the peers that share a file, e.g. with and without validation. */
  readonly variant: string
  /** No two peers of a run share it: name of the service, the queue, the channel. Letters and digits. */
  readonly name: string
  readonly redis: string
  /** Address of the nats-server, where there is one. */
  readonly nats: string | undefined
  /** A free port, for peers without a broker. */
  readonly port: number
  /** Folder of the build of fiberbus. */
  readonly build: string
  /** Timeouts, backlogs and message sizes as by default, or so high that a row does not feel them. */
  readonly limits: "default" | "raised"
  /** Handlers at once; undefined for the peer's default. */
  readonly pool: number | undefined
  /** Of a caller: it calls so many services of the role `idle` in turn, instead of the one of the role `serve`. */
  readonly services: number | undefined
}

/** What the service is asked to do. */
export interface Handlers {
  /** Gives back what it got. */
  readonly echo: (payload: Payload) => Payload
  /** The same after {@link waitMillis}, as one that asks a database. */
  readonly wait: (payload: Payload) => Promise<Payload>
  readonly blob: (blob: Blob) => Blob
  /** Never answers. */
  readonly hold: (payload: Payload) => Promise<never>
}
export type Op = keyof Handlers

/** What the handler of `wait` waits for. */
export const waitMillis = 10

/** For peers whose handlers are functions; those of Effect write their own. */
export const handlers: Handlers = {
  echo: (payload) => payload,
  wait: (payload) => new Promise((resolve) => setTimeout(resolve, waitMillis, payload)),
  blob: (blob) => blob,
  hold: () => new Promise(() => {})
}

/** What the client's process can do. A row asks only for what its peers have. */
export interface Client {
  readonly calls?: Calls
  /** Makes one call that is answered with so many items, `Payload.make(0)` and so on, and gives each to `take`, in order. */
  readonly stream?: (count: number, take: (item: Payload) => void) => Promise<void>
  /** Publishes `Payload.make(0)` and so on, at most {@link publishesAtOnce} of them unconfirmed. */
  readonly publish?: (count: number) => Promise<void>
}

/** Messages of the fan-out whose publishing has not been confirmed. */
export const publishesAtOnce = 100

/** For peers whose publishing is a promise. */
export const inGroups =
  (publish: (message: Payload) => Promise<unknown>, make: (id: number) => Payload) =>
  async (count: number): Promise<void> => {
    for (let from = 0; from < count; from += publishesAtOnce) {
      await Promise.all(
        Array.from({ length: Math.min(publishesAtOnce, count - from) }, (_, index) => publish(make(from + index)))
      )
    }
  }

/** Each role resolves when everything is connected; its process lives on until it is ended. */
export interface Peer {
  readonly serve?: (setting: Setting) => Promise<void>
  readonly connect?: (setting: Setting) => Promise<Client>
  /** So many listeners in this process; `heard` gets every message of each. */
  readonly listen?: (setting: Setting, listeners: number, heard: (message: Payload) => void) => Promise<void>
  /** So many services without work in this process, each with one action. */
  readonly idle?: (setting: Setting, services: number) => Promise<void>
}
