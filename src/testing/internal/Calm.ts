/** Waiting for a system under test: until nothing happens any more, at one time of its clock or over a stretch of it. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Printable from "../../wire/Printable.ts"
import type { Activity } from "./Activity.ts"
import type { Traffic } from "./Traffic.ts"

/** What of a bus is waited for. */
export interface Subject {
  readonly activity: Activity
  readonly traffic: Traffic
}

/** The system did not come to rest; `open` names what still goes on. */
export class NotSettled extends Schema.TaggedError<NotSettled>()("NotSettled", {
  why: Schema.String,
  open: Schema.Array(Schema.String)
}) {
  override get message() {
    return [this.why, ...this.open.map((line) => `  ${line}`)].join("\n")
  }
}

/** Turns of the event loop without any movement after which nothing moves by itself; steps of streams leave a turn late. */
const quietTurns = 3
/** Turns after which a system that moves all the time is given up. */
const maxTurns = 25_000
/** Sleepers that one stretch of time may wake. */
const maxWakes = 100_000
/** Real time that work outside of the clock may take. */
const patienceMillis = 1_000
const pollMillis = 2

/** Waits until no frame travels and no fiber can go on. Time stands still. */
export const calm = (subject: Subject): Effect.Effect<void, NotSettled> =>
  Effect.callback((resume) => {
    const { activity } = subject
    let turns = 0
    let quiet = 0
    let moves = -1
    const look = () => {
      quiet = activity.isQuiet() && activity.moves() === moves ? quiet + 1 : 0
      moves = activity.moves()
      if (quiet >= quietTurns) return resume(Effect.void)
      if (++turns > maxTurns) {
        return resume(Effect.fail(notSettled(subject, `something moves after ${maxTurns} turns of the event loop`)))
      }
      turn = setImmediate(look)
    }
    let turn = setImmediate(look)
    return Effect.sync(() => clearImmediate(turn))
  })

/** Waits until besides no call is open and no handler runs. */
export const settled = (subject: Subject): Effect.Effect<void, NotSettled> =>
  Effect.suspend(() => {
    const until = performance.now() + patienceMillis
    const look: Effect.Effect<void, NotSettled> = Effect.flatMap(calm(subject), () => {
      if (open(subject).length === 0) return Effect.void
      if (performance.now() > until) return Effect.fail(notSettled(subject, "the system has not settled"))
      return Effect.andThen(realMillis(pollMillis), look)
    })
    return look
  })

/** Moves the clock from sleeper to sleeper, calm in between. */
export const elapse = (subject: Subject, duration: Duration.Input): Effect.Effect<void, NotSettled> =>
  Effect.suspend(() => {
    const { clock } = subject.activity
    const until = clock.currentTimeMillisUnsafe() + Duration.toMillis(Duration.fromInputUnsafe(duration))
    return Effect.andThen(
      advance(subject, until, () => false),
      Effect.andThen(clock.setTime(until), calm(subject))
    )
  })

/**
 * Moves the clock from sleeper to sleeper, never beyond a time, until something has come true. Before each move it gives what is
 * outside of the clock so much real time, or until then.
 */
export const advance = (
  subject: Subject,
  until: number,
  isDone: () => boolean,
  outsideMillis = 0
): Effect.Effect<void, NotSettled> => {
  const { activity } = subject
  const rest = calm(subject)
  let wakes = 0
  const outside = Effect.suspend(() => {
    const until = performance.now() + outsideMillis
    const look: Effect.Effect<void, NotSettled> = Effect.suspend(() =>
      isDone() || performance.now() >= until
        ? Effect.void
        : Effect.andThen(realMillis(pollMillis), Effect.andThen(rest, look))
    )
    return outsideMillis === 0 ? Effect.void : look
  })
  const step: Effect.Effect<void, NotSettled> = Effect.flatMap(Effect.andThen(rest, outside), () => {
    const next = activity.nextWake()
    if (isDone() || next === undefined || next > until) return Effect.void
    if (++wakes > maxWakes) return Effect.fail(notSettled(subject, `more than ${maxWakes} sleepers woke`))
    return Effect.andThen(activity.clock.setTime(next), step)
  })
  return step
}

const realMillis = (millis: number) =>
  Effect.callback<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

/** What goes on, a line each. */
export const open = ({ activity, traffic }: Subject): ReadonlyArray<string> => {
  const calls = traffic.open(activity.clock.currentTimeMillisUnsafe())
  const handlers = activity.running().filter(({ handling }) => handling)
  return [
    ...handlers.map(({ request }) => `the handler of ${nameOf(request.service, request.action)} runs`),
    ...calls.map(({ action, channel }) => `a call of ${nameOf(channel, action)} waits for its answer`)
  ]
}

const nameOf = (channel: string, action: string) => Printable.line(action === "" ? channel : `${channel}.${action}`)

const maxLines = 20

const notSettled = (subject: Subject, why: string) => {
  const lines = open(subject)
  const next = subject.activity.nextWake()
  return new NotSettled({
    why,
    open: [
      ...lines.slice(0, maxLines),
      ...(lines.length > maxLines ? [`and ${lines.length - maxLines} more`] : []),
      ...(next === undefined
        ? []
        : [
            `the next sleeper wakes in ${next - subject.activity.clock.currentTimeMillisUnsafe()} ms of the clock: TestBus.elapse moves it`
          ])
    ]
  })
}
