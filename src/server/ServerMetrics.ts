/** What operators see of the services and listeners of a process. Attribute `service` is the service's name, or the listener's topic. */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"

/** Handlers that run now. */
export const running = Metric.gauge("fiberbus_handlers_running", {
  description: "Handlers that run now"
})

/** Requests that wait for a slot now. */
export const backlog = Metric.gauge("fiberbus_backlog", {
  description: "Requests that wait for a slot"
})

/**
 * Requests and messages whose handler was not begun; attribute `reason` is what their callers were told (`Busy`, `Draining`,
 * `DeadlineExceeded`, `InvalidPayload`, `RemoteDefect`), or `Dropped` where they were told nothing (`whenFull: "dropNewest"`).
 */
export const refused = Metric.counter("fiberbus_requests_refused_total", {
  description: "Requests whose handler was not begun, by reason",
  incremental: true
})

/** Times that the pool of a service broke down and was made anew. */
export const restarts = Metric.counter("fiberbus_pool_restarts_total", {
  description: "Times that a service's pool broke down and was made anew",
  incremental: true
})

/** What the gauges are read from. @internal */
export interface Source {
  readonly running: number
  readonly waiting: number
}

/** All that serve one name, and their series. */
interface Shown {
  readonly sources: Set<Source>
  readonly series: ReadonlyArray<Metric.Registration>
}

// A service may be served by several layers and over several transports, and has one series of each gauge in a registry.
const registries = new WeakMap<object, Map<string, Shown>>()

/**
 * Shows a source in the gauges until the returned function is called. They are read when somebody looks, so that a request costs them
 * nothing.
 *
 * @internal
 */
export const observe = (context: Context.Context<never>, service: string, source: Source): (() => void) => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const services = registries.get(registry) ?? new Map<string, Shown>()
  registries.set(registry, services)
  const shown = services.get(service) ?? show(context, service)
  services.set(service, shown)
  shown.sources.add(source)
  return () => {
    shown.sources.delete(source)
    if (shown.sources.size > 0 || services.get(service) !== shown) return
    services.delete(service)
    for (const series of shown.series) series.remove()
  }
}

const show = (context: Context.Context<never>, service: string): Shown => {
  const sources = new Set<Source>()
  const series = (gauge: Metric.Gauge<number>, read: (source: Source) => number) =>
    Metric.registerUnsafe(Metric.withAttributes(gauge, { service }), context, {
      get: () => ({ value: Array.from(sources, read).reduce((sum, value) => sum + value, 0) }),
      update: () => {},
      modify: () => {}
    })
  return { sources, series: [series(running, ({ running }) => running), series(backlog, ({ waiting }) => waiting)] }
}

/** Counts refusals of one service. @internal */
export const refusals = (context: Context.Context<never>, service: string): ((reason: string) => void) => {
  const counters = new Map<string, Metric.Counter<number>>()
  return (reason) => {
    let counter = counters.get(reason)
    if (counter === undefined) {
      counter = Metric.withAttributes(refused, { service, reason })
      counters.set(reason, counter)
    }
    counter.updateUnsafe(1, context)
  }
}
