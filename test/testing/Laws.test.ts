import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Layer, Logger, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Request, Service } from "fiberbus"
import { Laws, TestBus } from "fiberbus/testing"
import { Users, UsersLive } from "../users.ts"

class Wallet extends Service.make(
  "wallet",
  Action.make("share", { payload: { among: Schema.Int, cents: Schema.Int }, success: Schema.String }),
  Action.make("balance", { success: Schema.Int })
) {}

const share = (cents: number, among: number) => String(BigInt(cents) / BigInt(among))

const WalletLive = Handlers.layer(Wallet, {
  share: ({ among, cents }) => Effect.sync(() => share(cents, among)),
  balance: () => Effect.succeed(0)
})

const onWallet = Effect.provide(TestBus.layer(WalletLive))

const only = <R>(checks: ReadonlyArray<Laws.Check<R>>) => {
  assert.lengthOf(checks, 1)
  return checks[0]!.check
}

const died = (options?: Laws.Options<typeof Wallet>) =>
  Effect.flip(
    only(Laws.all(Wallet, { seed: 7, laws: [Laws.neverDies], actions: ["share"], ...options })).pipe(onWallet)
  )

describe("Laws", () => {
  it.effect("tells the law, the smallest payload, what came back, and how to replay it", () =>
    Effect.gen(function* () {
      const { message } = yield* died()
      const lines = message.split("\n")
      assert.strictEqual(lines[0], 'wallet.share breaks the law "never dies": the handler died')
      assert.strictEqual(lines[1], "")
      assert.strictEqual(lines[2], '  payload    {"among":0,"cents":0}')
      assert.match(lines[3]!, /^ {2}came back {2}RemoteDefect \(started: yes\)$/)
      assert.strictEqual(lines[4], "             RangeError: Division by zero")
      assert.match(lines.at(-2)!, /^ {2}found {6}in run \d+ of 100, made smaller \d+ times?$/)
      assert.match(
        lines.at(-1)!,
        /^ {2}replay {5}Laws\.service\(it, Wallet, \{ replay: 'share: never dies: \[0,"7",.*\]' \}\)$/
      )
    })
  )

  it.effect("finds the same with the same seed, and by the replay of it", () =>
    Effect.gen(function* () {
      const [one, same] = [yield* died(), yield* died()]
      assert.instanceOf(one, Laws.LawBroken)
      assert.instanceOf(same, Laws.LawBroken)
      assert.strictEqual(one.replay, same.replay)
      const [check, ...others] = Laws.all(Wallet, { replay: one.replay })
      assert.lengthOf(others, 0)
      assert.strictEqual(check!.name, "share never dies")
      const again = yield* Effect.flip(onWallet(check!.check))
      assert.include(again.message, '{"among":0,"cents":0}')
      assert.include(again.message, "by replaying it")
      // Mended, it holds.
      const mended = Handlers.layer(Wallet, {
        share: ({ among, cents }) => Effect.sync(() => (among === 0 ? "0" : share(cents, among))),
        balance: () => Effect.succeed(0)
      })
      yield* Effect.provide(check!.check, TestBus.layer(mended))
    })
  )

  it("refuses a replay of something else", () => {
    assert.throws(() => Laws.all(Wallet, { replay: "open: never dies: []" }), Laws.UnknownReplay)
    assert.throws(() => Laws.all(Wallet, { replay: "nonsense" }), Laws.UnknownReplay)
  })

  it("are all, of all actions; chosen by action, by law, and without exceptions", () => {
    const names = (options?: Laws.Options<typeof Users>) => Laws.all(Users, options).map(({ name }) => name)
    assert.deepStrictEqual(names({ actions: ["import_users"] }), [
      "import_users never dies",
      "import_users fits its contract",
      "import_users comes back unchanged",
      "import_users refuses what does not fit",
      "import_users ends",
      "import_users keeps its deadline",
      "import_users leaves nothing open"
    ])
    assert.deepStrictEqual(names({ laws: [Laws.ends, Laws.idempotent] }), ["import_users ends"])
    assert.deepStrictEqual(names({ laws: [Laws.isolated], isolated: ["ping"] }), ["ping keeps requests apart"])
    assert.deepStrictEqual(
      names({ laws: [Laws.neverDies], except: { wait: ["never dies"], ping: ["never dies"], get_user: ["ends"] } }),
      ["get_user never dies", "import_users never dies"]
    )
  })

  it("registers its checks with whatever takes tests", () => {
    const registered: Array<string> = []
    Laws.service({ effect: (name) => void registered.push(name) }, Wallet, { laws: [Laws.neverDies] })
    assert.deepStrictEqual(registered, ["share never dies", "balance never dies"])
  })

  it.effect("runs as often as told, for all laws or for one", () =>
    Effect.gen(function* () {
      const requests = Effect.gen(function* () {
        const count = (yield* TestBus.sent(Wallet, "balance")).length
        yield* TestBus.clear
        return count
      })
      const check = (options: Laws.Options<typeof Wallet>) =>
        only(Laws.all(Wallet, { actions: ["balance"], laws: [Laws.neverDies], ...options }))
      yield* check({ runs: 3 })
      assert.strictEqual(yield* requests, 3)
      yield* check({ runs: 3, tune: { "never dies": { runs: 7 } } })
      assert.strictEqual(yield* requests, 7)
    }).pipe(onWallet)
  )

  it.effect("takes payloads from a narrower schema, from an Arbitrary, or guided by the contract", () =>
    Effect.gen(function* () {
      const Guided = Service.make(
        "guided",
        Action.make("open", {
          payload: {
            key: Schema.String.check(
              Schema.makeFilter(() => true, { arbitraryConstraint: { patterns: [{ source: "^k[1-9]$", flags: "" }] } })
            )
          }
        })
      )
      const keys = (payload?: Schema.Codec<{ readonly key: string }, any> | Arbitrary.Arbitrary<{ key: string }>) =>
        Effect.gen(function* () {
          const options = { runs: 10, laws: [Laws.neverDies], ...(payload && { payloads: { open: payload } }) }
          yield* only(Laws.all(Guided, options))
          return new Set((yield* TestBus.sent(Guided, "open")).map(({ payload }) => payload.key))
        }).pipe(Effect.provide(TestBus.layer(Handlers.layer(Guided, { open: () => Effect.void }))))
      for (const key of yield* keys()) assert.match(key, /^k[1-9]$/)
      assert.deepStrictEqual(yield* keys(Schema.Struct({ key: Schema.Literal("k1") })), new Set(["k1"]))
      assert.deepStrictEqual(yield* keys(Arbitrary.Constant({ key: "constant" })), new Set(["constant"]))
    })
  )

  it.effect("says so when nothing can be generated", () =>
    Effect.gen(function* () {
      const isUrl = (value: unknown): value is URL => value instanceof URL
      const Opaque = Service.make("opaque", Action.make("open", { payload: { url: Schema.declare(isUrl) } }))
      const live = Handlers.layer(Opaque, { open: () => Effect.void })
      const check = only(Laws.all(Opaque, { laws: [Laws.neverDies] }))
      const error = yield* Effect.flip(check).pipe(Effect.provide(TestBus.layer(live)))
      assert.instanceOf(error, Laws.LawNotTried)
      assert.match(error.message, /^"never dies" was not tried on opaque\.open: no values can be generated: /)
      assert.include(error.message, "Give `payloads`")
    })
  )

  it.effect("builds a new system for each run, where it is given one", () =>
    Effect.gen(function* () {
      let built = 0
      const Once = Service.make(
        "once",
        Action.make("claim", { payload: { by: Schema.String }, success: Schema.Boolean })
      )
      // True for the first who claims: a service that remembers.
      const live = Handlers.layer(
        Once,
        Effect.sync(() => {
          built++
          let claimed = false
          return {
            claim: () =>
              Effect.sync(() => {
                const first = !claimed
                claimed = true
                return first
              })
          }
        })
      )
      const first = Laws.make(Once, "claim", "is won by the first", ({ answer }) =>
        answer._tag === "Success" && answer.value ? undefined : "somebody was there before"
      )
      yield* only(Laws.all(Once, { laws: [first], runs: 5, system: TestBus.layer(live) }))
      assert.strictEqual(built, 5)
      const shared = only(Laws.all(Once, { laws: [first], runs: 5 }))
      assert.include(
        (yield* Effect.flip(shared).pipe(Effect.provide(TestBus.layer(live)))).message,
        "somebody was there"
      )
    })
  )

  it.effect("keeps fiberbus' own remarks to the report, and what handlers log is printed as ever", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const noisy = Handlers.layer(Wallet, {
        share: () => Effect.andThen(Effect.log("sharing"), Effect.die("broken")),
        balance: () => Effect.die("broken")
      })
      yield* Effect.gen(function* () {
        yield* Effect.flip(only(Laws.all(Wallet, { laws: [Laws.neverDies], actions: ["share"] })))
        assert.deepStrictEqual([...new Set(lines)], ["sharing"])
        const wallet = yield* Caller.make(Wallet)
        yield* Effect.flip(wallet.balance())
        assert.match(lines.at(-1)!, /^fiberbus: handler of wallet\.balance died/)
      }).pipe(Effect.provide(TestBus.layer(noisy).pipe(Layer.provide(Logger.layer([logger])))))
    })
  )

  it.effect("lets a law of one's own call again, and see the steps", () =>
    Effect.gen(function* () {
      const steps = Laws.make(Users, "import_users", "counts its rows", ({ answer, payload, steps }) =>
        answer._tag === "Success" &&
        answer.value.imported === payload.rows.length &&
        steps.length === payload.rows.length
          ? undefined
          : "it counts otherwise"
      )
      const again = Laws.make(Users, "get_user", "is not found under a longer id", ({ again, payload }) =>
        Effect.map(again({ id: `${payload.id}1 and more` }), (answer) =>
          answer._tag === "Failure" ? undefined : "it is found"
        )
      )
      for (const { check } of Laws.all(Users, { laws: [steps, again] })) yield* check
      assert.lengthOf(Laws.all(Users, { laws: [steps, again] }), 2)
      // What the law asked for has been asked.
      const ids = (yield* TestBus.sent(Users, "get_user")).map(({ payload }) => payload.id)
      assert.isAbove(ids.filter((id) => id.endsWith("1 and more")).length, 40)
    }).pipe(Effect.provide(TestBus.layer(UsersLive)))
  )

  it.effect("answers questions with what their schema allows, and ends handlers that ask without end", () =>
    Effect.gen(function* () {
      const given: Array<number> = []
      const Quiz = Service.make(
        "quiz",
        Action.make("play", {
          success: Schema.Finite,
          error: Schema.TaggedStruct("GaveUp", { after: Schema.Finite }),
          asks: {
            guess: { ask: Schema.Finite, answer: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 })) }
          }
        })
      )
      const live = Handlers.layer(Quiz, {
        play: Effect.fnUntraced(function* (_, { ask }) {
          for (let turn = 1; ; turn++) {
            const guess = yield* ask("guess", turn).pipe(
              Effect.mapError(() => ({ _tag: "GaveUp", after: turn }) as const)
            )
            given.push(guess)
          }
        })
      })
      const gaveUp = Laws.make(Quiz, "play", "ends when nobody answers", ({ answer }) =>
        answer._tag === "Failure" ? undefined : "it found what is not there"
      )
      yield* only(Laws.all(Quiz, { laws: [gaveUp], runs: 2 })).pipe(Effect.provide(TestBus.layer(live)))
      assert.lengthOf(given, 200)
      assert.isTrue(given.every((guess) => guess >= 1 && guess <= 6))
    })
  )

  it.effect("takes no more items than told", () =>
    Effect.gen(function* () {
      const Numbers = Service.make("numbers", Action.make("all", { items: Schema.Int }))
      const live = Handlers.layer(Numbers, { all: () => Stream.iterate(1, (n) => n + 1) })
      let most = 0
      const law = Laws.make(Numbers, "all", "counts", ({ steps }) => {
        most = Math.max(most, steps.length)
      })
      yield* only(Laws.all(Numbers, { laws: [law], items: 12, runs: 2 })).pipe(Effect.provide(TestBus.layer(live)))
      assert.strictEqual(most, 12)
    })
  )

  it.effect("waits in real time for what is outside of the clock, where told to", () =>
    Effect.gen(function* () {
      const live = (outside: Effect.Effect<number>) =>
        TestBus.layer(Handlers.layer(Wallet, { share: () => Effect.succeed("0"), balance: () => outside }))
      const timer = Effect.callback<number>((resume) => {
        const timer = setTimeout(() => resume(Effect.succeed(1)), 1)
        return Effect.sync(() => clearTimeout(timer))
      })
      const answered = Laws.make(Wallet, "balance", "is answered", ({ answer }) =>
        answer._tag === "Success" ? undefined : "it is not answered in time"
      )
      const check = (outsideMillis: number) => only(Laws.all(Wallet, { laws: [answered], runs: 2, outsideMillis }))
      yield* check(10_000).pipe(Effect.provide(live(timer)))
      yield* Effect.flip(check(0)).pipe(Effect.provide(live(Effect.never)))
    })
  )

  it.effect("finds a request that is not the handler's own", () =>
    Effect.gen(function* () {
      // Who asked is kept for all to see; the answer says who it takes for the caller.
      let asked: string | undefined
      const live = Handlers.layer(Wallet, {
        share: ({ cents }) =>
          Effect.gen(function* () {
            asked = (yield* Request.current).id
            yield* Effect.yieldNow
            return asked === (yield* Request.current).id ? "own" : `${cents} of another`
          }),
        balance: () => Effect.succeed(0)
      })
      const check = only(Laws.all(Wallet, { laws: [Laws.isolated], isolated: ["share"] }))
      const { message } = yield* Effect.flip(check).pipe(Effect.provide(TestBus.layer(live)))
      assert.include(message, "at the same time got another answer than alone")
    })
  )
})
