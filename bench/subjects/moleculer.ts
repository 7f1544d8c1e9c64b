/** Moleculer as its documentation advises for production: a request timeout, logs from `warn`, no parameter cloning. */
import { type BrokerOptions, ServiceBroker } from "moleculer"
import * as Child from "../Child.ts"

const options = (nodeID: string): BrokerOptions => ({
  namespace: "bench",
  nodeID: `${nodeID}-${process.pid}`,
  transporter: { type: "Redis", options: Child.url as any },
  logger: { type: "Console", options: { level: "warn" } },
  // fiberbus' own default, so that both keep a deadline per call. Moleculer's default is none.
  requestTimeout: 5_000
})

export const make = (nodeID: string) => new ServiceBroker(options(nodeID))
