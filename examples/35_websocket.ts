// WebSocket beside messages: frames of browsers become calls of actions, and what is broadcast goes to all who are connected.
import { createServer } from "node:http"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, PubSub, Queue, Schema } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Socket } from "effect/socket"
import { Action, Broadcast, Caller, Handlers, Listener, Memory, Service, Topic } from "fiberbus"

class Chat extends Service.make(
  "chat",
  Action.make("say", { payload: { by: Schema.String, text: Schema.String }, success: { length: Schema.Int } })
) {}
const Said = Topic.make("said", { by: Schema.String, text: Schema.String })

const ChatLive = Handlers.layer(Chat, {
  say: (line) => Effect.as(Effect.orDie(Broadcast.publish(Said, line)), { length: line.text.length })
})

// The form of Daebus' sockets: `{ type, data }` in, `{ type: "response" | "error", data }` out.
const Frame = Schema.fromJsonString(Schema.Struct({ type: Schema.String, data: Schema.Json }))
const read = Schema.decodeUnknownEffect(Frame)

const Sockets = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    const chat = yield* Caller.dynamic(Chat.serviceName)
    // Slow readers lose the oldest, instead of holding everything in memory.
    const lines = yield* PubSub.sliding<string>(64)
    yield* Layer.build(Listener.layer(Said, (data) => PubSub.publish(lines, JSON.stringify({ type: "said", data }))))

    const connection = Effect.gen(function* () {
      const socket = yield* HttpServerRequest.HttpServerRequest.use((request) => request.upgrade)
      const pull = yield* Socket.readerString(socket)
      const { write } = yield* socket.writer
      const heard = yield* PubSub.subscribe(lines)
      yield* Effect.forkScoped(Effect.forever(Effect.flatMap(PubSub.take(heard), write)))
      yield* write(JSON.stringify({ type: "response", data: "welcome" }))
      while (true) {
        for (const text of yield* pull) {
          const answer = yield* Effect.flatMap(read(text), ({ data, type }) => chat.call(type, data)).pipe(
            Effect.match({
              onSuccess: (data) => ({ type: "response", data }),
              onFailure: ({ message }) => ({ type: "error", data: { error: message } })
            })
          )
          yield* write(JSON.stringify(answer))
        }
      }
    })
    yield* router.add("GET", "/", Effect.as(Effect.ignore(Effect.scoped(connection)), HttpServerResponse.empty()))
  })
)

const Live = HttpRouter.serve(Sockets, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
  Layer.merge(ChatLive),
  Layer.provideMerge(Memory.layer)
)

/** A browser's side: its frames in a queue, and a way to send. */
const connect = HttpServer.addressFormattedWith((address) =>
  Effect.gen(function* () {
    const frames = yield* Queue.unbounded<string>()
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => new WebSocket(address.replace("http", "ws"))),
      (socket) => Effect.sync(() => socket.close())
    )
    socket.onmessage = ({ data }) => void Queue.offerUnsafe(frames, String(data))
    const next = Queue.take(frames)
    yield* next
    return {
      next,
      send: (type: string, data: object) => Effect.sync(() => socket.send(JSON.stringify({ type, data })))
    }
  })
)

const program = Effect.gen(function* () {
  const ann = yield* connect
  const bob = yield* connect
  yield* ann.send("say", { by: "Ann", text: "hello" })
  yield* Console.log(`bob  ${yield* bob.next}`)
  const [first, second] = [yield* ann.next, yield* ann.next].sort()
  yield* Console.log(`ann  ${first}`)
  yield* Console.log(`ann  ${second}`)
  yield* bob.send("shout", {})
  yield* Console.log(`bob  ${yield* bob.next}`)
})

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
