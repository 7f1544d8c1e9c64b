/** The faults of one run: decided by the seed, or given as a list. */
import * as Fault from "./Fault.ts"

/** @see {@link make} */
export interface Storm {
  /** What happens over time, the earliest first. */
  readonly timed: ReadonlyArray<Fault.TimedFault>
  /** What becomes of a process' n-th frame. From `calm` on, nothing does. */
  readonly fateOf: (process: string, frame: number) => Fault.FrameFault | undefined
  /** The faults that there were, in the order in which they came. */
  readonly happened: () => ReadonlyArray<Fault.Fault>
}

/** Makes the storm of a run. */
export const make = (options: {
  readonly faults: Fault.Mix | ReadonlyArray<Fault.Fault>
  readonly seed: number
  readonly services: ReadonlyArray<string>
  readonly clients: ReadonlyArray<string>
  /** How long it lasts, in milliseconds. */
  readonly millis: number
  readonly isOver: () => boolean
}): Storm => {
  const { clients, faults, isOver, millis, seed, services } = options
  const hit: Array<Fault.FrameFault> = []
  let timed: ReadonlyArray<Fault.TimedFault>
  let choose: (process: string, frame: number) => Fault.FrameFault | undefined
  if (isList(faults)) {
    const given = new Map<string, Fault.FrameFault>()
    for (const fault of faults) if ("frame" in fault) given.set(`${fault.process} ${fault.frame}`, fault)
    timed = faults.filter((fault) => "at" in fault).sort((one, other) => one.at - other.at)
    choose = (process, frame) => given.get(`${process} ${frame}`)
  } else {
    timed = Fault.overTime(faults, seed, { services, processes: [...services, ...clients] }, millis)
    choose = (process, frame) => Fault.ofFrame(faults, seed, process, frame)
  }
  return {
    timed,
    fateOf: (process, frame) => {
      const fault = isOver() ? undefined : choose(process, frame)
      if (fault !== undefined) hit.push(fault)
      return fault
    },
    happened: () => [...timed, ...hit]
  }
}

const isList = (faults: Fault.Mix | ReadonlyArray<Fault.Fault>): faults is ReadonlyArray<Fault.Fault> =>
  Array.isArray(faults)
