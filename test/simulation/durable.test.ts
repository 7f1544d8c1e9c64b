import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, type Fiber, Layer, Logger, Option, Schedule, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Durable, Handlers, Memory, Service, Transport } from "fiberbus"

/** `SIMULATION_SEEDS=10` runs ten times as many. */
const seeds = Math.ceil(1_000 * Number(process.env["SIMULATION_SEEDS"] ?? 1))

/** Each run of the handler gives another token: who is answered by two runs shows. */
const Jobs = Service.make(
  "jobs",
  Action.make("run", {
    payload: { id: Schema.String, millis: Schema.Finite, dies: Schema.Finite },
    success: { token: Schema.Finite }
  }).pipe(Action.annotate(Action.Delivery, "durable"))
)

/** Numbers from 0 to 1, the same for the same seed. */
const dice = (seed: number) => {
  let state = (seed * 2_654_435_761) >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

const error = (sent: "no" | "unknown", kind: "ConnectionLost" | "Closed" = "ConnectionLost") =>
  new Transport.TransportError({ kind, operation: "simulate", detail: "a fault", hint: "", sent })

/** The way of one process to the store: operations are late, lost before or after they happen, or done twice; then it may be dead. */
class Way {
  /** Faults happen. */
  isBad = true
  isDead = false
  isCut = false
  private readonly random: () => number
  private readonly fork: (effect: Effect.Effect<void>) => void

  constructor(random: () => number, fork: (effect: Effect.Effect<void>) => void) {
    this.random = random
    this.fork = fork
  }

  private happens(share: number) {
    return this.isBad && this.random() < share
  }

  /** An operation that calls back once. */
  private pass<A>(
    operate: (done: (error: Transport.TransportError | undefined, value: A) => void) => void,
    done: (error: Transport.TransportError | undefined, value: A) => void
  ) {
    const go = () => {
      if (this.isDead) return done(error("unknown", "Closed"), undefined as A)
      if (this.isCut) return done(error("no"), undefined as A)
      if (this.happens(0.08)) return done(error("unknown"), undefined as A)
      if (this.happens(0.05)) operate(() => {})
      operate((failed, value) => {
        if (this.happens(0.08)) return done(error("unknown"), undefined as A)
        done(failed, value)
      })
    }
    if (!this.happens(0.2)) return go()
    const late = Math.floor(this.random() * 400)
    this.fork(Effect.andThen(Effect.sleep(late), Effect.sync(go)))
  }

  private effect<A>(effect: Effect.Effect<A, Transport.TransportError>): Effect.Effect<A, Transport.TransportError> {
    return Effect.suspend(() => {
      if (this.isDead) return Effect.never
      if (this.isCut || this.happens(0.05)) return Effect.fail(error("unknown"))
      return Effect.flatMap(effect, (value) => {
        // What was read and is not heard of: others find it.
        if (this.isDead) return Effect.never
        return this.happens(0.05) ? Effect.fail(error("unknown")) : Effect.succeed(value)
      })
    })
  }

  to(store: Durable.Durable["Service"]): Durable.Durable["Service"] {
    return {
      ...store,
      append: (queue, message, done) =>
        this.pass<Durable.Appended | undefined>((done) => store.append(queue, message, done), done),
      state: (queue, id, done) => this.pass<Durable.State | undefined>((done) => store.state(queue, id, done), done),
      consume: (consumption) =>
        Effect.map(store.consume(consumption), (consumer) => ({
          ...consumer,
          read: (max) => this.effect(consumer.read(max)),
          claim: (max) => this.effect(consumer.claim(max)),
          renew: (entries) => this.effect(consumer.renew(entries)),
          promote: this.effect(consumer.promote),
          settle: (entry, settlement, done) => this.pass((done) => consumer.settle(entry, settlement, done), done),
          retry: (entry, millis, counts, done) =>
            this.pass((done) => consumer.retry(entry, millis, counts, done), done),
          bury: (entry, burial, settlement, done) =>
            this.pass((done) => consumer.bury(entry, burial, settlement, done), done)
        }))
    }
  }
}

/** One seed: what was promised and not kept, in words. */
const simulate = Effect.fnUntraced(function* (seed: number, plant?: "forgets deliveries") {
  const random = dice(seed)
  const clock = yield* Effect.clockWith(Effect.succeed)
  const sound = Durable.onStore(Durable.makeStore(() => clock.currentTimeMillisUnsafe()))
  // The bug: nobody takes over what a dead process had in hand.
  const store: typeof sound =
    plant === undefined
      ? sound
      : {
          ...sound,
          consume: (consumption) =>
            Effect.map(sound.consume(consumption), (consumer) => ({
              ...consumer,
              claim: () => Effect.succeed({ entries: [], lost: 0 })
            }))
        }
  const broker = Memory.makeBroker()
  const context = yield* Effect.context<never>()
  const fork = (effect: Effect.Effect<void>) => void Effect.runForkWith(context)(effect)
  const scope = yield* Effect.scope
  const ways: Array<Way> = []
  const tokens = new Map<string, Set<number>>()
  const handled = new Map<string, number>()
  let runs = 0

  const process = () => {
    const way = new Way(random, fork)
    ways.push(way)
    const memory = Memory.make({ broker })
    const transport: Transport.Transport["Service"] = {
      ...memory,
      // An answer may be lost on its way, as over pub/sub.
      send: (channel, frame, sent) =>
        way.isDead || (way.isBad && random() < 0.3) ? sent(undefined, 1) : memory.send(channel, frame, sent)
    }
    const layer = Layer.merge(
      Layer.succeed(Transport.Transport, transport),
      Layer.succeed(Durable.Durable, way.to(store))
    )
    return { way, layer }
  }

  const serve = Effect.fnUntraced(function* () {
    const { layer, way } = process()
    const own = yield* Scope.fork(scope)
    yield* Layer.buildWithScope(
      Handlers.layer(
        Jobs,
        {
          run: ({ dies, id, millis }) =>
            Effect.gen(function* () {
              yield* Effect.sleep(millis)
              if (way.isDead) return yield* Effect.never
              if (random() < dies) return yield* Effect.die("for the simulation")
              handled.set(id, (handled.get(id) ?? 0) + 1)
              return { token: ++runs }
            })
        },
        {
          concurrency: 2,
          grace: 0,
          durable: { idle: "1 second", retry: Schedule.spaced("100 millis"), deliveries: 1_000, window: "1 hour" }
        }
      ).pipe(Layer.provide(layer)),
      own
    )
    return way
  })

  const here = process()
  const caller = yield* Effect.provideContext(
    Caller.make(Jobs),
    yield* Effect.provideService(Layer.build(here.layer), Scope.Scope, scope)
  )
  const note = (id: string, token: number) => {
    const known = tokens.get(id) ?? new Set<number>()
    tokens.set(id, known.add(token))
  }

  const messages = Array.from({ length: 6 }, (_, n) => ({
    id: `m${n}`,
    millis: Math.floor(random() * 300),
    dies: random() < 0.3 ? 0.5 : 0
  }))
  const wrong: Array<string> = []
  const confirmed = new Set<string>()
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  const isPassing = (exit: Exit.Exit<unknown, { readonly reason: { readonly _tag: string } }>) => {
    const tag = Exit.isFailure(exit) ? Option.getOrUndefined(Exit.findErrorOption(exit))?.reason._tag : undefined
    return tag === "DeadlineExceeded" || tag === "ConnectionLost" || tag === "TransportError"
  }
  for (const message of messages) {
    const sending = Effect.gen(function* () {
      yield* Effect.sleep(Math.floor(random() * 3_000))
      // Said once or several times, as by those who do not know whether it arrived.
      const times = random() < 0.3 ? 2 : 1
      for (let time = 0; time < times; time++) {
        const exit = yield* Effect.exit(caller.run.enqueue(message, { id: message.id, key: random() < 0.4 ? "k" : "" }))
        if (Exit.isSuccess(exit)) confirmed.add(message.id)
        else if (!isPassing(exit)) wrong.push(`${message.id}: ${Cause.pretty(exit.cause)}`)
      }
      const exit = yield* Effect.exit(caller.run.receipt(message.id).await({ timeout: "30 seconds" }))
      if (Exit.isSuccess(exit)) note(message.id, exit.value.token)
    })
    fibers.push(yield* Effect.forkIn(sending, scope))
  }
  const calls = ["c0", "c1"].map((id) => ({ id, millis: Math.floor(random() * 200), dies: 0 }))
  for (const call of calls) {
    const calling = Effect.map(Effect.exit(caller.run(call, { timeout: "20 seconds" })), (exit) => {
      if (Exit.isSuccess(exit)) note(call.id, exit.value.token)
      else if (!isPassing(exit)) wrong.push(`${call.id}: ${Cause.pretty(exit.cause)}`)
      if (Exit.isSuccess(exit) && !handled.has(call.id)) wrong.push(`${call.id} is answered and was not handled`)
    })
    fibers.push(yield* Effect.forkIn(calling, scope))
  }

  const workers = [yield* serve(), yield* serve()]
  // The time of faults.
  for (let step = 0; step < 20; step++) {
    yield* TestClock.adjust("250 millis")
    const which = Math.floor(random() * workers.length)
    const event = random()
    if (event < 0.15) {
      workers[which]!.isDead = true
      workers[which] = yield* serve()
    } else if (event < 0.3) ways[Math.floor(random() * ways.length)]!.isCut = true
    else if (event < 0.6) for (const way of ways) way.isCut = false
  }
  for (const way of ways) {
    way.isBad = false
    way.isCut = false
  }
  // After the last fault all is well within a bound.
  const isQuiet = () => fibers.every((fiber) => fiber.pollUnsafe() !== undefined)
  for (let step = 0; step < 120 && !isQuiet(); step++) yield* TestClock.adjust("500 millis")

  if (!isQuiet()) wrong.push("somebody still waits")
  for (const { id } of messages) {
    if (confirmed.has(id) && !handled.has(id)) wrong.push(`${id} was kept and not handled`)
    if (confirmed.has(id) && !tokens.has(id)) wrong.push(`${id} has no answer`)
    // And whoever asks later gets the same.
    const later = yield* Effect.exit(caller.run.receipt(id).poll)
    if (Exit.isSuccess(later) && Option.isSome(later.value)) note(id, later.value.value.token)
  }
  for (const [id, known] of tokens) if (known.size > 1) wrong.push(`${id} has ${known.size} answers`)
  return { wrong, repeats: Array.from(handled.values()).filter((times) => times > 1).length }
})

it.effect(
  `durable work is handled at least once and answered the same, in ${seeds} worlds with crashes, cuts, delays and repeats`,
  () =>
    Effect.gen(function* () {
      const broken: Array<string> = []
      let repeats = 0
      for (let seed = 1; seed <= seeds; seed++) {
        const { repeats: again, wrong } = yield* Effect.scoped(simulate(seed))
        repeats += again
        if (wrong.length > 0) broken.push(`seed ${seed}: ${wrong.join("; ")}`)
      }
      assert.deepStrictEqual(broken, [])
      // It is no calm world: without the deduplication of results it would have shown.
      assert.isAbove(repeats, seeds / 50)
    }).pipe(Effect.provide(Logger.layer([]))),
  { timeout: 300_000 }
)

it.effect("the simulation finds a store that forgets what a dead process had in hand", () =>
  Effect.gen(function* () {
    let found = 0
    for (let seed = 1; seed <= 10; seed++) {
      const { wrong } = yield* Effect.scoped(simulate(seed, "forgets deliveries"))
      if (wrong.length > 0) found++
    }
    assert.isAbove(found, 3)
  }).pipe(Effect.provide(Logger.layer([])))
)
