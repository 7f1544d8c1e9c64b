#!/usr/bin/env node
/** The program `fiberbus`. */
import { readFileSync } from "node:fs"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Runtime from "effect/Runtime"
import * as Cli from "./Cli.ts"
import { ExitStatus, WhenInterrupted } from "./ExitStatus.ts"

/** Longest wait for a reader that takes its time, before a failed command ends all the same. */
const flushMillis = 2_000

// The same place seen from src/cli and from dist/cli.
const version = (): string => {
  try {
    const { version }: { version?: unknown } = JSON.parse(
      readFileSync(new URL("../../package.json", import.meta.url), "utf8")
    )
    return typeof version === "string" ? version : "unknown"
  } catch {
    return "unknown"
  }
}

const whenInterrupted = { status: ExitStatus.interrupted as number }

const statusOf = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return typeof exit.value === "number" ? exit.value : ExitStatus.success
  return Cause.hasInterruptsOnly(exit.cause) ? whenInterrupted.status : ExitStatus.internal
}

// A pipe takes 64 KiB at once; `process.exit` would throw away what is still behind.
const teardown: Runtime.Teardown = (exit, onExit) => {
  const status = statusOf(exit)
  process.exitCode = status
  const end = () => onExit(status)
  setTimeout(end, flushMillis).unref()
  process.stdout.write("", () => process.stderr.write("", end))
}

// A reader that goes away is noticed where something is written to it.
process.stdout.on("error", () => {})
process.stderr.on("error", () => {})

Cli.run(process.argv.slice(2), version()).pipe(
  Effect.provideService(WhenInterrupted, whenInterrupted),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
