// The code of docs/redis.md: type-checked here, compared with the page by snippets.test.ts, run by nothing.
import { Config, Layer, Schedule } from "effect"
import { Backoff, type Transport } from "fiberbus"
import * as Main from "fiberbus/node/Main"
import * as RedisLease from "fiberbus/transport/RedisLease"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

declare const AppLive: Layer.Layer<never, never, Transport.Transport>
declare const ca: string
declare const password: string

export const snippets = () => {
  Main.run(AppLive.pipe(Layer.provide(RedisPubSub.layer({ url: "redis://127.0.0.1:6379" }))))
  Main.run(AppLive.pipe(Layer.provide(RedisPubSub.layerConfig()))) // REDIS_URL and the others below
  {
    const options = Config.map(RedisPubSub.environment, (environment) => ({
      ...environment,
      connect: Schedule.spaced("1 second")
    }))

    const TransportLive = RedisPubSub.layerConfig(options)
    void TransportLive
  }
  {
    const TransportLive = RedisPubSub.layer({
      url: "redis://127.0.0.1:6379",
      connect: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 60 })), // then the Layer fails
      reconnect: Backoff.make({ first: "50 millis", longest: "5 seconds" }), // the default
      whileDown: { for: "1 second", buffer: 1_000 } // the default
    })
    void TransportLive
  }
  {
    const TransportLive = RedisPubSub.layer({
      url: "rediss://redis.internal:6379",
      username: "service",
      password, // a text, or Redacted
      tls: { ca }
    })
    void TransportLive
  }
  {
    const TransportLive = RedisPubSub.layer({
      sentinels: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }, { host: "10.0.0.3", port: 26_380 }],
      name: "mymaster"
    })
    void TransportLive
  }
  {
    const options = RedisPubSub.environment

    const RedisLive = Layer.mergeAll(RedisPubSub.layerConfig(options), RedisLease.layerConfig(options))

    Main.run(AppLive.pipe(Layer.provide(RedisLive)))
  }
}
