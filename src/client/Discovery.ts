/**
 * Which services there are, what they do and how they are: asked of the processes themselves, when somebody wants to know.
 *
 * Every process that serves a service answers, unless it is told not to (`discovery: "none"`). Daebus services do not.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Service from "../contract/Service.ts"
import type { Transport, TransportError } from "../transport/Transport.ts"
import * as Channels from "../wire/Channels.ts"
import * as Wire from "../wire/Discovery.ts"
import * as Gathering from "./internal/gathering.ts"
import { type Inbox, inbox } from "./internal/inbox.ts"

export {
  type ActionInfo,
  type ActionStats,
  type CheckKind,
  type CheckResult,
  Health,
  Info,
  type JsonSchema,
  type Latency,
  Ping,
  quantile,
  Stats
} from "../wire/Discovery.ts"

/** Nobody answered. */
export class NotDiscoverable extends Schema.TaggedError<NotDiscoverable>()("NotDiscoverable", {
  service: Schema.String,
  /** Subscribers that the question reached, as far as the transport can count them exactly; 0 says that nobody serves it. */
  listeners: Schema.optionalKey(Schema.Natural),
  waitedMillis: Schema.Finite
}) {
  override get message() {
    return this.listeners === 0
      ? `nobody listens on the channel of ${this.service}`
      : `no process of ${this.service} answered within ${this.waitedMillis} ms: Daebus services and those with discovery: "none" do not`
  }
}

/** What may be said for one question. */
export interface Options {
  /**
   * Longest wait for answers. It ends before where the transport counts receivers and all of them have answered. Default 300 milliseconds; for
   * `health` 5 seconds, once it is known who is there, as checks take their time.
   */
  readonly timeout?: Duration.Input
  /** The one process that is asked; it answers until its last handler has ended. Default: all that take requests. */
  readonly instance?: string
}

/** Whom a question is about: a contract, a service's name, or {@link everything}. */
export type Target = Service.Any | string

/** All services of all processes on the transport, behind its prefix. No service bears this name. */
export const everything = "*"

/** A service, and the processes that serve it. */
export interface Served {
  readonly service: string
  readonly instances: ReadonlyArray<Wire.Ping>
}

/** Processes that are listened to for one question at most. */
export const maxAnswers = Gathering.maxAnswers

/** How long answers are waited for by default, in milliseconds; those about health. */
export const defaultMillis = 300
const healthMillis = 5_000

/** All services that processes serve now, by name. Those that shut down are among them (`draining`). */
export const services = (
  options?: Pick<Options, "timeout">
): Effect.Effect<ReadonlyArray<Served>, TransportError, Transport> =>
  scoped((inbox) =>
    Effect.map(ask(inbox, "$ping", Ping, everything, options, undefined), ({ answers }) => {
      const byName = new Map<string, Array<Wire.Ping>>()
      for (const ping of answers) byName.set(ping.service, [...(byName.get(ping.service) ?? []), ping])
      return Array.from(byName, ([service, instances]) => ({ service, instances })).sort((one, other) =>
        one.service < other.service ? -1 : 1
      )
    })
  )

/** Asks for something, of one question and its schema. */
type Asked<A> = (
  target: Target,
  options?: Options
) => Effect.Effect<ReadonlyArray<A>, NotDiscoverable | TransportError, Transport>

const asking =
  <A extends Who>(question: Wire.Question, read: Read<A>): Asked<A> =>
  (target, options) =>
    scoped((inbox) =>
      Effect.flatMap(ask(inbox, question, read, toName(target), options, undefined), (gathered) =>
        gathered.answers.length === 0 && toName(target) !== everything
          ? Effect.fail(notDiscoverable(target, gathered))
          : Effect.succeed(gathered.answers)
      )
    )

/** The processes that serve a service. */
export const instances: Asked<Wire.Ping> = (target, options) => asking("$ping", Ping)(target, options)

/** What they are: versions, and each action with its schemas as JSON Schema. */
export const info: Asked<Wire.Info> = (target, options) => asking("$info", Info)(target, options)

/** What they have done, and do now. */
export const stats: Asked<Wire.Stats> = (target, options) => asking("$stats", Stats)(target, options)

/**
 * How they are. Who said that it is there, and nothing more in time, is neither `live` nor `ready`, by a check named `answer`.
 */
export const health: Asked<Wire.Health> = (target, options) =>
  scoped((inbox) =>
    Effect.gen(function* () {
      const name = toName(target)
      const here = yield* ask(inbox, "$ping", Ping, name, { ...options, timeout: defaultMillis }, undefined)
      if (here.answers.length === 0) {
        return name === everything ? [] : yield* Effect.fail(notDiscoverable(target, here))
      }
      const timeout = options?.timeout ?? healthMillis
      const expected = new Set(here.answers.map(keyOf))
      const { answers, begunAt, waitedMillis } = yield* ask(
        inbox,
        "$health",
        Health,
        name,
        { ...options, timeout },
        expected
      )
      const answered = new Set(answers.map(keyOf))
      const silent = here.answers
        .filter((ping) => !answered.has(keyOf(ping)))
        .map(({ instance, service }): Wire.Health => {
          const detail = `no answer within ${waitedMillis} ms`
          const check = { name: "answer", kind: "liveness", status: "fail", detail, at: begunAt, millis: waitedMillis }
          return { service, instance, live: false, ready: false, checks: [check as Wire.CheckResult] }
        })
      return [...answers, ...silent]
    })
  )

interface Who {
  readonly service: string
  readonly instance: string
}

type Read<A> = (payload: unknown) => A | undefined

const reader = <T, E>(schema: Schema.Codec<T, E>): Read<T> => {
  const decode = Schema.decodeUnknownExit(Schema.toCodecJson(schema))
  return (payload) => {
    const decoded = decode(payload)
    return Exit.isSuccess(decoded) ? decoded.value : undefined
  }
}
const Ping = reader(Wire.Ping)
const Info = reader(Wire.Info)
const Stats = reader(Wire.Stats)
const Health = reader(Wire.Health)

const toName = (target: Target) => (typeof target === "string" ? target : target.serviceName)

// A space is in no name.
const keyOf = ({ instance, service }: Who) => `${service} ${instance}`

const scoped = <A, E>(use: (inbox: Inbox) => Effect.Effect<A, E>): Effect.Effect<A, E | TransportError, Transport> =>
  Effect.scoped(Effect.flatMap(inbox, use))

const ask = <A extends Who>(
  inbox: Inbox,
  question: Wire.Question,
  read: Read<A>,
  service: string,
  options: Options | undefined,
  expected: ReadonlySet<string> | undefined
) => {
  const { prefix } = inbox.transport
  const instance = options?.instance
  const one = {
    inbox,
    question,
    service: service === everything ? "" : service,
    payload: instance === undefined ? {} : { instance },
    millis: Math.min(Duration.toMillis(Duration.fromInputUnsafe(options?.timeout ?? defaultMillis)), 60_000),
    read,
    keyOf,
    expected,
    wanted: instance === undefined || service === everything ? undefined : 1
  }
  const everybody = Channels.who(prefix)
  if (service === everything) return Gathering.gather({ ...one, channels: [everybody] })
  if (instance === undefined) return Gathering.gather({ ...one, channels: [Channels.service(prefix, service)] })
  // Not every process hears a channel of its own.
  return Gathering.gather({ ...one, channels: [Channels.instance(prefix, service, instance), everybody] })
}

const notDiscoverable = (target: Target, { listeners, waitedMillis }: Gathering.Gathered<unknown>) =>
  new NotDiscoverable({
    service: toName(target),
    waitedMillis,
    ...(listeners === undefined ? undefined : { listeners })
  })
