/** What a frame is, for people who watch the traffic: never for those who take part in it. */
import { Buffer, isUtf8 } from "node:buffer"
import * as Codec from "./Codec.ts"
import * as Control from "./Control.ts"
import * as Envelope from "./Envelope.ts"
import * as Pack from "./Pack.ts"
import * as Presence from "./Presence.ts"
import * as Printable from "./Printable.ts"

/** What a frame turned out to be. `-` stands for what it has not. */
export interface Reading {
  readonly kind: "request" | "reply" | "control" | "presence" | "message" | "garbage"
  /**
   * The action; of a reply `success`, `error`, `progress`, `question` or `alive`; of a caller's word on the way `cancel`, `credit`
   * or `answer`; of a word about which processes serve `here`, `gone`, `who`, `probe` or `up`; of garbage why it could not be read.
   */
  readonly what: string
  readonly id: string
  readonly payload: unknown
  /** The same as fields of a JSON object, with the whole message. */
  readonly fields: object
}

/** Bytes of a frame. */
export const size = (frame: string | Uint8Array): number =>
  typeof frame === "string" ? Codec.byteLength(frame) : frame.byteLength

/** The frames that a pack is made of; what is no pack is one frame, as it is. Total. */
export const split = (frame: string | Uint8Array, maxFrameBytes: number): ReadonlyArray<string | Uint8Array> => {
  // Most are none.
  if (typeof frame === "string" ? !frame.startsWith("[") : frame[0] !== 0x5b) return [frame]
  const all = Codec.parseEach(frame, maxFrameBytes, Pack.maxCount)
  if (!Array.isArray(all) || all.some((one) => one instanceof Codec.Malformed)) return [frame]
  return all.map((one) => JSON.stringify(one))
}

/** Reads any frame but a pack as a bystander does. Total. */
export const read = (frame: string | Uint8Array, maxFrameBytes: number): Reading => {
  const raw = Codec.parse(frame, maxFrameBytes)
  if (raw instanceof Codec.Malformed) return garbage(raw.reason, frame)
  const request = Envelope.readRequest(raw)
  if (typeof request !== "string") {
    const { action, requestId, payload } = request
    return {
      kind: "request",
      what: action,
      id: idOf(requestId),
      payload,
      fields: { action, id: requestId, message: raw }
    }
  }
  if (typeof raw["status"] === "string" && ("request_id" in raw || "final" in raw)) {
    const { extension, ok, payload, final } = Envelope.readReply(raw)
    const onTheWay = extension?.ask !== undefined ? "question" : extension?.alive ? "alive" : "progress"
    const what = !final ? onTheWay : ok ? "success" : "error"
    const id = raw["request_id"] ?? null
    return { kind: "reply", what, id: idOf(id), payload, fields: { status: what, final, id, message: raw } }
  }
  const control = Control.read(raw)
  if (control !== undefined) {
    const { _tag, requestId } = control
    const what = _tag.toLowerCase()
    const payload = _tag === "Credit" ? control.until : _tag === "Answer" ? control.answer : {}
    return { kind: "control", what, id: requestId, payload, fields: { control: what, id: requestId, message: raw } }
  }
  const presence = Presence.read(raw)
  if (presence !== undefined) {
    const what = presence._tag.toLowerCase()
    const id = "by" in presence ? presence.by : "-"
    const payload = presence._tag === "Here" ? (presence.actions ?? []) : {}
    return { kind: "presence", what, id, payload, fields: { presence: what, id, message: raw } }
  }
  return { kind: "message", what: "-", id: "-", payload: raw, fields: { message: raw } }
}

const garbage = (reason: Codec.MalformedReason, frame: string | Uint8Array): Reading => {
  const text =
    typeof frame === "string" ? frame : isUtf8(frame) ? toBuffer(frame).toString() : toBuffer(frame).toString("latin1")
  const whole = typeof frame === "string" || isUtf8(frame) ? { text } : { base64: toBuffer(frame).toString("base64") }
  return {
    kind: "garbage",
    what: reason,
    id: "-",
    payload: text,
    fields: { reason, ...(reason === "TooLarge" ? undefined : whole) }
  }
}

const toBuffer = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const idOf = (id: unknown): string => (id === null ? "-" : typeof id === "string" ? id : Printable.json(id))
