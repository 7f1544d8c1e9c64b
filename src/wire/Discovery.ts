/**
 * What a process tells of the services that it serves, to whoever asks: the questions and the answers to them.
 *
 * A question is a request for an action whose name begins with `$`: on a service's channel, on that of one process, or, about all that a
 * process serves, on the channel of {@link Channels.who}. Source: docs/wire.md.
 */
import * as Schema from "effect/Schema"

/** What can be asked, as the names of actions. */
export const questions = ["$ping", "$info", "$stats", "$health"] as const
/** @see {@link questions} */
export type Question = (typeof questions)[number]

/** True for names that no contract may give to an action. */
export const isReserved = (action: string): boolean => action.charCodeAt(0) === 36

/** True for a {@link Question}. */
export const isQuestion = (action: string): action is Question =>
  isReserved(action) && (questions as ReadonlyArray<string>).includes(action)

const who = {
  service: Schema.String,
  /** The process, among those that serve the same. */
  instance: Schema.String
}

/** That a process is there, and what it serves. */
export interface Ping extends Schema.Schema.Type<typeof Ping> {}
export const Ping = Schema.Struct({
  ...who,
  /** The service's own, where its options give one. */
  version: Schema.optionalKey(Schema.String),
  /** It takes no more requests, and ends those it has. */
  draining: Schema.Boolean,
  /** The names of its actions, at most 256 of them. */
  actions: Schema.Array(Schema.String),
  /** Actions that are not in the list. */
  more: Schema.optionalKey(Schema.Natural)
})

/** A schema as JSON Schema (draft 2020-12), of values as they cross the wire; its `$defs` are beside the rest. */
export const JsonSchema = Schema.Record(Schema.String, Schema.Json)
export type JsonSchema = typeof JsonSchema.Type

/** What one action is. A part that its contract does not have, or that JSON Schema cannot say, is left out. */
export interface ActionInfo extends Schema.Schema.Type<typeof ActionInfo> {}
export const ActionInfo = Schema.Struct({
  name: Schema.String,
  delivery: Schema.Literals(["one", "live", "durable"]),
  /** Time of a call whose caller says nothing else, in milliseconds. Absent where it has no end. */
  timeoutMillis: Schema.optionalKey(Schema.Finite),
  idempotent: Schema.Boolean,
  /** Handlers of it that run at once, where it has a limit of its own. */
  concurrency: Schema.optionalKey(Schema.Finite),
  /** Requests of one key go to the same process. */
  keyed: Schema.Boolean,
  payload: Schema.optionalKey(JsonSchema),
  success: Schema.optionalKey(JsonSchema),
  error: Schema.optionalKey(JsonSchema),
  progress: Schema.optionalKey(JsonSchema),
  items: Schema.optionalKey(JsonSchema),
  asks: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ ask: JsonSchema, answer: JsonSchema })))
})

/** What a process serves, in full. */
export interface Info extends Schema.Schema.Type<typeof Info> {}
export const Info = Schema.Struct({
  ...who,
  version: Schema.optionalKey(Schema.String),
  /** The version of fiberbus. */
  fiberbus: Schema.String,
  startedAt: Schema.Date,
  actions: Schema.Array(ActionInfo),
  /** The schemas were left out: with them the answer would have been larger than a frame may be. */
  withoutSchemas: Schema.optionalKey(Schema.Literal(true))
})

/** How long the handlers of one action ran, without the wait for a slot. Nothing but the count where none has ended. */
export interface Latency extends Schema.Schema.Type<typeof Latency> {}
export const Latency = Schema.Struct({
  count: Schema.Natural,
  meanMillis: Schema.optionalKey(Schema.Finite),
  minMillis: Schema.optionalKey(Schema.Finite),
  maxMillis: Schema.optionalKey(Schema.Finite),
  /** Estimated from the buckets. */
  p50Millis: Schema.optionalKey(Schema.Finite),
  p99Millis: Schema.optionalKey(Schema.Finite),
  /** An upper end in milliseconds, and how many ran at most so long. */
  buckets: Schema.Array(Schema.Tuple([Schema.Finite, Schema.Natural]))
})

/** What became of the requests for one action. */
export interface ActionStats extends Schema.Schema.Type<typeof ActionStats> {}
export const ActionStats = Schema.Struct({
  name: Schema.String,
  /** `success`, `error` (declared), `defect`, `interrupted`: how many ended so. */
  outcomes: Schema.Record(Schema.String, Schema.Natural),
  latency: Latency
})

/** How much a process has done, and does now. Counts begin with the process and are of all its layers that serve the service. */
export interface Stats extends Schema.Schema.Type<typeof Stats> {}
export const Stats = Schema.Struct({
  ...who,
  startedAt: Schema.Date,
  uptimeMillis: Schema.Finite,
  draining: Schema.Boolean,
  /** Handlers that run now. */
  running: Schema.Natural,
  /** Requests that wait for a slot now. */
  waiting: Schema.Natural,
  /** The state of its transport: `Ready`, `Degraded`, … */
  link: Schema.String,
  actions: Schema.Array(ActionStats),
  /** Requests whose handler was not begun, by reason. */
  refused: Schema.Record(Schema.String, Schema.Natural),
  /** Messages that the whole process had to drop, by reason. */
  discarded: Schema.Record(Schema.String, Schema.Natural),
  memory: Schema.Struct({ rssBytes: Schema.Finite, heapUsedBytes: Schema.Finite })
})

/** What a check is about: whether the process must be restarted, or whether it can be given work. */
export const CheckKind = Schema.Literals(["liveness", "readiness"])
export type CheckKind = typeof CheckKind.Type

/** What became of one check. */
export interface CheckResult extends Schema.Schema.Type<typeof CheckResult> {}
export const CheckResult = Schema.Struct({
  name: Schema.String,
  kind: CheckKind,
  status: Schema.Literals(["pass", "fail"]),
  /** In words, at most 500 characters. */
  detail: Schema.optionalKey(Schema.String),
  /** When it was looked at, and how long that took. */
  at: Schema.Date,
  millis: Schema.Finite
})

/** How a process is. */
export interface Health extends Schema.Schema.Type<typeof Health> {}
export const Health = Schema.Struct({
  ...who,
  /** Every check of kind `liveness` passes. */
  live: Schema.Boolean,
  /** Every check passes. */
  ready: Schema.Boolean,
  checks: Schema.Array(CheckResult)
})

/** Names of actions that a `$ping` tells at most. */
export const maxActions = 256
/** Longest detail of a check, in characters. */
export const maxDetailLength = 500

/**
 * The time that a share of all runs did not exceed, in milliseconds: 0.5 is the median. Estimated within the bucket that it falls into.
 * Nothing where there were no runs. Beyond the last bucket it is `most`.
 */
export const quantile = (
  { buckets, count }: Pick<Latency, "count" | "buckets">,
  share: number,
  most: number
): number | undefined => {
  if (count === 0) return undefined
  const rank = share * count
  let below = 0
  let from = 0
  for (const [to, upTo] of buckets) {
    if (upTo >= rank && upTo > below) return Math.min(most, from + ((to - from) * (rank - below)) / (upTo - below))
    below = upTo
    from = to
  }
  return most
}
