import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Logger, Queue, References, Schema } from "effect"
import { Action, Broadcast, Caller, Handlers, Listener, Memory, Service, Topic, Transport } from "fiberbus"

const Work = Service.make(
  "work",
  Action.make("say", { payload: { word: Schema.String } }),
  Action.make("misfit", {
    success: { rows: Schema.Array(Schema.Struct({ secret: Schema.String.check(Schema.isMaxLength(3)) })) }
  })
)

interface Line {
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Runs with Effect's own JSON formatting of logs, and gives the lines. */
const logged = <A, E, R>(effect: (lines: ReadonlyArray<Line>) => Effect.Effect<A, E, R>) => {
  const lines: Array<Line> = []
  const logger = Logger.map(Logger.formatJson, (line) => void lines.push(JSON.parse(line)))
  return effect(lines).pipe(Effect.scoped, Effect.provide(Memory.layer), Effect.provide(Logger.layer([logger])))
}

describe("what a handler logs", () => {
  it.effect("names its service, action and request, beside others and in what it forks", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const together = yield* Deferred.make<void>()
        let waiting = 0
        yield* Layer.build(
          Handlers.layer(Work, {
            say: ({ word }) =>
              Effect.gen(function* () {
                yield* Effect.log(`begin ${word}`)
                if (++waiting === 3) yield* Deferred.succeed(together, undefined)
                yield* Deferred.await(together)
                yield* Effect.forkChild(Effect.log(`fork ${word}`), { startImmediately: true })
                yield* Effect.annotateLogs(Effect.log(`end ${word}`), { own: word })
              }),
            misfit: () => Effect.die("unused")
          })
        )
        const work = yield* Caller.make(Work)
        yield* Effect.forEach(["a", "b", "c"], (word) => work.say({ word }), { concurrency: 3 })
        const ids = new Map<string, unknown>()
        for (const word of ["a", "b", "c"]) {
          const [begin, fork, end] = lines.filter(({ message }) => message.endsWith(` ${word}`))
          const { requestId, ...rest } = begin!.annotations
          assert.deepStrictEqual(rest, { service: "work", action: "say" })
          assert.match(String(requestId), /^[0-9a-f-]{36}-[1-3]$/)
          assert.deepStrictEqual(fork!.annotations, begin!.annotations)
          assert.deepStrictEqual(end!.annotations, { ...begin!.annotations, own: word })
          ids.set(word, requestId)
        }
        assert.strictEqual(new Set(ids.values()).size, 3)
        yield* Effect.log("outside")
        assert.deepStrictEqual(lines.at(-1)!.annotations, {})
      })
    )
  )

  it.effect("keeps what its layer's logs carry, and is printable whatever a peer sends as an id", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const said = yield* Queue.unbounded<string>()
        yield* Effect.annotateLogs(
          Layer.build(
            Handlers.layer(Work, {
              say: ({ word }) => Effect.andThen(Effect.log(word), Effect.asVoid(Queue.offer(said, word))),
              misfit: () => Effect.die("unused")
            })
          ),
          { region: "north" }
        )
        const ids = ["\u001b[2Jgone\nnext", "x".repeat(200), 7, null]
        for (const id of ids) {
          yield* Transport.publish(
            "work",
            JSON.stringify({
              action: "say",
              payload: { word: "hi" },
              request_id: id,
              reply_to: id === null ? null : "caller:x"
            })
          )
          yield* Queue.take(said)
        }
        const own = { region: "north", service: "work", action: "say" }
        assert.deepStrictEqual(
          lines.map(({ annotations }) => annotations),
          [
            { ...own, requestId: "\\u001b[2Jgone\\u000anext" },
            { ...own, requestId: `${"x".repeat(63)}…` },
            { ...own, requestId: "7" },
            own
          ]
        )
      })
    )
  )

  it.effect("names the topic where it is a listener", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const All = Topic.make("news.*", { n: Schema.Finite })
        const heard = yield* Queue.unbounded<number>()
        yield* Layer.build(Listener.layer(All, ({ n }) => Effect.andThen(Effect.log("heard"), Queue.offer(heard, n))))
        yield* Broadcast.publish(Topic.at(All, "news.oslo"), { n: 1 })
        yield* Queue.take(heard)
        assert.deepStrictEqual(lines[0]!.annotations, { topic: "news.oslo" })
      })
    )
  )
})

describe("the log of a service", () => {
  it.effect("says where a result does not fit the contract, and not what it was", () =>
    logged((lines) =>
      Effect.gen(function* () {
        yield* Layer.build(
          Handlers.layer(Work, {
            say: () => Effect.void,
            misfit: () => Effect.succeed({ rows: [{ secret: "abc" }, { secret: "hunter2" }] })
          })
        )
        const work = yield* Caller.make(Work)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(work.misfit())))
        const [line] = lines
        assert.match(
          line!.message,
          /^fiberbus: the result of work\.misfit does not fit its success schema at \["rows"\]\["1"\]\["secret"\]: Expected .* \([0-9a-f-]{36}\)$/
        )
        assert.notInclude(JSON.stringify(lines), "hunter2")
        assert.deepInclude(line!.annotations, { service: "work", action: "misfit" })
      })
    )
  )

  it.effect("costs a handler nothing to be silent about", () =>
    logged((lines) =>
      Effect.gen(function* () {
        yield* Layer.build(
          Handlers.layer(Work, { say: ({ word }) => Effect.log(word), misfit: () => Effect.die("unused") })
        )
        const work = yield* Caller.make(Work)
        yield* work.say({ word: "hidden" })
        assert.lengthOf(lines, 0)
      })
    ).pipe(Effect.provideService(References.MinimumLogLevel, "Warn"))
  )
})
