import { assert, describe, it } from "@effect/vitest"
import { DateTime } from "effect"
import { Memory } from "fiberbus"
import { type Gap, maxHeld, maxHeldInAll, maxSources, Tracker, type Work } from "../../src/server/internal/tracker.ts"
import * as Codec from "../../src/wire/Codec.ts"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Numbers from "../../src/wire/Numbers.ts"

interface Timed {
  expire(): void
  at?: number
  tick?: number
}

interface Options {
  readonly refills?: boolean
  readonly ordered?: boolean
  readonly inProcess?: boolean
  readonly pattern?: boolean
  readonly random?: number
}

/** A tracker whose clock, link and publishers are a test's; what it hands over, tells and asks. */
const setUp = (options: Options = {}) => {
  const timers = new Set<Timed & { at: number }>()
  const state = { now: 1_000_000, room: true, link: "Ready", broken: false }
  const counted: Array<string> = []
  const asked: Array<{ readonly topic: string; readonly at: number; readonly said: any }> = []
  const capabilities = {
    ...Memory.make().capabilities,
    ordered: options.ordered ?? true,
    inProcess: options.inProcess ?? false
  }
  const events: Array<string> = []
  const gaps: Array<Gap> = []
  const link = {
    transport: {
      prefix: "",
      capabilities,
      get state() {
        return { _tag: state.link, gaps: 0 }
      },
      send: (channel: string, frame: string, sent: (error: { readonly kind: string } | undefined) => void) => {
        asked.push({ topic: channel.replace(/^numbers:/, ""), at: state.now, said: JSON.parse(frame) })
        sent(state.broken ? { kind: "Timeout" } : undefined)
      }
    },
    wheel: {
      now: () => state.now,
      add: (entry: Timed, millis: number) => {
        entry.at = state.now + millis
        timers.add(entry as Timed & { at: number })
      },
      remove: (entry: Timed) => timers.delete(entry as Timed & { at: number })
    },
    discards: { count: (reason: string) => void counted.push(reason) }
  }
  const tracker = new Tracker({
    link: link as unknown as Work["link"],
    refills: options.refills ?? false,
    channel: options.pattern === true ? undefined : "orders",
    inbox: "caller:me",
    random: () => options.random ?? 0.5,
    wall: () => state.now + 7_000,
    hasRoom: () => state.room,
    deliver: ({ raw }, topic, isBackfilled) => {
      const number = Numbers.read(raw)
      events.push(`${isBackfilled ? "again " : ""}${topic} ${number === undefined ? "none" : number.seq}`)
    },
    tell: (gap) => {
      gaps.push(gap)
      events.push(`missed ${gap.firstSeq}-${gap.lastSeq}`)
    }
  })
  const raw = (seq: number, from: string) => ({ fiberbus: { v: 1, from, seq } })
  return {
    tracker,
    state,
    counted,
    gaps,
    timers,
    /** Messages of a publisher. */
    hear: (seqs: ReadonlyArray<number> | number, from = "p0000", topic = "orders") => {
      for (const seq of [seqs].flat()) tracker.hear(Envelope.readBroadcast(raw(seq, from) as never), topic)
    },
    text: (seq: number, from = "p0000") => JSON.stringify(raw(seq, from)),
    last: (seq: number, ageMillis = 1_000_000_000, from = "p0000", topic = "orders") =>
      tracker.last(topic, { _tag: "Last", from, seq, ageMillis }),
    refilled: (first: number, until: number, messages: ReadonlyArray<string>, from = "p0000") =>
      tracker.refilled({ _tag: "Refilled", channel: "orders", from, first, until, messages }),
    /** What happened since it was asked last. */
    news: () => events.splice(0),
    asked: () => asked.splice(0),
    /** The messages that were asked for, as `first-last`. */
    refills: () =>
      asked
        .splice(0)
        .filter(({ said }) => said.fiberbus.numbers === "refill")
        .map(({ said: { fiberbus } }) => `${fiberbus.first}-${fiberbus.last}`),
    pass: (millis: number) => {
      const end = state.now + millis
      while (true) {
        const next = [...timers].filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0]
        if (next === undefined) break
        timers.delete(next)
        state.now = Math.max(state.now, next.at)
        next.expire()
      }
      state.now = end
    }
  }
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

describe("a tracker of numbers", () => {
  it("hands over at once what has no number, what is next, and the first of all", () => {
    const { counted, hear, news, tracker } = setUp()
    tracker.hear(Envelope.readBroadcast({ n: 1 }), "orders")
    hear([1, 2, 3])
    assert.deepStrictEqual(news(), ["orders none", "orders 1", "orders 2", "orders 3"])
    hear([3, 1])
    assert.deepStrictEqual(news(), [])
    assert.deepStrictEqual(counted, ["Repeated", "Repeated"])
  })

  it("tells a gap where the next number shows it, and when the one before it came", () => {
    const { gaps, hear, news, pass } = setUp()
    hear(1)
    pass(5_000)
    hear(5)
    assert.deepStrictEqual(news(), ["orders 1", "missed 2-4", "orders 5"])
    assert.deepStrictEqual(gaps, [
      {
        channel: "orders",
        from: "p0000",
        missed: 3,
        firstSeq: 2,
        lastSeq: 4,
        since: DateTime.makeUnsafe(1_007_000),
        until: DateTime.makeUnsafe(1_012_000)
      }
    ])
    // One that comes too late was told.
    hear([3, 6])
    assert.deepStrictEqual(news(), ["orders 6"])
  })

  it("waits half a second for what was overtaken, where frames keep no order", () => {
    const { counted, hear, news, pass } = setUp({ ordered: false })
    hear([1, 3, 4, 3])
    assert.deepStrictEqual(news(), ["orders 1"])
    assert.deepStrictEqual(counted, ["Repeated"])
    pass(499)
    assert.deepStrictEqual(news(), [])
    hear(2)
    assert.deepStrictEqual(news(), ["orders 2", "orders 3", "orders 4"])
    pass(10_000)
    hear([6, 8])
    pass(499)
    assert.deepStrictEqual(news(), [])
    pass(1)
    assert.deepStrictEqual(news(), ["missed 5-5", "orders 6"])
    // What was missing behind it has its own time.
    pass(499)
    assert.deepStrictEqual(news(), [])
    pass(1)
    assert.deepStrictEqual(news(), ["missed 7-7", "orders 8"])
  })

  it("waits no longer for it where more comes meanwhile", () => {
    const { hear, news, pass } = setUp({ ordered: false })
    hear([1, 3])
    pass(300)
    hear(4)
    pass(199)
    assert.deepStrictEqual(news(), ["orders 1"])
    pass(1)
    assert.deepStrictEqual(news(), ["missed 2-2", "orders 3", "orders 4"])
  })

  it("counts from the first that it hears of a publisher that it does not know, when its first word is over", () => {
    const { asked, hear, news, pass } = setUp()
    hear([7, 8, 10])
    assert.deepStrictEqual(news(), [])
    assert.lengthOf(asked(), 1)
    pass(499)
    assert.deepStrictEqual(news(), [])
    pass(1)
    assert.deepStrictEqual(news(), ["orders 7", "orders 8", "missed 9-9", "orders 10"])
    hear(11)
    assert.deepStrictEqual(news(), ["orders 11"])
  })

  it("counts from one where the publisher is younger than the listener, and from the next where it is older", () => {
    const { hear, last, news, pass } = setUp()
    pass(10_000)
    last(3, 9_999, "young")
    pass(500)
    assert.deepStrictEqual(news(), ["missed 1-3"])
    last(3, 10_500, "older")
    pass(500)
    hear(4, "older")
    assert.deepStrictEqual(news(), ["orders 4"])
    // What it had heard meanwhile counts: the last may be from before it.
    hear([5, 6], "old00")
    last(4, 100_000, "old00")
    assert.deepStrictEqual(news(), ["orders 5", "orders 6"])
    hear([5, 6], "old01")
    last(9, 100_000, "old01")
    pass(500)
    assert.deepStrictEqual(news(), ["orders 5", "orders 6", "missed 7-9"])
  })

  it("learns from its last number what is missing at the end", () => {
    const { hear, last, news, pass } = setUp()
    hear([1, 2])
    last(4)
    // It may still be on its way: numbers travel on a channel of their own.
    assert.deepStrictEqual(news(), ["orders 1", "orders 2"])
    hear(3)
    pass(499)
    assert.deepStrictEqual(news(), ["orders 3"])
    pass(1)
    assert.deepStrictEqual(news(), ["missed 4-4"])
    last(4)
    last(2)
    pass(10_000)
    hear(5)
    assert.deepStrictEqual(news(), ["orders 5"])
  })

  it("knows publishers apart, and the channels of each", () => {
    const { hear, news } = setUp({ pattern: true })
    hear([1, 2], "p0000", "orders.a")
    hear(1, "p0001", "orders.a")
    hear(1, "p0000", "orders.b")
    assert.deepStrictEqual(news(), ["orders.a 1", "orders.a 2", "orders.a 1", "orders.b 1"])
  })

  it("hands over all that comes when it is closed, and asks and tells nothing more", () => {
    const { asked, hear, news, pass, timers, tracker } = setUp({ ordered: false })
    tracker.begin()
    hear([1, 3])
    tracker.close()
    assert.strictEqual(tracker.held, 0)
    assert.strictEqual(timers.size, 0)
    asked()
    news()
    hear([9, 9])
    assert.deepStrictEqual(news(), ["orders 9", "orders 9"])
    tracker.begin()
    pass(100_000)
    assert.deepStrictEqual(news(), [])
    assert.strictEqual(timers.size, 0)
  })
})

describe("the questions for the last numbers", () => {
  const times = (all: ReadonlyArray<{ readonly at: number }>) => all.map(({ at }) => at - 1_000_000)

  it("are asked at the start, two seconds later, and every half minute, a tenth more or less", () => {
    for (const [random, beat] of [
      [0, 27_000],
      [0.5, 30_000],
      [1, 33_000]
    ] as const) {
      const { asked, pass, tracker } = setUp({ random })
      tracker.begin()
      pass(2_000 + 2 * beat)
      const all = asked()
      assert.deepStrictEqual(times(all), [0, 2_000, 2_000 + beat, 2_000 + 2 * beat])
      assert.deepStrictEqual(all[0]!.said, { fiberbus: { v: 1, numbers: "ask" } })
      assert.isTrue(all.every(({ topic }) => topic === "orders"))
      // A gap of the link begins anew.
      tracker.begin()
      pass(2_000)
      assert.lengthOf(asked(), 2)
    }
  })

  it("are asked once within a process, where nothing gets lost", () => {
    const { asked, pass, tracker } = setUp({ inProcess: true })
    tracker.begin()
    pass(100_000)
    assert.lengthOf(asked(), 1)
  })

  it("of a pattern are those of each channel that something was heard on, once", () => {
    const { asked, hear, tracker } = setUp({ pattern: true })
    tracker.begin()
    assert.deepStrictEqual(asked(), [])
    hear(1, "p0000", "orders.a")
    hear(1, "p0001", "orders.a")
    hear(1, "p0000", "orders.b")
    tracker.begin()
    assert.deepStrictEqual(
      asked().map(({ topic }) => topic),
      ["orders.a", "orders.b"]
    )
  })

  it("are asked for who is not known, but not again and again", () => {
    const { asked, hear, pass } = setUp()
    hear(5, "p0000")
    hear(5, "p0001")
    hear(6, "p0001")
    assert.lengthOf(asked(), 1)
    pass(249)
    hear(5, "p0002")
    assert.lengthOf(asked(), 0)
    pass(1)
    hear(5, "p0003")
    assert.lengthOf(asked(), 1)
  })

  it("are counted where they could not be sent", () => {
    const { counted, state, tracker } = setUp()
    state.broken = true
    tracker.begin()
    assert.deepStrictEqual(counted, ["NumbersNotSent:Timeout"])
  })
})

describe("what a tracker remembers", () => {
  it("forgets a publisher ten minutes after its last word, and tells what it still missed", () => {
    const { gaps, hear, last, news, pass, tracker } = setUp({ ordered: false })
    tracker.begin()
    hear([1, 2], "gone0")
    hear([1, 2], "here0")
    pass(590_000)
    last(2, 1_000, "here0")
    pass(12_000 + 33_000)
    news()
    hear(3, "here0")
    assert.deepStrictEqual(news(), ["orders 3"])
    // It is one that is not known: it may have been there for long.
    hear(9, "gone0")
    assert.deepStrictEqual(news(), [])
    pass(500)
    assert.deepStrictEqual(news(), ["orders 9"])
    assert.deepStrictEqual(gaps, [])
  })

  it("takes nobody for younger than itself whom it may have forgotten", () => {
    const { hear, last, news, pass, tracker } = setUp()
    tracker.begin()
    hear(1, "gone0")
    pass(700_000)
    news()
    last(5, 600_000, "gone0")
    pass(500)
    assert.deepStrictEqual(news(), [])
    hear(6, "gone0")
    assert.deepStrictEqual(news(), ["orders 6"])
  })

  it("is so many publishers: the one that was silent longest makes room, with what it missed", () => {
    const { hear, news, pass, tracker } = setUp({ ordered: false })
    for (let i = 0; i < maxSources; i++) {
      hear(1, `p${10_000 + i}`)
      if (i < 2) pass(1)
    }
    hear(2, "p10000")
    // This is the oldest now, and waits for its second.
    hear(3, "p10001")
    pass(1)
    for (let i = 2; i < maxSources; i++) hear(2, `p${10_000 + i}`)
    hear(2, "p10000")
    assert.isAbove(tracker.held, 0)
    news()
    hear(1, "another")
    assert.deepStrictEqual(news(), ["missed 2-2", "orders 3", "orders 1"])
    assert.strictEqual(tracker.held, 0)
    // All others are still known.
    hear(3, "p10000")
    hear(3, "p11023")
    assert.deepStrictEqual(news(), ["orders 3", "orders 3"])
  })

  it("holds so many messages of a publisher; then it waits for nothing any more", () => {
    const { hear, news, tracker } = setUp({ ordered: false })
    hear(1)
    hear(upTo(maxHeld).map((n) => n + 2))
    assert.deepStrictEqual(news(), ["orders 1"])
    assert.strictEqual(tracker.held, maxHeld)
    hear(maxHeld + 3)
    assert.deepStrictEqual(news().slice(0, 2), ["missed 2-2", "orders 3"])
    assert.strictEqual(tracker.held, 0)
    hear(maxHeld + 4)
    assert.deepStrictEqual(news(), [`orders ${maxHeld + 4}`])
  })

  it("takes the one that was missing although it is full", () => {
    const { hear, news, tracker } = setUp({ ordered: false })
    hear(1)
    hear(upTo(maxHeld).map((n) => n + 2))
    news()
    hear(2)
    const all = news()
    assert.deepStrictEqual([all[0], all.length], ["orders 2", maxHeld + 1])
    assert.strictEqual(tracker.held, 0)
  })

  it("holds so many of all publishers together", () => {
    const { hear, news, tracker } = setUp({ ordered: false })
    const publishers = maxHeldInAll / maxHeld
    for (let p = 0; p < publishers; p++) {
      hear(1, `p000${p}`)
      hear(
        upTo(maxHeld).map((n) => n + 2),
        `p000${p}`
      )
    }
    assert.strictEqual(tracker.held, maxHeldInAll)
    news()
    hear(1, "last0")
    hear(3, "last0")
    assert.deepStrictEqual(news(), ["orders 1", "missed 2-2", "orders 3"])
    assert.strictEqual(tracker.held, maxHeldInAll)
  })
})

describe("a tracker whose publishers keep what was missed", () => {
  /** One that has 1 and 5 of a publisher, and asks for what is between. */
  const missing = (options: Options = {}) => {
    const own = setUp({ refills: true, ...options })
    own.hear(1)
    own.asked()
    own.news()
    own.hear(5)
    return own
  }

  it("asks the publisher for it, and hands it over in order, before what came since", () => {
    const { asked, hear, news, pass, refilled, text } = missing()
    const [{ said, topic }] = asked() as [ReturnType<typeof asked>[0]]
    assert.deepStrictEqual(
      [topic, said],
      ["orders", { reply_to: "caller:me", fiberbus: { v: 1, numbers: "refill", from: "p0000", first: 2, last: 4 } }]
    )
    hear(6)
    assert.deepStrictEqual(news(), [])
    refilled(2, 4, [text(2), text(3), text(4)])
    assert.deepStrictEqual(news(), ["again orders 2", "again orders 3", "again orders 4", "orders 5", "orders 6"])
    pass(10_000)
    assert.deepStrictEqual(asked(), [])
    hear(7)
    assert.deepStrictEqual(news(), ["orders 7"])
  })

  it("asks for the rest where it gets a part, and tells what the publisher has no more", () => {
    const { news, refilled, refills, text } = missing()
    assert.deepStrictEqual(refills(), ["2-4"])
    refilled(2, 2, [text(2)])
    assert.deepStrictEqual(refills(), ["3-4"])
    assert.deepStrictEqual(news(), ["again orders 2"])
    refilled(3, 4, [text(4)])
    assert.deepStrictEqual(news(), ["missed 3-3", "again orders 4", "orders 5"])
    assert.deepStrictEqual(refills(), [])
  })

  it("asks twice, a second apart, and tells then that it is missing", () => {
    const { hear, news, pass, refills } = missing()
    assert.deepStrictEqual(refills(), ["2-4"])
    pass(999)
    assert.deepStrictEqual(refills(), [])
    pass(1)
    assert.deepStrictEqual(refills(), ["2-4"])
    pass(999)
    assert.deepStrictEqual(news(), [])
    pass(1)
    assert.deepStrictEqual(refills(), [])
    assert.deepStrictEqual(news(), ["missed 2-4", "orders 5"])
    hear(6)
    assert.deepStrictEqual(news(), ["orders 6"])
  })

  it("gives the rest as much time again, where it got a part", () => {
    const { news, pass, refilled, refills, text } = missing()
    pass(1_999)
    assert.deepStrictEqual(refills(), ["2-4", "2-4"])
    refilled(2, 3, [text(2), text(3)])
    pass(1_999)
    assert.deepStrictEqual(refills(), ["4-4", "4-4"])
    news()
    pass(1)
    assert.deepStrictEqual(news(), ["missed 4-4", "orders 5"])
  })

  it("believes no answer to what it did not ask, nor what is no message of this publisher", () => {
    const { news, refilled, refills, text } = missing()
    refilled(3, 4, [text(3)])
    refilled(2, 1, [])
    refilled(2, 5, [text(2), text(3), text(4), text(5)])
    refilled(2, 4, [text(2)], "p0001")
    assert.deepStrictEqual(news(), [])
    assert.deepStrictEqual(refills(), ["2-4"])
    refilled(2, 3, ["{", "[]", '{"n":1}', text(2, "p0001"), text(4), text(2), text(2), text(3)])
    assert.deepStrictEqual(news(), ["again orders 2", "again orders 3"])
    assert.deepStrictEqual(refills(), ["4-4"])
    refilled(2, 3, [text(2), text(3)])
    assert.deepStrictEqual(news(), [])
    refilled(4, 4, [text(4)])
    refilled(4, 4, [text(4)])
    assert.deepStrictEqual(news(), ["again orders 4", "orders 5"])
  })

  it("does not hear twice what came by itself meanwhile", () => {
    const { hear, news, refilled, refills, text } = missing({ ordered: false })
    assert.deepStrictEqual(refills(), [])
    hear(2)
    assert.deepStrictEqual(news(), ["orders 2"])
    assert.deepStrictEqual(refills(), [])
    const own = missing()
    own.hear(3)
    own.refilled(2, 4, [own.text(2), own.text(3), own.text(4)])
    assert.deepStrictEqual(own.news(), ["again orders 2", "orders 3", "again orders 4", "orders 5"])
    own.hear([3, 4])
    assert.deepStrictEqual(own.counted, ["Repeated", "Repeated"])
    refilled(2, 2, [text(2)])
    assert.deepStrictEqual(news(), [])
  })

  it("does not ask where it came by itself while it waited for its turn", () => {
    const { hear, news, pass, refills } = missing({ ordered: false })
    hear([2, 3, 4])
    assert.deepStrictEqual(news(), ["orders 2", "orders 3", "orders 4", "orders 5"])
    pass(10_000)
    assert.deepStrictEqual(refills(), [])
  })

  it("waits for room and for the link before it asks, for as long as there is none", () => {
    const own = setUp({ refills: true })
    own.hear(1)
    own.state.room = false
    own.hear(3)
    assert.deepStrictEqual(own.refills(), [])
    own.pass(100_000)
    assert.deepStrictEqual(own.refills(), [])
    own.state.room = true
    own.state.link = "Reconnecting"
    own.pass(50)
    assert.deepStrictEqual(own.refills(), [])
    own.state.link = "Ready"
    own.pass(50)
    assert.deepStrictEqual(own.refills(), ["2-2"])
    // It counts as asked for the first time.
    own.pass(1_000)
    assert.deepStrictEqual(own.refills(), ["2-2"])
    own.refilled(2, 2, [own.text(2)])
    assert.deepStrictEqual(own.news(), ["orders 1", "again orders 2", "orders 3"])
  })

  it("asks once more after a gap of the link, as for the first time", () => {
    const { news, pass, refills, tracker } = missing()
    pass(1_500)
    assert.deepStrictEqual(refills(), ["2-4", "2-4"])
    tracker.begin()
    assert.deepStrictEqual(refills(), ["2-4"])
    pass(1_000)
    assert.deepStrictEqual(refills(), ["2-4"])
    assert.deepStrictEqual(news(), [])
    pass(1_000)
    assert.deepStrictEqual(news(), ["missed 2-4", "orders 5"])
    tracker.begin()
    assert.deepStrictEqual(refills(), [])
  })

  it("asks sixteen publishers at a time, and the others in their turn", () => {
    const { asked, hear, news, pass, refilled, text } = setUp({ refills: true })
    const name = (p: number) => `p00${10 + p}`
    const from = () =>
      asked()
        .filter(({ said }) => said.fiberbus.numbers === "refill")
        .map(({ said }) => said.fiberbus.from)
    for (let p = 0; p < 20; p++) hear([1, 3], name(p))
    news()
    assert.deepStrictEqual(
      from(),
      upTo(16).map((p) => name(p - 1))
    )
    refilled(2, 2, [text(2, name(3))], name(3))
    assert.deepStrictEqual(from(), [name(16)])
    assert.deepStrictEqual(news(), ["again orders 2", "orders 3"])
    // What comes by itself needs no turn.
    hear(2, name(17))
    assert.deepStrictEqual(from(), [])
    assert.deepStrictEqual(news(), ["orders 2", "orders 3"])
    pass(2_000)
    assert.includeMembers(from(), [name(18), name(19)])
    pass(2_000)
    hear(4, name(19))
    assert.deepStrictEqual(news().at(-1), "orders 4")
    assert.lengthOf(
      news().filter((event) => event.startsWith("missed")),
      0
    )
  })

  it("asks for what it cannot hold in its turn, and loses none of it", () => {
    const { hear, news, refilled, refills, text, tracker } = missing()
    refills()
    const more = upTo(maxHeld + 10).map((n) => n + 5)
    hear(more)
    assert.strictEqual(tracker.held, maxHeld)
    refilled(
      2,
      4,
      [2, 3, 4].map((seq) => text(seq))
    )
    const all = news()
    assert.deepStrictEqual(all.slice(0, 4), ["again orders 2", "again orders 3", "again orders 4", "orders 5"])
    assert.isFalse(all.some((event) => event.startsWith("missed")))
    const [rest] = refills()
    assert.strictEqual(rest, `${maxHeld + 5}-${maxHeld + 15}`)
  })

  it("asks for the end of what a publisher says to have published, after a moment", () => {
    const { asked, hear, last, news, pass, refilled, refills, text } = setUp({ refills: true })
    hear(1)
    asked()
    last(3)
    pass(499)
    assert.deepStrictEqual(refills(), [])
    pass(1)
    assert.deepStrictEqual(refills(), ["2-3"])
    refilled(2, 3, [text(2), text(3)])
    assert.deepStrictEqual(news(), ["orders 1", "again orders 2", "again orders 3"])
  })

  it("tells what is missing of one that is forgotten while it is asked", () => {
    const { asked, hear, news, tracker } = setUp({ refills: true })
    for (let i = 0; i < maxSources; i++) hear(i === 0 ? [1, 3] : 1, `p${10_000 + i}`)
    news()
    hear(1, "another")
    assert.deepStrictEqual(news(), ["missed 2-2", "orders 3", "orders 1"])
    assert.strictEqual(tracker.held, 0)
    asked()
    hear(3, "another")
    assert.lengthOf(asked(), 1)
  })

  it("reads of a publisher's frames what its transport would have given", () => {
    const { news, refilled } = missing()
    refilled(2, 4, [`{"fiberbus":{"v":1,"from":"p0000","seq":2},"text":"${"x".repeat(Codec.defaultMaxBytes)}"}`])
    assert.deepStrictEqual(news(), ["missed 2-4", "orders 5"])
  })
})
