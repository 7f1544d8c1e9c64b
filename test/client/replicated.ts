/** A service whose processes a test plays, over a bus in memory, on a clock that the test moves. */
import { Clock, Duration, Effect, Option, Queue, Schema } from "effect"
import { Action, Caller, Memory, Service, Transport } from "fiberbus"
import * as LinkState from "../../src/transport/LinkState.ts"
import { turns } from "../scripted.ts"

export const Work = Service.make(
  "work",
  Action.make("run", { success: Schema.Finite }).pipe(Action.annotate(Action.Timeout, "1 hour")),
  Action.make("other", { success: Schema.Finite })
)

/** A clock that goes on when it is told to. */
const makeClock = () => {
  let now = 0
  const sleeps = new Set<{ readonly at: number; readonly resume: () => void }>()
  const nanos = () => BigInt(Math.round(now * 1_000_000))
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => now,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) =>
      Effect.callback<void>((resume) => {
        if (Duration.toMillis(duration) <= 0) return resume(Effect.void)
        const sleep = { at: now + Duration.toMillis(duration), resume: () => resume(Effect.void) }
        sleeps.add(sleep)
        return Effect.sync(() => void sleeps.delete(sleep))
      })
  }
  const wake = Effect.suspend(() => {
    for (const sleep of [...sleeps]) {
      if (sleep.at > now) continue
      sleeps.delete(sleep)
      sleep.resume()
    }
    return turns(4)
  })
  return {
    clock,
    now: () => now,
    /** So much time goes by, and all that is due in it happens when it is due. */
    pass: (millis: number) =>
      Effect.gen(function* () {
        yield* turns(4)
        const end = now + millis
        while (true) {
          const next = Math.min(...Array.from(sleeps, ({ at }) => at))
          if (next > end) break
          now = Math.max(now, next)
          yield* wake
        }
        now = end
      }),
    /** The process stands still for so long, then does what it has missed. */
    stall: (millis: number) =>
      Effect.suspend(() => {
        now += millis
        return wake
      })
  }
}

/** A request as one of the processes, or all of them (`*`), got it. */
export interface Request {
  readonly to: string
  readonly frame: any
  readonly at: number
}

/** What may be other than usual. */
export interface Options {
  /** Calls end in one process: nobody vanishes there without a word. */
  readonly inProcess?: boolean
  readonly receivers?: "exact" | "at-least"
  readonly transport?: Partial<Transport.Transport["Service"]>
  readonly caller?: Caller.Options
}

/** Makes one, and a caller of it; none of its processes has announced itself yet. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const { clock, now, pass, stall } = makeClock()
  const memory = Memory.make()
  const { inProcess: _, ...capabilities } = memory.capabilities
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  /** Of whom a sending says that nobody is there. */
  const absent = new Set<string>()
  /** Those that give no sign of life when they are asked for one. */
  const silent = new Set<string>()
  const probes: Array<readonly [by: string, at: number]> = []
  const questions: Array<number> = []
  const sent: Array<{ readonly channel: string; readonly pack: boolean | undefined }> = []
  const requests = yield* Queue.unbounded<Request>()
  const nameOf = (channel: string) => channel.replace("work.instance:", "")
  const transport: Transport.Transport["Service"] = {
    ...memory,
    capabilities: {
      ...capabilities,
      receivers: options.receivers ?? "exact",
      ...(options.inProcess ? { inProcess: true } : undefined)
    } as Transport.Capabilities,
    send: (channel, frame, done, pack) => {
      sent.push({ channel, pack })
      if (absent.has(nameOf(channel))) {
        if (JSON.parse(frame).fiberbus?.probe) probes.push([nameOf(channel), now()])
        return done(undefined, 0)
      }
      memory.send(channel, frame, done)
    },
    get state() {
      return link.current()
    },
    watch: link.watch,
    ...options.transport
  }
  const say = (channel: string, frame: object) => memory.send(channel, JSON.stringify(frame), () => {})
  const hear = (to: string) => (text: string | Uint8Array) => {
    const frame = JSON.parse(String(text))
    if (frame.fiberbus?.who) questions.push(now())
    else if (frame.fiberbus?.probe) {
      probes.push([to, now()])
      if (!silent.has(to)) say(frame.reply_to, { fiberbus: { v: 1, up: to } })
    } else if (frame.action !== undefined) Queue.offerUnsafe(requests, { to, frame, at: now() })
  }
  yield* memory.subscribe({ _tag: "Channel", channel: "work" }, hear("*"))
  for (const by of ["a", "b", "c"]) {
    yield* memory.subscribe({ _tag: "Channel", channel: `work.instance:${by}` }, hear(by))
  }
  const provide = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provideService(Transport.Transport, transport), Effect.provideService(Clock.Clock, clock))
  const work = yield* provide(Caller.make(Work, { balance: first, ...options.caller }))
  yield* turns()
  /** The next request, which must be there once all that is on its way has come. */
  const next = Effect.flatMap(Effect.andThen(turns(6), Queue.poll(requests)), (found) =>
    Option.isSome(found) ? Effect.succeed(found.value) : Effect.die(new Error("nobody got a request"))
  )
  /** Begins a call, and tells who has got it. */
  const begin = Effect.fnUntraced(function* (options?: Caller.CallOptions, action: "run" | "other" = "run") {
    const fiber = yield* Effect.forkChild(Effect.result(provide(work[action](options))), { startImmediately: true })
    const request = yield* next
    return { fiber, request, to: request.to }
  })
  return {
    absent,
    answer: ({ frame }: Request, payload = 5) =>
      say(frame.reply_to, { status: "success", payload, request_id: frame.request_id, final: true }),
    begin,
    call: begin(),
    link,
    /** What is announced on the channel of instances. */
    announce: (presence: object) =>
      Effect.andThen(
        Effect.sync(() => say("work.instances", presence)),
        turns(4)
      ),
    here: (by: string, fields: object = {}) =>
      Effect.andThen(
        Effect.sync(() => say("work.instances", { fiberbus: { v: 1, here: by, ...fields } })),
        turns(4)
      ),
    gone: (by: string) =>
      Effect.andThen(
        Effect.sync(() => say("work.instances", { fiberbus: { v: 1, gone: by } })),
        turns(4)
      ),
    memory,
    next,
    now,
    pass,
    probes,
    provide,
    questions,
    requests,
    say,
    sent,
    silent,
    stall,
    transport,
    work
  }
})

/** The first of those that may be chosen. */
const first = { begin: () => () => 0 }
