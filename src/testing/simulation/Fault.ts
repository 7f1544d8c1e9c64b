/** What can go wrong, as plain data: a list of these is what a run suffered, what it is replayed with, and what is shrunk. */
import * as Dice from "./Dice.ts"

/** What becomes of one frame: the n-th, from 1, that a process sends in the whole run. */
export type FrameFault =
  /** It gets lost behind the broker, and nobody is told. */
  | { readonly _tag: "Lost"; readonly process: string; readonly frame: number }
  /** It arrives twice, which no transport that promises `at-most-once` may do. */
  | { readonly _tag: "Twice"; readonly process: string; readonly frame: number }
  /** It arrives, but the sending ends with an error after 2 seconds, and nobody knows whether it was sent. */
  | { readonly _tag: "Unconfirmed"; readonly process: string; readonly frame: number }
  /** It never leaves, and the sending says so. */
  | { readonly _tag: "Refused"; readonly process: string; readonly frame: number }
  /** It stays on the way so much longer, and with it what the process sends after it. */
  | { readonly _tag: "Late"; readonly process: string; readonly frame: number; readonly millis: number }
  /** It stays on the way so much longer, and what is sent after it passes it, which no `ordered` transport may do. */
  | { readonly _tag: "Overtaken"; readonly process: string; readonly frame: number; readonly millis: number }

/** The connections of a process to the broker. */
export type Connections = "both" | "publisher" | "subscriber"

/** What befalls a process or the broker, so many milliseconds after the clients began, and for how long. */
export type TimedFault =
  /** The connection is reset. It comes back after that time. */
  | Timed<"Cut", { readonly process: string; readonly connections: Connections }>
  /** Nothing goes through, and nobody is told before a heartbeat (6 s) or a sending (2 s) has waited for it in vain. */
  | Timed<"Partition", { readonly process: string }>
  /** The broker is gone, for all. */
  | Timed<"Outage", {}>
  /** The process is killed; a service is started again after that time. */
  | Timed<"Crash", { readonly process: string }>
  /** The process is told to end, as by SIGTERM; a service is started again that time after it has ended. */
  | Timed<"Stop", { readonly process: string }>
  /** The process stands still, as a laptop with its lid closed, and then goes on. */
  | Timed<"Freeze", { readonly process: string }>

type Timed<Tag extends string, Fields> = { readonly _tag: Tag; readonly at: number; readonly millis: number } & Fields

/** @see the file's first line */
export type Fault = FrameFault | TimedFault

/**
 * How much of what goes wrong, left to the seed. Chances are of each frame, from 0 to 1; the others say how often at most in a run.
 * What is left out does not happen.
 */
export interface Mix {
  readonly lost?: number
  readonly twice?: number
  readonly unconfirmed?: number
  readonly refused?: number
  readonly late?: number
  readonly overtaken?: number
  readonly cuts?: number
  readonly partitions?: number
  readonly outages?: number
  readonly crashes?: number
  readonly stops?: number
  readonly freezes?: number
}

/** All that a broker of Redis' kind may do to its users: it loses, delays and dies, but it neither repeats nor reorders. */
export const rough: Mix = {
  lost: 0.02,
  unconfirmed: 0.01,
  refused: 0.01,
  late: 0.03,
  cuts: 3,
  partitions: 1,
  outages: 1,
  crashes: 2,
  stops: 1,
  freezes: 1
}

/** Beyond what transports promise today: frames that come twice, and out of order. */
export const hostile: Mix = { ...rough, twice: 0.02, overtaken: 0.03 }

/** The longest that frames are late or overtaken, and what lasts lasts, in milliseconds. */
const longest = {
  Late: 2_000,
  Overtaken: 500,
  Cut: 3_000,
  Partition: 9_000,
  Outage: 3_000,
  Crash: 3_000,
  Stop: 5_000,
  Freeze: 8_000
}

const kinds = [
  ["lost", "Lost"],
  ["twice", "Twice"],
  ["unconfirmed", "Unconfirmed"],
  ["refused", "Refused"],
  ["late", "Late"],
  ["overtaken", "Overtaken"]
] as const

/** What a mix does to one frame. */
export const ofFrame = (mix: Mix, seed: number, process: string, frame: number): FrameFault | undefined => {
  let chance = Dice.roll(seed, "fate", process, frame)
  for (const [name, _tag] of kinds) {
    chance -= mix[name] ?? 0
    if (chance >= 0) continue
    if (_tag !== "Late" && _tag !== "Overtaken") return { _tag, process, frame }
    // Most are a little late.
    const share = Dice.roll(seed, "late", process, frame) ** 3
    return { _tag, process, frame, millis: Dice.between(1, longest[_tag], share) }
  }
  return undefined
}

/** What a mix does over time. All of it is over when `calm` begins. */
export const overTime = (
  mix: Mix,
  seed: number,
  who: { readonly services: ReadonlyArray<string>; readonly processes: ReadonlyArray<string> },
  calm: number
): ReadonlyArray<TimedFault> => {
  const some = <A>(name: string, most: number | undefined, make: (roll: (about: string) => number) => A) =>
    Array.from({ length: Dice.between(0, most ?? 0, Dice.roll(seed, name)) }, (_, n) =>
      make((about) => Dice.roll(seed, name, n, about))
    )
  const span = (_tag: TimedFault["_tag"], roll: (about: string) => number) => {
    const at = Dice.between(0, Math.floor(calm * 0.9), roll("at"))
    return { at, millis: Math.min(calm - at, Dice.between(1, longest[_tag], roll("millis") ** 2)) }
  }
  const one = <A>(of: ReadonlyArray<A>, chance: number): A => of[Dice.between(0, of.length - 1, chance)]!
  const connections = ["both", "subscriber", "publisher"] as const
  const { processes, services } = who
  const faults: ReadonlyArray<TimedFault> = [
    ...some("cuts", mix.cuts, (roll) => ({
      _tag: "Cut" as const,
      process: one(processes, roll("process")),
      connections: one(connections, roll("connections")),
      ...span("Cut", roll)
    })),
    ...some("partitions", mix.partitions, (roll) => ({
      _tag: "Partition" as const,
      process: one(processes, roll("process")),
      ...span("Partition", roll)
    })),
    ...some("outages", mix.outages, (roll) => ({ _tag: "Outage" as const, ...span("Outage", roll) })),
    ...some("crashes", services.length === 0 ? 0 : mix.crashes, (roll) => ({
      _tag: "Crash" as const,
      process: one(services, roll("process")),
      ...span("Crash", roll)
    })),
    ...some("stops", services.length === 0 ? 0 : mix.stops, (roll) => ({
      _tag: "Stop" as const,
      process: one(services, roll("process")),
      ...span("Stop", roll)
    })),
    ...some("freezes", mix.freezes, (roll) => ({
      _tag: "Freeze" as const,
      process: one(processes, roll("process")),
      ...span("Freeze", roll)
    }))
  ]
  return [...faults].sort((one, other) => one.at - other.at)
}

/** One line for people. */
export const text = (fault: Fault): string => {
  if ("frame" in fault) {
    const frame = `frame ${fault.frame} of ${fault.process}`
    switch (fault._tag) {
      case "Lost":
        return `${frame} is lost`
      case "Twice":
        return `${frame} arrives twice`
      case "Unconfirmed":
        return `${frame} arrives, and is not confirmed`
      case "Refused":
        return `${frame} is refused`
      case "Late":
        return `${frame} is ${fault.millis} ms late, and what follows it`
      case "Overtaken":
        return `${frame} is ${fault.millis} ms late, and overtaken`
    }
  }
  const when = `at ${fault.at} for ${fault.millis} ms`
  switch (fault._tag) {
    case "Cut":
      return `${fault.process} loses ${fault.connections === "both" ? "the link" : `the ${fault.connections}`} ${when}`
    case "Partition":
      return `nothing reaches or leaves ${fault.process} ${when}`
    case "Outage":
      return `the broker is gone ${when}`
    case "Crash":
      return `${fault.process} is killed ${when}`
    case "Stop":
      return `${fault.process} is told to end at ${fault.at}, and started ${fault.millis} ms later`
    case "Freeze":
      return `${fault.process} stands still ${when}`
  }
}
