/** Each law bites: a small service with a bug that breaks it, and the same service mended. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Layer, Schema, SchemaGetter, SchemaIssue, SchemaTransformation, Stream } from "effect"
import { Action, Handlers, Response, Service, type Transport } from "fiberbus"
import { Laws, TestBus } from "fiberbus/testing"

type Live = Layer.Layer<never, Transport.TransportError, Transport.Transport>

const tried = <S extends Service.Any>(service: S, live: Live, law: Laws.Law, options?: Laws.Options<S>) => {
  const checks = Laws.all(service, { seed: 1, laws: [law], ...options })
  assert.isAbove(checks.length, 0, "the law applies")
  return Effect.forEach(checks, ({ check }) => check, { discard: true }).pipe(Effect.provide(TestBus.layer(live)))
}

/** The report of a law that the service breaks, and that it can be replayed. */
const broken = <S extends Service.Any>(service: S, live: Live, law: Laws.Law, options?: Laws.Options<S>) =>
  Effect.gen(function* () {
    const report = yield* Effect.flip(tried(service, live, law, options))
    assert.instanceOf(report, Laws.LawBroken, report.message)
    const again = yield* Effect.flip(tried(service, live, law, { ...options, replay: report.replay }))
    assert.instanceOf(again, Laws.LawBroken)
    assert.deepStrictEqual([again.given, again.because], [report.given, report.because])
    return report
  })

class Till extends Service.make(
  "till",
  Action.make("share", {
    payload: { cents: Schema.Int, among: Schema.Int },
    success: { each: Schema.String },
    error: Schema.TaggedStruct("NobodyToShare", {})
  })
) {}

const share = (cents: number, among: number) => ({ each: String(BigInt(cents) / BigInt(among)) })

describe("a law bites:", () => {
  it.effect("never dies", () =>
    Effect.gen(function* () {
      const buggy = Handlers.layer(Till, { share: ({ among, cents }) => Effect.sync(() => share(cents, among)) })
      const report = yield* broken(Till, buggy, Laws.neverDies)
      assert.strictEqual(report.given, '{"cents":0,"among":0}')
      assert.strictEqual(report.because, "the handler died")
      assert.match(report.cameBack, /^RemoteDefect \(started: yes\)/)
      assert.include(report.cameBack, "RangeError: Division by zero")

      const mended = Handlers.layer(Till, {
        share: ({ among, cents }) =>
          among === 0 ? Effect.fail({ _tag: "NobodyToShare" } as const) : Effect.sync(() => share(cents, among))
      })
      yield* tried(Till, mended, Laws.neverDies)
    })
  )

  class Jobs extends Service.make(
    "jobs",
    Action.make("percent", {
      payload: { done: Schema.Natural, total: Schema.Natural },
      success: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 100 }))
    })
  ) {}

  it.effect("fits its contract", () =>
    Effect.gen(function* () {
      const buggy = Handlers.layer(Jobs, { percent: ({ done, total }) => Effect.succeed((done / total) * 100) })
      const report = yield* broken(Jobs, buggy, Laws.fitsContract)
      assert.strictEqual(report.given, '{"done":0,"total":0}')
      assert.strictEqual(report.because, "what the handler gave does not fit the contract")
      // The handler was well: it is another law's case.
      yield* tried(Jobs, buggy, Laws.neverDies)

      const byHand = Handlers.layer(Jobs, {
        percent: ({ done, total }) => (done > total ? Response.error("more than all") : Effect.succeed(0))
      })
      const undeclared = yield* broken(Jobs, byHand, Laws.fitsContract)
      assert.strictEqual(undeclared.because, "the contract declares no such error")
      assert.strictEqual(undeclared.given, '{"done":1,"total":0}')

      const mended = Handlers.layer(Jobs, {
        percent: ({ done, total }) => Effect.succeed(total === 0 ? 0 : Math.min(100, (done / total) * 100))
      })
      yield* tried(Jobs, mended, Laws.fitsContract)
    })
  )

  it.effect("fits its contract, when nobody serves it", () =>
    Effect.gen(function* () {
      const elsewhere = Handlers.layer(Till, { share: () => Effect.succeed({ each: "1" }) })
      const report = yield* broken(Jobs, elsewhere, Laws.fitsContract)
      assert.include(report.because, "nobody serves it")
    })
  )

  it.effect("comes back unchanged", () =>
    Effect.gen(function* () {
      const money = (write: (euros: number) => string) =>
        Schema.String.pipe(
          Schema.decodeTo(Schema.Finite, SchemaTransformation.transform({ decode: Number, encode: write }))
        )
      const prices = (write: (euros: number) => string) =>
        Service.make("prices", Action.make("price", { payload: { article: Schema.String }, success: money(write) }))
      const Buggy = prices((euros) => euros.toFixed(2))
      const report = yield* broken(Buggy, Handlers.layer(Buggy, { price: () => Effect.succeed(1) }), Laws.unchanged)
      assert.strictEqual(report.because, "a value of the contract's success is another one when it arrives")
      assert.match(report.given, /^success -?\d/)

      const Mended = prices(String)
      yield* tried(Mended, Handlers.layer(Mended, { price: () => Effect.succeed(1) }), Laws.unchanged)
    })
  )

  it.effect("refuses what does not fit", () =>
    Effect.gen(function* () {
      const versions = (read: (text: string) => Effect.Effect<number, SchemaIssue.Issue>) =>
        Service.make(
          "versions",
          Action.make("open", {
            payload: {
              version: Schema.String.pipe(
                Schema.decodeTo(Schema.Int, {
                  decode: SchemaGetter.transformEffect(read),
                  encode: SchemaGetter.transform((version: number) => String(version))
                })
              )
            }
          })
        )
      // BigInt throws where Number says NaN.
      const Buggy = versions((text) => Effect.sync(() => Number(BigInt(text))))
      const report = yield* broken(Buggy, Handlers.layer(Buggy, { open: () => Effect.void }), Laws.refuses)
      assert.strictEqual(report.because, "reading it died, instead of refusing it")
      assert.include(report.given, "(a part was replaced)")
      assert.include(report.cameBack, "RemoteDefect")

      const Mended = versions((text) =>
        /^-?\d+$/.test(text)
          ? Effect.succeed(Number(text))
          : Effect.fail(new SchemaIssue.InvalidValue({ value: text }, "a whole number"))
      )
      yield* tried(Mended, Handlers.layer(Mended, { open: () => Effect.void }), Laws.refuses, { runs: 200 })
    })
  )

  it.effect("refuses what does not fit, where a handler trusts what nobody checked", () =>
    Effect.gen(function* () {
      class Search extends Service.make(
        "search",
        Action.make("find", { payload: { filter: Schema.Unknown }, success: Schema.String })
      ) {}
      const options = { payloads: { find: Schema.Struct({ filter: Schema.Struct({ name: Schema.String }) }) } }
      const buggy = Handlers.layer(Search, {
        find: ({ filter }) => Effect.sync(() => (filter as { readonly name: string }).name.trim())
      })
      yield* tried(Search, buggy, Laws.neverDies, options)
      const report = yield* broken(Search, buggy, Laws.refuses, options)
      assert.strictEqual(report.because, "the handler died of what the contract allows")
    })
  )

  it.effect("ends: the result of progress", () =>
    Effect.gen(function* () {
      class Imports extends Service.make(
        "imports",
        Action.make("rows", { payload: { rows: Schema.Array(Schema.String) }, progress: Schema.Finite })
      ) {}
      const live = (patience: Effect.Effect<void>) =>
        Handlers.layer(Imports, {
          rows: Effect.fnUntraced(function* ({ rows }, { progress }) {
            for (const [index] of rows.entries()) yield* progress(index + 1)
            // It waits for the last row, which never was there.
            if (rows.length === 0) yield* patience
          })
        })
      const report = yield* broken(Imports, live(Effect.never), Laws.ends)
      assert.strictEqual(report.given, '{"rows":[]}')
      assert.strictEqual(report.because, "it had not ended after 5000 ms")
      yield* tried(Imports, live(Effect.void), Laws.ends)
    })
  )

  it.effect("ends: the producer of items", () =>
    Effect.gen(function* () {
      class Ticks extends Service.make("ticks", Action.make("ticks", { items: Schema.Finite })) {}
      const live = (end: Effect.Effect<void>) =>
        Handlers.layer(
          Ticks,
          {
            ticks: () => Stream.fromEffectRepeat(Effect.as(Effect.sleep("1 second"), 1)).pipe(Stream.ensuring(end))
          },
          { grace: 0 }
        )
      const report = yield* broken(Ticks, live(Effect.sleep("1 hour")), Laws.ends)
      assert.strictEqual(report.because, "its producer goes on, and nobody takes more")
      yield* tried(Ticks, live(Effect.sleep("1 second")), Laws.ends)
    })
  )

  class Files extends Service.make("files", Action.make("store", { payload: { name: Schema.String } })) {}

  it.effect("keeps its deadline", () =>
    Effect.gen(function* () {
      const write = Effect.sleep("1 hour")
      const buggy = Handlers.layer(Files, { store: () => Effect.uninterruptible(write) }, { grace: 0 })
      const report = yield* broken(Files, buggy, Laws.keepsDeadline)
      assert.strictEqual(report.because, "its handler still runs 1000 ms after the call has ended")
      assert.include(report.cameBack, "DeadlineExceeded")
      yield* tried(Files, Handlers.layer(Files, { store: () => write }), Laws.keepsDeadline)
    })
  )

  it.effect("leaves nothing open: fibers", () =>
    Effect.gen(function* () {
      const watch = Effect.forever(Effect.sleep("1 minute"))
      const buggy = Handlers.layer(Files, { store: () => Effect.asVoid(Effect.forkDetach(watch)) })
      const report = yield* broken(Files, buggy, Laws.leavesNothing)
      assert.match(report.because, /, and not all of it/)
      assert.strictEqual(report.cameBack, "what was forked below files.store lives on: 1 fiber")
      yield* tried(
        Files,
        Handlers.layer(Files, { store: () => Effect.asVoid(Effect.forkChild(watch)) }),
        Laws.leavesNothing
      )
    })
  )

  it.effect("leaves nothing open: resources of a call whose caller went away", () =>
    Effect.gen(function* () {
      let handles = 0
      const open = Effect.sync(() => void handles++)
      const close = Effect.sync(() => void handles--)
      const write = Effect.sleep("10 millis")
      const options = { resources: () => handles }
      const buggy = Handlers.layer(Files, {
        store: () => open.pipe(Effect.andThen(write), Effect.andThen(close))
      })
      const report = yield* broken(Files, buggy, Laws.leavesNothing, options)
      assert.strictEqual(report.because, "its caller was interrupted, and not all of it ended")
      assert.strictEqual(report.cameBack, "1 resource is open")
      const mended = Handlers.layer(Files, {
        store: () =>
          Effect.acquireUseRelease(
            open,
            () => write,
            () => close
          )
      })
      yield* tried(Files, mended, Laws.leavesNothing, options)
    })
  )

  it.effect("leaves nothing open: calls below it", () =>
    Effect.gen(function* () {
      const inner = Handlers.layer(Till, { share: () => Effect.uninterruptible(Effect.never) }, { grace: 0 })
      const report = yield* broken(Till, inner, Laws.leavesNothing)
      assert.include(report.cameBack, "the handler of till.share lives on")
    })
  )

  class Counters extends Service.make(
    "counters",
    Action.make("set", { payload: { to: Schema.Int }, success: { was: Schema.Int } }).pipe(
      Action.annotate(Action.Idempotent, true)
    )
  ) {}

  it.effect("answers the same twice", () =>
    Effect.gen(function* () {
      const live = (answer: (was: number, to: number) => number) => {
        let value = 0
        return Handlers.layer(Counters, {
          set: ({ to }) =>
            Effect.sync(() => {
              const was = value
              value = to
              return { was: answer(was, to) }
            })
        })
      }
      const report = yield* broken(
        Counters,
        live((was) => was),
        Laws.idempotent
      )
      assert.include(report.because, "the second answer is another one")
      assert.match(report.cameBack, /^first {3}success .*\nsecond {2}success /)
      yield* tried(
        Counters,
        live((_, to) => to),
        Laws.idempotent
      )
    })
  )

  it.effect("keeps requests apart", () =>
    Effect.gen(function* () {
      // The request of the moment, kept where all requests see it.
      let current = 0
      const buggy = Handlers.layer(Counters, {
        set: ({ to }) =>
          Effect.sync(() => {
            current = to
          }).pipe(Effect.andThen(Effect.sleep("1 millis")), Effect.andThen(Effect.sync(() => ({ was: current }))))
      })
      const report = yield* broken(Counters, buggy, Laws.isolated)
      assert.match(report.because, /^call \d of 2 at the same time got another answer than alone$/)
      assert.lengthOf(report.given.split("\n"), 2)
      // Alone it is well.
      yield* tried(Counters, buggy, Laws.idempotent)
      const mended = Handlers.layer(Counters, {
        set: ({ to }) => Effect.as(Effect.sleep("1 millis"), { was: to })
      })
      yield* tried(Counters, mended, Laws.isolated)
    })
  )

  it.effect("one of one's own", () =>
    Effect.gen(function* () {
      const noMore = Laws.make(Till, "share", "gives no more than there is", ({ answer, payload }) =>
        answer._tag === "Success" && Math.abs(Number(answer.value.each)) > Math.abs(payload.cents)
          ? "one gets more than all have"
          : undefined
      )
      const generous = Handlers.layer(Till, { share: ({ cents }) => Effect.succeed({ each: String(cents + 1) }) })
      const report = yield* broken(Till, generous, noMore)
      assert.strictEqual(report.because, "one gets more than all have")
      assert.strictEqual(report.given, '{"cents":0,"among":0}')
      const fair = Handlers.layer(Till, { share: ({ cents }) => Effect.succeed({ each: String(cents) }) })
      yield* tried(Till, fair, noMore)
    })
  )
})
