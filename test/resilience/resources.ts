/** What a process holds: sockets and timers that keep it alive, and memory after a collection. */
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { Effect } from "effect"

let collect: (() => void) | undefined

/** The same when what runs has come to rest: the turn in which something ends still holds what it ended with. */
export const memoryAtRest = Effect.map(Effect.sleep(20), () => memory())

/** Bytes of the heap and of buffers that are in use, after everything unreachable is gone. */
export const memory = (): number => {
  if (collect === undefined) {
    V8.setFlagsFromString("--expose-gc")
    collect = Vm.runInNewContext("gc") as () => void
    V8.setFlagsFromString("--no-expose-gc")
  }
  // Finalizers of the first may free what the second collects.
  collect()
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Open sockets: those of TCP and of pipes, listening ones too. */
export const sockets = (): number => count(/^(TCP|Pipe)(Server|Connect|Socket)?W(rap|RAP)$/)

/** Timers that keep the process alive. */
export const timers = (): number => count(/^(Timeout|Immediate)$/)

const count = (kind: RegExp) => process.getActiveResourcesInfo().filter((name) => kind.test(name)).length
