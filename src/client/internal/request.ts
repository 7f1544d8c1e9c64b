/** A request on its way: its payload encoded, its frame written and sent. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { Deadline } from "../../policy/Deadline.ts"
import type { Sent, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as LongTexts from "../../wire/LongTexts.ts"
import * as Pack from "../../wire/Pack.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { CallError, CallErrorReason } from "../CallError.ts"
import type { Instance } from "./members.ts"
import { failure, type Method, type Settings } from "./method.ts"
import * as Observed from "./observed.ts"
import type { Call } from "./waiting.ts"

/** Encodes the payload, then goes on with its JSON and with what is left of the time. */
export const encoded = <A, E>(
  method: Method,
  payload: unknown,
  settings: Settings,
  then: (json: unknown, settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E | CallError> => prepared("client", method, payload, settings, then)

export const prepared = <A, E>(
  kind: "client" | "producer",
  method: Method,
  payload: unknown,
  settings: Settings,
  then: (json: unknown, settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E | CallError> =>
  Effect.withFiber((fiber) =>
    Observed.isTraced(fiber)
      ? Observed.inSpan(kind, method, settings, (settings) => encode(fiber, kind, method, payload, settings, then))
      : encode(fiber, kind, method, payload, Observed.belonging(fiber, settings), then)
  )

const encode = <A, E>(
  fiber: Fiber.Fiber<unknown, unknown>,
  kind: "client" | "producer",
  method: Method,
  payload: unknown,
  settings: Settings,
  then: (json: unknown, settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E | CallError> => {
  const deadline = fiber.getRef(Deadline)
  if (deadline !== undefined) {
    const left = Math.floor(deadline - method.inbox.now())
    if (left <= 0) {
      return unbegun(
        kind,
        method,
        Effect.fail(failure(method, new Reason.DeadlineExceeded({ timeoutMillis: 0 }), "no"))
      )
    }
    if (left < settings.timeoutMillis) settings = { ...settings, timeoutMillis: left }
  }
  if (method.payload === undefined) return then(payload, settings)
  const json = method.payload.encode(payload)
  if (Exit.isExit(json) && Exit.isSuccess(json)) return then(json.value, settings)
  const { timeoutMillis } = settings
  const end = method.inbox.now() + timeoutMillis
  const encoding = json.pipe(
    Effect.mapError((error) => failure(method, new Reason.InvalidPayload(SchemaCodec.explain(error)), "no")),
    within(timeoutMillis, () => failure(method, new Reason.DeadlineExceeded({ timeoutMillis }), "no"))
  )
  return Effect.flatMap(unbegun(kind, method, encoding), (value) =>
    then(value, { ...settings, timeoutMillis: Math.max(0, Math.floor(end - method.inbox.now())) })
  )
}

const unbegun = <A, E>(kind: "client" | "producer", method: Method, effect: Effect.Effect<A, E>) =>
  kind === "client" ? Observed.unbegun(method, effect) : effect

// A schema that works asynchronously has the call's time, no more.
export const within =
  <E2>(millis: number, late: () => E2) =>
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | E2> =>
    Exit.isExit(effect)
      ? effect
      : Effect.timeoutOrElse(effect, { duration: Math.max(0, millis), orElse: () => Effect.fail(late()) })

/** Enters the call, then sends its request, or has it held while the link is down: the answer may be back before the sending is confirmed. */
export const begin = (call: Call, json: unknown, settings: Settings) => {
  const { method } = call
  const full = method.inbox.enter(call, settings.timeoutMillis)
  if (full !== undefined) return call.failWith(full, "no")
  call.json = json
  call.settings = settings
  if (!method.inbox.isDown()) return transmit(call, settings.timeoutMillis)
  call.isHeld = true
  method.inbox.hold(call)
}

/** Sends the request of a call with so much of its time left: to one process of the service, or to all of them while none is known. */
export const transmit = (call: Call, timeoutMillis: number) => {
  const { json, method } = call
  const said = call.settings!
  const settings =
    call.route === 1 && said.timeoutMillis === timeoutMillis ? said : { ...said, timeoutMillis, route: call.route }
  const target = call.choose()
  const frame = write(method, method.headOfCall, call, json, settings, target)
  if (typeof frame === "string") {
    const { route } = call
    const sent: Sent = (error, receivers) => {
      // The answer may have come before, and have sent it elsewhere.
      if (call.route === route) call.onSent(error, receivers)
    }
    const channel = target?.channel ?? channelOf(method, settings)
    return method.inbox.transport.send(channel, frame, sent, Pack.isTaken(target?.pack))
  }
  method.inbox.leave(call)
  call.failWith(frame, "no")
}

/** Where a request goes that has no process known to go to. */
export const channelOf = (method: Method, { instance }: Settings) =>
  instance === undefined ? method.channel : Channels.instance(method.inbox.transport.prefix, method.service, instance)

/** The request's frame as its target takes it, which is nobody where it goes to all; or why it cannot be sent. */
export const write = (
  method: Method,
  head: string,
  call: Call | undefined,
  json: unknown,
  settings: Settings,
  target: Instance | undefined
): string | CallErrorReason => {
  const { maxFrameBytes } = method.inbox.transport.capabilities
  // The envelope is one level. Whoever reads it would drop it, and the call would end by its deadline.
  if (SchemaCodec.nestsTooDeep(method.payload, json, 1)) {
    return new Reason.InvalidPayload({ path: [], expected: `a value nested at most ${Codec.maxDepth - 1} deep` })
  }
  const id = call?.id
  let frame: string
  try {
    // Text is JSON inside text: see writeRequest.
    const lifted = target?.texts && typeof json !== "string" ? LongTexts.lift(json) : undefined
    const payload = lifted === undefined ? json : lifted.json
    const { packs, texts } = method.inbox
    frame =
      id !== undefined && isUsual(call!, settings)
        ? Envelope.writeCall(head, id, payload, settings.timeoutMillis, packs, texts)
        : Envelope.writeRequest(head, id, payload, {
            v: 1,
            timeout_ms: id === undefined ? undefined : settings.timeoutMillis,
            headers: settings.headers,
            attempt: settings.attempt === 1 ? undefined : settings.attempt,
            traceparent: settings.traceparent,
            credit: call?.flow?.granted,
            answers: call?.inquiry === undefined ? undefined : true,
            route: settings.route === 1 ? undefined : settings.route,
            id: call === undefined ? settings.id : undefined,
            packs: id === undefined ? undefined : packs,
            texts: id === undefined ? undefined : texts
          })
    if (lifted !== undefined) frame = LongTexts.write(frame, lifted)
  } catch {
    return new Reason.InvalidPayload({ path: [], expected: "a value that JSON can carry" })
  }
  if (!Codec.isLarger(frame, maxFrameBytes)) return frame
  return new Reason.PayloadTooLarge({ what: "request", bytes: Codec.byteLength(frame), maxBytes: maxFrameBytes })
}

/** It says nothing besides its time. */
const isUsual = ({ flow, inquiry }: Call, { attempt = 1, headers, route = 1, traceparent }: Settings): boolean =>
  flow === undefined &&
  inquiry === undefined &&
  headers === undefined &&
  traceparent === undefined &&
  attempt === 1 &&
  route === 1

// One rule for both connections: lost after the request may have left is ConnectionLost, anything else of the transport is its own.
export const reasonOf = (error: TransportError): CallErrorReason =>
  error.kind === "ConnectionLost" && error.sent === "unknown"
    ? new Reason.ConnectionLost({ detail: error.detail })
    : error
