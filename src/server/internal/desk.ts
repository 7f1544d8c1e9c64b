/** Answers what is asked about the services of this process: `$ping`, `$info`, `$stats`, `$health`. Nothing is computed before. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Action from "../../contract/Action.ts"
import * as Prefixed from "../../transport/Prefixed.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Discards from "../../wire/Discards.ts"
import * as Discovery from "../../wire/Discovery.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { version as fiberbus } from "../../wire/Version.ts"
import type * as HandlerMetrics from "../HandlerMetrics.ts"
import * as ServerMetrics from "../ServerMetrics.ts"
import { type Check, toResult } from "./checks.ts"
import * as Entry from "./entry.ts"
import { Exchange, type Link } from "./exchange.ts"
import type { Mount } from "./mount.ts"

/** Questions about health that wait for checks at most, in one process; of more, each gets `Busy`. */
export const maxWaiting = 64

/** Services that one answer to a question about all of them tells of at most. */
export const maxServices = 256

/** One set of handlers that may be told of. */
export interface Served {
  readonly mount: Mount
  readonly entries: ReadonlyArray<Entry.Entry>
  /** When it began, in milliseconds since 1970. */
  readonly startedAt: number
}

/** @see the file's first line */
export class Desk {
  private readonly link: Link
  private readonly clock: () => number
  private readonly inboxes: string
  private readonly services = new Map<string, Set<Served>>()
  private readonly infos = new Map<string, string>()
  private readonly checks = new Set<Check>()
  private waiting = 0

  constructor(link: Link, clock: () => number) {
    this.link = link
    this.clock = clock
    this.inboxes = Channels.inboxPrefix(Prefixed.rootOf(link.transport).prefix)
  }

  add(service: string, served: Served) {
    const all = this.services.get(service) ?? new Set()
    this.services.set(service, all.add(served))
    this.infos.delete(service)
  }

  remove(service: string, served: Served) {
    const all = this.services.get(service)
    all?.delete(served)
    if (all?.size === 0) this.services.delete(service)
    this.infos.delete(service)
  }

  /** Takes a check in. False where there is one of its name for the same service. */
  addCheck(check: Check): boolean {
    const { name, service } = check.definition
    for (const { definition } of this.checks) {
      if (definition.name === name && definition.service === service) return false
    }
    this.checks.add(check)
    return true
  }

  removeCheck(check: Check) {
    this.checks.delete(check)
    check.close()
  }

  /** A request that came for one service. False where it is none of these questions, or the service tells nothing of itself. */
  asked(service: string, envelope: Envelope.Request): boolean {
    const { action } = envelope
    if (!Discovery.isQuestion(action) || !this.services.has(service)) return false
    if (this.isMeant(envelope)) this.answer(action, envelope, [service])
    return true
  }

  /** A message on the channel that all processes hear. */
  askedAll(raw: Codec.JsonObject | Codec.Malformed) {
    const { discards } = this.link
    if (raw instanceof Codec.Malformed) return discards.note(raw.reason)
    const envelope = Envelope.readRequest(raw)
    if (typeof envelope === "string") return discards.note(envelope)
    const { action, replyTo } = envelope
    if (!Discovery.isQuestion(action)) return discards.note("UnknownAction")
    if (replyTo === undefined || !Channels.isAddress(replyTo) || !replyTo.startsWith(this.inboxes)) {
      return discards.note("ReplyToRefused")
    }
    const { service } = raw
    const asked =
      typeof service === "string" && service !== ""
        ? [service].filter((name) => this.services.has(name))
        : [...this.services.keys()].slice(0, maxServices)
    if (asked.length > 0 && this.isMeant(envelope)) this.answer(action, envelope, asked)
  }

  /** The payload may name the one process that is asked. */
  private isMeant({ payload }: Envelope.Request) {
    const instance =
      typeof payload === "object" && payload !== null ? (payload as Codec.JsonObject)["instance"] : undefined
    return instance === undefined || instance === this.link.instance
  }

  private answer(question: Discovery.Question, envelope: Envelope.Request, services: ReadonlyArray<string>) {
    if (envelope.replyTo === undefined) return this.link.discards.count("NobodyWaits")
    if (question !== "$health") {
      const counted = question === "$stats" ? Metric.snapshotUnsafe(this.link.metrics) : []
      for (const service of services) {
        this.write(envelope, this.text(question, service, counted), service === services.at(-1))
      }
      return
    }
    if (this.waiting >= maxWaiting) {
      return new Exchange(this.link, Entry.unknown, services[0]!, envelope, envelope.replyTo).refuse(
        new Reason.Busy({ retryAfterMillis: 1_000 }),
        "no"
      )
    }
    this.waiting++
    const answering = Effect.gen({ self: this }, function* () {
      const all = yield* Effect.forEach(services, (service) => this.health(service), { concurrency: "unbounded" })
      this.waiting--
      for (const health of all) this.write(envelope, JSON.stringify(toHealth(health)), health === all.at(-1))
    })
    this.link.fork(answering)
  }

  private text(question: Exclude<Discovery.Question, "$health">, service: string, counted: Counted): string {
    if (question === "$ping") return JSON.stringify(toPing(this.ping(service)))
    if (question === "$stats") return JSON.stringify(toStats(this.stats(service, counted)))
    const known = this.infos.get(service)
    if (known !== undefined) return known
    const info = this.info(service)
    const whole = JSON.stringify(toInfo(info))
    // The envelope has its share of the frame.
    const isSmall = Codec.byteLength(whole) <= this.link.transport.capabilities.maxFrameBytes - 1_024
    const text = isSmall ? whole : JSON.stringify(toInfo(withoutSchemas(info)))
    this.infos.set(service, text)
    return text
  }

  private who(service: string) {
    const all = this.services.get(service) ?? new Set()
    const version = [...all].find(({ mount }) => mount.options.version !== undefined)?.mount.options.version
    return {
      all,
      who: { service, instance: this.link.instance },
      version: version === undefined ? undefined : { version: version.slice(0, 128) },
      startedAt: Math.min(this.clock(), ...Array.from(all, ({ startedAt }) => startedAt)),
      draining: all.size > 0 && Array.from(all).every(({ mount }) => mount.pool.state === "closed")
    }
  }

  private ping(service: string): Discovery.Ping {
    const { all, draining, version, who } = this.who(service)
    const names = [...all].flatMap(({ entries }) => entries.map(({ name }) => name))
    const more = names.length - Discovery.maxActions
    return {
      ...who,
      ...version,
      draining,
      actions: names.slice(0, Discovery.maxActions),
      ...(more > 0 ? { more } : undefined)
    }
  }

  private info(service: string): Discovery.Info {
    const { all, startedAt, version, who } = this.who(service)
    const actions = [...all].flatMap(({ entries, mount }) =>
      entries.map((entry) => describe(entry, mount.options.delivery))
    )
    return { ...who, ...version, fiberbus, startedAt: new Date(startedAt), actions }
  }

  private stats(service: string, counted: Counted): Discovery.Stats {
    const { all, draining, startedAt, who } = this.who(service)
    const { heapUsed, rss } = process.memoryUsage()
    const { transport } = this.link
    const sum = (read: (mount: Mount) => number) => [...all].reduce((sum, { mount }) => sum + read(mount), 0)
    return {
      ...who,
      startedAt: new Date(startedAt),
      uptimeMillis: Math.max(0, this.clock() - startedAt),
      draining,
      running: sum(({ pool }) => pool.running),
      waiting: sum(({ pool }) => pool.waiting),
      link: transport.state._tag,
      actions: [...all].flatMap(({ entries }) => entries.map(toActionStats)),
      refused: byReason(counted, ServerMetrics.refused.id, { service }),
      discarded: byReason(counted, Discards.discarded.id, { where: "server" }),
      memory: { rssBytes: rss, heapUsedBytes: heapUsed }
    }
  }

  private health(service: string): Effect.Effect<Discovery.Health> {
    const own = [...this.checks].filter(
      ({ definition }) => definition.service === undefined || definition.service === service
    )
    return Effect.map(
      Effect.forEach(own, ({ ask }) => ask, { concurrency: "unbounded" }),
      (results) => {
        const checks = [...this.builtIn(service), ...results]
        const pass = checks.every(({ status }) => status === "pass")
        const live = checks.every(({ kind, status }) => kind === "readiness" || status === "pass")
        return { ...this.who(service).who, live, ready: pass, checks }
      }
    )
  }

  private builtIn(service: string): ReadonlyArray<Discovery.CheckResult> {
    const now = this.clock()
    const { state } = this.link.transport
    const states = Array.from(this.services.get(service) ?? [], ({ mount }) => mount.pool.state)
    const bad = states.length === 0 ? "closed" : states.find((state) => state !== "open")
    const why = bad === "closed" ? "it takes no more requests" : bad === undefined ? undefined : "its pool broke down"
    const link = state._tag === "Degraded" ? `Degraded: ${state.error.message}` : state._tag
    return [
      toResult("serving", "readiness", bad === undefined ? "pass" : "fail", why, now, now),
      toResult("transport", "readiness", state._tag === "Ready" ? "pass" : "fail", link, now, now)
    ]
  }

  private write(envelope: Envelope.Request, payload: string, final: boolean) {
    const { discards, instance, outbox, transport } = this.link
    const frame = Envelope.writeReply("success", payload, envelope.requestId, final, { v: 1, by: instance, seq: 0 })
    if (Codec.isLarger(frame, transport.capabilities.maxFrameBytes)) return discards.note("TooLarge")
    outbox.send()
    transport.send(
      envelope.replyTo!,
      frame,
      (error) => {
        outbox.confirm()
        if (error !== undefined) discards.note(`ReplyNotSent:${error.kind}`)
      },
      envelope.packs
    )
  }
}

const encoder = <T, E>(schema: Schema.Codec<T, E>) => Schema.encodeSync(Schema.toCodecJson(schema))
const toPing = encoder(Discovery.Ping)
const toInfo = encoder(Discovery.Info)
const toStats = encoder(Discovery.Stats)
const toHealth = encoder(Discovery.Health)

const describe = (entry: Entry.Entry, delivery: Action.Delivery | undefined): Discovery.ActionInfo => {
  const { action } = entry
  const base = { name: entry.name, delivery: Entry.deliveryOf(entry, delivery) }
  if (action === undefined) return { ...base, idempotent: false, keyed: false }
  const { annotations } = action
  const timeout = Duration.toMillis(Duration.fromInputUnsafe(Context.get(annotations, Action.Timeout)))
  const asks = Object.entries(action.asks).flatMap(([name, question]) => {
    const ask = jsonSchema(question.ask)
    const answer = jsonSchema(question.answer)
    return ask === undefined || answer === undefined ? [] : [[name, { ask, answer }] as const]
  })
  return {
    ...base,
    ...(Number.isFinite(timeout) ? { timeoutMillis: timeout } : undefined),
    idempotent: Context.get(annotations, Action.Idempotent),
    keyed: Context.get(annotations, Action.Key) !== undefined,
    ...(entry.concurrency === undefined ? undefined : { concurrency: entry.concurrency }),
    ...part("payload", action.payload),
    ...(SchemaCodec.isNever(action.items) ? part("success", action.success) : part("items", action.items)),
    ...part("error", action.error),
    ...part("progress", action.progress),
    ...(asks.length === 0 ? undefined : { asks: Object.fromEntries(asks) })
  }
}

const part = (name: "payload" | "success" | "items" | "error" | "progress", schema: Action.AnySchema) => {
  const json = SchemaCodec.isNever(schema) || SchemaCodec.isVoid(schema) ? undefined : jsonSchema(schema)
  return json === undefined ? undefined : { [name]: json }
}

// Not every schema can be said in JSON Schema: its part is left out.
const jsonSchema = (schema: Action.AnySchema): Discovery.JsonSchema | undefined => {
  try {
    const { definitions, schema: json } = Schema.toJsonSchemaDocument(schema)
    const whole = Object.keys(definitions).length === 0 ? json : { ...json, $defs: definitions }
    // As it will be read: without what JSON has no word for.
    return JSON.parse(JSON.stringify(whole))
  } catch {
    return undefined
  }
}

const withoutSchemas = (info: Discovery.Info): Discovery.Info => ({
  ...info,
  withoutSchemas: true,
  actions: info.actions.map(({ concurrency, delivery, idempotent, keyed, name, timeoutMillis }) => ({
    name,
    delivery,
    idempotent,
    keyed,
    ...(timeoutMillis === undefined ? undefined : { timeoutMillis }),
    ...(concurrency === undefined ? undefined : { concurrency })
  }))
})

const toActionStats = ({ name, observed }: Entry.Entry): Discovery.ActionStats => {
  const counted = observed.read?.()
  return {
    name,
    outcomes: counted?.outcomes ?? {},
    latency: counted === undefined ? { count: 0, buckets: [] } : toLatency(counted)
  }
}

const toLatency = ({ duration: { buckets, count, max, min, sum } }: HandlerMetrics.Counted): Discovery.Latency => {
  const finite = buckets.filter(([to]) => Number.isFinite(to))
  if (count === 0) return { count, buckets: finite }
  const latency = { count, meanMillis: sum / count, minMillis: min, maxMillis: max, buckets: finite }
  return {
    ...latency,
    p50Millis: Discovery.quantile(latency, 0.5, max)!,
    p99Millis: Discovery.quantile(latency, 0.99, max)!
  }
}

/** All metrics at one time. */
type Counted = ReadonlyArray<Metric.Metric.Snapshot>

const byReason = (
  counted: Counted,
  id: string,
  attributes: Readonly<Record<string, string>>
): Record<string, number> => {
  const sums: Record<string, number> = {}
  for (const snapshot of counted) {
    if (snapshot.id !== id || snapshot.type !== "Counter") continue
    const { reason, ...others } = snapshot.attributes ?? {}
    if (reason === undefined || Object.entries(attributes).some(([key, value]) => others[key] !== value)) continue
    sums[reason] = (sums[reason] ?? 0) + Number(snapshot.state.count)
  }
  return sums
}
