/**
 * Minutes of calls through random faults, and the account at the end: `npm run soak -- [minutes] [seed]`.
 *
 * The seed decides which faults come in which order, how long and how hard; what they meet depends on the machine. Fails (exit
 * code 1) when the account does not balance, when something does not come back, or when something is left.
 */
import { performance } from "node:perf_hooks"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Fiber, Logger, Schedule, Scope } from "effect"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as Backoff from "../../src/transport/Backoff.ts"
import * as Random from "../hostile/random.ts"
import * as Account from "./account.ts"
import type { Balance } from "./ledger.ts"
import * as Naive from "./naive.ts"
import * as Resources from "./resources.ts"

/** What a run did and found. */
export interface Report {
  readonly seed: number
  readonly seconds: number
  readonly balance: Balance
  readonly faults: Readonly<Record<string, number>>
  /** The longest time without a good answer, and the fault it belongs to. */
  readonly longest: { readonly millis: number; readonly fault: string }
  /** Of the calls, those for a stream of items. */
  readonly streams: number
  readonly garbage: number
  readonly gaps: { readonly caller: number; readonly service: number }
  /** Memory after a collection, and what the process has of the system, both in bytes. */
  readonly curve: ReadonlyArray<{ readonly seconds: number; readonly used: number; readonly rss: number }>
  /** At the end, of the transports; and what the process holds more than before, when all is closed. */
  readonly left: {
    readonly pending: number
    readonly producers: number
    readonly sockets: number
    readonly timers: number
  }
  /** Why the run failed; empty when it did not. */
  readonly problems: ReadonlyArray<string>
}

const allowed = ["ConnectionLost", "TransportError", "NoResponders", "DeadlineExceeded"]
const callers = 20
/** A run fails when memory grows by more, from its first quarter to its end. */
const maxGrowth = 16_000_000
const recoveryLimit = "30 seconds"

/** Runs for so long, and until each kind of fault has come. The server, the proxies and all connections are its own. */
export const run = Effect.fnUntraced(
  function* (options: {
    readonly millis: number
    readonly seed: number
    /** The longest time for which a fault is left to itself. Default 3 seconds: half-open links are found in half of that. */
    readonly faultMillis?: number
    readonly tell?: (line: string) => void
  }) {
    const { millis, seed, faultMillis = 3_000, tell = () => {} } = options
    // Whoever runs this may have timers of his own, and starts them first.
    yield* Effect.sleep(1)
    const before = { sockets: Resources.sockets(), timers: Resources.timers() }
    const scope = yield* Scope.make()
    const report = yield* Scope.provide(load({ millis, seed, faultMillis, tell }), scope).pipe(
      Effect.onExit((exit) => Scope.close(scope, exit))
    )
    // Sockets close a turn after they are destroyed.
    const extra = () => ({
      sockets: Math.max(0, Resources.sockets() - before.sockets),
      timers: Math.max(0, Resources.timers() - before.timers)
    })
    const left = yield* Effect.repeat(Effect.sync(extra), {
      until: ({ sockets, timers }) => sockets + timers === 0,
      schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ times: 100 }))
    }).pipe(Effect.map(extra))
    const problems = [...report.problems]
    if (left.sockets + left.timers > 0) problems.push(`${left.sockets} sockets and ${left.timers} timers are left`)
    return {
      ...report,
      left: { ...left, pending: report.pending, producers: report.producers },
      problems
    } satisfies Report
  },
  Effect.provide(Logger.layer([]))
)

const load = Effect.fnUntraced(function* (options: {
  readonly millis: number
  readonly seed: number
  readonly faultMillis: number
  readonly tell: (line: string) => void
}) {
  const { millis, seed, faultMillis, tell } = options
  const redis = yield* RedisServer.make()
  const near = yield* Faults.proxy(redis)
  const far = yield* Faults.proxy(redis)
  const redisOptions: RedisPubSub.Options = {
    commandTimeout: "500 millis",
    reconnect: Backoff.make({ first: "50 millis", longest: "1 second" })
  }
  const here = yield* RedisPubSub.make({ url: near.through(redis.url), ...redisOptions })
  const there = yield* RedisPubSub.make({ url: far.through(redis.url), ...redisOptions })
  const account = yield* Account.make(here, there)
  const problems: Array<string> = []
  const faults: Record<string, number> = {}
  const curve: Array<Report["curve"][number]> = []
  const start = performance.now()
  const seconds = () => Math.round((performance.now() - start) / 1000)

  let streams = 0
  let fault = "none"
  let lastGood = start
  let longest = { millis: 0, fault }
  const good = () => {
    const now = performance.now()
    if (now - lastGood > longest.millis) longest = { millis: Math.round(now - lastGood), fault }
    lastGood = now
  }

  const stream = (to: number, timeout: number) =>
    Effect.suspend(() => {
      streams++
      return account.stream(to, timeout)
    })

  yield* account.allSucceed(1_000)
  let over = false
  const caller = (number: number) => {
    const random = Random.make(seed + number)
    return Effect.whileLoop({
      while: () => !over,
      body: () =>
        (random.chance(0.05)
          ? stream(random.below(2_000), 500 + random.below(3_000))
          : account.call({
              millis: random.below(20),
              timeout: 500 + random.below(3_000),
              ...(random.chance(0.1) ? { text: "x".repeat(random.below(10_000)) } : {})
            })
        ).pipe(
          Effect.tap((outcome) =>
            Effect.sync(() => {
              if (!("reason" in outcome)) good()
            })
          ),
          Effect.andThen(Effect.sleep(1 + random.below(10)))
        ),
      step: () => {}
    })
  }
  const traffic = yield* Effect.forkChild(
    Effect.forEach(
      Array.from({ length: callers }, (_, i) => i + 1),
      caller,
      { concurrency: "unbounded", discard: true }
    ),
    { startImmediately: true }
  )
  const sample = Effect.sync(() => {
    curve.push({ seconds: seconds(), used: Resources.memory(), rss: process.memoryUsage.rss() })
  })
  const sampling = yield* Effect.forkChild(Effect.repeat(sample, Schedule.spaced(Math.max(500, millis / 20))))

  const random = Random.make(seed)
  const kinds = makeKinds({ redis, near, far, random, faultMillis })
  const names = Object.keys(kinds)
  const recovered = Effect.all([
    Account.untilState(here, Account.isReady),
    Account.untilState(there, Account.isReady)
  ]).pipe(
    Effect.andThen(
      account
        .call({ timeout: 1_000 })
        .pipe(Effect.repeat(Schedule.while(Schedule.spaced("20 millis"), ({ input }) => "reason" in (input as object))))
    ),
    Effect.timeoutOrElse({
      duration: recoveryLimit,
      orElse: () => Effect.sync(() => problems.push(`no recovery from ${fault} within ${recoveryLimit}`))
    })
  )
  // Each kind once, in an order of the seed's, then any.
  const first = names.map((name) => ({ name, at: random.below(1_000_000) })).sort((a, b) => a.at - b.at)
  do {
    fault = first.shift()?.name ?? random.pick(names)
    faults[fault] = (faults[fault] ?? 0) + 1
    yield* kinds[fault as keyof typeof kinds]()
    yield* recovered
    good()
    tell(`${String(seconds()).padStart(5)} s  ${fault}`)
    yield* Effect.sleep(random.below(800))
  } while ((performance.now() - start < millis || first.length > 0) && problems.length === 0)

  over = true
  yield* Fiber.join(traffic)
  yield* Fiber.interrupt(sampling)
  yield* account.allSucceed(1_000)
  // Whose caller is not heard of any more is stopped by its own silence limit.
  yield* Effect.repeat(Effect.sync(account.producing), {
    until: (count) => count === 0,
    schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 200 }))
  })
  if (account.producing() > 0) problems.push(`${account.producing()} producers of streams are left`)
  yield* sample
  const balance = account.ledger.balance()
  problems.push(...balance.problems)
  for (const reason of Object.keys(balance.failed)) {
    if (!allowed.includes(reason.split(" ")[0]!)) problems.push(`${reason} must not happen`)
  }
  const pending = account.pending()
  if (pending > 0) problems.push(`${pending} calls are pending`)
  const early = curve[Math.floor(curve.length / 4)]!
  const growth = curve.at(-1)!.used - early.used
  if (growth > maxGrowth) problems.push(`memory has grown by ${megabytes(growth)} MB since second ${early.seconds}`)
  return {
    seed,
    seconds: seconds(),
    balance,
    faults,
    longest,
    garbage: kinds.garbage.sent(),
    gaps: { caller: here.state.gaps, service: there.state.gaps },
    curve,
    pending,
    producers: account.producing(),
    streams,
    problems
  }
})

/** The faults by name: each goes by itself, or is taken back before it returns. */
const makeKinds = (parts: {
  readonly redis: RedisServer.RedisServer["Service"]
  readonly near: Faults.Proxy
  readonly far: Faults.Proxy
  readonly random: Random.Random
  readonly faultMillis: number
}) => {
  const { redis, near, far, random, faultMillis } = parts
  const side = () => random.pick([near, far])
  const sides = () => random.pick([[near], [far], [near, far]])
  const each = <A, E>(act: (proxy: Faults.Proxy) => Effect.Effect<A, E>) =>
    Effect.forEach(sides(), act, { discard: true })
  const lasts = Effect.suspend(() => Effect.sleep(between(20, faultMillis)))
  const between = (least: number, most: number) => least + random.below(most - least)
  let sent = 0
  const garbage = () => {
    const frames = Array.from({ length: between(500, 3_000) }, () => {
      const request = JSON.stringify({ action: "echo", payload: {}, reply_to: "caller:x", request_id: "garbage" })
      return random.pick([
        () => Buffer.from(Random.bytes(random, request)),
        () => Buffer.from(Random.mutate(random, request)),
        () => Buffer.from(JSON.stringify(Random.value(random)))
      ])()
    })
    sent += frames.length
    return Effect.scoped(
      Effect.flatMap(Naive.client(redis.url), (client) =>
        Effect.promise(() => Promise.all(frames.map((frame) => client.publish("echo_service", frame))))
      )
    )
  }
  return {
    cut: () => each(({ cut }) => cut),
    reset: () => each(({ reset }) => reset),
    "cut at a command": () =>
      Effect.gen(function* () {
        const cut = yield* side().cutAt({
          command: "PUBLISH",
          count: between(1, 50),
          when: random.pick(["unsent", "forwarded", "answered"])
        })
        yield* Effect.timeoutOption(cut, "5 seconds")
      }),
    refuse: () =>
      Effect.gen(function* () {
        const proxy = side()
        yield* proxy.refuse
        yield* proxy.cut
        yield* lasts
        yield* proxy.accept
      }),
    blackhole: () =>
      Effect.gen(function* () {
        const proxy = side()
        yield* proxy.blackhole
        yield* lasts
        yield* proxy.heal
      }),
    delay: () =>
      Effect.gen(function* () {
        const proxy = side()
        yield* proxy.delay(between(5, 150))
        yield* lasts
        yield* proxy.delay(0)
      }),
    throttle: () =>
      Effect.gen(function* () {
        const proxy = side()
        yield* proxy.throttle(between(5_000, 200_000))
        yield* lasts
        yield* proxy.throttle(0)
      }),
    "CLIENT KILL": () =>
      Effect.forEach(
        random.pick([["pubsub"], ["normal"], ["pubsub", "normal"]]),
        (type) => redis.command("CLIENT", "KILL", "TYPE", type),
        { discard: true }
      ),
    "CLIENT PAUSE": () =>
      Effect.gen(function* () {
        // It ends by itself: what would end it waits as well.
        const millis = between(20, faultMillis)
        yield* redis.command("CLIENT", "PAUSE", millis, random.pick(["ALL", "WRITE"]))
        yield* Effect.sleep(millis)
      }),
    "SIGSTOP, SIGCONT": () =>
      Effect.gen(function* () {
        yield* redis.pause
        yield* lasts
        yield* redis.resume
      }),
    "kill -9, start": () =>
      Effect.gen(function* () {
        yield* redis.kill
        yield* lasts
        yield* redis.start
      }),
    garbage: Object.assign(garbage, { sent: () => sent })
  }
}

const megabytes = (bytes: number) => (bytes / 1_000_000).toFixed(1)

/** The report as a table for people. */
export const table = (report: Report): string => {
  const rows: Array<readonly [string, string]> = [
    ["seed", String(report.seed)],
    ["time", `${report.seconds} s`],
    ["calls", String(report.balance.sent)],
    ["  succeeded", String(report.balance.succeeded)],
    ...Object.entries(report.balance.failed)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([reason, count]) => [`  ${reason}`, String(count)] as const),
    ["handlers run", String(report.balance.runs)],
    ["faults", String(Object.values(report.faults).reduce((sum, count) => sum + count, 0))],
    ...Object.entries(report.faults)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([kind, count]) => [`  ${kind}`, String(count)] as const),
    ["streams among the calls", String(report.streams)],
    ["garbage frames", String(report.garbage)],
    ["gaps (caller, service)", `${report.gaps.caller}, ${report.gaps.service}`],
    ["longest without a good answer", `${report.longest.millis} ms (${report.longest.fault})`],
    [
      "left",
      `pending ${report.left.pending}, producers ${report.left.producers}, sockets ${report.left.sockets}, timers ${report.left.timers}`
    ],
    ...report.curve.map(
      ({ seconds, used, rss }) =>
        [`memory at ${seconds} s`, `${megabytes(used)} MB used, ${megabytes(rss)} MB RSS`] as const
    ),
    ["account", report.problems.length === 0 ? "balances" : `DOES NOT BALANCE\n${report.problems.join("\n")}`]
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n")
}

if (process.argv[1] === import.meta.filename) {
  const [minutes = "10", seed = String(Date.now() % 1_000_000)] = process.argv.slice(2)
  const millis = Number(minutes) * 60_000
  if (!(millis > 0) || !Number.isInteger(Number(seed))) {
    process.stderr.write("usage: npm run soak -- [minutes] [seed]\n")
    process.exit(2)
  }
  const write = (line: string) => process.stdout.write(`${line}\n`)
  write(`${minutes} minutes, seed ${seed}`)
  NodeRuntime.runMain(
    run({ millis, seed: Number(seed), tell: write }).pipe(
      Effect.tap((report) => Effect.sync(() => write(table(report)))),
      Effect.filterOrFail(
        ({ problems }) => problems.length === 0,
        () => new Error("the account does not balance")
      )
    )
  )
}
