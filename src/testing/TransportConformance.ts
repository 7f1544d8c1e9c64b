/**
 * What every transport must do, as cases for any test runner.
 *
 * Each case gets two transports on one broker, as two processes would have them, and applies or not by what the
 * transport promises. Channels are new in each case, so that all can share one broker, also at the same time. Waiting
 * ends on a signal, or on real time as a failure that says what was missing: TestClock plays no part.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  type Capabilities,
  type Frame,
  type Receive,
  states,
  type Target,
  Transport,
  type TransportError
} from "../transport/Transport.ts"

/** Two transports that hear each other, each with connections of its own. */
export class TwoTransports extends Context.Service<
  TwoTransports,
  { readonly here: Transport["Service"]; readonly there: Transport["Service"] }
>()("fiberbus/testing/TransportConformance/TwoTransports") {}

/** A transport broke a promise. */
export class Nonconformance extends Data.TaggedError("Nonconformance")<{
  readonly what: string
  readonly expected: unknown
  readonly actual: unknown
}> {
  override get message() {
    return `${this.what}: expected ${shown(this.expected)}, got ${shown(this.actual)}`
  }
}

/** One promise. `run` fails with {@link Nonconformance} where it is broken. */
export interface Case {
  /** A sentence about behaviour. */
  readonly name: string
  /** Whether a transport with these capabilities promises it. */
  readonly applies: (capabilities: Capabilities) => boolean
  readonly run: Effect.Effect<void, Nonconformance | TransportError, TwoTransports>
}

/** How long a case waits for something that must come. */
const patienceMillis = 10_000

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 200 ? `${text.slice(0, 200)}… (${text.length} characters)` : text
}

const same = (what: string, actual: unknown, expected: unknown): Effect.Effect<void, Nonconformance> =>
  JSON.stringify(actual) === JSON.stringify(expected) ? Effect.void : new Nonconformance({ what, expected, actual })

/** A name nobody else uses. */
const fresh = (label = "channel") => `conformance:${label}:${Math.random().toString(36).slice(2)}:${names++}`
let names = 0

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text of a frame, however the transport hands it over. */
const textOf = (frame: Frame): string => (typeof frame === "string" ? frame : decoder.decode(frame))

const channel = (name: string): Target => ({ _tag: "Channel", channel: name })
const pattern = (glob: string): Target => ({ _tag: "Pattern", pattern: glob })

/** Waits for a condition that callbacks bring about: call `look` whenever it may have come true. */
const signal = (what: string, ready: () => boolean, actual: () => unknown) => {
  const watchers = new Set<() => void>()
  return {
    look: () => {
      for (const watcher of [...watchers]) watcher()
    },
    wait: Effect.callback<void, Nonconformance>((resume) => {
      const finish = (result: Effect.Effect<void, Nonconformance>) => {
        clearTimeout(timer)
        watchers.delete(watcher)
        resume(result)
      }
      const watcher = () => {
        if (ready()) finish(Effect.void)
      }
      const timer = setTimeout(
        () => finish(new Nonconformance({ what, expected: "to happen", actual: actual() })),
        patienceMillis
      )
      watchers.add(watcher)
      watcher()
      return Effect.sync(() => {
        clearTimeout(timer)
        watchers.delete(watcher)
      })
    })
  }
}

/** A receiver that remembers. */
const recorder = () => {
  const frames: Array<string> = []
  const channels: Array<string> = []
  let wanted = 0
  const arrived = signal(
    "frames arrive",
    () => frames.length >= wanted,
    () => `${frames.length} of ${wanted}`
  )
  const receive: Receive = (frame, from) => {
    frames.push(textOf(frame))
    channels.push(from)
    if (frames.length >= wanted) arrived.look()
  }
  return {
    receive,
    frames,
    channels,
    until: (count: number) =>
      Effect.suspend(() => {
        wanted = count
        return arrived.wait
      })
  }
}

const send = (transport: Transport["Service"], to: string, frame: string): Effect.Effect<number, TransportError> =>
  Effect.callback((resume) => {
    transport.send(to, frame, (error, receivers) =>
      resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(error))
    )
  })

/**
 * Waits until everything that was sent before to a channel has arrived where it should, so that what has not come will not come.
 * Relies on order, which the cases that use it ask for.
 */
const barrier = Effect.fnUntraced(function* (from: Transport["Service"], to: Transport["Service"], after: string) {
  // Behind what was sent to that channel: they share a hash tag.
  const name = fresh(`barrier:{${/\{(.+?)\}/.exec(after)?.[1] ?? after}}`)
  const seen = recorder()
  yield* Effect.scoped(
    Effect.gen(function* () {
      yield* to.subscribe(channel(name), seen.receive)
      yield* send(from, name, "barrier")
      yield* seen.until(1)
    })
  )
})

const always = () => true
const ordered = (capabilities: Capabilities) => capabilities.ordered
const exact = (capabilities: Capabilities) => capabilities.receivers === "exact"
const once = (capabilities: Capabilities) => capabilities.ordered && capabilities.delivery === "at-most-once"
const globs = (capabilities: Capabilities) => capabilities.ordered && capabilities.patterns

const make = (
  name: string,
  applies: Case["applies"],
  run: (two: TwoTransports["Service"]) => Effect.Effect<void, Nonconformance | TransportError, Scope.Scope>
): Case => ({ name, applies, run: Effect.flatMap(TwoTransports, (two) => Effect.scoped(run(two))) })

/** Subscribes in a Scope of its own, which `leave` closes. */
const join = Effect.fnUntraced(function* (transport: Transport["Service"], target: Target, receive: Receive) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  yield* Scope.provide(transport.subscribe(target, receive), scope)
  return { leave: Scope.close(scope, Exit.void) }
})

const texts = [
  '{"action":"get"}',
  "",
  " ",
  "0",
  "å ß € 漢字 🧵 👩‍👩‍👧‍👦",
  "line\r\nline\n\ttab",
  "nul \u0000 and controls \u0001\u001f\u007f",
  "\u2028\u2029 separators",
  "\ufeffa byte order mark in front",
  // JSON.stringify escapes half a pair, so this is how one travels.
  JSON.stringify({ half: "\ud83e", other: "\udd7e", pair: "🥾" }),
  "*3\r\n$7\r\nPUBLISH\r\n",
  "message"
]

/** All cases, smallest first. */
export const cases: ReadonlyArray<Case> = [
  make("carries each frame unchanged", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* there.subscribe(channel(name), seen.receive)
      for (const text of texts) yield* send(here, name, text)
      yield* seen.until(texts.length)
      yield* same("frames", seen.frames, texts)
    })
  ),

  make("carries a frame of the largest size", always, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      const { maxFrameBytes } = here.capabilities
      // Three bytes each, and one.
      const frame = "€".repeat(Math.floor(maxFrameBytes / 3)) + "x".repeat(maxFrameBytes % 3)
      yield* there.subscribe(channel(name), seen.receive)
      yield* send(here, name, frame)
      yield* seen.until(1)
      yield* same("the frame is unchanged", seen.frames[0] === frame, true)
    })
  ),

  make("tells the receiver which channel a frame came over", always, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* there.subscribe(channel(name), seen.receive)
      yield* send(here, name, "x")
      yield* seen.until(1)
      yield* same("channel", seen.channels[0], name)
    })
  ),

  make("reaches a receiver on the sender's own transport", always, ({ here }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* here.subscribe(channel(name), seen.receive)
      yield* send(here, name, "x")
      yield* seen.until(1)
    })
  ),

  make("counts nobody as 0", exact, ({ here, there }) =>
    Effect.gen(function* () {
      yield* there.subscribe(channel(fresh()), () => {})
      yield* same("receivers", yield* send(here, fresh(), "x"), 0)
    })
  ),

  make("counts each transport that listens", exact, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const one = yield* join(there, channel(name), () => {})
      yield* same("receivers with one", yield* send(here, name, "x"), 1)
      const two = yield* join(here, channel(name), () => {})
      yield* same("receivers with two", yield* send(here, name, "x"), 2)
      yield* one.leave
      yield* same("receivers after one has left", yield* send(here, name, "x"), 1)
      yield* two.leave
      yield* same("receivers after both have left", yield* send(here, name, "x"), 0)
    })
  ),

  make("keeps the order of thousands of frames on a channel", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const count = 5000
      const seen = recorder()
      yield* there.subscribe(channel(name), seen.receive)
      // Small ones and large ones may take different ways.
      const frames = Array.from({ length: count }, (_, i) => `${i}:${"x".repeat(i % 500 === 7 ? 40_000 : i % 50)}`)
      for (const frame of frames) here.send(name, frame, () => {})
      yield* seen.until(count)
      yield* same(
        "first frame out of order",
        seen.frames.findIndex((frame, i) => frame !== frames[i]),
        -1
      )
    })
  ),

  make("keeps the order between channels that share a hash tag", once, ({ here, there }) =>
    Effect.gen(function* () {
      const tag = fresh()
      const few = [`{${tag}}a`, `b{${tag}}`, `c{${tag}}c`]
      const count = 3000
      const seen = recorder()
      for (const name of few) yield* there.subscribe(channel(name), seen.receive)
      for (let i = 0; i < count; i++) here.send(few[i % few.length]!, String(i), () => {})
      yield* seen.until(count)
      yield* same(
        "first frame out of order",
        seen.frames.findIndex((frame, i) => frame !== String(i)),
        -1
      )
    })
  ),

  make("confirms a subscription when the next frame of anybody reaches it", always, ({ here, there }) =>
    Effect.gen(function* () {
      for (let i = 0; i < 100; i++) {
        const name = fresh()
        const seen = recorder()
        yield* there.subscribe(channel(name), seen.receive)
        here.send(name, "next", () => {})
        yield* seen.until(1)
      }
    })
  ),

  make("brings nothing that was sent before the subscription", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* send(here, name, "before")
      yield* there.subscribe(channel(name), seen.receive)
      yield* send(here, name, "after")
      yield* seen.until(1)
      yield* barrier(here, there, name)
      yield* same("frames", seen.frames, ["after"])
    })
  ),

  make("brings nothing after the Scope has closed", ordered, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      const { leave } = yield* join(there, channel(name), seen.receive)
      yield* send(here, name, "during")
      yield* seen.until(1)
      yield* leave
      yield* send(here, name, "after")
      yield* barrier(here, there, name)
      yield* same("frames", seen.frames, ["during"])
    })
  ),

  make("gives each of several receivers each frame", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const [one, two] = [recorder(), recorder()]
      yield* there.subscribe(channel(name), one.receive)
      yield* there.subscribe(channel(name), two.receive)
      // The same function again counts as another.
      yield* there.subscribe(channel(name), two.receive)
      yield* send(here, name, "a")
      yield* send(here, name, "b")
      yield* two.until(4)
      yield* barrier(here, there, name)
      yield* same("frames of the first", one.frames, ["a", "b"])
      yield* same("frames of the second, subscribed twice", two.frames, ["a", "a", "b", "b"])
    })
  ),

  make("keeps a receiver when another of the same channel leaves", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const [stays, leaves] = [recorder(), recorder()]
      yield* there.subscribe(channel(name), stays.receive)
      const { leave } = yield* join(there, channel(name), leaves.receive)
      yield* send(here, name, "both")
      yield* leaves.until(1)
      yield* leave
      yield* send(here, name, "one")
      yield* stays.until(2)
      yield* barrier(here, there, name)
      yield* same("frames of the one that stays", stays.frames, ["both", "one"])
      yield* same("frames of the one that left", leaves.frames, ["both"])
    })
  ),

  make("survives a receiver that throws", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const [before, after, elsewhere] = [recorder(), recorder(), recorder()]
      const other = fresh()
      yield* there.subscribe(channel(name), before.receive)
      yield* there.subscribe(channel(name), () => {
        throw new Error("thrown on purpose by the conformance case")
      })
      yield* there.subscribe(channel(name), after.receive)
      yield* there.subscribe(channel(other), elsewhere.receive)
      for (let i = 0; i < 3; i++) {
        here.send(name, String(i), () => {})
        here.send(other, String(i), () => {})
      }
      yield* before.until(3)
      yield* after.until(3)
      yield* elsewhere.until(3)
      yield* send(here, name, "later")
      yield* after.until(4)
    })
  ),

  make("lets a receiver send", always, ({ here, there }) =>
    Effect.gen(function* () {
      const [ping, pong] = [fresh("ping"), fresh("pong")]
      const rounds = 200
      const seen = recorder()
      yield* there.subscribe(channel(ping), (frame) => there.send(pong, textOf(frame), () => {}))
      yield* here.subscribe(channel(pong), (frame, from) => {
        seen.receive(frame, from)
        const next = Number(textOf(frame)) + 1
        if (next < rounds) here.send(ping, String(next), () => {})
      })
      here.send(ping, "0", () => {})
      yield* seen.until(rounds)
    })
  ),

  make("subscribes a channel again at once, any number of times", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      let last: Effect.Effect<unknown> = Effect.void
      for (let i = 0; i < 50; i++) {
        const seen = recorder()
        const { leave } = yield* join(there, channel(name), seen.receive)
        // The one before leaves while this one is there, every second time.
        yield* last
        yield* send(here, name, String(i))
        yield* seen.until(1)
        yield* same("frame", seen.frames[0], String(i))
        if (i % 2 === 0) {
          yield* leave
          last = Effect.void
        } else last = leave
      }
    })
  ),

  make("subscribes a channel while its last receiver is leaving", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      let leave: Effect.Effect<unknown> = Effect.void
      for (let i = 0; i < 50; i++) {
        const seen = recorder()
        const leaving = leave
        const [joined] = yield* Effect.all([join(there, channel(name), seen.receive), leaving], {
          concurrency: i % 2 === 0 ? 2 : 1
        })
        leave = joined.leave
        yield* send(here, name, String(i))
        yield* seen.until(1)
      }
    })
  ),

  make("leaves nothing behind when a subscription is interrupted", exact, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.forkChild(Effect.scoped(there.subscribe(channel(name), () => {})), {
          startImmediately: true
        })
        if (i % 2 === 0) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
      }
      yield* barrier(here, there, name)
      yield* same("receivers", yield* send(here, name, "x"), 0)
    })
  ),

  make("stays right while many subscribe and leave at once", once, ({ here, there }) =>
    Effect.gen(function* () {
      const few = [fresh(), fresh(), fresh()]
      yield* Effect.forEach(
        Array.from({ length: 60 }, (_, i) => i),
        (i) =>
          Effect.gen(function* () {
            const seen = recorder()
            for (let round = 0; round < 5; round++) {
              const name = few[(i + round) % few.length]!
              const before = seen.frames.length
              const { leave } = yield* join(there, channel(name), seen.receive)
              here.send(name, "churn", () => {})
              yield* seen.until(before + 1)
              yield* leave
            }
          }),
        { concurrency: "unbounded", discard: true }
      )
      // Frames of the churn may still be on their way.
      for (const name of few) {
        yield* barrier(here, there, name)
        const seen = recorder()
        yield* there.subscribe(channel(name), seen.receive)
        yield* send(here, name, "still there")
        yield* seen.until(1)
        yield* barrier(here, there, name)
        yield* same("frames", seen.frames, ["still there"])
      }
    })
  ),

  make("calls `sent` exactly once for each of thousands of sends", always, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const count = 5000
      const calls = new Uint32Array(count)
      let total = 0
      let failed = 0
      const done = signal(
        "`sent` is called for each",
        () => total >= count,
        () => `${total} of ${count}`
      )
      yield* there.subscribe(channel(name), () => {})
      for (let i = 0; i < count; i++) {
        here.send(name, "x", (error) => {
          calls[i]!++
          total++
          if (error !== undefined) failed++
          done.look()
        })
      }
      yield* done.wait
      yield* barrier(here, there, name)
      yield* same("sends that were not called back exactly once", calls.filter((times) => times !== 1).length, 0)
      yield* same("sends that failed", failed, 0)
    })
  ),

  make("takes any text as a channel's name", once, ({ here, there }) =>
    Effect.gen(function* () {
      const mark = fresh()
      const odd = [
        `__proto__`,
        `constructor`,
        `toString`,
        `${mark} with spaces`,
        `${mark}\r\nline`,
        `${mark}:ünï:漢:🧵`,
        `${mark}"quotes'`,
        `${mark}\u0000nul`,
        `${mark}${"long".repeat(60)}`,
        `${mark}[a-z]`,
        `${mark}?`,
        `${mark}\\`
      ]
      for (const name of odd) {
        const seen = recorder()
        const { leave } = yield* join(there, channel(name), seen.receive)
        yield* send(here, name, mark)
        yield* seen.until(1)
        yield* leave
        yield* send(here, name, "after")
        yield* barrier(here, there, name)
        yield* same(`frames over ${JSON.stringify(name)}`, seen.frames, [mark])
        yield* same("channel", seen.channels, [name])
      }
    })
  ),

  make("takes a channel's name literally, also with glob characters", once, ({ here, there }) =>
    Effect.gen(function* () {
      const mark = fresh()
      const seen = recorder()
      yield* there.subscribe(channel(`${mark}*`), seen.receive)
      yield* send(here, `${mark}a`, "must not match")
      yield* send(here, `${mark}*`, "itself")
      yield* seen.until(1)
      yield* barrier(here, there, `${mark}*`)
      yield* same("frames", seen.frames, ["itself"])
    })
  ),

  make("leaves channel names as they are, whatever the prefix", once, ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const [plain, prefixed] = [recorder(), recorder()]
      const withPrefix = `${here.prefix}a.${name}`
      yield* there.subscribe(channel(name), plain.receive)
      yield* there.subscribe(channel(withPrefix), prefixed.receive)
      yield* send(here, name, "plain")
      yield* send(here, withPrefix, "prefixed")
      yield* prefixed.until(1)
      yield* plain.until(1)
      yield* barrier(here, there, name)
      yield* same("frames over the plain name", plain.frames, ["plain"])
      yield* same("channels", [plain.channels, prefixed.channels], [[name], [withPrefix]])
    })
  ),

  make("matches patterns and names the concrete channel", globs, ({ here, there }) =>
    Effect.gen(function* () {
      const mark = fresh()
      const seen = recorder()
      yield* there.subscribe(pattern(`${mark}.*.[ab]?`), seen.receive)
      const sent = [`${mark}.x.a1`, `${mark}.x.c1`, `${mark}..b2`, `${mark}.x.a`, `other.${mark}.x.a1`, `${mark}.é.bé`]
      for (const name of sent) yield* send(here, name, name)
      yield* barrier(here, there, mark)
      const expected = [`${mark}.x.a1`, `${mark}..b2`]
      // `?` is one byte to Redis and one character to others.
      const certain = (names: ReadonlyArray<string>) => names.filter((name) => !name.includes("é"))
      yield* same("channels", certain(seen.channels), expected)
      yield* same("frames", certain(seen.frames), expected)
    })
  ),

  make("gives a frame to a channel's receivers and to a pattern's", globs, ({ here, there }) =>
    Effect.gen(function* () {
      const mark = fresh()
      const name = `${mark}.a`
      const [byName, byPattern, byOther] = [recorder(), recorder(), recorder()]
      yield* there.subscribe(channel(name), byName.receive)
      const { leave } = yield* join(there, pattern(`${mark}.*`), byPattern.receive)
      yield* there.subscribe(pattern(`${mark}.?`), byOther.receive)
      yield* send(here, name, "all")
      yield* byName.until(1)
      yield* byPattern.until(1)
      yield* byOther.until(1)
      yield* leave
      yield* send(here, name, "without one pattern")
      yield* byName.until(2)
      yield* byOther.until(2)
      yield* barrier(here, there, name)
      yield* same("frames of the pattern that left", byPattern.frames, ["all"])
      yield* same("channels of a pattern", byOther.channels, [name, name])
    })
  ),

  make("is ready from the beginning, and without a gap", always, ({ here }) =>
    same("state", here.state, { _tag: "Ready", gaps: 0 })
  ),

  make("streams the present state first", always, ({ here }) =>
    Effect.gen(function* () {
      const [first] = yield* Stream.runCollect(Stream.take(states, 1)).pipe(Effect.provideService(Transport, here))
      yield* same("first state", first, here.state)
    })
  ),

  make("shares one pattern among its receivers", globs, ({ here, there }) =>
    Effect.gen(function* () {
      const mark = fresh()
      const [stays, leaves] = [recorder(), recorder()]
      yield* there.subscribe(pattern(`${mark}*`), stays.receive)
      const { leave } = yield* join(there, pattern(`${mark}*`), leaves.receive)
      yield* send(here, `${mark}1`, "both")
      yield* stays.until(1)
      yield* leaves.until(1)
      yield* leave
      yield* send(here, `${mark}2`, "one")
      yield* stays.until(2)
      yield* barrier(here, there, mark)
      yield* same("frames of the one that left", leaves.frames, ["both"])
    })
  )
]
