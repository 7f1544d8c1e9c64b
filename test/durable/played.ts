/** A durable store whose operations a test ends itself, beside a bus in memory whose link it moves. */
import { Clock, Effect, Option, Queue } from "effect"
import { TestClock } from "effect/testing"
import { Durable, Memory, Transport } from "fiberbus"
import * as LinkState from "../../src/transport/LinkState.ts"
import { turns } from "../scripted.ts"

/** A message that was to be appended, and when on the test's clock. */
export interface Append {
  readonly queue: string
  readonly message: Durable.Message
  /** The message's frame. */
  readonly frame: any
  readonly at: number
  readonly done: (error: Transport.TransportError | undefined, appended: Durable.Appended | undefined) => void
}

/** A question about an id. */
export interface Look {
  readonly queue: string
  readonly id: string
  readonly at: number
  readonly done: (error: Transport.TransportError | undefined, state: Durable.State | undefined) => void
}

/** A message to a topic that was to be kept. */
export interface Published {
  readonly topic: string
  readonly publication: Durable.Publication
  readonly at: number
  readonly done: (error: Transport.TransportError | undefined, receivers: number) => void
}

/** What a store fails with. */
export const failed = (
  kind: Transport.TransportError["kind"],
  sent: Transport.TransportError["sent"] = "no"
): Transport.TransportError =>
  new Transport.TransportError({ kind, operation: "append", detail: "by the test", hint: "", sent })

/** The next one, which must be there once all that is on its way has come. */
export const next = <A>(queue: Queue.Queue<A>): Effect.Effect<A> =>
  Effect.flatMap(Effect.andThen(turns(3), Queue.poll(queue)), (found) =>
    Option.isSome(found) ? Effect.succeed(found.value) : Effect.die(new Error("nothing came"))
  )

/** All that are there. */
export const rest = <A>(queue: Queue.Queue<A>): Effect.Effect<ReadonlyArray<A>> =>
  Effect.andThen(turns(3), Queue.clear(queue))

/** Lets time pass, and what it brings arrive. */
export const pass = (millis: number) => Effect.andThen(TestClock.adjust(millis), turns(3))

/** What may be other than usual. */
export interface Options {
  readonly durable?: Partial<Durable.Durable["Service"]>
  readonly transport?: Partial<Transport.Transport["Service"]>
  /** Ends each append as it comes, in place of the test; nothing: it is left to the test. */
  readonly append?: (index: number) => Transport.TransportError | Durable.Appended | undefined
  /** The same for questions. */
  readonly look?: (index: number) => Transport.TransportError | Durable.State | undefined
  readonly publish?: (index: number) => Transport.TransportError | number | undefined
}

/** Makes one. What is not played here is that of a store in memory. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const clock = yield* Clock.Clock
  const now = () => clock.currentTimeMillisUnsafe()
  const memory = Memory.make({ prefix: "t:" })
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const appends = yield* Queue.unbounded<Append>()
  const looks = yield* Queue.unbounded<Look>()
  const publications = yield* Queue.unbounded<Published>()
  /** Frames that left over the bus. */
  const sent: Array<{ readonly channel: string; readonly frame: any }> = []
  const transport: Transport.Transport["Service"] = {
    ...memory,
    send: (channel, frame, done, pack) => {
      sent.push({ channel, frame: JSON.parse(frame) })
      memory.send(channel, frame, done, pack)
    },
    get state() {
      return link.current()
    },
    watch: link.watch,
    ...options.transport
  }
  const counts = { append: 0, look: 0, publish: 0 }
  const durable: Durable.Durable["Service"] = {
    ...Durable.onStore(Durable.makeStore(now)),
    append: (queue, message, done) => {
      Queue.offerUnsafe(appends, { queue, message, frame: JSON.parse(message.frame), at: now(), done })
      const end = options.append?.(counts.append++)
      if (end instanceof Transport.TransportError) done(end, undefined)
      else if (end !== undefined) done(undefined, end)
    },
    state: (queue, id, done) => {
      Queue.offerUnsafe(looks, { queue, id, at: now(), done })
      const end = options.look?.(counts.look++)
      if (end instanceof Transport.TransportError) done(end, undefined)
      else if (end !== undefined) done(undefined, end)
    },
    publish: (topic, publication, done) => {
      Queue.offerUnsafe(publications, { topic, publication, at: now(), done })
      const end = options.publish?.(counts.publish++)
      if (end instanceof Transport.TransportError) done(end, 0)
      else if (end !== undefined) done(undefined, end)
    },
    ...options.durable
  }
  let gaps = 0
  return {
    appends,
    looks,
    publications,
    sent,
    durable,
    transport,
    provide: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(
        Effect.provideService(Transport.Transport, transport),
        Effect.provideService(Durable.Durable, durable)
      ),
    /** Says something to whoever appended a message, as its service does. */
    answer: ({ frame, message }: Append, fields: object) =>
      memory.send(frame.reply_to, JSON.stringify({ request_id: message.id, ...fields }), () => {}),
    /** The link that answers come over is lost, or lost and back. */
    lose: () => link.change({ _tag: "Degraded", gaps: ++gaps, error: failed("ConnectionLost", "unknown"), down: true }),
    heal: () => link.change({ _tag: "Ready", gaps }),
    close: () => link.change({ _tag: "Closed", gaps, error: undefined })
  }
})

/** The frame of a result, as a service keeps it. */
export const done = (payload: unknown): Durable.State & Durable.Appended => ({
  _tag: "Done",
  frame: JSON.stringify({ status: "success", payload, final: true })
})
