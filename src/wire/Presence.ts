/**
 * How processes that serve a service and those that call it know of each other.
 *
 * `here` and `gone` on the service's channel of instances, `who` on the service's own, `probe` on that of one process, and `up` on the
 * inbox that asked. Source: docs/wire.md. None names an action, so Daebus services ignore them.
 */
import type { JsonObject } from "./Codec.ts"
import { isCount, isInstance } from "./Envelope.ts"

/** A process takes requests on its own channel. */
export interface Here {
  readonly _tag: "Here"
  readonly by: string
  /** Those that it takes; nothing where there are too many to say: then all of the service's. */
  readonly actions: ReadonlyArray<string> | undefined
  /** The most messages that it takes in one frame; nothing where it takes one. */
  readonly pack?: number | undefined
  /** The version in which it takes long texts behind the JSON; nothing where it takes none. */
  readonly texts?: number | undefined
}

/** A process takes no more requests, and ends those it has. */
export interface Gone {
  readonly _tag: "Gone"
  readonly by: string
}

/** Asks every process of the service to say that it is there. */
export interface Who {
  readonly _tag: "Who"
}

/** Asks one process for a sign of life. */
export interface Probe {
  readonly _tag: "Probe"
  readonly replyTo: string
}

/** The sign of life. It says nothing of whether the process takes requests. */
export interface Up {
  readonly _tag: "Up"
  readonly by: string
}

/** @see the file's first line */
export type Presence = Here | Gone | Who | Probe | Up

/** Actions that a `here` names at most, and the longest of their texts all together; beyond it names none, and is read as if it did. */
export const maxActions = 256
const maxActionsLength = 8_192

const isShort = (actions: ReadonlyArray<string>) =>
  actions.length <= maxActions && actions.reduce((sum, { length }) => sum + length, 0) <= maxActionsLength

/** Reads a message that names no action; nothing if it is none of these. */
export const read = (raw: JsonObject): Presence | undefined => {
  const extension = raw["fiberbus"]
  if (typeof extension !== "object" || extension === null || raw["status"] !== undefined) return undefined
  const { actions, gone, here, pack, probe, texts, up, v, who } = extension as Record<string, unknown>
  if (v !== 1) return undefined
  if (isInstance(here)) {
    return {
      _tag: "Here",
      by: here,
      actions: readActions(actions),
      pack: isCount(pack) && pack > 1 ? pack : undefined,
      texts: isCount(texts) && texts > 0 ? texts : undefined
    }
  }
  if (isInstance(gone)) return { _tag: "Gone", by: gone }
  if (isInstance(up)) return { _tag: "Up", by: up }
  if (who === true) return { _tag: "Who" }
  const replyTo = raw["reply_to"]
  return probe === true && typeof replyTo === "string" ? { _tag: "Probe", replyTo } : undefined
}

const readActions = (value: unknown): ReadonlyArray<string> | undefined =>
  Array.isArray(value) &&
  value.length <= maxActions &&
  value.every((name) => typeof name === "string") &&
  isShort(value)
    ? value
    : undefined

/** Writes one. */
export const write = (presence: Presence): string => {
  switch (presence._tag) {
    case "Here": {
      const { actions, by, pack, texts } = presence
      const named = actions !== undefined && isShort(actions) ? actions : undefined
      return JSON.stringify({ fiberbus: { v: 1, here: by, actions: named, pack, texts } })
    }
    case "Gone":
      return JSON.stringify({ fiberbus: { v: 1, gone: presence.by } })
    case "Who":
      return JSON.stringify({ fiberbus: { v: 1, who: true } })
    case "Probe":
      return JSON.stringify({ reply_to: presence.replyTo, fiberbus: { v: 1, probe: true } })
    case "Up":
      return JSON.stringify({ fiberbus: { v: 1, up: presence.by } })
  }
}
