/** Messages that are kept in this process. What `redisDurableLibrary` does in Redis, over tables in memory. */
import * as Effect from "effect/Effect"
import * as Codec from "../../wire/Codec.ts"
import type * as Durable from "../Durable.ts"
import type { Frame } from "../Transport.ts"
import { TransportError } from "../Transport.ts"

/** Default limit of the messages of one queue. */
export const defaultMaxLength = 100_000

/** Longest text of a cause that is kept, in characters. */
export const maxCauseLength = 8_000

interface Stored {
  readonly id: string
  readonly frame: Frame
  readonly key: string
  readonly at: number
  /** How often it was delivered so far. */
  deliveries: number
}

interface Delivered {
  readonly message: Stored
  consumer: string
  seen: number
}

interface Delayed {
  readonly message: Stored
  readonly due: number
  /** It is the first of its key already, as a message that is delivered again. */
  readonly leads: boolean
}

interface Result {
  readonly frame: string
  readonly until: number
}

interface Queue {
  entries: number
  /** In the order of their delivery, each under the name that it will be delivered by. */
  readonly ready: Map<string, Stored>
  readonly delivered: Map<string, Delivered>
  readonly delayed: Set<Delayed>
  /** Those that wait for the first of their key. */
  readonly lanes: Map<string, Array<Stored>>
  /** Ids of those that have no result yet. */
  readonly open: Set<string>
  /** Oldest first. */
  readonly results: Map<string, Result>
  readonly dead: Map<string, Durable.DeadLetter>
  letters: number
  /** Of a topic: the names of its groups' queues, the ids of the last messages, and what is kept of them. */
  readonly groups: Set<string>
  readonly published: Map<string, number>
  log: Array<{ readonly frame: string; readonly id: string; readonly until: number }>
  readonly readers: Set<() => void>
  readonly wakes: Set<() => void>
}

/** @see {@link makeStore} */
export interface Store {
  readonly now: () => number
  readonly maxLength: number
  readonly maxFrameBytes: number
  readonly queue: (name: string) => Queue
  readonly remove: (name: string) => void
}

/** Makes an empty store on a clock in milliseconds. */
export const makeStore = (
  now: () => number,
  options: { readonly maxLength?: number; readonly maxFrameBytes?: number } = {}
): Store => {
  const queues = new Map<string, Queue>()
  return {
    now,
    maxLength: options.maxLength ?? defaultMaxLength,
    maxFrameBytes: options.maxFrameBytes ?? Codec.defaultMaxBytes,
    remove: (name) => {
      const queue = queues.get(name)
      for (const part of [queue?.ready, queue?.delivered, queue?.delayed, queue?.lanes, queue?.dead]) part?.clear()
    },
    queue: (name) => {
      let queue = queues.get(name)
      if (queue === undefined) {
        queue = {
          entries: 0,
          ready: new Map(),
          delivered: new Map(),
          delayed: new Set(),
          lanes: new Map(),
          open: new Set(),
          results: new Map(),
          dead: new Map(),
          letters: 0,
          groups: new Set(),
          published: new Map(),
          log: [],
          readers: new Set(),
          wakes: new Set()
        }
        queues.set(name, queue)
      }
      return queue
    }
  }
}

/** For how long a message to a topic is recognised, in milliseconds. */
export const publishedMillis = 300_000

/** Longest time between two looks at what is delayed, in milliseconds. */
const restMillis = 60_000

/** The operations on a store. */
export const on = (store: Store): Durable.Durable["Service"] => {
  const { now } = store

  const lengthOf = ({ delayed, delivered, lanes, ready }: Queue) => {
    let length = delayed.size + delivered.size + ready.size
    for (const lane of lanes.values()) length += lane.length
    return length
  }

  const deliverable = (queue: Queue, message: Stored) => {
    queue.ready.set(`${++queue.entries}`, message)
    for (const wake of queue.readers) wake()
  }

  /** Takes its place among those of its key. */
  const enter = (queue: Queue, message: Stored) => {
    const lane = message.key === "" ? undefined : queue.lanes.get(message.key)
    if (lane !== undefined) return void lane.push(message)
    if (message.key !== "") queue.lanes.set(message.key, [])
    deliverable(queue, message)
  }

  /** The first of a key has ended. */
  const pass = (queue: Queue, key: string) => {
    if (key === "") return
    const next = queue.lanes.get(key)?.shift()
    if (next === undefined) queue.lanes.delete(key)
    else deliverable(queue, next)
  }

  const delay = (queue: Queue, message: Stored, millis: number, leads: boolean) => {
    queue.delayed.add({ message, due: now() + millis, leads })
    for (const wake of queue.wakes) wake()
  }

  const stateOf = (queue: Queue, id: string): Durable.State => {
    if (queue.open.has(id)) return { _tag: "Waiting" }
    const result = queue.results.get(id)
    if (result === undefined || result.until <= now()) return { _tag: "Unknown" }
    return { _tag: "Done", frame: result.frame }
  }

  const keep = ({ open, results }: Queue, id: string, frame: string, windowMillis: number) => {
    open.delete(id)
    // Put in again, so that the oldest come first.
    results.delete(id)
    if (id !== "" && windowMillis > 0) results.set(id, { frame, until: now() + windowMillis })
    for (const [oldest, { until }] of results) {
      if (until > now() && results.size <= store.maxLength) return
      results.delete(oldest)
    }
  }

  const append = (queue: Queue, { delayMillis, frame, id, key }: Durable.Message): Durable.Appended | undefined => {
    const state = stateOf(queue, id)
    if (state._tag !== "Unknown") return state as Durable.Appended
    if (lengthOf(queue) >= store.maxLength) return undefined
    queue.open.add(id)
    const message = { id, frame, key, at: now(), deliveries: 0 }
    if (delayMillis > 0) delay(queue, message, delayMillis, false)
    else enter(queue, message)
    return { _tag: "Added" }
  }

  const publish = (topic: Queue, { frame, id, keepMillis }: Durable.Publication): string | undefined => {
    for (const [known, until] of topic.published) {
      if (until > now()) break
      topic.published.delete(known)
    }
    if (topic.published.has(id)) return undefined
    const groups = Array.from(topic.groups, (name) => [name, store.queue(name)] as const)
    const crowded = groups.find(([, queue]) => lengthOf(queue) >= store.maxLength)
    if (crowded !== undefined) return crowded[0]
    topic.published.set(id, now() + publishedMillis)
    for (const [, queue] of groups) enter(queue, { id, frame, key: "", at: now(), deliveries: 0 })
    topic.log = topic.log.filter(({ until }) => until > now()).slice(-store.maxLength)
    if (keepMillis > 0) topic.log.push({ frame, id, until: now() + keepMillis })
    return undefined
  }

  const consume = (consumption: Durable.Consumption): Durable.Consumer => {
    const { consumer, idleMillis, maxDeadLetters, windowMillis } = consumption
    const queue = store.queue(consumption.queue)

    const deliver = (entry: string, message: Stored): Durable.Entry => {
      message.deliveries++
      queue.delivered.set(entry, { message, consumer, seen: now() })
      const { at, deliveries, frame, id, key } = message
      return { entry, id, frame, key, deliveries, at }
    }

    const take = (max: number) => {
      const entries: Array<Durable.Entry> = []
      for (const [entry, message] of queue.ready) {
        if (entries.length >= max) break
        queue.ready.delete(entry)
        entries.push(deliver(entry, message))
      }
      return entries
    }

    /** What ends a delivery; nothing if it has ended before. */
    const end = (entry: string) => {
      const message = queue.delivered.get(entry)?.message
      queue.delivered.delete(entry)
      return message
    }

    return {
      read: (max) =>
        Effect.callback((resume) => {
          const first = take(max)
          if (first.length > 0) return resume(Effect.succeed(first))
          const wake = () => {
            const entries = take(max)
            if (entries.length === 0) return
            queue.readers.delete(wake)
            resume(Effect.succeed(entries))
          }
          queue.readers.add(wake)
          return Effect.sync(() => queue.readers.delete(wake))
        }),
      claim: (max) =>
        Effect.sync(() => {
          const entries: Array<Durable.Entry> = []
          for (const [entry, { message, seen }] of queue.delivered) {
            if (entries.length >= max) break
            if (now() - seen >= idleMillis) entries.push(deliver(entry, message))
          }
          return { entries, lost: 0 }
        }),
      renew: (entries) =>
        Effect.sync(() =>
          entries.filter((entry) => {
            const delivered = queue.delivered.get(entry)
            if (delivered?.consumer !== consumer) return true
            delivered.seen = now()
            return false
          })
        ),
      settle: ({ entry }, { frame }, done) => {
        const message = end(entry)
        if (message === undefined) return done(undefined, false)
        keep(queue, message.id, frame, windowMillis)
        pass(queue, message.key)
        done(undefined, true)
      },
      retry: ({ entry }, delayMillis, counts, done) => {
        const message = end(entry)
        if (message === undefined) return done(undefined, false)
        if (!counts) message.deliveries--
        if (delayMillis > 0) delay(queue, message, delayMillis, true)
        else deliverable(queue, message)
        done(undefined, true)
      },
      bury: ({ entry }, { action, cause, reason }, settlement, done) => {
        const message = end(entry)
        if (message === undefined) return done(undefined, false)
        const { at, deliveries, frame, id, key } = message
        const letter = `${++queue.letters}`
        queue.dead.set(letter, {
          letter,
          id,
          key,
          frame,
          deliveries,
          action,
          cause: cause.slice(0, maxCauseLength),
          reason,
          appendedAt: at,
          buriedAt: now()
        })
        for (const oldest of queue.dead.keys()) {
          if (queue.dead.size <= maxDeadLetters) break
          queue.dead.delete(oldest)
        }
        queue.open.delete(id)
        if (settlement !== undefined) keep(queue, id, settlement.frame, windowMillis)
        pass(queue, key)
        done(undefined, true)
      },
      promote: Effect.sync(() => {
        let nextMillis = restMillis
        const due: Array<Delayed> = []
        for (const delayed of queue.delayed) {
          if (delayed.due <= now()) due.push(delayed)
          else nextMillis = Math.min(nextMillis, delayed.due - now())
        }
        due.sort((one, other) => one.due - other.due)
        for (const delayed of due) {
          queue.delayed.delete(delayed)
          if (delayed.leads) deliverable(queue, delayed.message)
          else enter(queue, delayed.message)
        }
        return { nextMillis, waiting: lengthOf(queue) - queue.delivered.size, dead: queue.dead.size }
      }),
      onDelayed: (wake) => {
        queue.wakes.add(wake)
        return () => queue.wakes.delete(wake)
      },
      leave: Effect.void
    }
  }

  return {
    name: "memory",
    capabilities: { kept: "process", publishes: false, maxFrameBytes: store.maxFrameBytes },
    append: (queue, message, done) => {
      const appended = append(store.queue(queue), message)
      done(appended === undefined ? full(queue, store.maxLength) : undefined, appended)
    },
    state: (queue, id, done) => done(undefined, stateOf(store.queue(queue), id)),
    publish: (topic, publication, done) => {
      const crowded = publish(store.queue(topic), publication)
      done(crowded === undefined ? undefined : full(crowded, store.maxLength), 0)
    },
    subscribe: (name, group, from) =>
      Effect.sync(() => {
        const topic = store.queue(name)
        if (topic.groups.has(group)) return
        topic.groups.add(group)
        if (from === "now") return
        for (const { frame, id, until } of topic.log) {
          if (until > now()) enter(store.queue(group), { id, frame, key: "", at: now(), deliveries: 0 })
        }
      }),
    unsubscribe: (name, group) =>
      Effect.sync(() => {
        store.queue(name).groups.delete(group)
        store.remove(group)
      }),
    consume: (consumption) => Effect.sync(() => consume(consumption)),
    dead: {
      list: (name, { after, limit }) =>
        Effect.sync(() => {
          const letters = Array.from(store.queue(name).dead.values())
          const from = after === undefined ? 0 : letters.findIndex(({ letter }) => Number(letter) > Number(after))
          return from < 0 ? [] : letters.slice(from, from + limit)
        }),
      find: (name, letter) => Effect.sync(() => store.queue(name).dead.get(letter)),
      size: (name) => Effect.sync(() => store.queue(name).dead.size),
      replay: (name, letter) =>
        Effect.sync(() => {
          const queue = store.queue(name)
          const dead = queue.dead.get(letter)
          if (dead === undefined) return false
          queue.dead.delete(letter)
          const { frame, id, key } = dead
          queue.results.delete(id)
          if (id !== "") queue.open.add(id)
          enter(queue, { id, frame, key, at: now(), deliveries: 0 })
          return true
        }),
      discard: (name, letter) => Effect.sync(() => store.queue(name).dead.delete(letter))
    }
  }
}

/** The error of an append to a queue that has as many messages as it may. */
export const full = (queue: string, maxLength: number) =>
  new TransportError({
    kind: "Overloaded",
    operation: `append to ${queue}`,
    detail: `${maxLength} messages wait there, and no more may`,
    hint: "Let more processes consume, append slower, or raise maxLength",
    sent: "no"
  })
