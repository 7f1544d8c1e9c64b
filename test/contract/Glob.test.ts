import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Glob from "../../src/contract/Glob.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as RedisPubSub from "../../src/transport/RedisPubSub.ts"

/** What Redis says: every pair that matches, as `pattern` and `channel`. */
const byRedis = Effect.fnUntraced(function* (patterns: ReadonlyArray<string>, channels: ReadonlyArray<string>) {
  const { url } = yield* RedisServer.RedisServer
  const transport = yield* RedisPubSub.make({ url })
  const matched = new Set<string>()
  yield* Effect.forEach(
    new Set(patterns),
    (pattern) =>
      transport.subscribe({ _tag: "Pattern", pattern }, (_, channel) => {
        matched.add(JSON.stringify([pattern, channel]))
      }),
    { concurrency: "unbounded", discard: true }
  )
  const last = Deferred.makeUnsafe<void>()
  // No pattern below has a `!`, so that this one arrives by its name, after all others.
  yield* transport.subscribe({ _tag: "Channel", channel: "!last" }, () => Deferred.doneUnsafe(last, Exit.void))
  for (const channel of new Set(channels)) transport.send(channel, "", () => {})
  transport.send("!last", "", () => {})
  yield* Deferred.await(last)
  return matched
})

const byUs = (patterns: ReadonlyArray<string>, channels: ReadonlyArray<string>) => {
  const matched = new Set<string>()
  for (const pattern of new Set(patterns)) {
    const matches = Glob.matcher(pattern)
    for (const channel of new Set(channels)) {
      if (matches(channel)) matched.add(JSON.stringify([pattern, channel]))
    }
  }
  return matched
}

const agree = Effect.fnUntraced(function* (patterns: ReadonlyArray<string>, channels: ReadonlyArray<string>) {
  const theirs = yield* byRedis(patterns, channels)
  // The channel that ends the run may match as well.
  for (const pair of theirs) if (JSON.parse(pair)[1] === "!last") theirs.delete(pair)
  const ours = byUs(patterns, channels)
  assert.deepStrictEqual(
    { missing: [...theirs].filter((pair) => !ours.has(pair)), tooMuch: [...ours].filter((pair) => !theirs.has(pair)) },
    {
      missing: [],
      tooMuch: []
    }
  )
  assert.isAbove(theirs.size, 0)
})

/** Numbers that are the same in each run (mulberry32). */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

const words = (seed: number, alphabet: ReadonlyArray<string>, count: number, longest: number) => {
  const next = random(seed)
  return Array.from({ length: count }, () =>
    Array.from(
      { length: Math.floor(next() * (longest + 1)) },
      () => alphabet[Math.floor(next() * alphabet.length)]
    ).join("")
  )
}

describe("Glob", () => {
  it.layer(RedisServer.layer)((it) => {
    it.effect("matches as Redis does where its rules are odd", () =>
      agree(
        [
          "",
          "*",
          "**",
          "a*",
          "*a",
          "a**b",
          "*a*b*",
          "?",
          "??",
          "[ab]",
          "[^ab]",
          "[a-c]",
          "[c-a]",
          "[]",
          "[]a]",
          "[^]",
          "[^]a",
          "[",
          "[^",
          "[a",
          "[a-",
          "[a-]",
          "[a-]]",
          "[-a]",
          "[a-c-e]",
          "[\\]]",
          "[\\",
          "[a\\-c]",
          "\\",
          "\\*",
          "\\\\",
          "a\\",
          "[*]",
          "[?]",
          "[[]",
          "[^^]",
          "]",
          "a]",
          "é",
          "?é",
          "[é]",
          "[^a][^a]",
          "a.*.[ab]?",
          ".",
          "a|b",
          "(a)",
          "^a$",
          "a{1}"
        ],
        // biome-ignore format: a table
        ["", "a", "b", "c", "e", "ab", "aa", "ba", "abab", "-", "]", "[", "^", "\\", "*", "?", "a]", "]a]", "a\\", "\\*",
          "é", "aé", "éa", "è", "🧵", "a.x.a1", "a..b2", "a.x.c1", ".", "a|b", "(a)", "^a$", "aa\nb", "\n", "Z", "[]", "[a", "b]"]
      )
    )

    for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
      it.effect(`matches as Redis does, for any pattern and name (seed ${seed})`, () =>
        agree(
          words(seed, ["a", "b", "c", "*", "?", "[", "]", "^", "-", "\\", "é"], 400, 9)
            // Whether such a byte is negative depends on the compiler of Redis.
            .filter((pattern) => !/-é|é-/.test(pattern)),
          words(seed + 100, ["a", "b", "c", "*", "[", "]", "^", "-", "\\", "é", "?"], 300, 6)
        )
      )
    }
  })

  it("takes no exponential time", () => {
    const matches = Glob.matcher(`${"a*".repeat(40)}b`)
    assert.isFalse(matches("a".repeat(20_000)))
  })

  it("tells patterns from names", () => {
    for (const pattern of ["*", "a?", "[a]", "a]", "\\"]) assert.isTrue(Glob.isGlob(pattern))
    for (const name of ["", "users", "users.get-1_a:b", "^a$", "a|b"]) assert.isFalse(Glob.isGlob(name))
  })
})
