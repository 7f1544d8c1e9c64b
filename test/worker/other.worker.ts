/** A thread of another service. */
import { NodeRuntime } from "@effect/platform-node"
import * as WorkerRunner from "fiberbus/worker/WorkerRunner"
import { Users } from "../users.ts"

WorkerRunner.run(Users, {}).pipe(NodeRuntime.runMain)
