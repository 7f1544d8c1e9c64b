/** What a pool and its threads say to each other. Values of a contract are JSON, by the action's own schemas. */

/** From the pool to a thread. */
export type ToThread =
  | {
      readonly _tag: "Run"
      readonly job: number
      readonly action: string
      readonly payload: unknown
      /** Time that is left to it; nothing where it has no deadline. */
      readonly remainingMillis: number | undefined
    }
  | { readonly _tag: "Interrupt"; readonly job: number }
  /** The step has been passed on, the next one may come. */
  | { readonly _tag: "Ack"; readonly step: number }

/** How a job ended. Each job that was begun ends in exactly one, unless its thread does. */
export type End =
  | { readonly _tag: "Success"; readonly job: number; readonly value: unknown }
  | { readonly _tag: "Failure"; readonly job: number; readonly error: unknown }
  | { readonly _tag: "Defect"; readonly job: number; readonly message: string; readonly stack: string }
  | { readonly _tag: "Interrupted"; readonly job: number }

/** From a thread to its pool. */
export type FromThread =
  | { readonly _tag: "Ready"; readonly service: string }
  | { readonly _tag: "Progress"; readonly job: number; readonly step: number; readonly value: unknown }
  | End
