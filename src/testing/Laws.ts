/**
 * Property tests of handlers, from their contract alone: calls are generated from the schemas of every action, made through a real
 * caller on a {@link TestBus}, and judged by laws that hold for all services.
 *
 * `Laws.service(it, Users)` in a test file, `Laws.all(Users)` without a test runner. For listeners: {@link topic}.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import type { CallError } from "../client/CallError.ts"
import type * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import type { Transport } from "../transport/Transport.ts"
import * as Bench from "./laws/Bench.ts"
import * as Trial from "./laws/check.ts"
import { ends } from "./laws/ends.ts"
import { fitsContract } from "./laws/fitsContract.ts"
import * as Generate from "./laws/generate.ts"
import { idempotent } from "./laws/idempotent.ts"
import { isolated } from "./laws/isolated.ts"
import { keepsDeadline } from "./laws/keepsDeadline.ts"
import { type Call, type Law, type Subject, Violation } from "./laws/Law.ts"
import { leavesNothing } from "./laws/leavesNothing.ts"
import { neverDies } from "./laws/neverDies.ts"
import { refuses } from "./laws/refuses.ts"
import * as Show from "./laws/show.ts"
import { unchanged } from "./laws/unchanged.ts"
import type { TestBus } from "./TestBus.ts"

export type { Bench } from "./laws/Bench.ts"
export { LawBroken, LawNotTried, type Tuning, UnknownReplay } from "./laws/check.ts"
export { type Call, type Law, type Prepared, type Subject, Violation } from "./laws/Law.ts"
export { topic } from "./TopicLaws.ts"
export { ends, fitsContract, idempotent, isolated, keepsDeadline, leavesNothing, neverDies, refuses, unchanged }

/** The laws that hold for every service. */
export const standard: ReadonlyArray<Law> = [
  neverDies,
  fitsContract,
  unchanged,
  refuses,
  ends,
  keepsDeadline,
  leavesNothing,
  idempotent,
  isolated
]

/** What can be chosen and tuned. */
export interface Options<S extends Service.Any> extends Trial.Tuning {
  /** Default {@link standard}. Add your own: `[...Laws.standard, mine]`. */
  readonly laws?: ReadonlyArray<Law>
  /** Default all of the contract. */
  readonly actions?: ReadonlyArray<Service.ActionName<S>>
  /** Laws that do not concern an action, by their names. */
  readonly except?: { readonly [Name in Service.ActionName<S>]?: ReadonlyArray<string> }
  /** For some laws, by their names, another tuning. */
  readonly tune?: { readonly [law: string]: Trial.Tuning }
  /** Where payloads come from, in place of the contract's schema: a narrower schema, or an `Arbitrary`. */
  readonly payloads?: { readonly [Name in Service.ActionName<S>]?: Generate.Source<Action.Payload<S["actions"][Name]>> }
  /** Items that are taken of a stream before its consumer leaves. Default 100. */
  readonly items?: number
  /** Actions that are answered alike alone and at the same time as others, beside those annotated as `Idempotent`. */
  readonly isolated?: ReadonlyArray<Service.ActionName<S>>
  /** How many resources the services have open now, for the law that none stays. */
  readonly resources?: () => number
  /**
   * Real milliseconds, before each move of the test's clock, for what handlers wait for outside of it (a socket, a file). Default 0:
   * to a handler that waits for such a thing, time runs out at once.
   */
  readonly outsideMillis?: number
  /** Tries again, and only, what a report tells. */
  readonly replay?: string
}

/** Options with a system of their own. */
export interface FreshOptions<S extends Service.Any> extends Options<S> {
  /** Built anew for each run: for services that remember what was asked before. */
  readonly system: Layer.Layer<TestBus | Transport, unknown>
}

/** One law of one action. */
export interface Check<R> {
  /** `get_user never dies`. */
  readonly name: string
  readonly service: string
  readonly action: string
  readonly law: string
  /** Fails with the report where the law does not hold. */
  readonly check: Effect.Effect<void, Trial.LawBroken | Trial.LawNotTried, R>
}

/**
 * All laws of all actions of a service, for any test runner or none.
 *
 * Shape: each check is an Effect on the `TestBus` that has the service; they may run one after the other on the same. Services that
 * remember what was asked before are better given as `system`, so that each run has a new one.
 * Errors: throws {@link UnknownReplay}.
 */
export const all: {
  <S extends Service.Any>(service: S, options: FreshOptions<S>): ReadonlyArray<Check<never>>
  <S extends Service.Any>(service: S, options?: Options<S>): ReadonlyArray<Check<TestBus | Transport>>
} = <S extends Service.Any>(service: S, options: Partial<FreshOptions<S>> = {}): any => {
  const replay = options.replay === undefined ? undefined : Trial.readReplay(options.replay)
  const settings = {
    items: Math.max(1, options.items ?? 100),
    isolated: options.isolated ?? [],
    resources: options.resources,
    outsideMillis: options.outsideMillis ?? 0
  }
  const names = (options.actions ?? Object.keys(service.actions)) as ReadonlyArray<Service.ActionName<S>>
  const checks = names.flatMap((name) => {
    const action = service.actions[name]!
    const excepted = options.except?.[name] ?? []
    const laws = (options.laws ?? standard).filter(
      (law) =>
        law.applies(action, { service, settings }) &&
        !excepted.includes(law.name) &&
        (options.replay === undefined || (replay?.action === name && replay.law === law.name))
    )
    return laws.map((law): Check<any> => {
      const subject = (): Subject => ({
        service,
        action,
        settings,
        calls: Generate.calls(action, options.payloads?.[name])
      })
      const plan: Trial.Plan<Bench.Bench> = {
        law: law.name,
        subject: `${service.serviceName}.${name}`,
        service: service.serviceName,
        action: name,
        prepare: () => {
          const { holds, inputs, show = (call: Call) => Show.call(action, call) } = law.prepare(subject())
          return { holds, inputs, show }
        },
        bench: Effect.suspend(() => Bench.make(subject())),
        tuning: { ...options, ...options.tune?.[law.name] },
        replay: replay?.token,
        line: (replay) => `Laws.service(it, ${nameOf(service)}, { replay: ${replay} })`,
        source: "payloads",
        system: options.system
      }
      return {
        name: `${name} ${law.name}`,
        service: service.serviceName,
        action: name,
        law: law.name,
        check: Trial.run(plan)
      }
    })
  })
  if (options.replay !== undefined && checks.length === 0) throw new Trial.UnknownReplay({ replay: options.replay })
  return checks
}

/** Whatever registers tests that are Effects, as `it` of @effect/vitest does below `it.layer`. */
export interface It<R> {
  readonly effect: (name: string, test: () => Effect.Effect<void, Trial.LawBroken | Trial.LawNotTried, R>) => void
}

/**
 * Registers a test for each law of each action.
 *
 * `it.layer(TestBus.layer(UsersLive))((it) => { Laws.service(it, Users) })`
 */
export const service: {
  <S extends Service.Any>(it: It<never>, service: S, options: FreshOptions<S>): void
  <S extends Service.Any>(it: It<TestBus | Transport>, service: S, options?: Options<S>): void
} = (it: It<never>, service: Service.Any, options?: any): void => {
  for (const { check, name } of all(service, options)) it.effect(name, () => check as any)
}

/** What a law of one's own gets to judge. */
export interface Judged<A extends Action.Any> {
  readonly payload: Action.Payload<A>
  readonly answer: Exit.Exit<Action.Success<A>, Action.Error<A> | CallError>
  /** Progress or items, as they came. */
  readonly steps: ReadonlyArray<Action.Progress<A> | Action.Items<A>>
  /** Calls again, with another payload or the same. */
  readonly again: (
    payload: Action.Payload<A>
  ) => Effect.Effect<Exit.Exit<Action.Success<A>, Action.Error<A> | CallError>, Violation>
}

/**
 * Makes a law about one action: a function that gets a generated payload and its answer, and says what is wrong, or nothing.
 *
 * `Laws.make(Users, "get_user", "gives the user that was asked for", ({ payload, answer }) => …)`. A call without an outcome is
 * judged as interrupted.
 */
export const make = <S extends Service.Any, const Name extends Service.ActionName<S>>(
  service: S,
  name: Name,
  says: string,
  judge: (
    judged: Judged<S["actions"][Name]>
  ) => string | undefined | void | Effect.Effect<string | undefined | void, Violation>
): Law => ({
  name: says,
  applies: (action, subject) => subject.service.serviceName === service.serviceName && action.name === name,
  prepare: (subject) => ({
    inputs: subject.calls,
    holds: (bench, call) =>
      Effect.gen(function* () {
        const answered = yield* bench.call(call)
        const again = (payload: unknown) =>
          Effect.map(bench.call({ ...call, payload }), ({ exit }) => exit ?? noOutcome)
        const said = judge({
          payload: call.payload,
          answer: answered.exit ?? noOutcome,
          steps: answered.steps,
          again
        } as Judged<any>)
        const because = Effect.isEffect(said) ? yield* said : said
        if (typeof because !== "string") return
        return yield* new Violation({ because, cameBack: Show.answered(bench.action, answered) })
      })
  })
})

const noOutcome: Exit.Exit<any, any> = Exit.interrupt()

// What a contract is called where it is a class of its own.
const nameOf = (service: Service.Any): string => {
  const { name } = service as unknown as { readonly name: string }
  return name === "ServiceClass" || name === "" ? "contract" : name
}
