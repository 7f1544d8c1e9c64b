/** Compares services: callers of the one revision, the service of the other. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Action from "../../contract/Action.ts"
import type * as Service from "../../contract/Service.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Finding, Who } from "../ContractDiff.ts"
import type { Pairs } from "./contracts.ts"
import * as Found from "./found.ts"
import type { Settings } from "./part.ts"

/** Compares all pairs, and says what is there no more and what is new. */
export const compare = (pairs: Pairs<Service.Any>, settings: Settings): Effect.Effect<Found.Found> =>
  Found.all([
    ...pairs.both.flatMap(({ new: now, old }) => compared(old, now, settings)),
    ...pairs.removed.map((service) =>
      Found.only(
        Found.structural("breaking", "old callers", about(service), "it is there no more: calls end with NoResponders")
      )
    ),
    ...pairs.added.map((service) =>
      Found.only(
        Found.structural(
          "change",
          "new callers",
          about(service),
          "it is new: where only old services run, calls end with NoResponders"
        )
      )
    )
  ])

const about = (service: Service.Any, action?: Action.Any, part?: string): Found.Subject => ({
  of: service.serviceName,
  action: action?.name,
  part: part ?? (action === undefined ? "service" : "action")
})

const compared = (
  old: Service.Any,
  now: Service.Any,
  settings: Settings
): ReadonlyArray<Effect.Effect<Found.Found>> => {
  const found: Array<Effect.Effect<Found.Found>> = []
  if (old.serviceName !== now.serviceName) {
    const name = about(old, undefined, "name")
    const gone = `it is ${now.serviceName} now, and ${old.serviceName} in the old revision: calls end with NoResponders`
    found.push(
      Found.only(
        Found.structural("breaking", "old callers", name, gone),
        Found.structural("breaking", "new callers", name, gone)
      )
    )
  }
  found.push(Found.only(...partitions(old, now)))
  for (const action of Object.values(old.actions)) {
    const other = now.actions[action.name]
    if (other !== undefined) found.push(...ofAction(old, action, other, settings))
    else {
      found.push(
        Found.only(
          Found.structural(
            "breaking",
            "old callers",
            about(old, action),
            "it is there no more: calls are refused with UnknownAction"
          )
        )
      )
    }
  }
  for (const action of Object.values(now.actions)) {
    if (action.name in old.actions) continue
    found.push(
      Found.only(
        Found.structural(
          "change",
          "new callers",
          about(old, action),
          "it is new: old services refuse calls with UnknownAction"
        )
      )
    )
  }
  return found
}

const ofAction = (
  service: Service.Any,
  old: Action.Any,
  now: Action.Any,
  settings: Settings
): ReadonlyArray<Effect.Effect<Found.Found>> => {
  const part = (name: string) => about(service, old, name)
  /** Written by callers, read by the service. */
  const asked = (name: string, one: Action.AnySchema, other: Action.AnySchema, refused: string) => [
    Found.ofPart("old callers", part(name), one, other, refused, settings),
    Found.ofPart("new callers", part(name), other, one, refused, settings)
  ]
  /** Written by the service, read by callers. */
  const answered = (name: string, one: Action.AnySchema, other: Action.AnySchema, refused: string) => [
    Found.ofPart("old callers", part(name), other, one, refused, settings),
    Found.ofPart("new callers", part(name), one, other, refused, settings)
  ]

  const found = [
    Found.only(...annotations(part, old, now)),
    ...asked(
      "payload",
      old.payload,
      now.payload,
      "the service refuses the call with InvalidPayload; its handler does not run"
    ),
    ...steps(part, old, now, answered),
    ...errors(part, old, now, answered)
  ]
  const names = new Set([...Object.keys(old.asks), ...Object.keys(now.asks)])
  for (const name of names) {
    const [one, other] = [old.asks[name], now.asks[name]]
    if (one !== undefined && other !== undefined) {
      found.push(
        ...answered(
          `question ${name}`,
          one.ask,
          other.ask,
          "the caller declines the question; the handler gets an AskError"
        ),
        ...asked(
          `answer to ${name}`,
          one.answer,
          other.answer,
          "the handler gets an AskError, InvalidAnswer, for its question"
        )
      )
      continue
    }
    const who = one === undefined ? "old callers" : "new callers"
    found.push(
      Found.only(
        Found.structural(
          "breaking",
          who,
          part(`question ${name}`),
          "they do not know it: the handler that asks gets an AskError"
        )
      )
    )
  }
  return found
}

type Answered = (
  name: string,
  one: Action.AnySchema,
  other: Action.AnySchema,
  refused: string
) => ReadonlyArray<Effect.Effect<Found.Found>>

/** What comes before the end, and the result. */
const steps = (part: (name: string) => Found.Subject, old: Action.Any, now: Action.Any, answered: Answered) => {
  const mismatch = "the call ends with ContractMismatch, and its handler has run"
  const [streamed, streams] = [!SchemaCodec.isNever(old.items), !SchemaCodec.isNever(now.items)]
  if (streamed !== streams) {
    const because = streams
      ? "it answers with a stream of items now, and with a result in the old revision"
      : "it answers with a result now, and with a stream of items in the old revision"
    return [
      Found.only(
        Found.structural("breaking", "old callers", part("items"), because),
        Found.structural("breaking", "new callers", part("items"), because)
      )
    ]
  }
  if (streams) return answered("items", old.items, now.items, "the stream ends with ContractMismatch")
  const [told, tells] = [!SchemaCodec.isNever(old.progress), !SchemaCodec.isNever(now.progress)]
  if (told && tells) {
    return [
      ...answered("progress", old.progress, now.progress, "a call that takes steps ends with ContractMismatch"),
      ...answered("success", old.success, now.success, mismatch)
    ]
  }
  const unseen = (who: Who, because: string) => Found.only(Found.structural("change", who, part("progress"), because))
  return [
    ...(told
      ? [unseen("old callers", "no steps come any more"), unseen("new callers", "the old service's steps are not seen")]
      : []),
    ...(tells
      ? [
          unseen("old callers", "the new service's steps are not seen"),
          unseen("new callers", "no steps come from old services")
        ]
      : []),
    ...answered("success", old.success, now.success, mismatch)
  ]
}

const errors = (part: (name: string) => Found.Subject, old: Action.Any, now: Action.Any, answered: Answered) => {
  const [declared, declares] = [!SchemaCodec.isNever(old.error), !SchemaCodec.isNever(now.error)]
  // A caller that knows no errors of the action gets them all the same.
  const untyped = (who: Who) =>
    Found.only(
      Found.structural(
        "change",
        who,
        part("error"),
        "they know no declared errors of it: one comes as a CallError, RemoteError"
      )
    )
  if (declared && declares) {
    return answered("error", old.error, now.error, "the call ends with ContractMismatch in place of the declared error")
  }
  return [...(declares ? [untyped("old callers")] : []), ...(declared ? [untyped("new callers")] : [])]
}

/** Whoever has the larger number sends to queues that nobody of the other revision reads. */
const partitions = (old: Service.Any, now: Service.Any): ReadonlyArray<Finding> => {
  const both = [old, now].every(({ actions }) => Object.values(actions).some(Action.isDurable))
  if (!both || old.partitions === now.partitions) return []
  const subject = about(old, undefined, "partitions")
  const count = `it has ${now.partitions} partitions now, and ${old.partitions} in the old revision`
  const [more, fewer] =
    now.partitions > old.partitions
      ? (["new callers", "old callers"] as const)
      : (["old callers", "new callers"] as const)
  return [
    Found.structural("breaking", more, subject, `${count}: where only the other services run, nobody reads the others`),
    Found.structural(
      "change",
      fewer,
      subject,
      `${count}: messages of a key are in another one, so that those of both have no order`
    )
  ]
}

const annotations = (
  part: (name: string) => Found.Subject,
  old: Action.Any,
  now: Action.Any
): ReadonlyArray<Finding> => {
  const found: Array<Finding> = []
  const [before, after] = [timeoutOf(old), timeoutOf(now)]
  if (after < before) {
    const because = `they wait ${after} ms for it, and waited ${before} ms in the old revision`
    found.push(Found.structural("change", "new callers", part("timeout"), because))
  }
  const [delivered, delivers] = [
    Context.get(old.annotations, Action.Delivery),
    Context.get(now.annotations, Action.Delivery)
  ]
  if (delivered !== delivers) {
    const because = `its delivery is ${delivers} now, and ${delivered} in the old revision: who handles a request, and how often, is another matter`
    for (const who of ["old callers", "new callers"] as const)
      found.push(Found.structural("change", who, part("delivery"), because))
  }
  if (Context.get(old.annotations, Action.Idempotent) && !Context.get(now.annotations, Action.Idempotent)) {
    const because = "they may send a request twice where its fate is unknown, and that may do harm now"
    found.push(Found.structural("breaking", "old callers", part("idempotent"), because))
  }
  return found
}

const timeoutOf = (action: Action.Any) => Duration.toMillis(Context.get(action.annotations, Action.Timeout))
