/** Who gets long texts behind the JSON, on a real wire: those who have said that they take it, and nobody else. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Handlers, Service, Transport } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as Codec from "../../src/wire/Codec.ts"
import * as LongTexts from "../../src/wire/LongTexts.ts"
import * as Presence from "../../src/wire/Presence.ts"

const Document = Schema.Struct({ id: Schema.Finite, text: Schema.String, bytes: Schema.optionalKey(Schema.Uint8Array) })

class Documents extends Service.make(
  "documents",
  Action.make("echo", { payload: Document, success: Document }),
  Action.make("text", { payload: { of: Schema.Finite }, success: Schema.String }),
  Action.make("note", { payload: Document })
) {}

const redis = (options: RedisPubSub.Options = {}) =>
  Layer.unwrap(Effect.map(RedisServer.RedisServer, ({ url }) => RedisPubSub.layer({ url, ...options })))

const served = (noted: (text: string) => void = () => {}, options: RedisPubSub.Options = {}) =>
  Handlers.layer(Documents, {
    echo: (document) => Effect.succeed(document),
    text: ({ of }) => Effect.succeed("ä\n".repeat(of)),
    note: ({ text }) => Effect.sync(() => noted(text))
  }).pipe(Layer.provide(Layer.fresh(redis(options))))

/** The frames that come on channels, of some length at least, and a wait for so many of them. */
const hear = Effect.fnUntraced(function* (target: Transport.Target, least = 0) {
  const transport = yield* Transport.Transport
  const frames: Array<Transport.Frame> = []
  let wanted = Number.POSITIVE_INFINITY
  let all = Deferred.makeUnsafe<void>()
  yield* transport.subscribe(target, (frame) => {
    if (frame.length < least) return
    frames.push(frame)
    if (frames.length >= wanted) Deferred.doneUnsafe(all, Exit.void)
  })
  const until = (count: number) =>
    Effect.suspend(() => {
      wanted = count
      all = Deferred.makeUnsafe<void>()
      return frames.length >= count ? Effect.void : Deferred.await(all)
    })
  return { frames, until }
})

const long = 'a "long" text\n'.repeat(6_000)

const requests = { _tag: "Pattern", pattern: "documents.instance:*" } as const
const answers = { _tag: "Pattern", pattern: "caller:*" } as const

describe("Long texts", () => {
  it.layer(RedisServer.layerOptions({}))((it) => {
    it.effect("travel behind the JSON of requests and answers, once the process is known", () =>
      Effect.gen(function* () {
        const any = yield* hear(requests)
        const asked = yield* hear(requests, LongTexts.minTotal)
        const answered = yield* hear(answers, LongTexts.minTotal)
        const { echo, text } = yield* Caller.make(Documents)
        yield* Effect.repeat(echo({ id: 0, text: "" }), { until: () => any.frames.length > 0 })
        const bytes = Uint8Array.from({ length: 30_000 }, (_, i) => i % 256)
        for (const document of [
          { id: 1, text: long },
          { id: 2, text: "ß漢🧵".repeat(10_000) },
          { id: 3, text: "short", bytes },
          { id: 4, text: long, bytes }
        ]) {
          assert.deepStrictEqual(yield* echo(document), document)
        }
        assert.strictEqual(yield* text({ of: 100_000 }), "ä\n".repeat(100_000))
        yield* asked.until(4)
        yield* answered.until(5)
        assert.isTrue([...asked.frames, ...answered.frames].every(LongTexts.isOne))
      }).pipe(Effect.provide(Layer.merge(served(), redis())), TestClock.withLive)
    )

    it.effect("travel so with what is sent one way", () =>
      Effect.suspend(() => {
        const noted = Deferred.makeUnsafe<string>()
        const heard = (text: string) => {
          if (text !== "") Deferred.doneUnsafe(noted, Exit.succeed(text))
        }
        return Effect.gen(function* () {
          const asked = yield* hear(requests)
          const { echo, note } = yield* Caller.make(Documents)
          yield* Effect.repeat(echo({ id: 0, text: "" }), { until: () => asked.frames.length > 0 })
          assert.strictEqual(yield* note.send({ id: 1, text: long }), 2)
          assert.strictEqual(yield* Deferred.await(noted), long)
          yield* Effect.repeat(Effect.yieldNow, { until: () => asked.frames.some(LongTexts.isOne) })
        }).pipe(Effect.provide(Layer.merge(served(heard), redis())), TestClock.withLive)
      })
    )

    it.effect("are nothing that a Daebus caller ever gets", () =>
      Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const { frames, until } = yield* hear({ _tag: "Channel", channel: "caller:daebus" })
        const payload = { id: 1, text: long }
        for (const fiberbus of [
          undefined,
          { v: 1, timeout_ms: 5_000, packs: 64 },
          { v: 1, texts: 0 },
          { v: 2, texts: 1 }
        ]) {
          const request = { action: "echo", payload, reply_to: "caller:daebus", request_id: "r", fiberbus }
          transport.send("documents", JSON.stringify(request), () => {})
        }
        yield* until(4)
        for (const frame of frames) {
          assert.deepStrictEqual(JSON.parse(frame.toString()), {
            status: "success",
            payload,
            request_id: "r",
            final: true
          })
        }
      }).pipe(Effect.provide(Layer.merge(served(), redis())))
    )

    it.effect("are nothing that a process gets which has not said that it takes them", () =>
      Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const by = "0b5c1f2e-77a1"
        const { frames, until } = yield* hear({ _tag: "Channel", channel: `documents.instance:${by}` })
        const { echo } = yield* Caller.make(Documents)
        yield* Transport.publish(
          "documents.instances",
          Presence.write({ _tag: "Here", by, actions: undefined, pack: 64 })
        )
        const call = { id: 1, text: long }
        // It answers nothing: its requests are what counts.
        yield* Effect.forkChild(
          Effect.repeat(Effect.ignore(echo(call, { timeout: "200 millis" })), { until: () => frames.length > 0 })
        )
        yield* until(1)
        const raw = JSON.parse(frames[0]!.toString()) as { readonly payload: unknown; readonly fiberbus: object }
        assert.deepStrictEqual(raw.payload, call)
        assert.deepInclude(raw.fiberbus, { v: 1, texts: 1 })
        assert.isTrue(transport.capabilities.packs)
      }).pipe(Effect.provide(redis()), TestClock.withLive)
    )

    it.effect("are not asked for where frames are small", () =>
      Effect.gen(function* () {
        const { frames } = yield* hear({ _tag: "Pattern", pattern: "documents*" })
        const { echo } = yield* Caller.make(Documents)
        const payload = { id: 1, text: "x".repeat(10_000) }
        assert.deepStrictEqual(yield* echo(payload), payload)
        yield* Effect.repeat(Effect.yieldNow, { until: () => frames.some((frame) => frame.length > 10_000) })
        for (const frame of frames) {
          const raw = Codec.parse(frame, 32_000) as Codec.JsonObject
          assert.notProperty(raw["fiberbus"], "texts")
        }
      }).pipe(
        Effect.provide(Layer.merge(served(undefined, { maxFrameBytes: 32_000 }), redis({ maxFrameBytes: 32_000 }))),
        TestClock.withLive
      )
    )
  })
})
