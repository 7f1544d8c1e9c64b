/**
 * A named group of actions: what a service answers and a caller is made from.
 *
 * Use it as a value or as a class, which gives it a short name in types:
 * `class Users extends Service.make("user_service", GetUser, ImportUsers) {}`.
 */
import * as Data from "effect/Data"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Action from "./Action.ts"
import * as Name from "./Name.ts"

const TypeId = "~fiberbus/contract/Service"

/** The contract of a service. */
export interface Service<Name extends string, Actions extends Action.Any> extends Pipeable {
  new (_: never): {}
  readonly [TypeId]: typeof TypeId
  /** The name on the wire: its channel, without a transport's prefix. */
  readonly serviceName: Name
  /** By name; has no prototype, so that every key is an action. */
  readonly actions: { readonly [A in Actions as A["name"]]: A }
  /** How many queues keep what its durable actions are asked. Default 1. @see {@link partitioned} */
  readonly partitions: number
}

/** A service with its parameters forgotten. */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly serviceName: string
  readonly actions: { readonly [name: string]: Action.Any }
  readonly partitions: number
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
    static readonly partitions: number = 1
    static pipe() {
      // biome-ignore lint/complexity/noArguments: Effect's own way of being pipeable
      // biome-ignore lint/complexity/noThisInStatic: the class that extends this one is piped
      return pipeArguments(this, arguments)
    }
  }
  return ServiceClass as unknown as Service<Name, Actions[number]>
}

/** Most partitions of a service: each process that serves it has a connection for each. Their names go by it, see `wire/Channels`. */
export const maxPartitions = 128

/** A service cannot have so many partitions; thrown by {@link partitioned}. */
export class InvalidPartitions extends Data.TaggedError("InvalidPartitions")<{
  readonly service: string
  readonly given: number
}> {
  override get message() {
    return `The service ${this.service} can have 1 to ${maxPartitions} partitions, not ${this.given}`
  }
}

/**
 * Spreads what is kept for a service's durable actions over so many queues, which a Redis Cluster spreads over its masters evenly:
 * `class Payments extends Service.make("payments", Charge).pipe(Service.partitioned(12)) {}`. Messages of one `Action.Key` share a queue, hence their
 * order; others go by their id. The number is part of the contract: docs/durable.md says how it is raised. The service given is left as it was.
 *
 * Errors: throws {@link InvalidPartitions}.
 */
export const partitioned: {
  (count: number): <S extends Any>(self: S) => S
  <S extends Any>(self: S, count: number): S
} = dual(2, <S extends Any>(self: S, count: number): S => {
  if (!(Number.isInteger(count) && count >= 1 && count <= maxPartitions)) {
    throw new InvalidPartitions({ service: self.serviceName, given: count })
  }
  const Whole = self as unknown as Service<string, Action.Any>
  class Partitioned extends Whole {
    static override readonly partitions = count
  }
  return Partitioned as unknown as S
})

/** True for values made by {@link make} and classes that extend them. */
export const isService = (value: unknown): value is Any => typeof value === "function" && TypeId in value
