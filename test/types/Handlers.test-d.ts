import { Context, Effect, Layer, Schema, type Scope, type Stream } from "effect"
import {
  Action,
  Broadcast,
  type CallError,
  Caller,
  Handlers,
  Listener,
  Response,
  Service,
  Topic,
  type Transport
} from "fiberbus"
import { describe, expectTypeOf, it } from "vitest"

class User extends Schema.Class<User>("User")({ id: Schema.String, name: Schema.String }) {}
class UserNotFound extends Schema.TaggedError<UserNotFound>()("UserNotFound", { id: Schema.String }) {}
class OtherError extends Schema.TaggedError<OtherError>()("OtherError", {}) {}

class Users extends Service.make(
  "user_service",
  Action.make("get_user", { payload: { id: Schema.String }, success: User, error: UserNotFound }),
  Action.make("import_users", {
    payload: { rows: Schema.Array(User) },
    progress: { done: Schema.Finite },
    success: { imported: Schema.Finite }
  }),
  Action.make("ping")
) {}

class Database extends Context.Service<
  Database,
  { readonly find: (id: string) => Effect.Effect<User, UserNotFound> }
>()("Database") {}

const find = ({ id }: { readonly id: string }) => Effect.flatMap(Database, (database) => database.find(id))
const rest = { import_users: () => Effect.succeed({ imported: 0 }), ping: () => Effect.void }

describe("Handlers.layer", () => {
  it("asks for what the handlers need, and for a transport", () => {
    expectTypeOf(Handlers.layer(Users, { get_user: find, ...rest })).toEqualTypeOf<
      Layer.Layer<never, Transport.TransportError, Transport.Transport | Database>
    >()
  })

  it("takes an Effect that makes the handlers and may fail, and closes its Scope with the Layer", () => {
    const handlers = Effect.gen(function* () {
      const database = yield* Database
      yield* Effect.addFinalizer(() => Effect.void)
      if (database === undefined) return yield* new OtherError()
      return { get_user: ({ id }: { readonly id: string }) => database.find(id), ...rest }
    })
    expectTypeOf(Handlers.layer(Users, handlers)).toEqualTypeOf<
      Layer.Layer<never, OtherError | Transport.TransportError, Transport.Transport | Database>
    >()
  })

  it("gives handlers their decoded payload and typed progress", () => {
    Handlers.layer(Users, {
      get_user: (payload) => {
        expectTypeOf(payload).toEqualTypeOf<{ readonly id: string }>()
        return Effect.succeed(new User({ id: payload.id, name: "" }))
      },
      import_users: Effect.fnUntraced(function* ({ rows }, { progress }) {
        expectTypeOf(rows).toEqualTypeOf<ReadonlyArray<User>>()
        yield* progress({ done: 1 })
        // @ts-expect-error: not a step of this action
        yield* progress({ total: 1 })
        return { imported: rows.length }
      }),
      ping: () => Effect.void
    })
  })

  it("refuses a missing handler", () => {
    // @ts-expect-error: get_user is missing
    Handlers.layer(Users, rest)
  })

  it("refuses a misspelt handler", () => {
    // @ts-expect-error: there is no get_usr
    Handlers.layer(Users, { get_usr: find, ...rest })
    // @ts-expect-error: there is no get_usr, though get_user is there too
    Handlers.layer(Users, { get_user: find, get_usr: find, ...rest })
  })

  it("refuses a wrong result", () => {
    // @ts-expect-error: a User is wanted
    Handlers.layer(Users, { get_user: () => Effect.succeed("Ann"), ...rest })
    // @ts-expect-error: import_users brings a number
    Handlers.layer(Users, { ...rest, get_user: find, import_users: () => Effect.succeed({ imported: "many" }) })
  })

  it("refuses an undeclared error", () => {
    // @ts-expect-error: OtherError is not declared
    Handlers.layer(Users, { get_user: () => Effect.fail(new OtherError()), ...rest })
    // @ts-expect-error: ping declares none at all
    Handlers.layer(Users, { ...rest, get_user: find, ping: () => Effect.fail("no") })
  })

  it("refuses to run without a dependency", () => {
    const layer = Handlers.layer(Users, { get_user: find, ...rest })
    // @ts-expect-error: neither Transport nor Database is provided
    Effect.runPromise(Layer.launch(layer))
  })

  it("gives each request a Scope", () => {
    const scoped = () =>
      Effect.as(
        Effect.addFinalizer(() => Effect.void),
        new User({ id: "", name: "" })
      )
    expectTypeOf(Handlers.layer(Users, { get_user: scoped, ...rest })).toEqualTypeOf<
      Layer.Layer<never, Transport.TransportError, Transport.Transport>
    >()
  })

  it("lets a handler answer by itself", () => {
    Handlers.layer(Users, { ...rest, get_user: () => Response.send({ id: "1", name: "Ann" }) })
  })
})

describe("Handlers.handler and serve", () => {
  const GetUser = Handlers.handler(Users, "get_user", find)
  const ImportUsers = Handlers.handler(Users, "import_users", rest.import_users)
  const Ping = Handlers.handler(Users, "ping", rest.ping)

  it("is complete when every handler is there", () => {
    expectTypeOf(Handlers.serve(Users).pipe(Layer.provide([GetUser, ImportUsers, Ping]))).toEqualTypeOf<
      Layer.Layer<never, Transport.TransportError, Transport.Transport | Database>
    >()
  })

  it("shows what is missing", () => {
    expectTypeOf(Handlers.serve(Users).pipe(Layer.provide([GetUser, ImportUsers]))).toEqualTypeOf<
      Layer.Layer<
        never,
        Transport.TransportError,
        Transport.Transport | Database | Handlers.Provided<typeof Users, "ping">
      >
    >()
  })

  it("gives each handler its decoded payload, also in a generator", () => {
    Handlers.handler(
      Users,
      "import_users",
      Effect.fnUntraced(function* ({ rows }, { progress }) {
        expectTypeOf(rows).toEqualTypeOf<ReadonlyArray<User>>()
        yield* progress({ done: 1 })
        return { imported: rows.length }
      })
    )
    Handlers.handler(
      Users,
      "get_user",
      Effect.map(Database, (database) => ({ id }) => {
        expectTypeOf(id).toEqualTypeOf<string>()
        return database.find(id)
      })
    )
  })

  it("is not complete with a handler of one or the other action, or of another contract", () => {
    const either = "get_user" as "get_user" | "ping"
    const One = Handlers.handler(Users, either, () => Response.send(1))
    expectTypeOf<Handlers.Provided<typeof Users, "ping">>().not.toExtend<Layer.Success<typeof One>>()
    const Other = Service.make("user_service", Action.make("ping", { success: Schema.Finite }))
    const Ping = Handlers.handler(Other, "ping", () => Effect.succeed(1))
    expectTypeOf<Layer.Success<typeof Ping>>().not.toExtend<Handlers.Provided<typeof Users, "ping">>()
  })

  it("refuses an action that does not exist, a wrong result and an undeclared error", () => {
    // @ts-expect-error: no such action
    Handlers.handler(Users, "get_usr", find)
    // @ts-expect-error: a User is wanted
    Handlers.handler(Users, "get_user", () => Effect.succeed(1))
    // @ts-expect-error: OtherError is not declared
    Handlers.handler(Users, "get_user", () => Effect.fail(new OtherError()))
  })
})

describe("Caller", () => {
  const program = Effect.gen(function* () {
    const users = yield* Caller.make(Users)
    expectTypeOf(users.get_user({ id: "1" })).toEqualTypeOf<Effect.Effect<User, UserNotFound | CallError.CallError>>()
    expectTypeOf(users.ping()).toEqualTypeOf<Effect.Effect<void, CallError.CallError>>()
    expectTypeOf(users.get_user.send({ id: "1" })).toEqualTypeOf<Effect.Effect<number, CallError.CallError>>()
    expectTypeOf(users.import_users.stream({ rows: [] })).toEqualTypeOf<
      Stream.Stream<Caller.Event<{ readonly done: number }, { readonly imported: number }>, CallError.CallError>
    >()
    expectTypeOf(users.ping({ timeout: "1 second" })).toEqualTypeOf<Effect.Effect<void, CallError.CallError>>()
    expectTypeOf(
      users.import_users.stream({ rows: [] }).pipe(Caller.onProgress(({ done }) => Effect.log(done)))
    ).toEqualTypeOf<Effect.Effect<{ readonly imported: number }, CallError.CallError>>()
    // @ts-expect-error: the payload is missing
    users.get_user()
    // @ts-expect-error: the payload has the wrong type
    users.get_user({ id: 1 })
    // @ts-expect-error: no such action
    users.get_usr({ id: "1" })
  })

  it("needs a transport and a Scope", () => {
    expectTypeOf(program).toEqualTypeOf<
      Effect.Effect<void, Transport.TransportError, Transport.Transport | Scope.Scope>
    >()
  })
})

describe("Topic", () => {
  const Events = Topic.make("user_events", { type: Schema.String })
  const All = Topic.make("user_events.*", { type: Schema.String })

  it("is typed where it is published and heard", () => {
    expectTypeOf(Broadcast.publish(Events, { type: "created" })).toEqualTypeOf<
      Effect.Effect<number, Broadcast.PublishError, Transport.Transport>
    >()
    // @ts-expect-error: the message has the wrong type
    Broadcast.publish(Events, { type: 1 })
    Listener.layer(Events, (event) => {
      expectTypeOf(event).toEqualTypeOf<{ readonly type: string }>()
      return Effect.void
    })
  })

  it("carries objects", () => {
    // @ts-expect-error: Daebus' listeners hear objects only
    Topic.make("user_events", Schema.String)
  })

  it("cannot be published to when it is a pattern", () => {
    // @ts-expect-error: a pattern is many channels
    Broadcast.publish(All, { type: "created" })
    Broadcast.publish(Topic.at(All, "user_events.eu"), { type: "created" })
    Listener.layer(All, (event, { channel }) => Effect.log(event.type, channel))
  })
})

describe("Action", () => {
  it("takes annotations of the right type only", () => {
    Action.make("a").pipe(Action.annotate(Action.Timeout, "1 second"), Action.annotate(Action.Idempotent, true))
    // @ts-expect-error: not a duration
    Action.make("a").pipe(Action.annotate(Action.Timeout, true))
  })
})
