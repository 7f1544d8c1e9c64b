import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, DeadLetters, Handlers, Service } from "fiberbus"
import * as CommandLine from "./commandLine.ts"

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { n: Schema.Finite } }).pipe(Action.annotate(Action.Delivery, "durable"))
)

describe("fiberbus dead", () => {
  it.effect("lists, shows, replays and discards", () => {
    const { durable, layer, run } = CommandLine.make()
    let fails = true
    const live = Handlers.layer(
      Jobs,
      { run: () => Effect.suspend(() => (fails ? Effect.die(new Error("no disk")) : Effect.void)) },
      { durable: { retry: Schedule.recurs(0) } }
    )
    return Effect.gen(function* () {
      assert.deepStrictEqual(yield* run(["dead", "list", "jobs"]), { status: 0, stdout: "", stderr: "" })
      const jobs = yield* Caller.make(Jobs)
      for (const n of [1, 2, 3]) yield* jobs.run.enqueue({ n }, { id: `job-${n}` })
      while ((yield* DeadLetters.size(Jobs)) < 3) yield* TestClock.adjust(1)

      const listed = yield* run(["dead", "list", "jobs", "--limit", "2"])
      const lines = listed.stdout.trim().split("\n")
      assert.lengthOf(lines, 2)
      assert.deepStrictEqual(JSON.parse(lines[0]!), {
        letter: "1",
        id: "job-1",
        action: "run",
        reason: "Defect",
        deliveries: 1,
        appended: "1970-01-01T00:00:00.000Z",
        setAside: "1970-01-01T00:00:00.000Z"
      })
      const rest = yield* run(["dead", "list", "jobs", "--after", "2"])
      assert.strictEqual(JSON.parse(rest.stdout).id, "job-3")

      const shown = JSON.parse((yield* run(["dead", "show", "jobs", "1"])).stdout)
      assert.include(shown.cause, "no disk")
      assert.deepStrictEqual(JSON.parse(shown.frame).payload, { n: 1 })
      assert.deepStrictEqual(yield* run(["dead", "show", "jobs", "9"]), {
        status: 5,
        stdout: "",
        stderr: "fiberbus: there is no dead letter 9\n"
      })

      assert.deepStrictEqual(yield* run(["dead", "discard", "jobs", "1", "9"]), {
        status: 5,
        stdout: "1\n",
        stderr: "fiberbus: there is no dead letter 9\n"
      })
      fails = false
      assert.deepStrictEqual(yield* run(["dead", "replay", "jobs", "--all"]), { status: 0, stdout: "2\n", stderr: "" })
      assert.strictEqual(yield* DeadLetters.size(Jobs), 0)
      const unsaid = yield* run(["dead", "discard", "jobs"])
      assert.strictEqual(unsaid.status, 2)
      assert.include(unsaid.stderr, "--all")
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(live, Layer.merge(layer, durable))))
  })

  it.effect("does so in all partitions of a service, and says so where it is not told of them", () => {
    const { durable, layer, run } = CommandLine.make()
    const Parted = Jobs.pipe(Service.partitioned(4))
    let fails = true
    const live = Handlers.layer(
      Parted,
      { run: () => Effect.suspend(() => (fails ? Effect.die(new Error("no disk")) : Effect.void)) },
      { durable: { retry: Schedule.recurs(0) } }
    )
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Parted)
      for (let n = 0; n < 20; n++) yield* jobs.run.enqueue({ n }, { id: `job-${n}` })
      while ((yield* DeadLetters.size(Parted)) < 20) yield* TestClock.adjust(1)
      const all = ["jobs", "--partitions", "4"]
      const lettersOf = (stdout: string) =>
        stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line).letter as string)
      const listed = lettersOf((yield* run(["dead", "list", ...all])).stdout)
      assert.lengthOf(listed, 20)
      const last = listed.at(-1)!
      assert.strictEqual(last.slice(0, 2), "3:")
      assert.deepStrictEqual(
        lettersOf((yield* run(["dead", "list", ...all, "--after", listed[4]!, "--limit", "9"])).stdout),
        listed.slice(5, 14)
      )
      assert.strictEqual(JSON.parse((yield* run(["dead", "show", ...all, last])).stdout).letter, last)

      for (const [text, ...words] of [
        [last, "show", "jobs", last],
        [last, "replay", "jobs", listed[0]!, last],
        [last, "discard", "jobs", "--partitions", "3", last],
        [last, "list", "jobs", "--after", last],
        ["1 to 128", "list", "jobs", "--partitions", "0"],
        ["1 to 128", "list", "jobs", "--partitions", "129"],
        ["no partitions", "list", "jobs", "--partitions", "2", "--group", "mail"]
      ] as const) {
        const refused = yield* run(["dead", ...words])
        assert.strictEqual(refused.status, 2, words.join(" "))
        assert.include(refused.stderr, text)
      }
      assert.strictEqual(yield* DeadLetters.size(Parted), 20)

      assert.strictEqual((yield* run(["dead", "discard", ...all, last])).stdout, "1\n")
      // One that has gone is a place in the list all the same.
      assert.strictEqual((yield* run(["dead", "list", ...all, "--after", last])).stdout, "")
      fails = false
      assert.strictEqual((yield* run(["dead", "replay", ...all, "--all"])).stdout, "19\n")
      assert.strictEqual(yield* DeadLetters.size(Parted), 0)
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(live, Layer.merge(layer, durable))))
  })
})
