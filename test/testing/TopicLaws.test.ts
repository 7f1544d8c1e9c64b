/** Each law of listeners bites: a listener with a bug that breaks it, and the same listener mended. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, type Layer, Schema, SchemaGetter, SchemaIssue, SchemaTransformation } from "effect"
import { Listener, Topic, type Transport } from "fiberbus"
import { Laws, TestBus, TopicLaws } from "fiberbus/testing"

type AnyTopic = Topic.Any | Topic.AnyPattern
type Live = Layer.Layer<never, Transport.TransportError, Transport.Transport>

const tried = <T extends AnyTopic>(topic: T, live: Live, law: TopicLaws.TopicLaw, options?: TopicLaws.Options<T>) => {
  const checks = TopicLaws.all(topic, { seed: 1, laws: [law], ...options })
  assert.lengthOf(checks, 1)
  return Effect.provide(checks[0]!.check, TestBus.layer(live))
}

/** The report of a law that a listener breaks, and that it can be replayed. */
const broken = <T extends AnyTopic>(topic: T, live: Live, law: TopicLaws.TopicLaw, options?: TopicLaws.Options<T>) =>
  Effect.gen(function* () {
    const report = yield* Effect.flip(tried(topic, live, law, options))
    assert.instanceOf(report, Laws.LawBroken, report.message)
    const again = yield* Effect.flip(tried(topic, live, law, { ...options, replay: report.replay }))
    assert.instanceOf(again, Laws.LawBroken)
    assert.deepStrictEqual([again.given, again.because], [report.given, report.because])
    return report
  })

const Events = Topic.make("user_events", { type: Schema.String, cents: Schema.Int, among: Schema.Int })
const share = (cents: number, among: number) => BigInt(cents) / BigInt(among)

describe("a law of listeners bites:", () => {
  it.effect("never dies", () =>
    Effect.gen(function* () {
      const buggy = Listener.layer(Events, ({ among, cents }) => Effect.sync(() => share(cents, among)))
      const report = yield* broken(Events, buggy, TopicLaws.neverDies)
      assert.strictEqual(report.because, "a listener died")
      assert.strictEqual(report.given, '{"type":"","cents":0,"among":0}')
      assert.include(report.cameBack, "RangeError: Division by zero")
      const lines = report.message.split("\n")
      assert.strictEqual(lines[0], 'user_events breaks the law "never dies": a listener died')
      assert.strictEqual(lines[2], '  message    {"type":"","cents":0,"among":0}')
      assert.match(
        lines.at(-1)!,
        /^ {2}replay {5}Laws\.topic\(it, topic, \{ replay: 'message: never dies: \[.*\]' \}\)$/
      )

      const mended = Listener.layer(Events, ({ among, cents }) =>
        Effect.sync(() => (among === 0 ? 0n : share(cents, among)))
      )
      yield* tried(Events, mended, TopicLaws.neverDies)
      // A failure of its own is no defect: it is logged and counted.
      yield* tried(
        Events,
        Listener.layer(Events, () => Effect.fail("no")),
        TopicLaws.neverDies
      )
    })
  )

  it.effect("never dies, when nobody listens, or not to this", () =>
    Effect.gen(function* () {
      const elsewhere = Listener.layer(Topic.make("other", {}), () => Effect.void)
      const nobody = yield* broken(Events, elsewhere, TopicLaws.neverDies)
      assert.include(nobody.because, "nobody listens")
      const narrower = Listener.layer(Topic.make("user_events", { type: Schema.NonEmptyString }), () => Effect.void)
      const refused = yield* broken(Events, narrower, TopicLaws.neverDies)
      assert.strictEqual(refused.because, "the contract allows the message, and yet it is refused")
    })
  )

  it.effect("never dies, after time has passed, in one of several, and for one channel of a pattern", () =>
    Effect.gen(function* () {
      const AllEvents = Topic.make("user_events.*", { n: Schema.Int })
      const late = Listener.layer(AllEvents, ({ n }) =>
        Effect.andThen(Effect.sleep("10 seconds"), n > 3 ? Effect.die(new Error("too many")) : Effect.void)
      )
      const report = yield* broken(AllEvents, late, TopicLaws.neverDies)
      assert.strictEqual(report.given, '{"n":4}')
      const one = Listener.layer(Topic.at(AllEvents, "user_events.eu"), () => Effect.die("eu"))
      assert.include((yield* broken(AllEvents, one, TopicLaws.neverDies)).because, "nobody listens")
      const options = { channel: "user_events.eu" }
      assert.strictEqual((yield* broken(AllEvents, one, TopicLaws.neverDies, options)).because, "a listener died")
    })
  )

  it.effect("comes back unchanged", () =>
    Effect.gen(function* () {
      const price = (write: (euros: number) => string) =>
        Topic.make("prices", {
          euros: Schema.String.pipe(
            Schema.decodeTo(Schema.Finite, SchemaTransformation.transform({ decode: Number, encode: write }))
          )
        })
      const Buggy = price((euros) => euros.toFixed(2))
      const report = yield* broken(
        Buggy,
        Listener.layer(Buggy, () => Effect.void),
        TopicLaws.unchanged
      )
      assert.strictEqual(report.because, "what is published is another value when it arrives")
      const Mended = price(String)
      yield* tried(
        Mended,
        Listener.layer(Mended, () => Effect.void),
        TopicLaws.unchanged
      )
    })
  )

  it.effect("comes back unchanged, where it cannot be published at all", () =>
    Effect.gen(function* () {
      // Its type says object, and what it is on the wire is an array.
      const List = Topic.make("list", Schema.ReadonlyMap(Schema.String, Schema.Int))
      const report = yield* broken(
        List,
        Listener.layer(List, () => Effect.void),
        TopicLaws.unchanged
      )
      assert.include(report.cameBack, "a message that encodes to a JSON object")
    })
  )

  it.effect("refuses what does not fit", () =>
    Effect.gen(function* () {
      const versions = (read: (text: string) => Effect.Effect<number, SchemaIssue.Issue>) =>
        Topic.make("versions", {
          version: Schema.String.pipe(
            Schema.decodeTo(Schema.Int, {
              decode: SchemaGetter.transformEffect(read),
              encode: SchemaGetter.transform((version: number) => String(version))
            })
          )
        })
      // BigInt throws where Number says NaN.
      const Buggy = versions((text) => Effect.sync(() => Number(BigInt(text))))
      const report = yield* broken(
        Buggy,
        Listener.layer(Buggy, () => Effect.void),
        TopicLaws.refuses
      )
      assert.strictEqual(report.because, "reading it died, instead of refusing it")
      assert.include(report.given, "(a part was replaced)")
      const Mended = versions((text) =>
        /^-?\d+$/.test(text)
          ? Effect.succeed(Number(text))
          : Effect.fail(new SchemaIssue.InvalidValue({ value: text }, "a whole number"))
      )
      yield* tried(
        Mended,
        Listener.layer(Mended, () => Effect.void),
        TopicLaws.refuses,
        { runs: 200 }
      )
    })
  )

  it.effect("refuses what does not fit, where a listener trusts what nobody checked, or takes all", () =>
    Effect.gen(function* () {
      const Search = Topic.make("search", { filter: Schema.Unknown })
      const trusting = Listener.layer(Search, ({ filter }) =>
        Effect.sync(() => (filter as { readonly name: string }).name.trim())
      )
      const options = { messages: Schema.Struct({ filter: Schema.Struct({ name: Schema.String }) }) }
      yield* tried(Search, trusting, TopicLaws.neverDies, options)
      const died = yield* broken(Search, trusting, TopicLaws.refuses, options)
      assert.strictEqual(died.because, "a listener died of what the contract allows")

      const takesAll = Listener.layer(
        Topic.make("user_events", Schema.Record(Schema.String, Schema.Unknown)),
        () => Effect.void
      )
      const taken = yield* broken(Events, takesAll, TopicLaws.refuses)
      assert.strictEqual(taken.because, "it does not fit, and a listener got it")
    })
  )

  it.effect("refuses what does not fit, and goes on after it", () =>
    Effect.gen(function* () {
      const Texts = Topic.make("texts", { text: Schema.String })
      // Once it has read what is too long, this listener reads nothing more.
      const reading = (forget: boolean) => {
        let full = false
        const text = Schema.String.pipe(
          Schema.decodeTo(Schema.String, {
            decode: SchemaGetter.transformEffect((text: string) => {
              if (full) return Effect.fail(new SchemaIssue.InvalidValue({ value: text }, "no more"))
              full = !forget && text.length > 999
              return Effect.succeed(text)
            }),
            encode: SchemaGetter.passthrough()
          })
        )
        return Listener.layer(Topic.make("texts", { text }), () => Effect.void)
      }
      const live = reading(false)
      const report = yield* Effect.flip(tried(Texts, live, TopicLaws.refuses, { maxShrinks: 0 }))
      assert.instanceOf(report, Laws.LawBroken)
      assert.strictEqual(report.because, "after it, nothing is heard any more")
      assert.include(report.given, "x".repeat(1_000))
      yield* tried(Texts, reading(true), TopicLaws.refuses)
    })
  )

  it.effect("leaves nothing open: a listener that does not end", () =>
    Effect.gen(function* () {
      const Text = Topic.make("text", { text: Schema.String })
      const stuck = (end: Effect.Effect<void>) => Listener.layer(Text, () => end, { concurrency: 1, grace: 0 })
      const report = yield* broken(Text, stuck(Effect.never), TopicLaws.leavesNothing, { runs: 3 })
      assert.include(report.cameBack, "the listener to text lives on: 1 fiber")
      yield* tried(Text, stuck(Effect.sleep("59 seconds")), TopicLaws.leavesNothing)
    })
  )

  const watch = Effect.forever(Effect.sleep("1 minute"))

  it.effect("leaves nothing open: fibers, and resources", () =>
    Effect.gen(function* () {
      const leaking = Listener.layer(Events, () => Effect.forkDetach(watch))
      const report = yield* broken(Events, leaking, TopicLaws.leavesNothing)
      assert.strictEqual(report.because, "60000 ms after the message, not all of it has ended")
      assert.strictEqual(report.cameBack, "what was forked below the listener to user_events lives on: 1 fiber")
      yield* tried(
        Events,
        Listener.layer(Events, () => Effect.forkChild(watch)),
        TopicLaws.leavesNothing
      )

      let handles = 0
      const options = { resources: () => handles }
      const open = Effect.sync(() => void handles++)
      const close = Effect.sync(() => void handles--)
      const forgetful = Listener.layer(Events, ({ among }) => Effect.andThen(open, among > 2 ? Effect.void : close))
      const resources = yield* broken(Events, forgetful, TopicLaws.leavesNothing, options)
      assert.strictEqual(resources.cameBack, "1 resource is open")
      assert.strictEqual(resources.given, '{"type":"","cents":0,"among":3}')
    })
  )

  it.effect("leaves nothing open, when its listener is shut down half way", () =>
    Effect.gen(function* () {
      let handles = 0
      const open = Effect.sync(() => void handles++)
      const close = Effect.sync(() => void handles--)
      const write = Effect.sleep("10 seconds")
      const options = (live: Live) => ({
        seed: 1,
        laws: [TopicLaws.leavesNothing],
        resources: () => handles,
        system: TestBus.layer(live)
      })
      const only = (live: Live, replay?: string) =>
        TopicLaws.all(Events, replay === undefined ? options(live) : { ...options(live), replay })[0]!.check
      // Well when it is left alone; a shutdown that gives no time leaves the handle open.
      const buggy = Listener.layer(Events, () => open.pipe(Effect.andThen(write), Effect.andThen(close)), { grace: 0 })
      yield* tried(Events, buggy, TopicLaws.leavesNothing, { resources: () => handles })
      const report = yield* Effect.flip(only(buggy))
      assert.instanceOf(report, Laws.LawBroken)
      assert.strictEqual(report.because, "its listener was shut down, and not all of it ended")
      assert.include(report.given, "its listener is shut down after ")
      assert.match(report.cameBack, /^\d+ resources? (is|are) open$/)

      handles = 0
      const mended = Listener.layer(
        Events,
        () =>
          Effect.acquireUseRelease(
            open,
            () => write,
            () => close
          ),
        { grace: 0 }
      )
      yield* only(mended)
      assert.strictEqual(handles, 0)
    })
  )

  it.effect("one of one's own", () =>
    Effect.gen(function* () {
      let sum = 0
      const live = (add: (cents: number) => number) =>
        Listener.layer(Events, ({ cents }) =>
          Effect.sync(() => {
            sum = add(cents)
          })
        )
      const same = TopicLaws.make(Events, "is the same when it is heard twice", ({ again, heard, message }) =>
        Effect.gen(function* () {
          if (heard.handled !== 1) return "it is not handled once"
          const once = sum
          yield* again(message)
          return sum === once ? undefined : "it counts twice"
        })
      )
      const report = yield* broken(
        Events,
        live((cents) => sum + cents),
        same
      )
      assert.strictEqual(report.because, "it counts twice")
      assert.strictEqual(Math.abs(JSON.parse(report.given).cents), 1)
      yield* tried(
        Events,
        live((cents) => cents),
        same
      )
    })
  )
})

describe("TopicLaws", () => {
  it("are all; chosen and registered", () => {
    const names = TopicLaws.all(Events).map(({ name }) => name)
    assert.deepStrictEqual(names, [
      "user_events never dies",
      "user_events comes back unchanged",
      "user_events refuses what does not fit",
      "user_events leaves nothing open"
    ])
    const registered: Array<string> = []
    Laws.topic({ effect: (name) => void registered.push(name) }, Events, { laws: [TopicLaws.refuses] })
    assert.deepStrictEqual(registered, ["user_events refuses what does not fit"])
    const other = TopicLaws.make(Topic.make("other", {}), "is another one's", () => undefined)
    assert.lengthOf(TopicLaws.all(Events, { laws: [other] }), 0)
    assert.throws(() => TopicLaws.all(Events, { replay: "share: never dies: []" }), Laws.UnknownReplay)
  })

  it.effect("run as often as told, on messages from elsewhere", () =>
    Effect.gen(function* () {
      const messages = Arbitrary.Constant({ type: "given", cents: 1, among: 1 })
      const [check] = TopicLaws.all(Events, {
        laws: [TopicLaws.neverDies],
        runs: 9,
        tune: { "never dies": { runs: 4 } },
        messages
      })
      yield* check!.check
      assert.deepStrictEqual(
        yield* TestBus.published(Events),
        [1, 2, 3, 4].map(() => ({ type: "given", cents: 1, among: 1 }))
      )
    }).pipe(Effect.provide(TestBus.layer(Listener.layer(Events, () => Effect.void))))
  )

  it.effect("say so when nothing can be generated, and when no channel is known", () =>
    Effect.gen(function* () {
      const isUrl = (value: unknown): value is URL => value instanceof URL
      const Opaque = Topic.make("opaque", { url: Schema.declare(isUrl) })
      const error = yield* Effect.flip(
        tried(
          Opaque,
          Listener.layer(Opaque, () => Effect.void),
          TopicLaws.neverDies
        )
      )
      assert.instanceOf(error, Laws.LawNotTried)
      assert.match(
        error.message,
        /^"never dies" was not tried on opaque: no values can be generated: .*Give `messages`/s
      )
      const Odd = Topic.make("a[^a-z]b[^~]", {})
      const unknown = yield* Effect.flip(
        tried(
          Odd,
          Listener.layer(Odd, () => Effect.void),
          TopicLaws.neverDies
        )
      )
      assert.include(unknown.message, "give `channel`")
    })
  )

  const OnEvents = Listener.layer(Events, () => Effect.sleep("1 second"))
  it.layer(TestBus.layer(OnEvents))("of a listener that is well, hold", (it) => {
    Laws.topic(it, Events, { seed: 2 })
  })
})
