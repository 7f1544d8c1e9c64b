/**
 * fiberbus: typed, effect-based messaging.
 *
 * In the order a reader should meet them: what can be said, who answers, who asks, how it travels.
 */

export * as Broadcast from "./client/Broadcast.ts"
export * as CallError from "./client/CallError.ts"
export * as Caller from "./client/Caller.ts"
export * as CallMetrics from "./client/CallMetrics.ts"
export * as Glob from "./contract/Glob.ts"
export { Action, Service, Topic } from "./contract/index.ts"
export * as Concurrency from "./policy/Concurrency.ts"
export * as Deadline from "./policy/Deadline.ts"
export * as Policy from "./policy/Policy.ts"
export * as Retry from "./policy/Retry.ts"
export * as Background from "./server/Background.ts"
export * as Blueprint from "./server/Blueprint.ts"
export * as Daemon from "./server/Daemon.ts"
export * as HandlerMetrics from "./server/HandlerMetrics.ts"
export * as Handlers from "./server/Handlers.ts"
export * as Lifecycle from "./server/Lifecycle.ts"
export * as Listener from "./server/Listener.ts"
export * as Request from "./server/Request.ts"
export * as Response from "./server/Response.ts"
export * as Supervision from "./server/Supervision.ts"
export * as TaskMetrics from "./server/TaskMetrics.ts"
export * as Backoff from "./transport/Backoff.ts"
export * as Flow from "./transport/Flow.ts"
export * as Lease from "./transport/Lease.ts"
export * as LinkState from "./transport/LinkState.ts"
export * as Memory from "./transport/Memory.ts"
export * as Prefixed from "./transport/Prefixed.ts"
export * as Transport from "./transport/Transport.ts"
