/** What becomes of frames that are sent while the link is up. */
import * as Effect from "effect/Effect"
import { type Case, make } from "./Case.ts"
import { barrier, channel, fresh, join, recorder, same, send, signal, textOf } from "./tools.ts"

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
  "message",
  // Long texts behind the JSON.
  `~[{"payload":["",""]},[18,0],[20000,1]]\nline\r\nline 漢字\n\n${"x\n".repeat(10_000)}`,
  `~[{"payload":""},[30000]]\n${"漢".repeat(10_000)}`
]

/** Smallest first. */
export const delivery: ReadonlyArray<Case> = [
  make("carries each frame unchanged", ["at-most-once", "ordered"], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* there.subscribe(channel(name), seen.receive)
      for (const text of texts) yield* send(here, name, text)
      yield* seen.until(texts.length)
      yield* same("frames", seen.frames, texts)
    })
  ),

  make("carries a frame of the largest size", [], ({ here, there }) =>
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

  make("tells the receiver which channel a frame came over", [], ({ here, there }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* there.subscribe(channel(name), seen.receive)
      yield* send(here, name, "x")
      yield* seen.until(1)
      yield* same("channel", seen.channels[0], name)
    })
  ),

  make("reaches a receiver on the sender's own transport", [], ({ here }) =>
    Effect.gen(function* () {
      const name = fresh()
      const seen = recorder()
      yield* here.subscribe(channel(name), seen.receive)
      yield* send(here, name, "x")
      yield* seen.until(1)
    })
  ),

  make("counts nobody as 0", ["exact receivers"], ({ here, there }) =>
    Effect.gen(function* () {
      yield* there.subscribe(channel(fresh()), () => {})
      yield* same("receivers", yield* send(here, fresh(), "x"), 0)
    })
  ),

  make("counts each transport that listens", ["exact receivers"], ({ here, there }) =>
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

  make("keeps the order of thousands of frames on a channel", ["at-most-once", "ordered"], ({ here, there }) =>
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

  make("keeps the order between channels that share a hash tag", ["at-most-once", "ordered"], ({ here, there }) =>
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

  make("lets a receiver send", [], ({ here, there }) =>
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

  make("survives a receiver that throws", ["at-most-once", "ordered"], ({ here, there }) =>
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

  make("calls `sent` exactly once for each of thousands of sends", [], ({ here, there }) =>
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
  )
]
