/** What does not fit is refused with a typed error, is never taken for what it is not, and never crashes anything. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Codec from "../../wire/Codec.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Bench } from "./Bench.ts"
import { type Call, type Law, Violation } from "./Law.ts"
import * as Mutation from "./mutation.ts"
import type { Answer } from "./raw.ts"
import * as Show from "./show.ts"

interface Mutated {
  readonly call: Call
  readonly mutation: Mutation.Mutation
}

/** @see the file's first line */
export const refuses: Law = {
  name: "refuses what does not fit",
  applies: () => true,
  prepare: (subject) => {
    const { action, service } = subject
    const codec = SchemaCodec.make(action.payload)
    const messageOf = ({ call, mutation }: Mutated) =>
      Effect.map(Effect.orDie(codec.encode(call.payload)), (payload) =>
        Mutation.apply(mutation, { action: action.name, service: service.serviceName, payload: payload ?? {} })
      )
    return {
      inputs: Arbitrary.all({ call: subject.calls, mutation: Mutation.arbitrary }),
      holds: (bench, mutated: Mutated) =>
        Effect.gen(function* () {
          const { message, text } = yield* messageOf(mutated)
          const given = Show.value(text ?? message.payload)
          const answer = yield* bench.raw({ ...message, fiberbus: extension(bench) }, text)
          const cause = answer?.reason?._tag === "RemoteDefect" ? bench.causeOf(answer.reason.id) : undefined
          const violated = (because: string) =>
            new Violation({
              because,
              given: `${given}\n${Mutation.describe(mutated.mutation)}`,
              cameBack: cause === undefined ? (answer?.text ?? "nothing") : Show.defect(cause)
            })
          const because = problem(yield* expected(codec, action.name, message, text), answer)
          if (because !== undefined) return yield* violated(because)
          const { exit } = yield* bench.call(mutated.call)
          if (exit === undefined && SchemaCodec.isNever(action.items))
            return yield* violated("after it, nothing is answered any more")
        }),
      show: ({ call }) => Show.call(action, call)
    }
  }
}

const extension = ({ timeoutMillis }: Bench) => ({ v: 1, timeout_ms: timeoutMillis, credit: 16 })

/** What a service owes to such a message. */
type Expected = "silence" | "UnknownAction" | "InvalidPayload" | "an answer"

const expected = (
  codec: SchemaCodec.SchemaCodec<any>,
  action: string,
  message: Mutation.Message,
  text: string | undefined
): Effect.Effect<Expected> => {
  const raw = Codec.parse(text ?? JSON.stringify(message), Codec.defaultMaxBytes)
  if (raw instanceof Codec.Malformed) return Effect.succeed("silence")
  const request = Envelope.readRequest({ ...raw, reply_to: "caller:laws" })
  if (typeof request === "string") return Effect.succeed("silence")
  if (request.action !== action) return Effect.succeed("UnknownAction")
  return Effect.map(Effect.exit(codec.decode(request.payload)), (read) =>
    Exit.isSuccess(read) ? "an answer" : "InvalidPayload"
  )
}

const problem = (expected: Expected, answer: Answer | undefined): string | undefined => {
  if (expected === "silence") return answer === undefined ? undefined : "it is no message, and yet it is answered"
  if (answer === undefined) return "it is not answered"
  if (answer.reason?._tag === "RemoteDefect") {
    return expected === "an answer"
      ? "the handler died of what the contract allows"
      : "reading it died, instead of refusing it"
  }
  if (expected === "an answer") return undefined
  if (answer.reason?._tag === "PayloadTooLarge") return undefined
  if (answer.reason?._tag !== expected) return `it is not refused as ${expected}`
  return answer.started === "no" ? undefined : "it is refused, but the handler has run"
}
