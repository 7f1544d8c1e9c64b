// Cache-aside: look in a cache that all replicas share, ask the slow source only for what is not there. Set REDIS_URL, or it is in memory.
import { NodeRuntime } from "@effect/platform-node"
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import { Config, Console, Effect, Layer, Option, Redacted, Schema } from "effect"
import { Persistable, PersistedCache, Persistence } from "effect/persistence"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class User extends Schema.Class<User>("User")({ id: Schema.String, name: Schema.String }) {}
class UserNotFound extends Schema.TaggedError<UserNotFound>()("UserNotFound", { id: Schema.String }) {}

class Users extends Service.make(
  "users",
  Action.make("get", { payload: { id: Schema.String }, success: User, error: UserNotFound }),
  Action.make("rename", { payload: { id: Schema.String, name: Schema.String } })
) {}

// What is kept: by which key, and how it is written. Failures are kept as well, here: a missing user is asked for once.
class GetUser extends Persistable.Class<{ payload: { id: string } }>()("GetUser", {
  primaryKey: ({ id }) => id,
  success: User,
  error: UserNotFound
}) {}

const UsersLive = Handlers.layer(
  Users,
  Effect.gen(function* () {
    const database = new Map([["1", "Ada"]])
    const find = Effect.fnUntraced(function* ({ id }: { readonly id: string }) {
      yield* Console.log(`database  asked for ${id}`)
      const name = database.get(id)
      return name === undefined ? yield* new UserNotFound({ id }) : new User({ id, name })
    })
    // In front of the shared cache there is one in the process, for a shorter time: 0 leaves it out.
    const cache = yield* PersistedCache.make((key: GetUser) => find(key), {
      storeId: `users-${process.pid}`,
      timeToLive: () => "1 minute",
      inMemoryTTL: () => 0
    })
    return {
      // Without its cache the service is slower, not wrong.
      get: ({ id }) =>
        Effect.catchTag(cache.get(new GetUser({ id })), ["PersistenceError", "SchemaError"], () => find({ id })),
      rename: Effect.fnUntraced(function* ({ id, name }) {
        database.set(id, name)
        // After the change, never before it: a reader in between would put the old value back.
        yield* Effect.orDie(cache.invalidate(new GetUser({ id })))
      })
    }
  })
)

const CacheLive = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.option(Config.Redacted("REDIS_URL"))
    yield* Console.log(`cache     in ${Option.isSome(url) ? "Redis" : "memory"}`)
    return Option.isSome(url)
      ? Persistence.layerRedis.pipe(Layer.provide(NodeRedis.layer({ url: Redacted.value(url.value) })))
      : Persistence.layerMemory
  })
)

const program = Effect.gen(function* () {
  const users = yield* Caller.make(Users)
  yield* Console.log(`caller    ${(yield* users.get({ id: "1" })).name}`)
  yield* Console.log(`caller    ${(yield* users.get({ id: "1" })).name}`)
  yield* users.rename({ id: "1", name: "Ada Lovelace" })
  yield* Console.log(`caller    ${(yield* users.get({ id: "1" })).name}`)
  const missing = Effect.catchTag(users.get({ id: "2" }), "UserNotFound", ({ id }) =>
    Console.log(`caller    no user ${id}`)
  )
  yield* missing
  yield* missing
})

program.pipe(
  Effect.scoped,
  Effect.provide(UsersLive.pipe(Layer.provide(CacheLive), Layer.provideMerge(Memory.layer))),
  NodeRuntime.runMain
)
