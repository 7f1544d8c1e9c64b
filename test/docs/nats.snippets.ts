// The code of docs/nats.md: type-checked here, compared with the page by snippets.test.ts, run by nothing.
import { Layer } from "effect"
import type { Transport } from "fiberbus"
import * as Main from "fiberbus/node/Main"
import * as Nats from "fiberbus/transport/Nats"

declare const AppLive: Layer.Layer<never, never, Transport.Transport>

export const snippets = () => {
  Main.run(AppLive.pipe(Layer.provide(Nats.layer({ servers: "nats://127.0.0.1:4222" }))))
  Main.run(AppLive.pipe(Layer.provide(Nats.layerConfig()))) // NATS_SERVERS and the others below
}
