/** Redis by ioredis alone, as most would write it first: a transport that has none of our defences. */
import { Effect } from "effect"
import { Transport } from "fiberbus"
import { Redis, type RedisOptions } from "ioredis"
import * as LinkState from "../../src/transport/LinkState.ts"

export const client = (url: string, options: RedisOptions = {}) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const redis = new Redis(url, { retryStrategy: () => 20, ...options } as RedisOptions & {
        replyMapping?: "legacy"
      })
      redis.on("error", () => {})
      await redis.ping()
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

export const make = Effect.fnUntraced(function* (url: string, options?: RedisOptions) {
  const publisher = yield* client(url, options)
  const subscriber = yield* client(url, options)
  const failed = (error: Error) =>
    new Transport.TransportError({
      kind: "Unknown",
      operation: "x",
      detail: error.message,
      hint: "",
      sent: "unknown"
    })
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const transport: Transport.Transport["Service"] = {
    name: "naive",
    prefix: "",
    capabilities: {
      delivery: "at-most-once",
      receivers: "hint",
      ordered: true,
      patterns: false,
      maxFrameBytes: 1_048_576
    },
    send: (channel, frame, sent) => {
      publisher.publish(channel, frame).then(
        (receivers) => sent(undefined, receivers),
        (error: Error) => sent(failed(error), 0)
      )
    },
    subscribe: (target, receive) =>
      Effect.gen(function* () {
        const wanted = target._tag === "Channel" ? target.channel : target.pattern
        subscriber.on("message", (channel: string, frame: string) => {
          if (channel === wanted) receive(frame, channel)
        })
        yield* Effect.promise(() => subscriber.subscribe(wanted))
      }),
    get state() {
      return link.current()
    },
    watch: link.watch,
    whileDown: undefined
  }
  return transport
})
