/** An action as a caller sees it, what a caller may say per call, and how a call fails. */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Tracer from "effect/Tracer"
import type { Policy } from "../../policy/Policy.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Envelope from "../../wire/Envelope.ts"
import type * as Reason from "../../wire/Reason.ts"
import type * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Choose } from "../Balance.ts"
import { CallError, type CallErrorReason } from "../CallError.ts"
import type { CallMetrics } from "../CallMetrics.ts"
import type * as Answers from "./answers.ts"
import type { Inbox } from "./inbox.ts"
import type { Instance, Members } from "./members.ts"

/** An action as a caller sees it, prepared once. Parts that a contract leaves out, or that has none, are absent. */
export interface Method {
  readonly inbox: Inbox
  readonly service: string
  readonly action: string
  readonly channel: string
  readonly headOfCall: string
  readonly headOfSend: string
  readonly timeoutMillis: number
  readonly annotations: Context.Context<never>
  readonly metrics: CallMetrics
  readonly payload: SchemaCodec.SchemaCodec<any> | undefined
  readonly success: SchemaCodec.SchemaCodec<any> | undefined
  readonly error: SchemaCodec.SchemaCodec<any> | undefined
  readonly progress: SchemaCodec.SchemaCodec<any> | undefined
  /** Items of an action that answers with a stream: its time is the longest silence. */
  readonly items: SchemaCodec.SchemaCodec<any> | undefined
  readonly asks: Answers.Codecs | undefined
  /** The processes that take it, one for each request; nothing where all of them get every request. */
  readonly members: Members | undefined
  /** Which of them gets the next request. */
  readonly choose: Choose
  /** What a request belongs to, by its payload. */
  readonly keyOf: ((payload: any) => string) | undefined
}

/** Prepares an action. */
export const method = (
  inbox: Inbox,
  service: string,
  action: string,
  rest: Omit<Method, "inbox" | "service" | "action" | "channel" | "headOfCall" | "headOfSend">
): Method => ({
  inbox,
  service,
  action,
  channel: Channels.service(inbox.transport.prefix, service),
  headOfCall: Envelope.requestHead({ action, service, replyTo: inbox.channel }),
  headOfSend: Envelope.requestHead({ action, service }),
  ...rest
})

/** What a caller may say per call, resolved. */
export interface Settings {
  readonly timeoutMillis: number
  readonly headers: { readonly [name: string]: string } | undefined
  readonly policies: ReadonlyArray<Policy>
  readonly window: number
  readonly answers: Answers.Answers | undefined
  /** Which attempt it is; absent is the first. */
  readonly attempt?: number
  /** Which sending of the attempt it is; absent is the first. */
  readonly route?: number
  /** The process that an earlier attempt failed with: another one is better. */
  readonly avoid?: Instance | undefined
  /** What the request belongs to. */
  readonly key?: string | undefined
  /** The one process that it is for. */
  readonly instance?: string | undefined
  /** Tells a one-way message from others. */
  readonly id?: string
  /** The call's own span, where it is traced. */
  readonly span?: Tracer.Span
  /** The span that the request belongs to, as it travels. */
  readonly traceparent?: string | undefined
}

/** How a call ended, its value perhaps still to be decoded. */
export type Outcome = Effect.Effect<any, any>

/** The error that a call ends with. */
export const failure = (method: Method, reason: CallErrorReason, started: Reason.Started) =>
  new CallError({ service: method.service, action: method.action, started, reason })
