/** What operators see of the links of a process. Attribute `transport` is the transport's name, which holds no secret. */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Series from "../wire/Series.ts"

/** 1 while the link is `Ready`, 0 while it is not, -1 once it is closed. */
export const state = Metric.gauge("fiberbus_link_state", {
  description: "1 ready, 0 connecting or degraded, -1 closed"
})

/** Connections that came back after a loss; attribute `connection` is `publisher` or `subscriber`, or `both` where one does both. */
export const reconnects = Metric.counter("fiberbus_reconnects_total", {
  description: "Connections that came back after a loss",
  incremental: true
})

/** Times that frames to subscribers may have been lost. */
export const gaps = Metric.counter("fiberbus_link_gaps_total", {
  description: "Times that frames to subscribers may have been lost",
  incremental: true
})

/** Times that the broker cut the subscriber because it read too slowly, as far as that can be told. */
export const slowSubscriberCuts = Metric.counter("fiberbus_slow_subscriber_cuts_total", {
  description: "Times that the broker cut the subscriber because it read too slowly",
  incremental: true
})

/** Bytes of the frames that were handed to the connection, without the protocol around them. `Memory` moves none. */
export const sentBytes = Metric.counter("fiberbus_sent_bytes_total", {
  description: "Bytes of the frames sent",
  incremental: true
})

/** Bytes of the frames that came, before anything else is looked at. */
export const receivedBytes = Metric.counter("fiberbus_received_bytes_total", {
  description: "Bytes of the frames received",
  incremental: true
})

/** Counts the bytes of one transport, in the registry of the context. */
export const traffic = (transport: string, context: Context.Context<never>) => {
  const sent = Series.of(sentBytes, { transport }, context)
  const received = Series.of(receivedBytes, { transport }, context)
  return {
    sent: (bytes: number) => sent.update(bytes, context),
    received: (bytes: number) => received.update(bytes, context)
  }
}
