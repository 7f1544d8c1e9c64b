/** One call, from its payload to its single outcome. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { SchemaError } from "effect/Schema"
import type * as Stream from "effect/Stream"
import { Deadline } from "../../policy/Deadline.ts"
import type { Sent } from "../../transport/Transport.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Pack from "../../wire/Pack.ts"
import type { CallError } from "../CallError.ts"
import * as Answers from "./answers.ts"
import * as Flow from "./flow.ts"
import type { Instance } from "./members.ts"
import { failure, type Method, type Outcome, type Settings } from "./method.ts"
import * as Observed from "./observed.ts"
import { begin, channelOf, encoded, prepared, reasonOf, write } from "./request.ts"
import { maxRoutes, Waiting } from "./waiting.ts"

/** Calls and waits for the result; steps on the way only show that the handler started. */
export const unary = (method: Method, payload: unknown, settings: Settings): Outcome =>
  Effect.callback<any, any>((resume) => {
    // Most calls have nothing before them or around them: they are begun here, without an effect for each part.
    const json = encodedAtOnce(method, payload, settings, Fiber.getCurrent()!)
    if (json === undefined) return resume(besides(method, payload, settings))
    const call = new Once(method, settings.timeoutMillis, resume, undefined, undefined)
    method.metrics.begin()
    begin(call, json.value, settings)
    return Effect.sync(() => call.abandon())
  })

const besides = (method: Method, payload: unknown, settings: Settings): Outcome =>
  encoded(method, payload, settings, (json, settings) => withAnswers(once, method, json, settings, undefined))

/** A payload's JSON, of a call with nothing besides: no span, no questions, no deadline around it, and a payload that fits. */
const encodedAtOnce = (
  method: Method,
  payload: unknown,
  settings: Settings,
  fiber: Fiber.Fiber<unknown, unknown>
): Exit.Success<unknown, SchemaError> | undefined => {
  const { cache } = fiber
  if (cache.span !== undefined || Observed.isTraced(fiber)) return undefined
  if (settings.answers !== undefined || fiber.getRef(Deadline) !== undefined) return undefined
  const json = method.payload === undefined ? Exit.succeed(payload) : method.payload.encode(payload)
  return Exit.isExit(json) && json._tag === "Success" ? json : undefined
}

/** A step, or the result, of a streamed call. */
export type Event<Progress, Success> =
  | { readonly _tag: "Progress"; readonly value: Progress }
  | { readonly _tag: "Success"; readonly value: Success }

/** What takes a call from its encoded payload to its outcome. */
export type Run = (
  method: Method,
  json: unknown,
  settings: Settings,
  flow: Flow.Flow | undefined,
  inquiry: Answers.Inquiry | undefined
) => Outcome

/** Streams steps, then the result; or items, and no result. Ending early forgets the call. */
export const streaming =
  (run: Run) =>
  (method: Method, payload: unknown, settings: Settings): Stream.Stream<any, any> =>
    Flow.stream(
      settings.window,
      (flow) => encoded(method, payload, settings, (json, settings) => withAnswers(run, method, json, settings, flow)),
      (value) => (method.items === undefined ? [{ _tag: "Success", value }] : [])
    )

/** Calls once and streams. */
export const streamed = streaming((...call) => once(...call))

/** Runs a call with the answers to its questions, where the caller gives any. */
export const withAnswers = (
  run: Run,
  method: Method,
  json: unknown,
  settings: Settings,
  flow: Flow.Flow | undefined
): Outcome =>
  settings.answers === undefined || method.asks === undefined
    ? run(method, json, settings, flow, undefined)
    : Answers.answering(method.asks, settings.answers, (inquiry) => run(method, json, settings, flow, inquiry))

const once: Run = (method, json, settings, flow, inquiry) =>
  Effect.callback<any, any>((resume) => {
    const call = new Once(method, settings.timeoutMillis, resume, flow, inquiry)
    method.metrics.begin()
    begin(call, json, settings)
    return Effect.sync(() => call.abandon())
  })

/** Sends without asking for an answer: the receivers count. */
export const oneWay = (method: Method, payload: unknown, settings: Settings): Effect.Effect<number, CallError> =>
  Observed.sent(
    method,
    prepared("producer", method, payload, settings, (json, settings) => sending(method, json, settings))
  )

const sending = (method: Method, json: unknown, settings: Settings) =>
  Effect.callback<number, CallError>((resume) => {
    const { choose, inbox, members } = method
    const { instance, key } = settings
    const named = { ...settings, id: randomUUID() }
    const { capabilities } = inbox.transport
    let route = 1
    const sendTo = (target: Instance | undefined): void => {
      const frame = write(method, method.headOfSend, undefined, json, named, target)
      if (typeof frame !== "string") return resume(Effect.fail(failure(method, frame, "no")))
      const sent: Sent = (error, receivers) => {
        if (error !== undefined) return resume(Effect.fail(failure(method, reasonOf(error), error.sent)))
        if (target === undefined || receivers > 0 || capabilities.receivers !== "exact") {
          return resume(Effect.succeed(receivers))
        }
        // Nobody got it. Each of them is tried once, as it is known no more; after some of them it goes to all.
        members!.router.gone(target)
        if (instance !== undefined) return resume(Effect.succeed(receivers))
        sendTo(++route < maxRoutes ? members!.pick(choose, key, undefined) : undefined)
      }
      inbox.transport.send(target?.channel ?? channelOf(method, settings), frame, sent, Pack.isTaken(target?.pack))
    }
    sendTo(instance === undefined ? members?.pick(choose, key, undefined) : members?.find(instance))
  })

/** A call that is one attempt. */
class Once extends Waiting {
  private counted: boolean

  // One that goes without saying is not compiled away.
  constructor(
    method: Method,
    timeoutMillis: number,
    resume: (outcome: Outcome) => void,
    flow: Flow.Flow | undefined,
    inquiry: Answers.Inquiry | undefined
  ) {
    super(method, timeoutMillis, resume, flow, inquiry)
    this.counted = false
  }

  override onReply(reply: Envelope.Reply) {
    // Nobody takes the steps of others that have begun, of several processes of one name.
    const { extension, ok } = reply
    if (this.flow !== undefined && !this.started && !ok && extension !== undefined)
      this.tell({ ...this.about(), _tag: "Cancel" })
    super.onReply(reply)
  }

  override end(outcome: Outcome) {
    if (this.counted) return
    this.counted = true
    super.end(Observed.ended(this, outcome))
  }

  /** Its fiber was interrupted. */
  abandon() {
    this.cancel()
    if (!this.counted) Observed.ended(this, Exit.interrupt())
  }
}
