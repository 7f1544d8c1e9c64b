/** What goes over the wire comes back unchanged: values of every schema of the action. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Caller from "../../client/Caller.ts"
import * as Action from "../../contract/Action.ts"
import * as Service from "../../contract/Service.ts"
import * as Handlers from "../../server/Handlers.ts"
import { Transport } from "../../transport/Transport.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import * as Generate from "./generate.ts"
import { type Law, Violation } from "./Law.ts"
import * as Show from "./show.ts"

/** @see the file's first line */
export const unchanged: Law = {
  name: "comes back unchanged",
  applies: (action) => Object.keys(parts(action)).length > 0,
  prepare: (subject) => {
    const schemas = parts(subject.action)
    const equals = Object.fromEntries(Object.entries(schemas).map(([part, schema]) => [part, equivalence(schema)]))
    const inputs = Arbitrary.all(
      Object.fromEntries(Object.entries(schemas).map(([part, schema]) => [part, Generate.values(schema)]))
    )
    const echo = echoOf(schemas)
    return {
      inputs,
      holds: (bench, values: { readonly [part: string]: unknown }) =>
        Effect.gen(function* () {
          const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
          const send = yield* Scope.provide(echo, scope)
          for (const part of Object.keys(schemas)) {
            const value = values[part]
            const fiber = yield* Effect.forkIn(send(part, value), scope)
            yield* bench.advance(bench.timeoutMillis, () => fiber.pollUnsafe() !== undefined)
            const exit = fiber.pollUnsafe()
            if (exit !== undefined && Exit.isSuccess(exit) && equals[part]!(exit.value, value)) continue
            if (exit !== undefined && isTooLarge(exit)) continue
            return yield* new Violation({
              because: `a value of the contract's ${part} is another one when it arrives`,
              given: `${part} ${Show.value(value)}`,
              cameBack:
                exit === undefined
                  ? "nothing"
                  : Exit.isSuccess(exit)
                    ? Show.value(exit.value)
                    : Show.outcome(subject.action, exit)
            })
          }
        }).pipe(Effect.scoped, Effect.provideService(Transport, bench.transport)),
      show: (values) => Object.keys(values).join(", ")
    }
  }
}

const isTooLarge = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some((reason) => reason._tag === "Fail" && tagOf(reason.error) === "PayloadTooLarge")

const tagOf = (error: any): unknown => error?.reason?._tag

/** What of an action has values, by its name in the contract. */
const parts = (action: Action.Any): { readonly [part: string]: Action.AnySchema } => {
  const { error, items, payload, progress, success } = action
  const asks = Object.entries(action.asks).flatMap(
    ([name, { answer, ask }]): Array<[string, Action.AnySchema]> => [
      [`question ${name}`, ask],
      [`answer to ${name}`, answer]
    ]
  )
  const all = [...Object.entries({ payload, success, error, progress, items }), ...asks]
  return Object.fromEntries(all.filter(([, schema]) => !SchemaCodec.isNever(schema) && !SchemaCodec.isVoid(schema)))
}

/** A service on the same bus that gives back what it gets, as payload and as success. */
const echoOf = (schemas: { readonly [part: string]: Action.AnySchema }) => {
  const names = Object.keys(schemas)
  const actions = names.map((part, index) => {
    const schema = schemas[part]!
    return Action.make(`part-${index}`, { payload: schema, success: schema })
  })
  return Effect.gen(function* () {
    const Echo = Service.make(`laws-echo-${crypto.randomUUID()}`, ...(actions as ReadonlyArray<Action.Any>))
    const handlers = Object.fromEntries(actions.map(({ name }) => [name, (value: unknown) => Effect.succeed(value)]))
    yield* Layer.build(Handlers.layer(Echo, handlers as any) as any as Layer.Layer<never, never, Transport>)
    const caller: Record<string, any> = yield* Effect.orDie(Caller.make(Echo))
    return (part: string, value: unknown): Effect.Effect<unknown, unknown> =>
      caller[`part-${names.indexOf(part)}`](value)
  })
}

/** Equal by the schema. A field that is there and undefined equals one that is not there: JSON has no other way. */
export const equivalence = (schema: Action.AnySchema) => {
  const equals = Schema.toEquivalence(schema)
  return (one: unknown, other: unknown) => equals(one, other) || equals(withoutUndefined(one), withoutUndefined(other))
}

const withoutUndefined = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (typeof value !== "object" || value === null) return value
  const prototype = Object.getPrototypeOf(value)
  const fields = Object.entries(value)
  // Of a class without such a field nothing is known.
  if (prototype !== Object.prototype && prototype !== null && fields.every(([, field]) => field !== undefined))
    return value
  const kept = fields.flatMap(([key, field]) => (field === undefined ? [] : [[key, withoutUndefined(field)]]))
  return Object.assign(Object.create(prototype), Object.fromEntries(kept))
}
