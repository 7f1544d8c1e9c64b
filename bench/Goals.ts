/** What fiberbus is to reach, as ratios within one run: schema checks and limits on, defaults as a user gets them. */
import * as Results from "./Results.ts"
import * as Tables from "./Tables.ts"

/** One figure of ours, to another's or by itself, and how far it is to go. */
export interface Goal {
  readonly row: string
  readonly case: string
  readonly metric: string
  readonly peer: string
  /** The ratio to this peer's; without it the figure itself. */
  readonly to: string | undefined
  readonly atLeast?: number
  readonly atMost?: number
  /** What it is about. */
  readonly what: string
}

/** The peer whose frames hold one message each, as Daebus has it, and the one with all defaults, which packs where it can. */
const single = "fiberbus-single"
const packed = "fiberbus"

const least = (
  what: string,
  row: string,
  of: string,
  metric: string,
  peer: string,
  to: string | undefined,
  atLeast: number
): Goal => ({
  what,
  row,
  case: of,
  metric,
  peer,
  to,
  atLeast
})
const most = (
  what: string,
  row: string,
  of: string,
  metric: string,
  peer: string,
  to: string | undefined,
  atMost: number
): Goal => ({
  what,
  row,
  case: of,
  metric,
  peer,
  to,
  atMost
})

const hundred = "100 in flight"
const thousand = "1,000 in flight"
const frames = "calls/s, Daebus' frames"
const packs = "calls/s, packed"

export const goals: ReadonlyArray<Goal> = [
  least(frames, "calls", hundred, "rate", single, "moleculer", 2),
  least(frames, "calls", hundred, "rate", single, "nest", 2),
  least(frames, "calls", hundred, "rate", single, "floor", 1.25),
  least(frames, "calls", hundred, "rate", single, "floor-corked", 0.75),
  least(packs, "calls", hundred, "rate", packed, "moleculer", 5),
  least(packs, "calls", hundred, "rate", packed, "nats", 6),
  least(packs, "calls", hundred, "rate", packed, "effect-rpc-jit", 2),
  least(packs, "calls", hundred, "rate", packed, "floor-packed", 0.8),
  least(packs, "calls", thousand, "rate", packed, "moleculer", 3.5),
  least(packs, "calls", thousand, "rate", packed, "nats", 4.5),
  least(packs, "calls", thousand, "rate", packed, "floor-packed", 0.8),
  most("p50", "latency", "1 in flight", "p50", packed, "floor", 1.15),
  most("p99", "latency", "1 in flight", "p99", packed, "floor", 1.15),
  most("CPU per call, Daebus' frames", "calls", hundred, "cpu", single, "moleculer", 0.48),
  most("CPU per call, packed", "calls", hundred, "cpu", packed, "moleculer", 0.22),
  most("p99, Daebus' frames", "calls", hundred, "p99", single, "moleculer", 0.55),
  most("p99, packed", "calls", hundred, "p99", packed, "moleculer", 0.3),
  most("time of a burst", "burst", "10,000 at once", "millis", packed, "moleculer", 0.3),
  most("time of a burst", "burst", "100,000 at once", "millis", packed, "moleculer", 0.3),
  least("share answered", "burst", "10,000 at once", "answered", packed, undefined, 1),
  least("share answered", "burst", "100,000 at once", "answered", packed, undefined, 1),
  least("deliveries/s, Daebus' frames", "fanout", "in one process", "rate", single, "moleculer", 1.6),
  least("deliveries/s, Daebus' frames", "fanout", "in 10 processes", "rate", single, "moleculer", 1.6),
  least("deliveries/s, packed", "fanout", "in one process", "rate", "fiberbus-packed", "moleculer", 4),
  least("deliveries/s, packed", "fanout", "in 10 processes", "rate", "fiberbus-packed", "moleculer", 4),
  least("items/s", "streaming", "10,000 items", "rate", packed, "moleculer", 4),
  least("items/s", "streaming", "10,000 items", "rate", packed, "effect-rpc-jit", 1.2),
  least("items/s, Daebus' frames", "streaming", "10,000 items", "rate", "fiberbus-daebus", "moleculer", 1.3),
  least("MiB/s", "payloads", "64 KiB", "rate", packed, "floor", 0.95),
  least("MiB/s", "payloads", "1 MiB", "rate", packed, "floor", 0.95),
  least("MiB/s", "payloads", "64 KiB", "rate", packed, "moleculer", 1),
  least("MiB/s", "payloads", "1 MiB", "rate", packed, "moleculer", 1),
  least("calls/s in memory", "memory", hundred, "rate", "fiberbus-memory", "moleculer-fake", 10),
  least("share of the limit", "waiting", "10 at once", "share", packed, undefined, 0.95),
  least("share of the limit", "waiting", "100 at once", "share", packed, undefined, 0.95),
  least("share of the limit", "waiting", "1,000 at once", "share", packed, undefined, 0.95),
  most("heap, end to first tenth", "flat", "calls one after the other", "end", packed, undefined, 1.05),
  most("import", "start", "import", "millis", packed, "moleculer", 1),
  most("service ready", "start", "service ready on Redis", "millis", packed, "moleculer", 1),
  least("calls/s of `one`, one replica", "calls", hundred, "rate", packed, "fiberbus-live", 0.95),
  least("calls/s, durable", "calls", hundred, "rate", "fiberbus-durable", "floor-streams", 0.7),
  least("calls/s, durable", "calls", hundred, "rate", "fiberbus-durable", "bullmq", 5)
]

/** What tells it from all others. */
export const idOf = (goal: Goal): string =>
  [goal.row, goal.case, goal.metric, goal.to === undefined ? goal.peer : `${goal.peer} to ${goal.to}`].join(", ")

/** In words, without the case. */
export const titleOf = (goal: Goal): string => {
  const bound = goal.atLeast === undefined ? `≤ ${goal.atMost}` : `≥ ${goal.atLeast}`
  return `${goal.what}: ${goal.to === undefined ? bound : `${bound} × ${Tables.nameOf(goal.to)}`}`
}

/** What was measured for it; undefined where one of the two was not. */
export const measured = (results: Results.Results, goal: Goal): Results.Spread | undefined =>
  Results.spread(
    goal.to === undefined
      ? Results.values(results, goal)
      : Results.ratios(results, goal, { case: goal.case, metric: goal.metric, peer: goal.to })
  )

/** Judged by the median. */
export const isMet = ({ atLeast, atMost }: Goal, { median }: Results.Spread): boolean =>
  (atLeast === undefined || median >= atLeast) && (atMost === undefined || median <= atMost)

/** Goal, measured, met: of all, or of those that were measured. */
export const table = (results: Results.Results, of: "all" | "measured" = "all"): string =>
  Tables.markdown([
    ["goal", "at", "measured", "met"],
    ...goals
      .filter((goal) => of === "all" || measured(results, goal) !== undefined)
      .map((goal) => {
        const found = measured(results, goal)
        return [
          titleOf(goal),
          goal.case,
          found === undefined ? "not measured" : Tables.spread(found, 2),
          found === undefined ? "–" : isMet(goal, found) ? "yes" : "no"
        ]
      })
  ])
