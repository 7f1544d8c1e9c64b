import { Context, Effect, type Layer, Schema, Stream } from "effect"
import { Action, type CallError, Caller, Handlers, Service, type Transport } from "fiberbus"
import { describe, expectTypeOf, it } from "vitest"

class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}
class Vault extends Context.Service<Vault, { readonly password: string }>()("Vault") {}

const Talk = Service.make(
  "talk",
  Action.make("connect", {
    payload: { ssid: Schema.String },
    success: Schema.String,
    asks: { password: { ask: { tries: Schema.Finite }, answer: Schema.String } }
  }),
  Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite, error: Broken }),
  Action.make("tail", { items: { line: Schema.String } })
)

describe("items", () => {
  it("are what a handler's stream emits", () => {
    const rest = { connect: () => Effect.succeed(""), tail: () => Stream.empty }
    Handlers.layer(Talk, {
      ...rest,
      count: ({ to }) => {
        expectTypeOf(to).toEqualTypeOf<number>()
        return Stream.concat(Stream.make(1), Stream.fail(new Broken()))
      }
    })
    // @ts-expect-error: numbers are wanted
    Handlers.layer(Talk, { ...rest, count: () => Stream.make("one") })
    // @ts-expect-error: a stream is wanted
    Handlers.layer(Talk, { ...rest, count: () => Effect.succeed(1) })
    // @ts-expect-error: the error is not declared
    Handlers.layer(Talk, { ...rest, count: () => Stream.fail("no") })
  })

  it("ask for what the stream needs", () => {
    const layer = Handlers.layer(Talk, {
      connect: () => Effect.succeed(""),
      tail: () => Stream.map(Stream.fromEffect(Vault), ({ password }) => ({ line: password })),
      count: () => Stream.empty
    })
    expectTypeOf(layer).toEqualTypeOf<Layer.Layer<never, Transport.TransportError, Transport.Transport | Vault>>()
  })

  it("are what a caller's stream brings", () => {
    const call = Effect.map(Caller.make(Talk), (talk) => {
      expectTypeOf(talk.count({ to: 1 })).toEqualTypeOf<Stream.Stream<number, Broken | CallError.CallError>>()
      expectTypeOf(talk.tail({ window: 8 })).toEqualTypeOf<
        Stream.Stream<{ readonly line: string }, CallError.CallError>
      >()
      // @ts-expect-error: there is no single result to send for
      talk.count.send({ to: 1 })
    })
    void call
  })

  it("come without a success and progress", () => {
    // @ts-expect-error: a stream of items has no result
    Action.make("a", { items: Schema.Finite, success: Schema.Finite })
  })
})

describe("asks", () => {
  it("are typed where they are asked", () => {
    Handlers.layer(Talk, {
      count: () => Stream.empty,
      tail: () => Stream.empty,
      connect: Effect.fnUntraced(
        function* (_, { ask }) {
          const password = yield* ask("password", { tries: 1 })
          expectTypeOf(password).toEqualTypeOf<string>()
          // @ts-expect-error: the question has the wrong type
          yield* ask("password", { tries: "one" })
          return password
        },
        Effect.catchTag("AskError", () => Effect.succeed("nothing"))
      )
    })
    Handlers.layer(Talk, {
      count: () => Stream.empty,
      tail: () => Stream.empty,
      // @ts-expect-error: an AskError is no error that the action declares
      connect: (_, { ask }) => ask("password", { tries: 1 })
    })
  })

  it("are typed where they are answered, and each needs its answer", () => {
    const call = Effect.map(Caller.make(Talk), (talk) => {
      expectTypeOf(
        talk.connect({ ssid: "" }, { answers: { password: ({ tries }) => Effect.succeed(String(tries)) } })
      ).toEqualTypeOf<Effect.Effect<string, CallError.CallError>>()
      expectTypeOf(
        talk.connect({ ssid: "" }, { answers: { password: () => Effect.map(Vault, ({ password }) => password) } })
      ).toEqualTypeOf<Effect.Effect<string, CallError.CallError, Vault>>()
      // @ts-expect-error: nobody answers
      talk.connect({ ssid: "" })
      // @ts-expect-error: an answer is missing
      talk.connect({ ssid: "" }, { answers: {} })
      // @ts-expect-error: text is wanted
      talk.connect({ ssid: "" }, { answers: { password: () => Effect.succeed(1) } })
    })
    void call
  })

  it("are answered beside whatever payload there is", () => {
    const asks = { name: { ask: {}, answer: Schema.String } }
    const Kinds = Service.make(
      "kinds",
      Action.make("none", { asks }),
      Action.make("any", { payload: Schema.Any, asks }),
      Action.make("unknown", { payload: Schema.Unknown, asks }),
      Action.make("optional", { payload: { id: Schema.optionalKey(Schema.String) }, asks })
    )
    const call = Effect.map(Caller.make(Kinds), (kinds) => {
      const options = { answers: { name: () => Effect.succeed("Ada") } }
      kinds.none(options)
      kinds.any({ id: 1 }, options)
      kinds.any.stream({ id: 1 }, { ...options, window: 1 })
      kinds.unknown({ id: 1 }, options)
      kinds.optional({}, options)
      // @ts-expect-error: the answers would be taken for the payload
      kinds.any(options)
      // @ts-expect-error: there is no payload
      kinds.none({}, options)
    })
    void call
  })
})
