/** Checks of a process's health: run when somebody asks, each one at a time, and for all who ask within a second. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Discovery from "../../wire/Discovery.ts"
import * as Printable from "../../wire/Printable.ts"

/** Who asks within so many milliseconds of a result gets that. */
export const freshMillis = 1_000

/** What a check is made of. */
export interface Definition {
  readonly name: string
  readonly kind: Discovery.CheckKind
  /** Of which service it is; nothing for all that the process serves. */
  readonly service: string | undefined
  readonly timeoutMillis: number
  /** Passes where it succeeds; text is its detail. */
  readonly effect: Effect.Effect<unknown, unknown>
  readonly context: Context.Context<never>
}

/** @see the file's first line */
export class Check {
  readonly definition: Definition
  private readonly clock: Clock.Clock
  private latest: { readonly result: Discovery.CheckResult; readonly at: number } | undefined
  private running: Fiber.Fiber<unknown, unknown> | undefined
  /** While it runs and is in time. */
  private asking: Array<(result: Discovery.CheckResult) => void> | undefined

  constructor(definition: Definition) {
    this.definition = definition
    this.clock = Context.get(definition.context, Clock.Clock)
  }

  /** What it says. Never fails, and takes no longer than its timeout. */
  readonly ask: Effect.Effect<Discovery.CheckResult> = Effect.callback((resume) => {
    const now = this.clock.currentTimeMillisUnsafe()
    if (this.latest !== undefined && now - this.latest.at < freshMillis && now >= this.latest.at) {
      return resume(Effect.succeed(this.latest.result))
    }
    // The one before did not let itself be interrupted.
    if (this.asking === undefined && this.running !== undefined) {
      return resume(Effect.succeed(this.toResult("fail", "the check before this one still runs", now, now)))
    }
    const tell = (result: Discovery.CheckResult) => resume(Effect.succeed(result))
    if (this.asking !== undefined) this.asking.push(tell)
    else this.begin(now, tell)
  })

  private begin(begun: number, tell: (result: Discovery.CheckResult) => void) {
    const { context, effect, timeoutMillis } = this.definition
    this.asking = [tell]
    const fork = Effect.runForkWith(context)
    const end = (status: "pass" | "fail", detail: string | undefined) => {
      if (this.asking === undefined) return
      const now = this.clock.currentTimeMillisUnsafe()
      const result = this.toResult(status, detail, begun, now)
      this.latest = { result, at: now }
      const told = this.asking
      this.asking = undefined
      for (const tell of told) tell(result)
    }
    const timer = fork(
      Effect.andThen(
        Effect.sleep(timeoutMillis),
        Effect.sync(() => {
          end("fail", `it took longer than ${timeoutMillis} ms`)
          this.running?.interruptUnsafe()
        })
      )
    )
    const fiber = fork(Effect.suspend(() => effect))
    this.running = fiber
    fiber.addObserver((exit) => {
      this.running = undefined
      timer.interruptUnsafe()
      if (exit._tag === "Failure" && Cause.hasDies(exit.cause)) {
        fork(Effect.logError(`fiberbus: the check ${this.definition.name} died`, exit.cause))
      }
      end(...outcome(exit))
    })
  }

  private toResult(status: "pass" | "fail", detail: string | undefined, begun: number, now: number) {
    const { kind, name } = this.definition
    return toResult(name, kind, status, detail, begun, now)
  }

  /** Stops what runs. */
  close() {
    this.running?.interruptUnsafe()
  }
}

/** A result, its detail fit for a line. */
export const toResult = (
  name: string,
  kind: Discovery.CheckKind,
  status: "pass" | "fail",
  detail: string | undefined,
  begun: number,
  now: number
): Discovery.CheckResult => ({
  name,
  kind,
  status,
  ...(detail === undefined || detail === ""
    ? undefined
    : { detail: Printable.cut(Printable.line(Printable.withoutSecrets(detail)), Discovery.maxDetailLength) }),
  at: new Date(begun),
  millis: Math.max(0, now - begun)
})

const outcome = (exit: Exit.Exit<unknown, unknown>): ["pass" | "fail", string | undefined] => {
  if (exit._tag === "Success") return ["pass", typeof exit.value === "string" ? exit.value : undefined]
  return ["fail", failure(exit.cause)]
}

// What it failed with is said by it on purpose; a defect may hold anything.
const failure = (cause: Cause.Cause<unknown>): string => {
  const failed = cause.reasons.find(Cause.isFailReason)
  if (failed === undefined) return Cause.hasDies(cause) ? "the check died" : "the check was interrupted"
  const { error } = failed
  if (typeof error === "string") return error
  if (typeof error !== "object" || error === null) return String(error)
  const { _tag, message } = error as Record<string, unknown>
  if (typeof message === "string" && message !== "") return message
  return typeof _tag === "string" ? _tag : "the check failed"
}
