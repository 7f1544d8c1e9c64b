/** Writes to stdout and stderr, as fast as they take it. */
import * as Effect from "effect/Effect"
import type { PlatformError } from "effect/PlatformError"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Printable from "../wire/Printable.ts"
import { ExitStatus, Failed } from "./ExitStatus.ts"

/**
 * Writes lines to stdout; succeeds when the stream can take more. The text must be printable already.
 *
 * Errors: `Failed`, silent when the reader is gone.
 */
export const out = (text: string): Effect.Effect<void, Failed, Stdio.Stdio> =>
  Effect.flatMap(Stdio.Stdio, (stdio) => Stream.run(Stream.make(`${text}\n`), stdio.stdout())).pipe(
    Effect.mapError((error) =>
      isClosed(error)
        ? new Failed({ status: ExitStatus.outputClosed, text: "" })
        : new Failed({ status: ExitStatus.internal, text: `cannot write to stdout: ${codeOf(error)}` })
    )
  )

/** Writes one line to stderr, made printable. What cannot be said there is not said. */
export const err = (text: string): Effect.Effect<void, never, Stdio.Stdio> =>
  Effect.flatMap(Stdio.Stdio, (stdio) => Stream.run(Stream.make(`${Printable.line(text)}\n`), stdio.stderr())).pipe(
    Effect.ignore
  )

const isClosed = (error: PlatformError) => ["EPIPE", "ERR_STREAM_DESTROYED", "ECONNRESET"].includes(codeOf(error))

const codeOf = ({ reason }: PlatformError): string => {
  const cause = "cause" in reason ? reason.cause : undefined
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : reason.message
}
