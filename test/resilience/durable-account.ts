/**
 * The account of durable work: messages are sent while the processes that handle them are killed, frozen and started again, and
 * Redis itself is restarted. In a Cluster its masters are replaced and killed, and slots move. At the end every message has an answer, was
 * handled at least once, in the order of its key, and had its effect once.
 *
 * `node --conditions=fiberbus-source test/resilience/durable-account.ts [--cluster] [--partitions 6] [messages] [seed]`
 */
import { parseArgs } from "node:util"
import { Effect, Layer, Logger, Schedule } from "effect"
import { Caller, DeadLetters } from "fiberbus"
import * as Channels from "../../src/wire/Channels.ts"
import * as Fleet from "./durable-fleet.ts"
import * as Place from "./durable-place.ts"
import { busOf, ledgerOf } from "./durable-worker.ts"

/** What was kept in one partition. */
export interface Partition {
  readonly queue: string
  readonly messages: number
  /** Those who had it, one after the other. */
  readonly masters: ReadonlyArray<string>
}

/** What was found. */
export interface Account {
  readonly sent: number
  readonly answered: number
  /** Ids that no handler finished. */
  readonly unhandled: ReadonlyArray<string>
  readonly answeredWrong: ReadonlyArray<string>
  /** Handlings that were begun; those that ended; and those of them that had ended before for the same message. */
  readonly begun: number
  readonly handlings: number
  readonly repeats: number
  /** Messages without an effect. */
  readonly effects: ReadonlyArray<string>
  /** Pairs of messages of one key that were begun for the first time in another order than that of their sending. */
  readonly disordered: ReadonlyArray<string>
  /** Messages that were not in the partition of their key or id, or in another one as well. */
  readonly misplaced: ReadonlyArray<string>
  /** How often each was done. */
  readonly faults: Readonly<Record<string, number>>
  /** What is left in all partitions, in hand, and set aside. */
  readonly left: number
  readonly inHand: number
  readonly dead: number
  readonly partitions: ReadonlyArray<Partition>
}

/** What is done to whom, and how often. */
export interface Plan<Fault extends string> {
  readonly place: Place.Open<Fault>
  readonly messages: number
  readonly workers: number
  readonly faults: Readonly<Record<"kill" | "freeze" | Fault, number>>
  readonly seed: number
}

/** True where nothing is missing, and nothing left. */
export const balances = (account: Account): boolean =>
  account.answered === account.sent &&
  [account.unhandled, account.answeredWrong, account.effects, account.disordered, account.misplaced].every(
    ({ length }) => length === 0
  ) &&
  account.left + account.inHand + account.dead === 0

const dice = (seed: number): Place.Random => {
  let state = seed >>> 0 || 1
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 4_294_967_296
  }
}

interface Message {
  readonly index: number
  readonly id: string
  readonly key: string
  readonly n: number
  readonly millis: number
}

/** Which of four keys, and which of four senders, has its turn: several of a key follow each other, so that they meet. */
const turnOfKey = (index: number) => Math.floor(index / 12) % 4

/** Their order is that of their sending. A third of them have a key. */
const messagesOf = (count: number, random: Place.Random): ReadonlyArray<Message> => {
  const counts = new Map<string, number>()
  return Array.from({ length: count }, (_, index) => {
    const key = index % 3 === 0 ? `key${turnOfKey(index)}` : ""
    const n = (counts.get(key) ?? 0) + 1
    counts.set(key, n)
    return { index, id: `m${index}`, key, n, millis: Math.floor(random() * 60) }
  })
}

/** Does what the plan says and gives the account. */
export const run = <Fault extends string>(plan: Plan<Fault>): Effect.Effect<Account, unknown> =>
  Effect.gen(function* () {
    const random = dice(plan.seed)
    const messages = messagesOf(plan.messages, random)
    const place = yield* plan.place(random)
    const { where } = place
    const queues = Place.queuesOf(where)
    const fleet = yield* Fleet.make(where, plan.workers)
    const masters = queues.map((): Array<string> => [])
    const noteMasters = Effect.gen(function* () {
      for (const [index, queue] of queues.entries()) {
        const master = yield* place.masterOf(queue)
        if (masters[index]!.at(-1) !== master) masters[index]!.push(master)
      }
    })
    yield* noteMasters

    const counted: Record<string, number> = {}
    /** Lets a part of the work be done between two faults: a signal, not a time. */
    const progress = (share: number) =>
      Effect.repeat(Effect.sleep("10 millis"), { until: () => fleet.effects().size >= plan.messages * share })
    /** The part of the messages that each sequence of faults lets be sent: something is to be left for its next one. */
    const mayBeSent: Array<number> = []
    const inTurn = (index: number, faults: Readonly<Record<string, Effect.Effect<void, unknown>>>) =>
      Effect.gen(function* () {
        const all = Object.keys(faults)
          .flatMap((name) => Array.from({ length: plan.faults[name as Fault] }, () => [random(), name] as const))
          .sort(([one], [other]) => one - other)
        for (const [n, [, name]] of all.entries()) {
          mayBeSent[index] = (n + 1) / (all.length + 1)
          yield* progress(0.9 * mayBeSent[index])
          mayBeSent[index] = (n + 2) / (all.length + 1)
          yield* faults[name]!
          counted[name] = (counted[name] ?? 0) + 1
        }
      })
    // Within a handling, at its end or between two.
    const kill = Effect.suspend(() => fleet.kill(Math.floor(random() * 80)))
    const faults = Effect.all(
      // Side by side: a process may also be killed, or start, while its Redis is away.
      [
        inTurn(0, { kill, freeze: fleet.freeze }),
        inTurn(
          1,
          Object.fromEntries(
            Object.entries<Effect.Effect<void, unknown>>(place.faults).map(([name, fault]) => [
              name,
              Effect.andThen(fault, noteMasters)
            ])
          )
        )
      ],
      { concurrency: 2, discard: true }
    )

    const answers = new Map<string, string>()
    const context = yield* Layer.build(busOf(where))
    const service = ledgerOf(where)
    const ledger = yield* Effect.provideContext(Caller.make(service), context)
    const enqueue = (message: Message) =>
      ledger.book
        .enqueue({ id: message.id, key: message.key, n: message.n, millis: message.millis }, { id: message.id })
        .pipe(Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 2_000 }))
    const answered = ({ id }: Message, receipt: Effect.Success<ReturnType<typeof enqueue>>) =>
      Effect.map(receipt.await({ timeout: "2 minutes" }), (answer) => void answers.set(id, answer.id))
    const turnOf = ({ index }: Message) =>
      Effect.gen(function* () {
        while (index >= plan.messages * Math.min(...mayBeSent)) yield* Effect.sleep("10 millis")
      })
    const sending = Effect.gen(function* () {
      const waits: Array<Effect.Effect<void, unknown>> = []
      // Several at a time, and in order those of one key.
      const lanes = [0, 1, 2, 3].map((lane) =>
        messages.filter(({ key }, index) => (key === "" ? index % 4 : turnOfKey(index)) === lane)
      )
      const one = (message: Message) =>
        Effect.gen(function* () {
          yield* turnOf(message)
          const receipt = yield* enqueue(message)
          waits.push(answered(message, receipt))
          // The same message once more, as by a caller who does not know whether the first one arrived.
          if (message.n % 10 === 0) {
            waits.push(Effect.flatMap(enqueue(message), (again) => answered(message, again)))
          }
        })
      yield* Effect.forEach(lanes, (lane) => Effect.forEach(lane, one, { discard: true }), {
        concurrency: "unbounded",
        discard: true
      })
      yield* Effect.forEach(waits, (wait) => wait, { concurrency: "unbounded", discard: true })
    })
    yield* Effect.all([faults, sending], { concurrency: 2, discard: true })

    const total = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, one) => sum + one, 0)
    const each = (what: (queue: string) => Effect.Effect<number, unknown>) =>
      Effect.map(Effect.forEach(queues, what), total)
    const leftIn = (queue: string) =>
      Effect.map(
        Effect.all([
          place.ask(queue, "XLEN", `${queue}.requests`),
          place.ask(queue, "ZCARD", `${queue}.delayed`),
          place.ask(queue, "HLEN", `${queue}.lanes`),
          place.ask(queue, "GET", `${queue}.laned`)
        ]),
        (counts) => total(counts.map(Number))
      )
    const inHandIn = (queue: string) =>
      Effect.map(place.ask(queue, "XPENDING", `${queue}.requests`, "ledger"), (reply) => (reply as [number])[0])
    const rest = Effect.all({ left: each(leftIn), inHand: each(inHandIn) })
    // What was handled twice may still be on its way to its second end.
    yield* Effect.repeat(rest, {
      until: ({ inHand, left }) => left + inHand === 0,
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "30 seconds" }))
    })

    const lines = fleet.log()
    const done = lines.filter(({ what }) => what === "done")
    const finished = new Set(done.map(({ id }) => id))
    const effects = fleet.effects()
    const ids = (are: (message: Message) => boolean) => messages.filter(are).map(({ id }) => id)
    const found = yield* Effect.forEach(queues, (queue) =>
      Effect.map(
        place.ask(queue, "KEYS", `${queue}.id:*`),
        (keys) => new Set((keys as ReadonlyArray<string>).map((key) => key.slice(`${queue}.id:`.length)))
      )
    )
    return {
      sent: messages.length,
      answered: answers.size,
      unhandled: ids(({ id }) => !finished.has(id)),
      answeredWrong: ids(({ id }) => answers.get(id) !== id),
      begun: lines.filter(({ what }) => what === "begun").length,
      handlings: done.length,
      repeats: done.length - finished.size,
      effects: ids(({ id }) => !effects.has(id)),
      disordered: disordered(messages, lines),
      misplaced: ids(({ id, key }) => {
        const right = Channels.partitionOf(id, key, queues.length)
        return found.some((those, index) => those.has(id) !== (index === right))
      }),
      faults: counted,
      ...(yield* rest),
      dead: yield* Effect.provideContext(DeadLetters.size(service), context),
      partitions: queues.map((queue, index) => ({
        queue,
        messages: found[index]!.size,
        masters: masters[index]!
      }))
    }
  }).pipe(Effect.scoped)

const disordered = (messages: ReadonlyArray<Message>, lines: ReadonlyArray<Fleet.Line>): ReadonlyArray<string> => {
  const firstBegun = new Map<string, number>()
  for (const [index, { id, what }] of lines.entries()) {
    if (what === "begun" && !firstBegun.has(id)) firstBegun.set(id, index)
  }
  const pairs: Array<string> = []
  const last = new Map<string, { readonly id: string; readonly at: number }>()
  for (const { id, key } of messages) {
    if (key === "") continue
    const before = last.get(key)
    const at = firstBegun.get(id) ?? -1
    if (before !== undefined && at < before.at) pairs.push(`${before.id} ${id}`)
    last.set(key, { id, at })
  }
  return pairs
}

/** How many messages each master kept at the end. */
const spread = (partitions: ReadonlyArray<Partition>) => {
  const counts = new Map<string, number>()
  for (const { masters, messages } of partitions) {
    const master = masters.at(-1)!
    counts.set(master, (counts.get(master) ?? 0) + messages)
  }
  return counts
}

if (process.argv[1] === import.meta.filename) {
  const { positionals, values } = parseArgs({
    options: { cluster: { type: "boolean", default: false }, partitions: { type: "string" } },
    allowPositionals: true
  })
  const seed = Number(positionals[1] ?? Date.now() % 1_000_000)
  const all = { messages: Number(positionals[0] ?? 5_000), workers: 3, seed }
  const workers = { kill: 20, freeze: 3 }
  const began = performance.now()
  const { partitions, ...account } = await Effect.runPromise(
    (values.cluster
      ? run({
          ...all,
          place: Place.overCluster(Number(values.partitions ?? 6)),
          faults: { ...workers, failover: 4, killMaster: 2, moveSlot: 3 }
        })
      : run({
          ...all,
          place: Place.overRedis(Number(values.partitions ?? 1)),
          faults: { ...workers, restart: 2 }
        })
    ).pipe(Effect.provide(Logger.layer([])))
  )
  console.log(`seed ${seed}, ${Math.round((performance.now() - began) / 1000)} s`)
  console.log(JSON.stringify(account, null, 2))
  for (const { masters, messages, queue } of partitions) {
    console.log(`${queue}: ${messages} messages, at ${masters.join(", then ")}`)
  }
  for (const [master, messages] of spread(partitions)) console.log(`${master} has ${messages} at the end`)
  process.exit(balances({ partitions, ...account }) ? 0 : 1)
}
