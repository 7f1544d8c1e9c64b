import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric, Queue } from "effect"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as LinkMetrics from "../../src/transport/LinkMetrics.ts"
import * as RedisPubSub from "../../src/transport/RedisPubSub.ts"
import { publish, Transport } from "../../src/transport/Transport.ts"

describe("the metrics of a link", () => {
  it.live("count the bytes of the frames that go out and come in", () =>
    Effect.gen(function* () {
      const { url } = yield* RedisServer.make()
      const registry: Metric.MetricRegistry = new Map()
      yield* Effect.gen(function* () {
        const { name, subscribe } = yield* Transport
        const came = yield* Queue.unbounded<string>()
        yield* subscribe({ _tag: "Channel", channel: "a" }, (frame) => void Queue.offerUnsafe(came, String(frame)))
        yield* publish("a", '{"a":"é"}')
        yield* publish("nobody", "{}")
        yield* publish("a", "{}")
        assert.deepStrictEqual([yield* Queue.take(came), yield* Queue.take(came)], ['{"a":"é"}', "{}"])
        const count = (metric: Metric.Counter<number>) =>
          Effect.map(Metric.value(Metric.withAttributes(metric, { transport: name })), ({ count }) => count)
        assert.strictEqual(yield* count(LinkMetrics.sentBytes), 10 + 2 + 2)
        assert.strictEqual(yield* count(LinkMetrics.receivedBytes), 10 + 2)
      }).pipe(
        Effect.scoped,
        Effect.provide(RedisPubSub.layer({ url })),
        Effect.provideService(Metric.MetricRegistry, registry)
      )
    })
  )
})
