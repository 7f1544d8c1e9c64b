/** Finds out whether anybody serves a service, by asking its channel. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Prefixed from "../../transport/Prefixed.ts"
import { Transport, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"

/** A service was not there in time. */
export class DependencyMissing extends Schema.TaggedError<DependencyMissing>()("DependencyMissing", {
  service: Schema.String,
  waitedMillis: Schema.Finite,
  /** What kept from asking, if anything did. */
  error: Schema.optionalKey(TransportError)
}) {
  override get message() {
    const why = this.error === undefined ? "nobody serves it" : this.error.message
    return `the service ${this.service} was not there within ${this.waitedMillis} ms: ${why}`
  }
}

/** An action that no service has. */
export const action = "fiberbus.probe"

/** How long an answer is waited for when somebody is subscribed: Daebus services give none. */
export const answerMillis = 1_000

/**
 * Sends a request for an action that no service has, which runs nothing anywhere. A fiberbus service answers that it does not know
 * it, so it is there. A Daebus service, or one that is told to ignore the unknown, says nothing: there it is the broker's word that
 * somebody is subscribed. One that is draining is not there any more, though another replica may be.
 */
export const probe = (service: string): Effect.Effect<boolean, TransportError, Transport> =>
  Effect.scoped(
    Effect.gen(function* () {
      const transport = yield* Transport
      const inbox = Channels.inbox(Prefixed.rootOf(transport).prefix)
      const answer = yield* Deferred.make<boolean, TransportError>()
      let reached: number | undefined
      let draining = 0
      /** Nobody is left who could give another answer. */
      const concludeIfNobody = () => {
        if (reached !== undefined && reached <= draining && transport.capabilities.receivers === "exact") {
          Deferred.doneUnsafe(answer, Effect.succeed(false))
        }
      }
      yield* transport.subscribe({ _tag: "Channel", channel: inbox }, (frame) => {
        const raw = Codec.parse(frame, transport.capabilities.maxFrameBytes)
        if (raw instanceof Codec.Malformed) return
        if (!isDraining(Envelope.readReply(raw))) return Deferred.doneUnsafe(answer, Effect.succeed(true))
        draining++
        concludeIfNobody()
      })
      const head = Envelope.requestHead({ action, service, replyTo: inbox })
      const request = Envelope.writeRequest(
        head,
        "probe",
        {},
        {
          v: 1,
          timeout_ms: answerMillis,
          headers: undefined,
          attempt: undefined
        }
      )
      transport.send(Channels.service(transport.prefix, service), request, (error, receivers) => {
        if (error !== undefined) return Deferred.doneUnsafe(answer, Effect.fail(error))
        reached = receivers
        concludeIfNobody()
      })
      const heard = yield* Effect.timeoutOption(Deferred.await(answer), answerMillis)
      return Option.getOrElse(heard, () => draining === 0 && reached !== undefined && reached > 0)
    })
  )

const isDraining = ({ ok, payload }: Envelope.Reply) => {
  if (ok || typeof payload !== "object" || payload === null || !("reason" in payload)) return false
  const reason = Reason.decode(payload.reason)
  return Option.isSome(reason) && reason.value._tag === "Draining"
}

const every: Schedule.Schedule<unknown> = Schedule.jittered(Schedule.spaced("500 millis"))

// What is wrong here does not mend by waiting.
const hopeless: ReadonlySet<string> = new Set(["PermissionDenied", "AuthenticationFailed", "InvalidOptions", "Closed"])

/** Probes until somebody is there. What a new attempt cannot mend is told at once. */
export const awaited = (
  service: string,
  timeout: Duration.Input,
  schedule: Schedule.Schedule<unknown> = every
): Effect.Effect<void, DependencyMissing, Transport> =>
  Effect.suspend(() => {
    let error: TransportError | undefined
    const missing = () =>
      new DependencyMissing({
        service,
        waitedMillis: Duration.toMillis(Duration.fromInputUnsafe(timeout)),
        ...(error === undefined ? {} : { error })
      })
    return probe(service).pipe(
      Effect.tapError((failure) => Effect.sync(() => (error = failure))),
      Effect.flatMap((there) => {
        error = undefined
        return there ? Effect.void : Effect.fail("NotYet" as const)
      }),
      Effect.retry({
        while: (failure) => failure === "NotYet" || !hopeless.has(failure.kind),
        schedule
      }),
      Effect.mapError(missing),
      Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(missing()) })
    )
  })
