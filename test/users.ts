/** A contract and a service that many tests share. */
import { Effect, Schema } from "effect"
import { Action, Handlers, Service } from "fiberbus"

export class User extends Schema.Class<User>("User")({ id: Schema.String, name: Schema.String, born: Schema.Date }) {}
export class UserNotFound extends Schema.TaggedError<UserNotFound>()("UserNotFound", { id: Schema.String }) {}
export class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", { why: Schema.String }) {}

export class Users extends Service.make(
  "user_service",
  Action.make("get_user", {
    payload: { id: Schema.String },
    success: User,
    error: Schema.Union([UserNotFound, Forbidden])
  }),
  Action.make("import_users", {
    payload: { rows: Schema.Array(Schema.String) },
    progress: { done: Schema.Finite, total: Schema.Finite },
    success: { imported: Schema.Finite }
  }),
  Action.make("ping"),
  Action.make("wait", { payload: { millis: Schema.Finite }, success: { waited: Schema.Finite } })
) {}

export const ann = new User({ id: "1", name: "Ann", born: new Date("2000-01-01T00:00:00.000Z") })

const handlers = {
  get_user: ({ id }) =>
    id === ann.id
      ? Effect.succeed(ann)
      : id === "secret"
        ? Effect.fail(new Forbidden({ why: "it is a secret" }))
        : id === "bug"
          ? Effect.die(new Error("a secret of the implementation"))
          : Effect.fail(new UserNotFound({ id })),
  import_users: Effect.fnUntraced(function* ({ rows }, { progress }) {
    for (const [index] of rows.entries()) yield* progress({ done: index + 1, total: rows.length })
    return { imported: rows.length }
  }),
  ping: () => Effect.void,
  wait: ({ millis }) => Effect.as(Effect.sleep(millis), { waited: millis })
} satisfies Handlers.HandlersOf<typeof Users>

export const UsersLive = Handlers.layer(Users, handlers)

/** The same without limits that the test would meet; what still runs at its end is not waited for. */
export const UsersUnlimited = Handlers.layer(Users, handlers, { concurrency: 10_000, grace: 0 })
