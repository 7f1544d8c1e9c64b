/** Runs the command line in this process, against a broker in memory and streams that the test holds. */
import { NodeServices } from "@effect/platform-node"
import {
  type Cause,
  ConfigProvider,
  Console,
  Effect,
  Layer,
  PlatformError,
  Queue,
  Sink,
  Stdio,
  Stream,
  Terminal
} from "effect"
import { Durable, Memory, type Transport } from "fiberbus"
import * as Cli from "../../src/cli/Cli.ts"
import { ExitStatus, WhenInterrupted } from "../../src/cli/ExitStatus.ts"
import * as RedisOption from "../../src/cli/RedisOption.ts"
import type * as RedisPubSub from "../../src/transport/RedisPubSub.ts"

export interface Options {
  readonly stdin?: string | Uint8Array
  readonly env?: Record<string, string>
  readonly connect?: (options: RedisPubSub.Options) => Layer.Layer<Transport.Transport, Transport.TransportError>
  /** Runs before each write to stdout. */
  readonly onStdout?: Effect.Effect<void, PlatformError.PlatformError>
  /** Keys that are pressed. */
  readonly keys?: Queue.Dequeue<Terminal.UserInput, Cause.Done>
}

/** A place to run commands, on a broker of its own. */
export const make = () => {
  const broker = Memory.makeBroker()
  const durable = Durable.onStore(Durable.makeStore(() => 0))
  return {
    /** What services and the test itself use. */
    layer: Layer.fresh(Memory.layerOptions({ broker })),
    durable: Layer.succeed(Durable.Durable, durable),
    start: (args: ReadonlyArray<string>, options: Options = {}) => start(broker, durable, args, options),
    run: (args: ReadonlyArray<string>, options: Options = {}) =>
      Effect.gen(function* () {
        const started = start(broker, durable, args, options)
        const status = yield* started.status
        return { status, stdout: started.stdout(), stderr: started.stderr() }
      })
  }
}

const start = (
  broker: Memory.Broker,
  durable: Durable.Durable["Service"],
  args: ReadonlyArray<string>,
  options: Options
) => {
  const whenInterrupted: { status: number } = { status: ExitStatus.interrupted }
  const out = makeSink(options.onStdout ?? Effect.void)
  const err = makeSink(Effect.void)
  const stdin = options.stdin ?? ""
  const stdio = Stdio.layerTest({
    stdin: Stream.make(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin),
    stdout: () => out.sink,
    stderr: () => err.sink
  })
  const terminal = Layer.effect(
    Terminal.Terminal,
    Effect.map(Terminal.Terminal, (own) =>
      options.keys === undefined ? own : { ...own, readInput: Effect.succeed(options.keys) }
    )
  )
  const forbidden = (...values: ReadonlyArray<unknown>) => {
    throw new Error(`console was used: ${values.join(" ")}`)
  }
  return {
    status: Cli.run(args, "1.2.3").pipe(
      Effect.provideService(WhenInterrupted, whenInterrupted),
      Effect.provideService(
        RedisOption.Connect,
        options.connect ?? (({ prefix }) => Memory.layerOptions({ broker, prefix: prefix ?? "" }))
      ),
      Effect.provideService(RedisOption.ConnectDurable, () => Layer.succeed(Durable.Durable, durable)),
      Effect.provideService(Console.Console, { ...console, log: forbidden, error: forbidden }),
      Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: options.env ?? {} }))),
      Effect.provide(stdio),
      Effect.provide(terminal),
      Effect.provide(NodeServices.layer)
    ),
    stdout: out.text,
    stderr: err.text,
    /** Waits for the next line. */
    nextOut: Queue.take(out.lines),
    nextErr: Queue.take(err.lines),
    /** What the process would end with after a signal. */
    whenInterrupted
  }
}

const makeSink = (before: Effect.Effect<void, PlatformError.PlatformError>) => {
  const lines = Effect.runSync(Queue.unbounded<string>())
  let text = ""
  const write = (chunk: string | Uint8Array) =>
    Effect.andThen(
      before,
      Effect.sync(() => {
        const part = typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk)
        text += part
        for (const line of part.split("\n").slice(0, -1)) Queue.offerUnsafe(lines, line)
      })
    )
  return { lines, text: () => text, sink: Sink.forEach(write) }
}

/** A platform's error for a write that failed. */
export const writeFailed = (code: string) =>
  PlatformError.systemError({
    module: "Stdio",
    method: "stdout",
    _tag: "Unknown",
    cause: Object.assign(new Error(`write ${code}`), { code })
  })
