import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Queue, Schema } from "effect"
import { Declined } from "../../src/client/Declined.ts"
import * as Answers from "../../src/client/internal/answers.ts"
import type * as Control from "../../src/wire/Control.ts"
import * as SchemaCodec from "../../src/wire/SchemaCodec.ts"

const codecs: Answers.Codecs = new Map([
  ["double", { ask: SchemaCodec.make(Schema.Finite), answer: SchemaCodec.make(Schema.Finite) }],
  ["any", { ask: SchemaCodec.make(Schema.Any), answer: SchemaCodec.make(Schema.Any) }]
])

const answers: Answers.Answers = {
  double: (n: number) => (n < 0 ? Effect.fail(new Declined({ why: "no debts" })) : Effect.succeed(2 * n)),
  any: Effect.succeed
}

/** The answer to one question of a call that waits for it. */
const asked = (name: string, json: unknown, given = answers) =>
  Answers.answering(codecs, given, (inquiry) =>
    Effect.gen(function* () {
      const answer = yield* Deferred.make<Control.Answer["answer"]>()
      yield* Queue.offer(inquiry, { name, json, reply: (said) => Deferred.doneUnsafe(answer, Exit.succeed(said)) })
      return yield* Deferred.await(answer)
    })
  )

const nested = (depth: number) => {
  let value: unknown = 1
  for (let level = 0; level < depth; level++) value = [value]
  return value
}

describe("An answer", () => {
  it.effect("is what the function for its question gives, as JSON, or why it declines", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* asked("double", 4), { json: 8 })
      assert.deepStrictEqual(yield* asked("double", -1), { declined: "no debts" })
    })
  )

  it.effect("says why there is none, where the contracts of both sides differ or it could not be read", () =>
    Effect.gen(function* () {
      for (const [name, json, declined] of [
        ["halve", 4, "the caller does not know this question"],
        ["double", "four", "the question does not fit the caller's contract"],
        ["any", nested(64), "the answer is nested too deep"]
      ] as const) {
        assert.deepStrictEqual(yield* asked(name, json), { declined })
      }
      assert.deepStrictEqual(yield* asked("any", nested(63)), { json: nested(63) })
    })
  )

  it.effect("ends the call when it dies, or does not fit its own schema: that is the caller's bug", () =>
    Effect.gen(function* () {
      for (const double of [() => Effect.die("bug"), () => Effect.succeed("eight")]) {
        assert.isTrue(Exit.hasDies(yield* Effect.exit(asked("double", 4, { double }))))
      }
    })
  )

  it.effect("waits for no other: a question that takes longer does not hold up the next", () =>
    Effect.gen(function* () {
      const said: Array<unknown> = []
      const open = yield* Deferred.make<number>()
      const both = Answers.answering(
        codecs,
        { double: (n: number) => (n === 1 ? Deferred.await(open) : Effect.succeed(n)) },
        (inquiry) =>
          Effect.gen(function* () {
            const last = yield* Deferred.make<void>()
            for (const json of [1, 2]) {
              yield* Queue.offer(inquiry, {
                name: "double",
                json,
                reply: (answer) => {
                  said.push(answer)
                  if (said.length === 2) Deferred.doneUnsafe(last, Exit.void)
                  else Deferred.doneUnsafe(open, Exit.succeed(7))
                }
              })
            }
            yield* Deferred.await(last)
          })
      )
      yield* both
      assert.deepStrictEqual(said, [{ json: 2 }, { json: 7 }])
    })
  )

  it("is declined in words", () => {
    assert.strictEqual(new Declined({ why: "no debts" }).message, "no debts")
  })
})
