/**
 * A named group of actions: what a service answers and a caller is made from.
 *
 * Use it as a value or as a class, which gives it a short name in types:
 * `class Users extends Service.make("user_service", GetUser, ImportUsers) {}`.
 */
import * as Data from "effect/Data"
import type * as Action from "./Action.ts"
import * as Name from "./Name.ts"

const TypeId = "~fiberbus/contract/Service"

/** The contract of a service. */
export interface Service<Name extends string, Actions extends Action.Any> {
  new (_: never): {}
  readonly [TypeId]: typeof TypeId
  /** The name on the wire: its channel, without a transport's prefix. */
  readonly serviceName: Name
  /** By name; has no prototype, so that every key is an action. */
  readonly actions: { readonly [A in Actions as A["name"]]: A }
}

/** A service with its parameters forgotten. */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly serviceName: string
  readonly actions: { readonly [name: string]: Action.Any }
}

/** The names of a service's actions. */
export type ActionName<S extends Any> = keyof S["actions"] & string

/** Two actions of one service bear the same name; thrown where the service is defined. */
export class DuplicateAction extends Data.TaggedError("DuplicateAction")<{
  readonly service: string
  readonly action: string
}> {
  override get message() {
    return `The service ${this.service} has two actions named ${this.action}`
  }
}

/**
 * Groups actions under the name of a service.
 *
 * Errors: throws `InvalidName` or {@link DuplicateAction}.
 */
export const make = <const Name extends string, const Actions extends ReadonlyArray<Action.Any>>(
  name: Name,
  ...actions: Actions
): Service<Name, Actions[number]> => {
  Name.check("service", name)
  const byName: Record<string, Action.Any> = Object.create(null)
  for (const action of actions) {
    if (action.name in byName) throw new DuplicateAction({ service: name, action: action.name })
    byName[action.name] = action
  }
  // A class, so that it can be extended; its statics are inherited by the extending class.
  class ServiceClass {
    static readonly [TypeId] = TypeId
    static readonly serviceName = name
    static readonly actions = byName
  }
  return ServiceClass as unknown as Service<Name, Actions[number]>
}

/** True for values made by {@link make} and classes that extend them. */
export const isService = (value: unknown): value is Any => typeof value === "function" && TypeId in value
