/** What channels and patterns may be called, and what they match. */
import * as Effect from "effect/Effect"
import { type Case, make } from "./Case.ts"
import { barrier, channel, fresh, join, pattern, recorder, same, send } from "./tools.ts"

/** Smallest first. */
export const names: ReadonlyArray<Case> = [
  make("takes any text as a channel's name", ["at-most-once", "ordered"], ({ here, there }) =>
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

  make("takes a channel's name literally, also with glob characters", ["at-most-once", "ordered"], ({ here, there }) =>
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

  make("leaves channel names as they are, whatever the prefix", ["at-most-once", "ordered"], ({ here, there }) =>
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

  make("matches patterns and names the concrete channel", ["ordered", "patterns"], ({ here, there }) =>
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

  make("gives a frame to a channel's receivers and to a pattern's", ["ordered", "patterns"], ({ here, there }) =>
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

  make("shares one pattern among its receivers", ["ordered", "patterns"], ({ here, there }) =>
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
