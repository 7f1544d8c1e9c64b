import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Memory } from "fiberbus"
import * as Claims from "../../src/server/internal/claims.ts"
import * as Groups from "../../src/server/internal/groups.ts"
import type { Member } from "../../src/server/internal/hearer.ts"
import * as Envelope from "../../src/wire/Envelope.ts"

interface Asked {
  readonly key: string
  readonly ttl: number
  readonly done: (error: undefined, mine: boolean) => void
}

const digest = (data: string) => createHash("sha256").update(data).digest("base64url").slice(0, 22)

/** The groups of one process, whose clock, timers and broker a test moves. */
const process = (more: { readonly inProcess?: boolean; readonly isTest?: boolean } = {}) => {
  const { inProcess: _, ...remote } = Memory.make().capabilities
  const capabilities = more.inProcess === true ? { ...remote, inProcess: true } : remote
  const time = { now: 0 }
  const asked: Array<Asked> = []
  const noted: Array<string> = []
  const timers: Array<{ readonly entry: { expire(): void }; readonly at: number }> = []
  const link = {
    transport: { prefix: "p:", capabilities, state: { _tag: "Ready", gaps: 0 } },
    wheel: {
      now: () => time.now,
      add: (entry: { expire(): void }, millis: number) => void timers.push({ entry, at: time.now + millis })
    },
    discards: { note: (reason: string) => void noted.push(reason) },
    shutDownClock: more.isTest === true ? undefined : {}
  } as never
  const claim = (key: string, ttl: number, done: Asked["done"]) => void asked.push({ key, ttl, done })
  const groups = Groups.make(link, claim as never, Claims.make(link, claim as never))
  const heard: Array<string> = []
  const member = (name: string) => {
    const pool = { isOpen: true, free: true, running: 0, waiting: 0, hasRoom: () => pool.free }
    const entry = { name }
    const mount = {
      pool,
      mayAnswer: () => false,
      accept: (_: unknown, topic: string, message: Envelope.Request) =>
        void heard.push(`${name} ${topic} ${message.raw["n"]}`)
    }
    return { pool, member: { entry, mount } as unknown as Member }
  }
  const pass = (millis: number) => {
    const end = time.now + millis
    while (true) {
      const next = timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0]
      if (next === undefined) break
      timers.splice(timers.indexOf(next), 1)
      time.now = Math.max(time.now, next.at)
      next.entry.expire()
    }
    time.now = end
  }
  const hear = (group: Groups.Group, raw: object, topic = "orders") => {
    const frame = JSON.stringify(raw)
    group.hear(Envelope.readBroadcast(raw as never), topic, frame)
  }
  return { asked, groups, hear, heard, member, noted, pass, time, timers }
}

/** A group with one listener, which has been there for long enough to be sure of what it counts. */
const settled = () => {
  const own = process()
  const group = own.groups.of("orders", false, "billing")
  const { member, pool } = own.member("a")
  const leave = group.join(member)
  own.pass(Groups.repeatedMillis + 1)
  const keys = () => own.asked.splice(0).map(({ key, ttl }) => [key, ttl] as const)
  return { ...own, group, keys, leave, member: member, newMember: own.member, pool }
}

const keyOf = (message: string, group = "orders:billing") => `p:fiberbus:claim:${group}:${message}`
const numbered = (seq: number, from = "0123456789abc") => ({ n: seq, fiberbus: { v: 1, from, seq } })
const textKey = (raw: object, count: number | string) => keyOf(`${digest(JSON.stringify(raw))}.${count}`)

describe("a message to a group", () => {
  it("with a number is claimed by it for a minute, whatever its text, and handled by who won", () => {
    const { asked, group, hear, heard, keys } = settled()
    hear(group, numbered(7))
    const [first] = asked
    assert.deepStrictEqual(keys(), [[keyOf(digest("orders 0123456789abc 7")), 60_000]])
    assert.deepStrictEqual(heard, [])
    first!.done(undefined, true)
    assert.deepStrictEqual(heard, ["a orders 7"])
    hear(group, numbered(8))
    asked[0]!.done(undefined, false)
    assert.deepStrictEqual(heard, ["a orders 7"])
  })

  it("without one is claimed by its text and how often it came in a row, for ten seconds", () => {
    const { asked, group, hear, heard, keys, pass } = settled()
    hear(group, { n: 1 })
    const [first] = asked
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 1), 10_000]])
    first!.done(undefined, true)
    assert.deepStrictEqual(keys(), [])
    hear(group, { n: 2 })
    assert.deepStrictEqual(keys(), [[textKey({ n: 2 }, 1), 10_000]])
    pass(Groups.repeatedMillis)
    hear(group, { n: 1 })
    const [second] = asked
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 2), 10_000]])
    // Who handles a repeated one tells those who are not sure of their count.
    second!.done(undefined, true)
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, "repeated"), 1_000]])
    assert.deepStrictEqual(heard, ["a orders 1", "a orders 1"])
    // The third, by its last one.
    pass(Groups.repeatedMillis)
    hear(group, { n: 1 })
    const [third] = asked
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 3), 10_000]])
    third!.done(undefined, false)
    assert.deepStrictEqual(keys(), [])
    pass(Groups.repeatedMillis + 1)
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 1), 10_000]])
  })

  it("is told by its text as it came, or as it would be written where it came with others", () => {
    const { group, keys } = settled()
    group.hear(Envelope.readBroadcast({ n: 1 }), "orders", '{ "n": 1 }')
    group.hear(Envelope.readBroadcast({ n: 2 }), "orders", undefined)
    assert.deepStrictEqual(keys(), [
      [keyOf(`${digest('{ "n": 1 }')}.1`), 10_000],
      [textKey({ n: 2 }, 1), 10_000]
    ])
  })

  it("is counted also while no listener takes any, so that the next one is known", () => {
    const { group, hear, keys, pool } = settled()
    pool.isOpen = false
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [])
    pool.isOpen = true
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 2), 10_000]])
  })

  it("is left to those who are sure of its count for a moment, by who has not been there for long", () => {
    const { asked, groups, hear, heard, member, pass } = process()
    const group = groups.of("orders", false, "billing")
    group.join(member("a").member)
    pass(5_000)
    const keys = () => asked.map(({ key, ttl }) => [key, ttl])
    hear(group, { n: 1 })
    pass(Groups.unsureMillis - 1)
    assert.deepStrictEqual(keys(), [])
    pass(1)
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, "repeated"), 1_000]])
    asked.pop()!.done(undefined, true)
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 1), 10_000]])
    asked.pop()!.done(undefined, true)
    assert.deepStrictEqual(heard, ["a orders 1"])
    // Now all count from its own.
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, 2), 10_000]])
    asked.pop()
    // Somebody is sure of another one.
    hear(group, { n: 2 })
    pass(Groups.unsureMillis)
    asked.pop()!.done(undefined, false)
    assert.deepStrictEqual(keys(), [])
    assert.deepStrictEqual(heard, ["a orders 1"])
    // Of one that another one had in the end it stays unsure.
    hear(group, { n: 3 })
    pass(Groups.unsureMillis)
    asked.pop()!.done(undefined, true)
    asked.pop()!.done(undefined, false)
    hear(group, { n: 3 })
    assert.deepStrictEqual(keys(), [])
  })

  it("is nothing to be sure of after a gap", () => {
    const { group, groups, hear, keys, pass } = settled()
    hear(group, { n: 1 })
    keys()
    groups.gap()
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [])
    pass(Groups.unsureMillis)
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, "repeated"), 1_000]])
    pass(Groups.repeatedMillis - Groups.unsureMillis)
    hear(group, { n: 2 })
    assert.deepStrictEqual(keys(), [])
    pass(1)
    hear(group, { n: 3 })
    assert.deepStrictEqual(keys(), [[textKey({ n: 3 }, 1), 10_000]])
  })

  it("is nothing to be sure of where nobody had listened any more", () => {
    const { group, hear, keys, leave, member, pass } = settled()
    leave()
    assert.isTrue(group.isEmpty)
    pass(500)
    group.join(member)
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [])
    pass(Groups.unsureMillis)
    assert.deepStrictEqual(keys(), [[textKey({ n: 1 }, "repeated"), 1_000]])
  })

  it("is another one on another channel of a pattern, and for another group", () => {
    const { asked, groups, hear, member, pass } = process()
    const of = (name: string) => {
      const group = groups.of("orders.*", true, name)
      group.join(member(name).member)
      return group
    }
    const [billing, mail] = [of("billing"), of("mail")]
    pass(Groups.repeatedMillis + 1)
    hear(billing, { n: 1 }, "orders.eu")
    hear(billing, { n: 1 }, "orders.us")
    hear(mail, { n: 1 }, "orders.us")
    const text = digest('{"n":1}')
    assert.deepStrictEqual(
      asked.map(({ key }) => key),
      [
        keyOf(`${digest(`orders.eu ${text}`)}.1`, "orders.*:billing"),
        keyOf(`${digest(`orders.us ${text}`)}.1`, "orders.*:billing"),
        keyOf(`${digest(`orders.us ${text}`)}.1`, "orders.*:mail")
      ]
    )
  })

  it("is forgotten when more than 32,768 others were counted since", () => {
    const { asked, group, hear } = settled()
    /** Hears one that another process has, and tells what it claimed. */
    const claimed = (n: number) => {
      hear(group, { n })
      const { done, key } = asked.pop()!
      done(undefined, false)
      return key
    }
    for (let n = 0; n < 32_768; n++) claimed(n)
    assert.strictEqual(claimed(0), textKey({ n: 0 }, 2))
    // The next is the oldest now.
    claimed(-1)
    assert.strictEqual(claimed(1), textKey({ n: 1 }, 1))
    assert.strictEqual(claimed(3), textKey({ n: 3 }, 2))
    assert.strictEqual(claimed(0), textKey({ n: 0 }, 3))
  })

  it("is claimed a moment later by a process that has nobody free for it", () => {
    const { group, hear, keys, newMember, pass, pool } = settled()
    pool.free = false
    hear(group, numbered(1))
    assert.deepStrictEqual(keys(), [])
    pass(Claims.deferMillis - 1)
    assert.deepStrictEqual(keys(), [])
    pass(1)
    assert.lengthOf(keys(), 1)
    hear(group, { n: 1 })
    assert.deepStrictEqual(keys(), [])
    pass(Claims.deferMillis)
    assert.lengthOf(keys(), 1)
    group.join(newMember("b").member)
    hear(group, numbered(2))
    assert.lengthOf(keys(), 1)
  })
})

describe("the listeners of a group in one process", () => {
  const three = () => {
    const own = process()
    const group = own.groups.of("orders", false, "billing")
    const members = ["a", "b", "c"].map((name) => own.member(name))
    const leaves = members.map(({ member }) => group.join(member))
    let seq = 0
    const take = () => {
      own.hear(group, numbered(++seq))
      own.asked.pop()?.done(undefined, true)
      return own.heard.pop()?.split(" ")[0]
    }
    return { ...own, group, leaves, members, take }
  }

  it("take turns, those who are free before those who are not", () => {
    const { members, pass, take } = three()
    assert.deepStrictEqual([take(), take(), take(), take()], ["a", "b", "c", "a"])
    members[1]!.pool.free = false
    assert.deepStrictEqual([take(), take(), take()], ["c", "a", "c"])
    for (const { pool } of members) pool.free = false
    // Nobody is: then it waits where its turn is.
    const later: Array<string | undefined> = []
    for (let i = 0; i < 3; i++) {
      take()
      pass(Claims.deferMillis)
      later.push(take())
    }
    members[0]!.pool.isOpen = false
    members[2]!.pool.free = true
    assert.deepStrictEqual([take(), take()], ["c", "c"])
  })

  it("hand what was claimed to one that leaves, rather than to nobody", () => {
    const { asked, group, hear, heard, leaves, members, noted } = three()
    hear(group, numbered(1))
    members[0]!.pool.isOpen = false
    members[1]!.pool.isOpen = false
    Effect.runFork(group.finish(members[2]!.member))
    asked.pop()!.done(undefined, true)
    assert.deepStrictEqual(heard, ["c orders 1"])
    // And nothing more is claimed.
    hear(group, numbered(2))
    assert.lengthOf(asked, 0)
    members[0]!.pool.isOpen = true
    hear(group, numbered(3))
    members[0]!.pool.isOpen = false
    members[2]!.pool.isOpen = false
    asked.pop()!.done(undefined, true)
    assert.deepStrictEqual(heard, ["c orders 1"])
    assert.deepStrictEqual(noted, ["Draining"])
    for (const leave of leaves) leave()
    assert.isTrue(group.isEmpty)
  })

  it("may come back after they left", () => {
    const { group, leaves, members, take } = three()
    for (const leave of leaves) leave()
    assert.isUndefined(take())
    Effect.runFork(group.finish(members[0]!.member))
    group.join(members[0]!.member)()
    group.join(members[0]!.member)
    assert.strictEqual(take(), "a")
  })

  it.effect("have finished when nothing is claimed, runs or waits any more", () =>
    Effect.gen(function* () {
      const { asked, group, hear, members } = three()
      const [{ member, pool }] = members as [(typeof members)[0]]
      hear(group, numbered(1))
      const finishing = yield* Effect.forkChild(group.finish(member), { startImmediately: true })
      const isOver = Effect.andThen(
        TestClock.adjust(10),
        Effect.sync(() => finishing.pollUnsafe() !== undefined)
      )
      assert.isFalse(yield* isOver)
      pool.running = 1
      asked.pop()!.done(undefined, true)
      assert.isFalse(yield* isOver)
      pool.running = 0
      pool.waiting = 1
      assert.isFalse(yield* isOver)
      pool.waiting = 0
      assert.isTrue(yield* isOver)
      yield* Fiber.join(finishing)
    })
  )
})

describe("a process with groups", () => {
  it("claims nothing that it heard before it stood still for as long as a claim lasts", () => {
    const { group, hear, keys, noted, pass, time } = settled()
    // It goes on: its own beats say so.
    pass(60_000)
    hear(group, { n: 1 })
    assert.lengthOf(keys(), 1)
    time.now += 5_000
    hear(group, { n: 2 })
    assert.deepStrictEqual(keys(), [])
    assert.deepStrictEqual(noted, ["Stalled"])
    // The claims of numbers last longer.
    hear(group, numbered(1))
    assert.lengthOf(keys(), 1)
    time.now += 30_000
    hear(group, numbered(2))
    assert.deepStrictEqual(keys(), [])
    pass(2_000)
    hear(group, { n: 3 })
    hear(group, numbered(3))
    assert.lengthOf(keys(), 2)
  })

  it("keeps a group for as long as somebody listens in it, and has one of each name", () => {
    const { groups, member, pass, timers } = process()
    const group = groups.of("orders", false, "billing")
    assert.lengthOf(timers, 1)
    const leave = group.join(member("a").member)
    pass(10_000)
    assert.strictEqual(groups.of("orders", false, "billing"), group)
    assert.notStrictEqual(groups.of("orders", false, "mail"), group)
    assert.notStrictEqual(groups.of("users", false, "billing"), group)
    assert.lengthOf(timers, 1)
    leave()
    pass(1_000)
    assert.lengthOf(timers, 0)
    assert.notStrictEqual(groups.of("orders", false, "billing"), group)
    assert.lengthOf(timers, 1)
  })

  it("looks at no clock within one process, nor below a clock that nobody moves", () => {
    for (const more of [{ inProcess: true }, { isTest: true }]) {
      const { groups, timers } = process(more)
      groups.of("orders", false, "billing")
      assert.lengthOf(timers, 0)
    }
  })
})
