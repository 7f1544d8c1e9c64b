import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { vi } from "vitest"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport, TransportError } from "../../src/transport/Transport.ts"

type Port = Transport["Service"]

const { cases, format, run } = TransportConformance

/** Two on one broker, each changed by the same hand. */
const pair = (change: (transport: Port) => Partial<Port> = () => ({})) =>
  Effect.sync(() => {
    const broker = Memory.makeBroker()
    // Memory keeps what changes behind getters, which a spread would freeze.
    const made = (transport: Port): Port =>
      Object.create(transport, Object.getOwnPropertyDescriptors({ ...change(transport) }))
    const one = () => made(Memory.make({ broker }))
    const another = Effect.map(Layer.build(Memory.layerOptions({ broker })), (context) =>
      made(Context.get(context, Transport))
    )
    return { here: one(), there: one(), another }
  })

const named = (...names: ReadonlyArray<string>) => cases.filter(({ name }) => names.includes(name))

const refusal = new TransportError({ kind: "Unknown", operation: "x", detail: "no", hint: "", sent: "no" })

/** Ways to be wrong, each with the case that finds it. */
const bugs: ReadonlyArray<readonly [what: string, finds: string, change: (transport: Port) => Partial<Port>]> = [
  [
    "sends twice",
    "carries each frame unchanged",
    ({ send }) => ({
      send: (channel, frame, sent) => {
        send(channel, frame, sent)
        send(channel, frame, () => {})
      }
    })
  ],
  [
    "trims frames",
    "carries each frame unchanged",
    ({ send }) => ({ send: (channel, frame, sent) => send(channel, frame.trim(), sent) })
  ],
  [
    "calls `sent` twice",
    "calls `sent` exactly once for each of thousands of sends",
    ({ send }) => ({
      send: (channel, frame, sent) =>
        send(channel, frame, (error, receivers) => {
          sent(error, receivers)
          if (frame === "x") sent(error, receivers)
        })
    })
  ],
  [
    "fails some",
    "calls `sent` exactly once for each of thousands of sends",
    ({ send }) => {
      let count = 0
      return {
        send: (channel, frame, sent) => (++count % 1000 === 0 ? sent(refusal, 0) : send(channel, frame, sent))
      }
    }
  ],
  [
    "confirms before it has subscribed",
    "confirms a subscription when the next frame of anybody reaches it",
    ({ subscribe }) => ({
      subscribe: (target, receive) => {
        let ready = false
        return Effect.andThen(
          subscribe(target, (frame, channel) => {
            if (ready) receive(frame, channel)
          }),
          Effect.sync(() => {
            setTimeout(() => {
              ready = true
            }, 20)
          })
        )
      }
    })
  ],
  [
    "never unsubscribes",
    "brings nothing after the Scope has closed",
    ({ subscribe }) => ({
      subscribe: (target, receive) =>
        Effect.scoped(Effect.andThen(subscribe(target, receive), Effect.void)).pipe(
          Effect.andThen(
            Effect.asVoid(
              Effect.forkDetach(Effect.scoped(Effect.andThen(subscribe(target, receive), Effect.never)), {
                startImmediately: true
              })
            )
          )
        )
    })
  ],
  [
    "says `exact` and counts nobody",
    "counts each transport that listens",
    ({ send }) => ({ send: (channel, frame, sent) => send(channel, frame, (error) => sent(error, 0)) })
  ],
  [
    "reads a channel as a pattern",
    "takes a channel's name literally, also with glob characters",
    ({ subscribe }) => ({
      subscribe: (target, receive) =>
        subscribe(target._tag === "Channel" ? { _tag: "Pattern", pattern: target.channel } : target, receive)
    })
  ],
  [
    "names the pattern instead of the channel",
    "matches patterns and names the concrete channel",
    ({ subscribe }) => ({
      subscribe: (target, receive) =>
        subscribe(target, (frame, channel) => receive(frame, target._tag === "Pattern" ? target.pattern : channel))
    })
  ],
  [
    "says Ready for ever",
    "says Closed when its Scope closes, and ends the stream of states",
    () => ({ state: { _tag: "Ready", gaps: 0 } })
  ],
  [
    "begins with a gap",
    "is ready from the beginning, and without a gap",
    () => ({ state: { _tag: "Ready", gaps: 1 } })
  ],
  [
    "takes frames after its end",
    "refuses what comes after its Scope has closed, as Closed and not sent",
    () => ({ send: (_channel, _frame, sent) => sent(undefined, 1) })
  ]
]

describe("TransportConformance", () => {
  it("names each case once", () => {
    assert.strictEqual(new Set(cases.map(({ name }) => name)).size, cases.length)
  })

  for (const [what, finds, change] of bugs) {
    it.live(`finds a transport that ${what}`, () =>
      Effect.gen(function* () {
        const report = yield* run(named(finds), pair(change)).pipe(
          // For the bugs that show by what does not come.
          Effect.provideService(TransportConformance.Patience, 300)
        )
        assert.deepStrictEqual([report.passed, report.failed, report.leftOut], [0, 1, 0])
        assert.match(format(report), /FAIL .*\n +Nonconformance: .*expected [\s\S]*, got /)
        // The same case passes without the bug.
        assert.strictEqual((yield* run(named(finds), pair())).passed, 1)
      }).pipe(Effect.provide(Logger.layer([])))
    )
  }

  it.live("says of each case what became of it", () =>
    Effect.gen(function* () {
      const told = named("counts nobody as 0", "is ready from the beginning, and without a gap")
      const outage = cases.filter(({ needs }) => needs.includes("outage")).slice(0, 1)
      const silent = vi.spyOn(console, "log").mockImplementation(() => {})
      const report = yield* run(
        [...told, ...outage],
        pair(({ send }) => ({
          send: (channel, frame, sent) => send(channel, frame, (error) => sent(error, 7))
        }))
      )
      silent.mockRestore()
      assert.strictEqual(
        format(report),
        [
          "memory: 1 passed, 1 failed, 1 left out",
          "  FAIL  counts nobody as 0",
          "        Nonconformance: receivers: expected 0, got 7",
          "  ok    is ready from the beginning, and without a gap",
          `  -     ${outage[0]!.name} (needs outage)`
        ].join("\n")
      )
    })
  )

  it.live("fails, instead of waiting for ever, when a case dies", () =>
    Effect.gen(function* () {
      const report = yield* run(
        named("carries each frame unchanged"),
        pair(() => ({
          subscribe: () => Effect.die(new Error("a bug of the adapter"))
        }))
      )
      assert.strictEqual(report.failed, 1)
      assert.match(format(report), /Error: a bug of the adapter/)
    })
  )
})
