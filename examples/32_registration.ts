// Registration by two services: what was done is undone when a later step fails, in reverse order.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Layer, Schema } from "effect"
import { Action, Caller, Deadline, Handlers, Memory, Service } from "fiberbus"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

class Users extends Service.make(
  "user_service",
  Action.make("create", { payload: { name: Schema.String }, success: { id: Schema.String } }),
  Action.make("delete", { payload: { id: Schema.String } })
) {}

class Mail extends Service.make(
  "mail_service",
  Action.make("open_box", { payload: { id: Schema.String }, success: { box: Schema.String } }),
  Action.make("close_box", { payload: { box: Schema.String } }),
  Action.make("welcome", { payload: { box: Schema.String, name: Schema.String }, error: Refused })
) {}

class Registration extends Service.make(
  "registration",
  Action.make("register", { payload: { name: Schema.String }, success: { id: Schema.String }, error: Refused })
) {}

const UsersLive = Handlers.layer(Users, {
  create: ({ name }) => Effect.as(Console.log(`users         created ${name}`), { id: `u-${name}` }),
  delete: ({ id }) => Console.log(`users         deleted ${id}`)
})

const MailLive = Handlers.layer(Mail, {
  open_box: ({ id }) => Effect.as(Console.log(`mail          opened a box for ${id}`), { box: `box-${id}` }),
  close_box: ({ box }) => Console.log(`mail          closed ${box}`),
  welcome: ({ name }) =>
    name === "Eve"
      ? Effect.fail(new Refused({ why: "no letters to Eve" }))
      : Console.log(`mail          wrote to ${name}`)
})

/**
 * A step with its undoing, which runs if what follows in the Scope fails, dies or is interrupted.
 *
 * The undoing has the time of its own calls, not what is left of the request's: it may begin because that is over. If it
 * fails too, somebody must be told.
 */
const step = <A, E, E2>(act: Effect.Effect<A, E>, undo: (done: A) => Effect.Effect<unknown, E2>) =>
  Effect.acquireRelease(act, (done, exit) =>
    Exit.isSuccess(exit)
      ? Effect.void
      : undo(done).pipe(
          Effect.provideService(Deadline.Deadline, undefined),
          Effect.catchCause((cause) => Effect.logError("could not be undone", cause))
        )
  )

const RegistrationLive = Handlers.layer(
  Registration,
  Effect.gen(function* () {
    const users = yield* Caller.make(Users)
    const mail = yield* Caller.make(Mail)
    return {
      // The Scope of the request: it closes before the answer is sent.
      register: ({ name }) =>
        Effect.gen(function* () {
          const { id } = yield* step(users.create({ name }), ({ id }) => users.delete({ id }))
          const { box } = yield* step(mail.open_box({ id }), ({ box }) => mail.close_box({ box }))
          yield* mail.welcome({ box, name })
          return { id }
        }).pipe(Effect.catchTag("CallError", Effect.die))
    }
  })
)

const program = Effect.gen(function* () {
  const registration = yield* Caller.make(Registration)
  const { id } = yield* registration.register({ name: "Ada" })
  yield* Console.log(`caller        registered as ${id}`)
  yield* registration
    .register({ name: "Eve" })
    .pipe(Effect.catchTag("Refused", ({ why }) => Console.log(`caller        refused: ${why}`)))
})

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.mergeAll(UsersLive, MailLive, RegistrationLive).pipe(Layer.provideMerge(Memory.layer))),
  NodeRuntime.runMain
)
