/** A memory transport that does to each frame what a script says, in the order of the frames. */
import { Effect, Layer } from "effect"
import { Memory, Transport } from "fiberbus"

/** What becomes of one frame. */
export type Fate =
  /** It arrives. */
  | "arrives"
  /** It is lost on the way, and nobody is told. */
  | "lost"
  /** It never left: the sending fails and says so. */
  | "refused"
  /** It arrives, but the sending fails, and nobody knows whether it was sent. */
  | "unconfirmed"
  /** It is lost, the sending fails, and nobody knows whether it was sent. */
  | "broken"
  /** It is lost, as nobody is there. */
  | "unheard"
  /** It arrives twice. */
  | "twice"
  /** It arrives this much later. */
  | { readonly millis: number }

export interface Script {
  /** What becomes of a frame sent to a service, by how many went there before it. Default: it arrives. */
  readonly request?: (index: number, frame: Record<string, any>) => Fate | undefined
  /** The same for what a caller says about a request on its way. */
  readonly control?: (index: number, frame: Record<string, any>) => Fate | undefined
  /** The same for frames sent to an inbox. */
  readonly reply?: (index: number, frame: Record<string, any>) => Fate | undefined
}

export interface Scripted {
  readonly layer: Layer.Layer<Transport.Transport>
  /** Requests that left, as they were written; what a caller said about them is in `controls`. */
  readonly requests: Array<Record<string, any>>
  readonly controls: Array<Record<string, any>>
}

const failed = (sent: "no" | "unknown") =>
  new Transport.TransportError({
    kind: sent === "no" ? "Unreachable" : "Timeout",
    operation: "send",
    detail: "by the script",
    hint: "",
    sent
  })

/** Makes one, with an account of what was sent. */
export const make = (script: Script): Scripted => {
  const requests: Array<Record<string, any>> = []
  const controls: Array<Record<string, any>> = []
  const layer = Layer.effect(
    Transport.Transport,
    Effect.map(Effect.context<never>(), (context) => {
      const inner = Memory.make()
      const runFork = Effect.runForkWith(context)
      let replies = 0
      let asked = 0
      const ignore = () => {}
      const fateOf = (frame: Record<string, any>): Fate => {
        if (frame["status"] !== undefined) return script.reply?.(replies++, frame) ?? "arrives"
        if (frame["action"] === undefined) {
          controls.push(frame)
          return script.control?.(controls.length - 1, frame) ?? "arrives"
        }
        const fate = script.request?.(asked++, frame) ?? "arrives"
        if (fate !== "refused") requests.push(frame)
        return fate
      }
      const send: Transport.Transport["Service"]["send"] = (channel, text, sent) => {
        if (isPresence(JSON.parse(text))) return inner.send(channel, text, sent)
        const fate = fateOf(JSON.parse(text))
        switch (fate) {
          case "arrives":
            return inner.send(channel, text, sent)
          case "lost":
            return sent(undefined, 1)
          case "unheard":
            return sent(undefined, 0)
          case "refused":
            return sent(failed("no"), 0)
          case "broken":
            return sent(failed("unknown"), 0)
          case "unconfirmed":
            inner.send(channel, text, ignore)
            return sent(failed("unknown"), 0)
          case "twice":
            inner.send(channel, text, sent)
            return inner.send(channel, text, ignore)
          default:
            sent(undefined, 1)
            runFork(
              Effect.andThen(
                Effect.sleep(fate.millis),
                Effect.sync(() => inner.send(channel, text, ignore))
              )
            )
        }
      }
      return { ...inner, send }
    })
  )
  return { layer, requests, controls }
}

/** True for a word about which processes serve: the script is about requests and answers. */
export const isPresence = ({ fiberbus, status }: Record<string, any>): boolean =>
  status === undefined && ["who", "here", "gone", "probe", "up"].some((name) => fiberbus?.[name] !== undefined)

/** Lets real turns of the event loop pass, in which frames travel. */
export const turns = (count = 10) =>
  Effect.forEach(
    Array.from({ length: count }),
    () => Effect.promise(() => new Promise((resolve) => setImmediate(resolve))),
    { discard: true }
  )
