/**
 * Moleculer as its documentation advises for production: logs from `warn`, a request timeout, no parameter cloning. The validator asks for what
 * fiberbus' schemas ask for; the variants `unchecked` and `fakeUnchecked` have none. `fake` and `fakeUnchecked` are two brokers in one process
 * over its Fake transporter.
 */
import { Readable } from "node:stream"
import { type BrokerOptions, type Context, ServiceBroker, type ServiceSchema } from "moleculer"
import { promises } from "../Meter.ts"
import * as Payload from "../Payload.ts"
import { handlers, inGroups, type Peer, type Setting } from "../Peer.ts"

const isFake = (setting: Setting) => setting.variant.startsWith("fake")

const make = (setting: Setting, side: string) =>
  new ServiceBroker({
    namespace: setting.name,
    nodeID: `${side}-${process.pid}`,
    transporter: isFake(setting) ? "Fake" : { type: "Redis", options: setting.redis as any },
    logger: { type: "Console", options: { level: "error" } },
    validator: !setting.variant.toLowerCase().includes("unchecked"),
    // Its default is none; with fiberbus' own default both keep a deadline per call.
    requestTimeout: setting.limits === "default" ? 5_000 : 600_000,
    // Calls in flight of one broker; 50,000 by default.
    ...(setting.limits === "default" ? {} : { transit: { maxQueueSize: 1_000_000 } }),
    ...(setting.pool === undefined
      ? {}
      : { bulkhead: { enabled: true, concurrency: setting.pool, maxQueueSize: 100_000 } })
  } as BrokerOptions)

const params = {
  $$strict: "remove",
  id: { type: "number", integer: true },
  name: { type: "string", empty: false },
  email: { type: "string" },
  active: { type: "boolean" },
  score: { type: "number" },
  tags: { type: "array", items: "string" }
}

const service: ServiceSchema = {
  name: "echo",
  actions: {
    echo: { params, handler: ({ params }: Context<Payload.Payload>) => handlers.echo(params) },
    wait: { params, handler: ({ params }: Context<Payload.Payload>) => handlers.wait(params) },
    hold: { params, handler: ({ params }: Context<Payload.Payload>) => handlers.hold(params) },
    blob: {
      params: { $$strict: "remove", id: { type: "number", integer: true }, text: { type: "string" } },
      handler: ({ params }: Context<Payload.Blob>) => handlers.blob(params)
    },
    items: {
      params: { count: { type: "number", integer: true } },
      handler: ({ params }: Context<{ readonly count: number }>) => Readable.from(items(params.count))
    }
  }
}

function* items(count: number) {
  for (let i = 0; i < count; i++) yield Payload.make(i)
}

export const peer: Peer = {
  serve: async (setting) => {
    const broker = make(setting, "server")
    broker.createService(service)
    await broker.start()
  },
  connect: async (setting) => {
    if (isFake(setting)) await peer.serve!(setting)
    const broker = make(setting, "client")
    await broker.start()
    // A publisher alone has no service to wait for.
    await broker.waitForServices("echo", 10_000, 50).catch(() => {})
    const call = (action: string) => (payload: any) => broker.call<any, any>(action, payload)
    return {
      calls: promises({
        echo: call("echo.echo"),
        wait: call("echo.wait"),
        blob: call("echo.blob"),
        hold: call("echo.hold")
      }),
      stream: async (count, take) => {
        for await (const item of await broker.call<Readable, any>("echo.items", { count })) take(item)
      },
      publish: inGroups((message) => broker.broadcast("happened", message), Payload.make)
    }
  },
  listen: async (setting, listeners, heard) => {
    const broker = make(setting, "listener")
    for (let i = 0; i < listeners; i++) {
      broker.createService({
        name: `listener${i}`,
        events: { happened: { params, handler: ({ params }: Context<Payload.Payload>) => heard(params) } }
      })
    }
    await broker.start()
  },
  idle: async (setting, services) => {
    const broker = make(setting, "idle")
    for (let i = 0; i < services; i++) broker.createService({ ...service, name: `idle${i}` })
    await broker.start()
  }
}
