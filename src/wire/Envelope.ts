/**
 * Requests and replies as Daebus writes them, with what is ours in fields that Daebus ignores.
 *
 * Source: docs/wire.md. Reading is total: any JSON object is a request, a reply or neither. Writing puts the fields
 * around one `JSON.stringify` of the payload.
 */

import type { JsonObject } from "./Codec.ts"
import * as Codec from "./Codec.ts"
import * as LongTexts from "./LongTexts.ts"
import * as Pack from "./Pack.ts"

/** Longest request id that is echoed, in characters of its JSON text. */
export const maxIdLength = 256

/** What fiberbus adds to a request, in the field `fiberbus`. Peers that do not know it ignore it. */
export interface Extension {
  /** Version of this form. */
  readonly v: 1
  /** Time that was left for the answer when the request was sent, in milliseconds: no clock is compared. */
  readonly timeout_ms?: number | undefined
  /** The caller's headers. */
  readonly headers?: { readonly [name: string]: string } | undefined
  /** Which attempt of its call it is, from 2 on; the attempts of a call share their `request_id`. Absent is 1. */
  readonly attempt?: number | undefined
  /** The span that it belongs to (see `wire/TraceContext`). */
  readonly traceparent?: string | undefined
  /** How many steps the caller has room for. Absent: they are sent as they come, as to Daebus callers. */
  readonly credit?: number | undefined
  /** The caller answers questions. */
  readonly answers?: true | undefined
  /** Which sending of the attempt it is, from 2 on: the processes it went to before have not begun it. Absent is 1. */
  readonly route?: number | undefined
  /** Tells one one-way message from another. */
  readonly id?: string | undefined
  /** How many answers the caller takes in one frame (see `wire/Pack`). */
  readonly packs?: number | undefined
  /** In which version the caller takes long texts behind the JSON (see `wire/LongTexts`). */
  readonly texts?: number | undefined
}

/** A request, or a one-way message to a service. */
export interface Request {
  readonly action: string
  /** As the handler's schema will see it: text that holds JSON is parsed. */
  readonly payload: unknown
  /** Where the answer goes; nothing for a one-way message. */
  readonly replyTo: string | undefined
  /** Any JSON value; goes back as it came. `null` where there was none. */
  readonly requestId: unknown
  /** Milliseconds that were left when it was sent. Nothing from Daebus callers. */
  readonly timeoutMillis: number | undefined
  readonly headers: { readonly [name: string]: string }
  /** Which attempt of its call it is. 1 from Daebus callers. */
  readonly attempt: number
  /** The caller's span, unread: any text. */
  readonly traceparent: string | undefined
  /** How many steps the caller has room for at first; nothing where it takes them as they come. */
  readonly credit: number | undefined
  /** Whether it answers questions. */
  readonly answers: boolean
  /** Which sending of the attempt it is. 1 from Daebus callers. */
  readonly route: number
  /** Tells a one-way message of a fiberbus caller from another. */
  readonly oneWayId: string | undefined
  /** Whether its answers may share frames with others. */
  readonly packs: boolean
  /** Whether its answers may have long texts behind their JSON. */
  readonly texts: boolean
  /** The whole message. */
  readonly raw: JsonObject
}

/** Why a JSON object is no request. */
export type RequestProblem = "NoAction" | "ReplyToNotText" | "IdTooLong"

const noHeaders: { readonly [name: string]: string } = Object.freeze(Object.create(null))

/** Reads a request as Daebus does. */
export const readRequest = (raw: JsonObject): Request | RequestProblem => {
  const action = raw["action"]
  if (typeof action !== "string" || action === "") return "NoAction"
  return readAddressed(action, raw)
}

/**
 * Reads what a listener may answer to from a broadcast: the same fields, without an action. A message whose fields cannot be
 * read as such is one all the same; it just cannot be answered.
 */
export const readBroadcast = (raw: JsonObject): Request => {
  // Most say nothing but their content.
  const read =
    raw["reply_to"] === undefined && raw["request_id"] === undefined && raw["fiberbus"] === undefined
      ? undefined
      : readAddressed("", raw)
  return read !== undefined && typeof read !== "string" ? read : new Unaddressed(raw, read === undefined)
}

class Unaddressed implements Request {
  readonly action = ""
  readonly replyTo = undefined
  readonly requestId = null
  readonly timeoutMillis = undefined
  readonly headers = noHeaders
  readonly attempt = 1
  readonly traceparent = undefined
  readonly credit = undefined
  readonly answers = false
  readonly packs = false
  readonly texts = false
  readonly route = 1
  readonly oneWayId = undefined
  readonly raw: JsonObject
  private readonly oneWay: boolean
  constructor(raw: JsonObject, oneWay: boolean) {
    this.raw = raw
    this.oneWay = oneWay
  }
  // Listeners take the whole message; few ask for this.
  get payload() {
    return readPayload(this.raw, this.oneWay)
  }
}

const readAddressed = (action: string, raw: JsonObject): Request | RequestProblem => {
  const replyTo = raw["reply_to"]
  // null and "" mean a one-way message. Other kinds name no channel: Daebus would publish on their text.
  if (replyTo !== undefined && replyTo !== null && typeof replyTo !== "string") return "ReplyToNotText"
  const requestId = raw["request_id"] ?? null
  if (!isShortId(requestId)) return "IdTooLong"
  const address = typeof replyTo === "string" && replyTo !== "" ? replyTo : undefined
  const { answers, attempt, credit, headers, id, packs, route, texts, timeout_ms, traceparent } = extensionOf(raw)
  const timeoutMillis = isTime(timeout_ms) ? timeout_ms : undefined
  return {
    action,
    payload: readPayload(raw, address === undefined),
    replyTo: address,
    requestId,
    timeoutMillis,
    headers: isHeaders(headers) ? headers : noHeaders,
    attempt: isPositive(attempt) ? attempt : 1,
    traceparent: typeof traceparent === "string" ? traceparent : undefined,
    // Without a time nobody would notice that a caller which no longer gives any has gone.
    credit: timeoutMillis !== undefined && isPositive(credit) ? credit : undefined,
    answers: answers === true,
    route: isPositive(route) ? route : 1,
    oneWayId: typeof id === "string" && id.length <= maxIdLength ? id : undefined,
    packs: Pack.isTaken(packs),
    texts: LongTexts.isTaken(texts),
    raw
  }
}

const isShortId = (id: unknown): boolean =>
  typeof id === "string"
    ? id.length <= maxIdLength
    : id === null || typeof id !== "object" || JSON.stringify(id).length <= maxIdLength

/**
 * What a handler gets: absent is `{}`, or the fields beside the envelope's own in a one-way message; text is read as JSON
 * once more, as Daebus does, and kept as text where it is none.
 */
const readPayload = (raw: JsonObject, oneWay: boolean): unknown => {
  const payload = raw["payload"]
  if (typeof payload === "string") {
    const inner = Codec.parseText(payload)
    return inner instanceof Codec.Malformed ? payload : inner
  }
  if (payload !== undefined) return payload
  return oneWay ? fieldsBeside(raw) : {}
}

const ownFields = new Set(["action", "payload", "reply_to", "request_id", "service", "fiberbus"])

const fieldsBeside = (raw: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(raw).filter(([key]) => !ownFields.has(key)))

/** What the sender says in `fiberbus`, unread; nothing of another version. */
const extensionOf = (raw: JsonObject): { readonly [Field in keyof Extension]?: unknown } => {
  const value = raw["fiberbus"]
  return typeof value === "object" && value !== null && (value as Partial<Extension>).v === 1 ? value : noExtension
}

const noExtension = Object.freeze(Object.create(null))

const isTime = (value: unknown): value is number => typeof value === "number" && value >= 0

const isPositive = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0

const isHeaders = (value: unknown): value is { readonly [name: string]: string } =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  Object.values(value).every((header) => typeof header === "string")

/** The parts of a request that stay the same from call to call, written once. */
export const requestHead = (fields: {
  readonly action: string
  readonly service: string
  readonly replyTo?: string
}): string =>
  `{"action":${JSON.stringify(fields.action)},"service":${JSON.stringify(fields.service)}${
    fields.replyTo === undefined ? "" : `,"reply_to":${JSON.stringify(fields.replyTo)}`
  }`

/**
 * True for a payload with a field of long text. Its envelope is written as one: to join the pieces would copy the text once more, which takes half as
 * long as writing its JSON.
 */
export const isBulky = (payload: unknown): payload is JsonObject => {
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) return false
  for (const key in payload) {
    const field = (payload as JsonObject)[key]
    if (typeof field === "string" && field.length >= bulkyLength) return true
  }
  return false
}

const bulkyLength = 32_768

/**
 * Writes a request behind a head. A payload that is text is written as JSON text inside text, because Daebus services parse
 * it once more.
 */
export const writeRequest = (
  head: string,
  id: string | undefined,
  payload: unknown,
  extension: Extension | undefined
): string => {
  if (isBulky(payload)) {
    return JSON.stringify({ ...JSON.parse(`${head}}`), payload, request_id: id, fiberbus: extension })
  }
  const named = `${head},"payload":${jsonOf(payload)}`
  const end = extension === undefined ? "}" : `,"fiberbus":${JSON.stringify(extension)}}`
  return id === undefined ? named + end : `${named},"request_id":"${id}"${end}`
}

/** The same for a call that says no more than most do: how long it waits, and in which frames it takes answers. */
export const writeCall = (
  head: string,
  id: string,
  payload: unknown,
  timeoutMillis: number,
  packs: number | undefined,
  texts?: number
): string =>
  isBulky(payload)
    ? writeRequest(head, id, payload, { v: 1, timeout_ms: timeoutMillis, packs, texts })
    : // Each piece of the text is an object of its own until it is sent: few are better than many.
      leadOf(head) + jsonOf(payload) + beforeId + id + usualEndOf(timeoutMillis, packs, texts)

const beforeId = ',"request_id":"'

const jsonOf = (payload: unknown): string => {
  const json = JSON.stringify(payload) ?? "null"
  return typeof payload === "string" ? JSON.stringify(json) : json
}

// Mostly they are the same as the last ones.
let usualHead: string | undefined
let usualLead = ""

const leadOf = (head: string) => {
  if (head !== usualHead) {
    usualHead = head
    usualLead = `${head},"payload":`
  }
  return usualLead
}

let usualTimeout: number | undefined
let usualPacks: number | undefined
let usualTexts: number | undefined
let usualEnd = ""

const usualEndOf = (timeoutMillis: number, packs: number | undefined, texts: number | undefined) => {
  if (timeoutMillis !== usualTimeout || packs !== usualPacks || texts !== usualTexts) {
    usualTimeout = timeoutMillis
    usualPacks = packs
    usualTexts = texts
    usualEnd = `","fiberbus":${JSON.stringify({ v: 1, timeout_ms: timeoutMillis, packs, texts })}}`
  }
  return usualEnd
}

/** A reply as a caller reads it. */
export interface Reply {
  /** False only for errors; progress is neither. */
  readonly ok: boolean
  /** Absent is `{}`. */
  readonly payload: unknown
  /** The id as it came back; nothing where it is not text. */
  readonly requestId: string | undefined
  readonly final: boolean
  /** What a fiberbus service says besides, to a caller that asked for it. */
  readonly extension: ReplyExtension | undefined
}

/** What fiberbus adds to an answer, in the field `fiberbus`, where the request has `credit` or `answers`. */
export interface ReplyExtension {
  readonly v: 1
  /** The process that answers: replicas number their steps each for itself. */
  readonly by: string
  /** How many steps it had sent before this frame: a gap shows. */
  readonly seq: number
  /** The payload is an array of steps. */
  readonly packed?: true | undefined
  /** The payload is a question, which is no step. */
  readonly ask?: { readonly id: number; readonly name: string } | undefined
  /** No step: nothing but a sign of life. */
  readonly alive?: true | undefined
  /** Which attempt it answers, from 2 on: each counts its steps for itself. Absent is 1. */
  readonly attempt?: number | undefined
  /** In a refusal of a process that had the request for itself: which sending of the attempt, from 1 on. Nobody else has it. */
  readonly route?: number | undefined
}

/** Reads a reply as Daebus does: every JSON object is one. */
export const readReply = (raw: JsonObject): Reply => {
  const { status, payload, request_id, final } = raw
  return {
    ok: status !== "error",
    payload: payload === undefined ? {} : payload,
    requestId: typeof request_id === "string" ? request_id : undefined,
    // Python's truth: absent is true; false, null, 0 and "" are not; an empty array or object is not either.
    final: final === undefined || isTruthyInPython(final),
    extension: readReplyExtension(raw["fiberbus"])
  }
}

const readReplyExtension = (value: unknown): ReplyExtension | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  const { alive, ask, attempt, by, packed, route, seq, v } = value as Record<string, unknown>
  if (v !== 1 || !isInstance(by) || !isCount(seq)) return undefined
  return {
    v,
    by,
    seq,
    packed: packed === true ? true : undefined,
    ask: readAsk(ask),
    alive: alive === true ? true : undefined,
    attempt: isPositive(attempt) ? attempt : undefined,
    route: isPositive(route) ? route : undefined
  }
}

// It becomes part of a channel's name.
const instanceName = /^[\w-]{1,64}$/

/** True for what may name a process among those that serve the same. */
export const isInstance = (value: unknown): value is string => typeof value === "string" && instanceName.test(value)

const readAsk = (value: unknown): ReplyExtension["ask"] => {
  if (typeof value !== "object" || value === null) return undefined
  const { id, name } = value as Record<string, unknown>
  return isCount(id) && typeof name === "string" ? { id, name } : undefined
}

/** A number that counts something. */
export const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const isTruthyInPython = (value: unknown): boolean =>
  typeof value === "object" && value !== null ? Object.keys(value).length > 0 : Boolean(value) || Number.isNaN(value)

/** Writes a reply around a payload that is JSON text already. */
export const writeReply = (
  status: "success" | "error",
  payload: string,
  requestId: unknown,
  final: boolean,
  extension?: ReplyExtension
): string =>
  (status === "success" ? '{"status":"success","payload":' : '{"status":"error","payload":') +
  payload +
  // What nearly all ids look like is its own JSON.
  (typeof requestId === "string" && plainId.test(requestId)
    ? beforeId + requestId + (final ? '","final":true' : '","final":false')
    : `,"request_id":${JSON.stringify(requestId)}${final ? ',"final":true' : ',"final":false'}`) +
  (extension === undefined ? "}" : `,"fiberbus":${JSON.stringify(extension)}}`)

const plainId = /^[\w:.-]*$/

/** The same around a payload that {@link isBulky}. */
export const writeBulkyReply = (payload: JsonObject, requestId: unknown, extension?: ReplyExtension): string =>
  JSON.stringify({ status: "success", payload, request_id: requestId, final: true, fiberbus: extension })

/** Longest text of an error on the wire, in characters. */
export const maxErrorLength = 1_000

/**
 * Payload of an error reply. `error` is the text that Daebus shows; `failure` a declared error as its schema encodes it;
 * `reason` and `started` tell of an outcome on the way (see `wire/Reason`).
 */
export interface ErrorPayload {
  readonly error: string
  readonly failure?: unknown
  readonly reason?: unknown
  readonly started?: string
}

/** Writes the payload of an error reply, its text cut to {@link maxErrorLength}. */
export const writeErrorPayload = (payload: ErrorPayload): string =>
  JSON.stringify(payload.error.length > maxErrorLength ? { ...payload, error: cut(payload.error) } : payload)

/** Cuts a text of unknown length to what an error may carry. */
export const cut = (text: string, maxLength = maxErrorLength): string =>
  text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text

/** The text of an error reply's payload, whatever it is. Source: Daebus reads a missing `error` as "Unknown error". */
export const readErrorText = (payload: unknown): string => {
  if (typeof payload === "string") return cut(payload)
  const error = typeof payload === "object" && payload !== null ? (payload as JsonObject)["error"] : undefined
  if (error === undefined) return "Unknown error"
  return cut(typeof error === "string" ? error : JSON.stringify(error))
}
