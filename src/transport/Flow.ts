/**
 * Shows the message flow: a line of the log for each frame that goes out or comes in. For debugging; where it is not provided it does
 * not exist.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Printable from "../wire/Printable.ts"
import * as Reading from "../wire/Reading.ts"
import * as Optional from "./Optional.ts"
import { type Frame, type Sent, Transport } from "./Transport.ts"

/** @see {@link layer} */
export interface Options {
  /** Show the frames themselves, cut to 1,000 characters. Default false: payloads may be nobody's business. */
  readonly payloads?: boolean
}

/** Longest frame that is shown, in characters. */
export const maxShown = 1_000

/**
 * Wraps the Transport below it: `Flow.layer().pipe(Layer.provide(Memory.layer))`.
 *
 * Shape: for each frame the direction, the channel, what it is in the words of `fiberbus tap` (`request get_user`, `reply success`, `control
 * cancel`, `message`), its id and its bytes; for one that went out (`→`) a second line with the receivers (`✓`) or the error (`✗`). At level Debug, and
 * shown whatever the minimum level is: the Layer is the switch.
 */
export const layer = (options?: Options): Layer.Layer<Transport, never, Transport> =>
  Layer.effect(
    Transport,
    Effect.gen(function* () {
      const transport = yield* Transport
      const runFork = Effect.runForkWith(yield* Effect.context<never>())
      const say: Say = (line, frame) => {
        const shown = options?.payloads === true && frame !== undefined ? ` ${shorten(frame)}` : ""
        runFork(Effect.provideService(Effect.logDebug(`fiberbus ${line}${shown}`), References.MinimumLogLevel, "Debug"))
      }
      return wrap(transport, say)
    })
  )

/**
 * The same where the environment asks for it: `FIBERBUS_FLOW` is `frames` or `payloads`. Unset, empty or `off`, it is the Transport
 * below, unwrapped.
 *
 * Errors: `ConfigError` for anything else.
 */
export const layerConfig: Layer.Layer<Transport, Config.ConfigError, Transport> = Layer.unwrap(
  Effect.map(
    Config.Literals(["", "off", "frames", "payloads"], "FIBERBUS_FLOW").pipe(Config.withDefault("off")),
    (flow) => (flow === "" || flow === "off" ? unchanged : layer({ payloads: flow === "payloads" }))
  )
)

const unchanged = Layer.effect(Transport, Transport)

type Say = (line: string, frame: Frame | undefined) => void

const wrap = (transport: Transport["Service"], say: Say): Transport["Service"] => ({
  name: transport.name,
  prefix: transport.prefix,
  capabilities: transport.capabilities,
  get state() {
    return transport.state
  },
  watch: transport.watch,
  whileDown: transport.whileDown,
  ...Optional.of(transport),
  send: (channel, frame, sent, pack) => {
    const what = `${Printable.word(channel)} ${describe(frame, transport.capabilities.maxFrameBytes)}`
    // Before it is sent: what it brings about comes after it.
    say(`→ ${what}`, frame)
    const told: Sent = (error, receivers) => {
      say(error === undefined ? `✓ ${what}, ${receivers} received it` : `✗ ${what}, ${error.kind}`, undefined)
      sent(error, receivers)
    }
    transport.send(channel, frame, told, pack)
  },
  subscribe: (target, receive) =>
    transport.subscribe(target, (frame, channel) => {
      const { maxFrameBytes } = transport.capabilities
      for (const one of Reading.split(frame, maxFrameBytes)) {
        say(`← ${Printable.word(channel)} ${describe(one, maxFrameBytes)}`, one)
      }
      receive(frame, channel)
    })
})

const describe = (frame: Frame, maxFrameBytes: number): string => {
  const { id, kind, what } = Reading.read(frame, maxFrameBytes)
  const words = [what, id].filter((text) => text !== "-").map((text) => ` ${Printable.word(Printable.cut(text, 64))}`)
  return `${kind}${words.join("")}, ${Reading.size(frame)} bytes`
}

const shorten = (frame: Frame) => {
  const text = typeof frame === "string" ? frame : Buffer.from(frame).toString()
  return Printable.line(Printable.cut(text, maxShown))
}
