/** What operators see of the threads of a process. Attribute `service` is the service's name. */
import * as Metric from "effect/Metric"

/** Jobs that wait for a thread. */
export const waiting = Metric.gauge("fiberbus_worker_jobs_waiting", {
  description: "Jobs that wait for a thread"
})

/** Jobs that were refused because as many waited as may. */
export const refused = Metric.counter("fiberbus_worker_jobs_refused_total", {
  description: "Jobs that were refused because as many waited as may",
  incremental: true
})

/** Threads that ended without being asked to; attribute `why` is `crashed`, `stuck` or `slow_start`. */
export const lost = Metric.counter("fiberbus_worker_threads_lost_total", {
  description: "Threads that ended, or had to be ended, before their pool",
  incremental: true
})
