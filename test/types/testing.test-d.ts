import { it as effectIt } from "@effect/vitest"
import { Arbitrary, Context, Effect, Exit, type Layer, Schema } from "effect"
import { Action, type CallError, type Durable, Handlers, Service, Topic, type Transport } from "fiberbus"
import { ContractDiff, Laws, TestBus, TopicLaws } from "fiberbus/testing"
import { describe, expectTypeOf, it } from "vitest"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}

class Payments extends Service.make(
  "payments",
  Action.make("charge", { payload: { cents: Schema.Int }, success: { receipt: Schema.String }, error: Declined }),
  Action.make("refund", { payload: { receipt: Schema.String } })
) {}

class Bank extends Context.Service<Bank, { readonly open: boolean }>()("Bank") {}

const refund = () => Effect.void
const PaymentsLive = Handlers.layer(Payments, { charge: () => Effect.succeed({ receipt: "r" }), refund })

describe("TestBus", () => {
  it("gives the transport and the bus, and asks for what the services need besides", () => {
    expectTypeOf(TestBus.layer(PaymentsLive)).toEqualTypeOf<
      Layer.Layer<TestBus.TestBus | Transport.Transport | Durable.Durable, Transport.TransportError>
    >()
    const needing = Handlers.layer(Payments, {
      charge: () => Bank.use(({ open }) => Effect.succeed({ receipt: String(open) })),
      refund
    })
    expectTypeOf<Layer.Services<ReturnType<typeof TestBus.layer<never, never, Bank>>>>().toEqualTypeOf<Bank>()
    expectTypeOf(TestBus.layer(needing)).toExtend<Layer.Layer<TestBus.TestBus, Transport.TransportError, Bank>>()
    // @ts-expect-error: the bank is missing
    Effect.provide(Effect.void, TestBus.layer(needing)) satisfies Effect.Effect<void, unknown>
  })

  it("reads the record by contracts", () => {
    const sent = TestBus.sent(Payments, "charge")
    type Sent = Effect.Success<typeof sent>[number]
    expectTypeOf<Sent["payload"]>().toEqualTypeOf<{ readonly cents: number }>()
    expectTypeOf<Sent["outcome"]>().toEqualTypeOf<
      Exit.Exit<{ readonly receipt: string }, Declined | CallError.CallError> | undefined
    >()
    // @ts-expect-error: no such action
    TestBus.sent(Payments, "steal")
    const topic = Topic.make("sold", { seat: Schema.String })
    expectTypeOf<Effect.Success<ReturnType<typeof TestBus.published<typeof topic>>>>().toEqualTypeOf<
      ReadonlyArray<{ readonly seat: string }>
    >()
  })

  it("stubs by contract", () => {
    TestBus.stub(Payments, {
      charge: ({ cents }) => {
        expectTypeOf(cents).toEqualTypeOf<number>()
        return Effect.fail(new Declined({ why: "no" }))
      }
    })
    TestBus.stub(Payments, {})
    // @ts-expect-error: no such action
    TestBus.stub(Payments, { steal: () => Effect.void })
    // @ts-expect-error: another success than the contract's
    TestBus.stub(Payments, { charge: () => Effect.succeed({ paid: true }) })
    const needing = TestBus.stub(Payments, { refund: () => Bank.use(() => Effect.void) })
    expectTypeOf(needing).toEqualTypeOf<Layer.Layer<never, Transport.TransportError, Transport.Transport | Bank>>()
  })
})

describe("Laws", () => {
  it("are Effects on a TestBus, or on nothing where they bring their own", () => {
    expectTypeOf(Laws.all(Payments)).toEqualTypeOf<ReadonlyArray<Laws.Check<TestBus.TestBus | Transport.Transport>>>()
    expectTypeOf(Laws.all(Payments, { system: TestBus.layer(PaymentsLive) })).toEqualTypeOf<
      ReadonlyArray<Laws.Check<never>>
    >()
  })

  it("take the `it` of a layer that has a TestBus", () => {
    effectIt.layer(TestBus.layer(PaymentsLive))((it) => Laws.service(it, Payments))
    Laws.service(effectIt, Payments, { system: TestBus.layer(PaymentsLive) })
    // @ts-expect-error: there is no TestBus
    Laws.service(effectIt, Payments)
  })

  it("know the contract", () => {
    Laws.all(Payments, {
      actions: ["charge"],
      except: { refund: ["ends"] },
      payloads: {
        charge: Schema.Struct({ cents: Schema.Literals([1, 2]) }),
        refund: Arbitrary.Constant({ receipt: "r" })
      }
    })
    // @ts-expect-error: no such action
    Laws.all(Payments, { actions: ["steal"] })
    // @ts-expect-error: cents are a number
    Laws.all(Payments, { payloads: { charge: Schema.Struct({ cents: Schema.String }) } })
    Laws.make(Payments, "charge", "gives a receipt", ({ answer, payload }) => {
      expectTypeOf(payload).toEqualTypeOf<{ readonly cents: number }>()
      return Exit.isSuccess(answer) && answer.value.receipt === "" ? "it is empty" : undefined
    })
  })
})

const Paid = Topic.make("paid", { cents: Schema.Int })

describe("TopicLaws", () => {
  it("take the `it` of a layer that has a TestBus, or a system", () => {
    effectIt.layer(TestBus.layer(PaymentsLive))((it) => Laws.topic(it, Paid))
    Laws.topic(effectIt, Paid, { system: TestBus.layer(PaymentsLive) })
    // @ts-expect-error: there is no TestBus
    Laws.topic(effectIt, Paid)
    expectTypeOf(TopicLaws.all(Paid, { system: TestBus.layer(PaymentsLive) })).toEqualTypeOf<
      ReadonlyArray<TopicLaws.Check<never>>
    >()
  })

  it("know the topic", () => {
    TopicLaws.all(Paid, { messages: Arbitrary.Constant({ cents: 1 }) })
    // @ts-expect-error: cents are a number
    TopicLaws.all(Paid, { messages: Arbitrary.Constant({ cents: "1" }) })
    TopicLaws.make(Paid, "is heard", ({ message, heard }) => {
      expectTypeOf(message).toEqualTypeOf<{ readonly cents: number }>()
      return heard.handled === 0 ? "it is not" : undefined
    })
  })
})

describe("ContractDiff", () => {
  it("takes services, topics and modules, and fails with a report", () => {
    ContractDiff.compare(Payments, Payments)
    ContractDiff.compare(Paid, { Paid, Payments, other: 1 }, { who: ["old callers"] })
    // @ts-expect-error: nobody is called that
    ContractDiff.compare(Paid, Paid, { who: ["somebody"] })
    expectTypeOf(ContractDiff.assertCompatible(Paid, Paid)).toEqualTypeOf<
      Effect.Effect<ContractDiff.Report, ContractDiff.Incompatible | ContractDiff.NoContract>
    >()
  })
})
