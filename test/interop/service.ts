/**
 * A service that speaks with whoever speaks Daebus: `npm run -s interop-service -- NAME [--redis URL]`.
 *
 * Serves plain JSON over Redis pub/sub, prints `READY NAME` once it would answer, and ends on SIGTERM. Logs go to stderr.
 */
import { createHash } from "node:crypto"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit, Layer, Logger, Runtime, Schedule, Schema } from "effect"
import { Action, Broadcast, Handlers, Listener, Request, Response, Service, Topic } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const { positionals, values } = parseArgs({ allowPositionals: true, options: { redis: { type: "string" } } })
const name = positionals[0]
if (name === undefined) {
  console.error("usage: npm run -s interop-service -- NAME [--redis URL]")
  process.exit(2)
}
const url = values.redis ?? process.env["REDIS_URL"] ?? "redis://127.0.0.1:6379"

// Plain JSON in and out: what it holds is the business of the handlers.
const json = { payload: Schema.Any, success: Schema.Any }
const Interop = Service.make(
  name,
  Action.make("echo", json),
  Action.make("add", { payload: { a: Schema.Finite, b: Schema.Finite }, success: { sum: Schema.Finite } }),
  Action.make("error", { payload: { message: Schema.String }, success: Schema.Any }),
  Action.make("raise", { payload: { message: Schema.String } }),
  Action.make("no_reply", json),
  Action.make("slow", { payload: { seconds: Schema.Finite }, success: { slept: Schema.Finite } }),
  Action.make("large", { payload: { size: Schema.Natural }, success: Schema.Any }),
  Action.make("digest", { payload: { data: Schema.String }, success: Schema.Any }),
  Action.make("unicode", { payload: { text: Schema.String }, success: Schema.Any }),
  Action.make("meta", json),
  Action.make("stream", {
    payload: { count: Schema.Natural, pause: Schema.Finite.pipe(Schema.optionalKey) },
    success: Schema.Any
  }),
  Action.make("stream_error", json),
  Action.make("soft_error", json),
  Action.make("progress_legacy", json),
  Action.make("double", json),
  Action.make("note", json),
  Action.make("get_note", { payload: { key: Schema.String }, success: Schema.Any })
)

const Anything = Schema.Record(Schema.String, Schema.Any)
const In = Topic.make(`${name}.in`, Anything)
const Out = Topic.make(`${name}.out`, { by: Schema.String, got: Anything })
const Ask = Topic.make(`${name}.ask`, Anything)

const seconds = (value: number) => Math.max(0, value) * 1_000
const sha256 = (text: string) => createHash("sha256").update(text, "utf8").digest("hex")
const partial = { final: false }

interface Note {
  readonly raw: unknown
  readonly payload: unknown
}
const notes = new Map<string, Note>()
const maxNotes = 10_000

const Actions = Handlers.layer(
  Interop,
  {
    echo: (payload) => Effect.succeed(payload),
    add: ({ a, b }) => Effect.succeed({ sum: a + b }),
    error: ({ message }) => Response.error(message),
    raise: ({ message }) => Effect.die(new Error(message)),
    no_reply: () => Effect.succeed(Response.sent),
    slow: ({ seconds: slept }) => Effect.as(Effect.sleep(seconds(slept)), { slept }),
    large: ({ size }) =>
      Effect.sync(() => {
        const data = "0123456789abcdef".repeat(Math.ceil(size / 16)).slice(0, size)
        return { size, data, sha256: sha256(data) }
      }),
    digest: ({ data }) => Effect.sync(() => ({ chars: Array.from(data).length, sha256: sha256(data) })),
    unicode: ({ text }) =>
      Effect.sync(() => ({ text, codepoints: Array.from(text).length, utf8_bytes: Buffer.byteLength(text) })),
    meta: () =>
      Effect.map(Request.current, ({ action, raw, service }) => ({
        service: raw["service"] ?? service,
        action,
        reply_to_is_string: typeof raw["reply_to"] === "string",
        request_id_is_string: typeof raw["request_id"] === "string",
        keys: Object.keys(raw).sort()
      })),
    stream: Effect.fnUntraced(function* ({ count, pause = 0 }) {
      for (let step = 1; step <= count; step++) {
        yield* Response.send({ step, of: count }, partial)
        if (step < count) yield* Effect.sleep(seconds(pause))
      }
      return { done: true, count }
    }),
    stream_error: () => Effect.andThen(Response.send({ step: 1 }, partial), Response.error("stream broke")),
    soft_error: () => Effect.as(Response.error("a warning, not the end", partial), { done: true }),
    progress_legacy: () =>
      Effect.as(Response.send({ stage: "half", progress_percentage: 50 }, partial), { done: true }),
    double: Effect.fnUntraced(function* () {
      yield* Response.send({ answer: 1 })
      yield* Effect.sleep("150 millis")
      // The bus refuses a second final answer: the attempt dies here, and the caller never sees it.
      yield* Effect.exit(Response.send({ answer: 2 }))
      return Response.sent
    }),
    note: Effect.fnUntraced(function* () {
      const { payload, raw } = yield* Request.current
      // As Daebus' handlers see it: fields beside the action are in the raw message only.
      const seen = raw["payload"] === undefined ? {} : payload
      const key = keyOf(seen) ?? keyOf(raw)
      if (key !== undefined) {
        notes.delete(key)
        notes.set(key, { raw, payload: seen })
        if (notes.size > maxNotes)
          for (const oldest of notes.keys()) {
            notes.delete(oldest)
            break
          }
      }
      return { noted: key !== undefined }
    }),
    get_note: ({ key }) =>
      Effect.suspend(() => {
        const note = notes.get(key)
        return note === undefined ? Effect.fail("not yet" as const) : Effect.succeed(note)
      }).pipe(
        Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "1 second" }))),
        Effect.catch(() => Response.error(`no note under ${JSON.stringify(key)}`))
      )
  },
  // Whoever asks may be a test with a channel of its own, and large answers are asked for: hence more than the defaults allow.
  { replyTo: "any", unaddressed: "responses", backlog: 100_000 }
)

const keyOf = (value: unknown): string | undefined =>
  typeof value === "object" && value !== null && "key" in value && typeof value.key === "string" ? value.key : undefined

const Listeners = Layer.mergeAll(
  Listener.layer(In, (got) => Broadcast.publish(Out, { by: name, got }), { replyTo: "any" }),
  Listener.layer(Ask, () => Effect.flatMap(Request.current, ({ payload }) => Response.send({ heard: payload })), {
    replyTo: "any"
  })
)

const Ready = Layer.effectDiscard(Effect.sync(() => console.log(`READY ${name}`)))

const Main = Ready.pipe(
  Layer.provide(Layer.mergeAll(Actions, Listeners)),
  Layer.provide(RedisPubSub.layer({ url, maxFrameBytes: 64 * 1_048_576, maxBytesInFlight: 128 * 1_048_576 })),
  Layer.provideMerge(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]))
)

// A signal is the usual way to end this: status 0.
const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)

NodeRuntime.runMain(Layer.launch(Main), { teardown })
