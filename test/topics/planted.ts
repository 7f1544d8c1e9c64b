/** A transport whose frames can be lost, repeated and put off, by their content. */
import type { Transport } from "../../src/transport/Transport.ts"

export interface Planted {
  readonly transport: Transport["Service"]
  /** Says what becomes of frames that arrive from now on: how many times each is given. */
  copies: (frame: string, channel: string) => number
  /** Frames that were put off are given when this is called. */
  release: () => void
  /** As a link does that was lost and is back. */
  gap: () => void
  readonly sent: Array<{ readonly channel: string; readonly frame: string }>
  /** True for frames that wait for `release`. */
  late: (frame: string, channel: string) => boolean
}

export const make = (
  inner: Transport["Service"],
  capabilities: Partial<Transport["Service"]["capabilities"]> = {}
): Planted => {
  const watchers = new Set<Parameters<Transport["Service"]["watch"]>[0]>()
  let gaps = 0
  let waiting: Array<() => void> = []
  const planted: Planted = {
    copies: () => 1,
    late: () => false,
    sent: [],
    release: () => {
      const given = waiting
      waiting = []
      for (const give of given) give()
    },
    gap: () => {
      gaps++
      for (const watcher of watchers) watcher({ _tag: "Ready", gaps })
    },
    transport: {
      ...inner,
      // What gets lost here would not be looked for within a process.
      capabilities: { ...inner.capabilities, inProcess: false, ...capabilities },
      get state() {
        return { ...inner.state, gaps } as any
      },
      watch: (watcher) => {
        watchers.add(watcher)
        const leave = inner.watch(watcher)
        return () => {
          watchers.delete(watcher)
          leave()
        }
      },
      send: (channel, frame, sent) => {
        planted.sent.push({ channel, frame })
        inner.send(channel, frame, sent)
      },
      subscribe: (target, receive) =>
        inner.subscribe(target, (frame, channel) => {
          const text = frame.toString()
          const give = () => {
            for (let i = planted.copies(text, channel); i > 0; i--) receive(frame, channel)
          }
          if (planted.late(text, channel)) waiting.push(give)
          else give()
        })
    }
  }
  return planted
}
