/** The JSON that a command sends: an argument, or standard input. */

import * as Argument from "effect/cli/Argument"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Json } from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Codec from "../wire/Codec.ts"
import { type Failed, usage } from "./ExitStatus.ts"

/** Most bytes that are read from standard input. */
export const maxBytes = 8 * 1_048_576

/** The argument. */
export const argument = Argument.String("json").pipe(
  Argument.withDescription("The payload as JSON; - reads it from standard input. Default {}"),
  Argument.optional
)

/** Reads the payload. Errors: `Failed` with status 2 for what is no JSON, before anything is sent. */
export const read = (given: Option.Option<string>): Effect.Effect<Json, Failed, Stdio.Stdio> => {
  if (Option.isNone(given)) return Effect.succeed({})
  return given.value === "-"
    ? Effect.flatMap(fromStdin, (text) => parse("standard input", text))
    : parse("the payload", given.value)
}

const parse = (what: string, text: string): Effect.Effect<Json, Failed> =>
  Effect.suspend(() => {
    if (text.trim() === "") return Effect.fail(usage(`${what} is empty, it must be JSON`))
    // The request around it is one level more.
    if (Codec.isTooDeep(`[${text}]`)) {
      return Effect.fail(usage(`${what} nests deeper than the ${Codec.maxDepth - 1} levels that services read`))
    }
    try {
      const json: Json = JSON.parse(text)
      return Effect.succeed(json)
    } catch (error) {
      return Effect.fail(usage(`${what} is not JSON: ${error instanceof Error ? error.message : "it cannot be read"}`))
    }
  })

const fromStdin: Effect.Effect<string, Failed, Stdio.Stdio> = Effect.gen(function* () {
  const { stdin } = yield* Stdio.Stdio
  const chunks: Array<Uint8Array> = []
  let bytes = 0
  yield* Stream.runForEach(stdin, (chunk) => {
    bytes += chunk.byteLength
    chunks.push(chunk)
    return bytes > maxBytes ? Effect.fail(usage(`standard input has more than ${maxBytes} bytes`)) : Effect.void
  }).pipe(Effect.catchTag("PlatformError", () => Effect.fail(usage("standard input cannot be read"))))
  return yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)),
    catch: () => usage("standard input is not UTF-8")
  })
})
