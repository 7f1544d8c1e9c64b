/** What operators see of background tasks, daemons and the life of a program. */
import * as Metric from "effect/Metric"

/** Runs of background tasks that have ended; attributes `task` and `outcome`. */
export const runs = Metric.counter("fiberbus_background_runs_total", {
  description: "Runs of background tasks, by outcome",
  incremental: true
})

/** Ticks that made no run; attributes `task` and `reason`. `Taken` and `Over` are usual in a fleet: another process runs it. */
export const skipped = Metric.counter("fiberbus_background_skipped_total", {
  description: "Ticks of background tasks that made no run, by reason",
  incremental: true
})

/** How long runs took; attribute `task`. */
export const duration = Metric.histogram("fiberbus_background_duration_milliseconds", {
  description: "Duration of runs of background tasks in milliseconds",
  boundaries: Metric.exponentialBoundaries({ start: 1, factor: 4, count: 12 })
})

/** Times a daemon was started again after it had ended; attribute `daemon`. */
export const restarts = Metric.counter("fiberbus_daemon_restarts_total", {
  description: "Times a daemon was started again after it had ended",
  incremental: true
})

/** 1 while a daemon runs, 0 while it waits to be started again or is at rest, -1 when it was given up; attribute `daemon`. */
export const daemonState = Metric.gauge("fiberbus_daemon_state", {
  description: "1 running, 0 waiting or at rest, -1 given up"
})

/** 1 while the program is ready, 0 before and after. */
export const ready = Metric.gauge("fiberbus_lifecycle_ready", {
  description: "1 while the program is ready, 0 while it starts or stops"
})
