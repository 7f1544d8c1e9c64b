// The code of docs/api.md: type-checked here, compared with the page by snippets.test.ts, run by nothing.
import { Console, Context, Effect, Layer, Schema, Stream } from "effect"
import {
  Action,
  Broadcast,
  Caller,
  Handlers,
  Listener,
  Memory,
  Request,
  Response,
  Retry,
  Service,
  Topic
} from "fiberbus"

export class Database extends Context.Service<
  Database,
  { readonly find: (id: string) => Effect.Effect<typeof User.Type | undefined> }
>()("Database") {}

export const User = Schema.Struct({ id: Schema.String, name: Schema.String })

export class UserNotFound extends Schema.TaggedError<UserNotFound>()("UserNotFound", { id: Schema.String }) {}

export const GetUser = Action.make("get_user", {
  payload: { id: Schema.String }, // bare fields: a struct of them
  success: User, // or a schema
  error: UserNotFound
}).pipe(Action.annotate(Action.Timeout, "1 second"), Action.annotate(Action.Idempotent, true))

export const Ping = Action.make("ping") // nothing in, nothing out

export const Import = Action.make("import", {
  payload: { rows: Schema.Array(Schema.String) },
  progress: { done: Schema.Finite },
  success: { imported: Schema.Finite }
}).pipe(Action.annotate(Action.Concurrency, 2))

export const Watch = Action.make("watch", { payload: { id: Schema.String }, items: User })

export const Rename = Action.make("rename", {
  payload: { id: Schema.String, name: Schema.String },
  asks: { sure: { ask: { old: Schema.String }, answer: Schema.Boolean } }
})

export class Users extends Service.make("users", GetUser, Ping, Import, Watch, Rename) {}

export const UserCreated = Topic.make("user_created", { id: Schema.String })
export const Sensors = Topic.make("sensors.*", { celsius: Schema.Finite }) // a glob: a pattern
export const Kitchen = Topic.at(Sensors, "sensors.kitchen") // one of its channels, to publish on

export const UsersLive = Handlers.layer(
  Users,
  {
    get_user: Effect.fnUntraced(function* ({ id }) {
      const database = yield* Database
      const user = yield* database.find(id)
      return user ?? (yield* new UserNotFound({ id }))
    }),
    ping: () => Effect.void,
    import: Effect.fnUntraced(function* ({ rows }, { progress }) {
      for (const index of rows.keys()) yield* progress({ done: index + 1 })
      return { imported: rows.length }
    }),
    watch: ({ id }) => Stream.make({ id, name: "Ann" }, { id, name: "Anna" }),
    rename: Effect.fnUntraced(function* (_, { ask }) {
      const sure = yield* Effect.orDie(ask("sure", { old: "Ann" }, { timeout: "30 seconds" }))
      yield* Console.log(sure ? "renamed" : "left as it was")
    })
  },
  { concurrency: 20, backlog: 100, grace: "5 seconds" }
)

class Clock extends Service.make("clock", Action.make("now", { success: Schema.Finite }), Ping) {}

const Now = Handlers.handler(Clock, "now", (_: void) => Effect.sync(() => Date.now()))
const Pong = Handlers.handler(Clock, "ping", () => Effect.void)

export const ClockLive = Handlers.serve(Clock, { concurrency: 20 }).pipe(Layer.provide([Now, Pong]))

export const audit = Effect.gen(function* () {
  const { action, headers, id } = yield* Request.current
  yield* Console.log(`${id}: ${action} for ${headers["tenant"] ?? "nobody"}`)
})

export const early = Effect.gen(function* () {
  yield* Response.send({ id: "1", name: "Ann" }) // answers now
  yield* audit // and goes on
  return Response.sent
})

export const program = Effect.gen(function* () {
  const users = yield* Caller.make(Users, { policies: [Retry.policy()] })

  const ann = yield* users.get_user({ id: "1" })
  yield* users.ping({ timeout: "200 millis" }) // no payload: options come first
  yield* users.get_user({ id: "1" }, { timeout: "2 seconds", headers: { tenant: "acme" }, policies: [] })

  yield* users.import
    .stream({ rows: ["a", "b"] }, { window: 16 })
    .pipe(Stream.runForEach((event) => Console.log(event)))
  const reached = yield* users.import.send({ rows: ["c"] }) // asks for no answer
  yield* users.watch({ id: "1" }).pipe(
    Stream.take(1),
    Stream.runForEach((user) => Console.log(user.name))
  )
  yield* users.rename({ id: "1", name: "Anna" }, { answers: { sure: () => Effect.succeed(true) } })
  return { ann, reached }
})

export const outcome = Effect.gen(function* () {
  const users = yield* Caller.make(Users)
  return yield* users.get_user({ id: "1" }).pipe(
    Effect.catchTag("UserNotFound", ({ id }) => Effect.succeed({ id, name: "nobody" })),
    Effect.catchReason("CallError", "NoResponders", () => Effect.succeed({ id: "1", name: "nobody is there" }))
  )
})

export const untyped = Effect.gen(function* () {
  const users = yield* Caller.dynamic("users")
  return yield* users.call("get_user", { id: "1" })
})

export const OnUserCreated = Listener.layer(UserCreated, ({ id }) => Console.log(`welcome, ${id}`))
export const OnSensors = Listener.layer(Sensors, ({ celsius }, { channel }) => Console.log(channel, celsius), {
  concurrency: 1 // one at a time, in order
})

export const announce = Broadcast.publish(UserCreated, { id: "1" })
export const measure = Broadcast.publish(Kitchen, { celsius: 21 })

export const Live = Layer.mergeAll(UsersLive, ClockLive, OnUserCreated, OnSensors).pipe(
  Layer.provideMerge(Memory.layer)
)
