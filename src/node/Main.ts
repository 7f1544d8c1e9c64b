/** Runs services as a Node process: what a container's stop, a supervisor or Ctrl-C expect of it. */
import { constants } from "node:os"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Supervision from "../server/Supervision.ts"
import { TransportError } from "../transport/Transport.ts"

/**
 * Builds a layer and keeps the process alive with it, under `Supervision.launch`.
 *
 * The first SIGTERM or SIGINT shuts its services down (each within its `grace` and 2 seconds), and the process ends with status 0. A second one ends
 * it at once: status 143, or 130 for SIGINT. When the layer fails, or a service gives up, the error is logged and the status is 1.
 */
export const run = <A, E>(layer: Layer.Layer<A, E>): void => {
  let signals = 0
  const onSignal = (signal: NodeJS.Signals) => {
    signals++
    if (signals > 1) process.exit(128 + constants.signals[signal])
  }
  process.on("SIGTERM", onSignal)
  process.on("SIGINT", onSignal)
  NodeRuntime.runMain(Effect.tapCause(Supervision.launch(layer), report), {
    disableErrorReporting: true,
    // To be stopped by a signal is a server's normal end.
    teardown: (exit, onExit) =>
      signals > 0 && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
        ? onExit(0)
        : Runtime.defaultTeardown(exit, onExit)
  })
}

// What an operator mends needs no stack: the message says what to do.
const report = (cause: Cause.Cause<unknown>) => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  return error instanceof TransportError || error instanceof Supervision.PoolGaveUp
    ? Effect.logError(`fiberbus: ${error.message}`)
    : Effect.logError(cause)
}
