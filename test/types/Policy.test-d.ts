import { Effect, Schema, type Stream } from "effect"
import { Action, CallError, Caller, type Policy, Retry, Service } from "fiberbus"
import { describe, expectTypeOf, it } from "vitest"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}
const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { n: Schema.Finite }, success: Schema.Finite, error: Failed }),
  Action.make("ping")
)

describe("policies", () => {
  it("leave each method's types as they are", () => {
    const jobs = Effect.runSync(
      Caller.make(Jobs, { policies: [Retry.policy()] }) as Effect.Effect<any>
    ) as Effect.Success<ReturnType<typeof Caller.make<typeof Jobs>>>
    expectTypeOf(jobs.run({ n: 1 }, { policies: [] })).toEqualTypeOf<
      Effect.Effect<number, Failed | CallError.CallError>
    >()
    expectTypeOf(jobs.ping({ policies: [Retry.policy()] })).toEqualTypeOf<Effect.Effect<void, CallError.CallError>>()
    expectTypeOf(jobs.run.stream({ n: 1 })).toEqualTypeOf<
      Stream.Stream<Caller.Event<never, number>, Failed | CallError.CallError>
    >()
  })

  it("can end a call for a reason of theirs", () => {
    const closed: Policy.Policy = (_call, { refuse }) => refuse(new CallError.RateLimited({ retryAfterMillis: 1 }))
    expectTypeOf(closed).toEqualTypeOf<Policy.Policy>()
  })

  it("can neither add an error, nor make up a result, nor need anything, nor say what ran", () => {
    // @ts-expect-error an error that no contract and no CallError declares
    const failing: Policy.Policy = () => Effect.fail(new Failed())
    // @ts-expect-error a result that is not the action's
    const inventing: Policy.Policy = () => Effect.succeed(1)
    const database = Effect.void as Effect.Effect<void, never, "Database">
    // @ts-expect-error a requirement that the caller does not have
    const needing: Policy.Policy = (call) => Effect.andThen(database, call)
    // @ts-expect-error a reason that only a service can know
    const knowing: Policy.Policy = (_call, { refuse }) => refuse(new CallError.RemoteDefect({ id: "" }))
    void [failing, inventing, needing, knowing]
  })
})
