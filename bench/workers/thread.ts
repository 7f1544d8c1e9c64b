/** The thread's side of `Pooled`. */
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as WorkerRunner from "../../src/worker/WorkerRunner.ts"
import { compute, Pooled } from "./Jobs.ts"

NodeRuntime.runMain(WorkerRunner.run(Pooled, { compute: ({ rounds }) => Effect.sync(() => compute(rounds)) }))
