/**
 * What a call costs within fiberbus alone, the caller's path and the service's apart: CPU time and bytes allocated, without a broker and without sockets.
 *
 * `node bench/paths.ts [--rounds 5] [--calls 300000] [--in-flight 100] [--only client,server] [--other <folder>]`. Frames go in packs, as over Redis,
 * through a transport that answers or asks with texts of its own; `client-floor` and `server-floor` are the same without fiberbus: what that costs, and a
 * plain `JSON.parse` and `JSON.stringify`. Each figure is that of a fresh process; `--other` is the root of another clone, whose processes have their turns
 * in between. Its `node_modules` should be a link to ours. `--path client --allocations` says which functions the bytes are of, by samples, in one process.
 */
import { spawnSync } from "node:child_process"
import * as Inspector from "node:inspector/promises"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Payload from "./Payload.ts"
import { median } from "./Results.ts"
import * as schemas from "./schemas.ts"

const here = Path.join(import.meta.dirname, "..")
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    calls: { type: "string", default: "300000" },
    "in-flight": { type: "string", default: "100" },
    only: { type: "string", default: "client,client-floor,server,server-floor,listeners" },
    other: { type: "string", multiple: true, default: [] },
    /** Of a child: what it measures, and with whose sources. */
    path: { type: "string" },
    root: { type: "string", default: here },
    allocations: { type: "boolean", default: false },
    /** Folder for a CPU profile of each child. */
    profile: { type: "string" }
  }
})
const calls = Number(options.calls)
const inFlight = Number(options["in-flight"])

const sources = async () => {
  const file = (name: string) => import(pathToFileURL(Path.join(options.root, "src", name)).href)
  return {
    bus: (await file("index.ts")) as typeof import("../src/index.ts"),
    Presence: (await file("wire/Presence.ts")) as typeof import("../src/wire/Presence.ts"),
    Packer: (await file("transport/internal/Packer.ts")) as typeof import("../src/transport/internal/Packer.ts")
  }
}
type Sources = Awaited<ReturnType<typeof sources>>
type Transport = import("../src/transport/Transport.ts").Transport["Service"]
type Receive = import("../src/transport/Transport.ts").Receive
type Sent = import("../src/transport/Transport.ts").Sent

const maxPack = 64
const answer = Payload.make(12_345)

/** A transport that gives what is sent to a function, in packs where it may, and brings what it is told to. */
const open = ({ Packer }: Sources, publish: (channel: string, frame: string) => void) => {
  const receivers = new Map<string, Receive>()
  let confirms: Array<Sent> = []
  // As over a socket: on a later turn, those of a turn together.
  const confirm = () => {
    const all = confirms
    confirms = []
    for (const sent of all) sent(undefined, 1)
  }
  const send = (channel: string, frame: string, sent: Sent) => {
    if (confirms.length === 0) setImmediate(confirm)
    confirms.push(sent)
    publish(channel, frame)
  }
  const packer = new Packer.Packer(
    (channel, frame, _bytes, sent) => send(channel, frame, sent),
    (_, defect) => {
      throw defect
    }
  )
  const transport: Transport = {
    name: "paths",
    prefix: "",
    capabilities: {
      delivery: "at-most-once",
      receivers: "exact",
      ordered: true,
      patterns: true,
      maxFrameBytes: 1_048_576,
      packs: true
    },
    send: (channel, frame, sent, pack = false) =>
      pack ? packer.add(channel, frame, sent) : send(channel, frame, sent),
    subscribe: (target, receive): Effect.Effect<void, never, Scope.Scope> =>
      Effect.sync(() => void receivers.set(target._tag === "Channel" ? target.channel : target.pattern, receive)),
    state: { _tag: "Ready", gaps: 0 },
    watch: () => () => {},
    whileDown: undefined
  }
  return { receivers, transport, deliver: (channel: string, frame: string) => receivers.get(channel)!(frame, channel) }
}

/** One string in one piece, as what a socket brings. */
const flat = (text: string) => Buffer.from(text, "latin1").toString("latin1")

const idKey = '"request_id":"'
const beginOfAnswer = `{"status":"success","payload":${JSON.stringify(answer)},"request_id":"`

/** Answers to all requests of a pack, in a pack. */
const answersTo = (pack: string): string => {
  let answers = ""
  for (let at = pack.indexOf(idKey); at >= 0; at = pack.indexOf(idKey, at)) {
    at += idKey.length
    answers += `${answers === "" ? "[" : ","}${beginOfAnswer}${pack.slice(at, pack.indexOf('"', at))}","final":true}`
  }
  return flat(`${answers}]`)
}

/** Does what is measured so many times over. */
type Work = (calls: number) => Promise<void>

/** Calls one after the other in so many lanes. */
const client = async (sources: Sources): Promise<Work> => {
  const { bus, Presence } = sources
  class Echo extends bus.Service.make(
    "echo",
    bus.Action.make("echo", { payload: schemas.payload, success: schemas.payload })
  ) {}
  const announcement = Presence.write({ _tag: "Here", by: "replica-1", actions: undefined, pack: maxPack })
  let inbox = ""
  const { deliver, receivers, transport } = open(sources, (channel, frame) => {
    if (frame.includes('"who":true')) {
      return void setImmediate(() => deliver([...receivers.keys()].find((name) => name !== inbox)!, announcement))
    }
    if (!channel.includes("replica-1")) throw new Error(`sent to ${channel}: ${frame}`)
    const answers = answersTo(frame)
    setImmediate(() => deliver(inbox, answers))
  })
  return new Promise((resolve, reject) => {
    const program = Effect.gen(function* () {
      const echo = yield* bus.Caller.make(Echo)
      inbox = [...receivers.keys()].find((name) => !name.includes("echo"))!
      yield* Effect.sleep(100)
      let begun = 0
      const lane = Effect.fnUntraced(function* (calls: number) {
        while (begun < calls) {
          const { id, tags } = yield* echo.echo(Payload.make(begun++))
          if (id !== answer.id || tags.length !== 3) throw new Error(`answered with ${id}`)
        }
      })
      resolve((calls) => {
        begun = 0
        return Effect.runPromise(
          Effect.forEach(Array.from({ length: inFlight }), () => lane(calls), {
            concurrency: "unbounded",
            discard: true
          })
        )
      })
      return yield* Effect.never
    })
    Effect.runPromise(Effect.provide(Effect.scoped(program), Layer.succeed(bus.Transport.Transport, transport))).catch(
      reject
    )
  })
}

/** The same by hand: a Map of what is pending, promises, one string per request and turn. */
const clientFloor = async (): Promise<Work> => {
  const pending = new Map<string, (answer: any) => void>()
  let requests: Array<string> = []
  const flush = () => {
    const all = requests
    requests = []
    for (let at = 0; at < all.length; at += maxPack) {
      const answers = answersTo(flat(`[${all.slice(at, at + maxPack).join(",")}]`))
      setImmediate(() => {
        for (const { payload, request_id } of JSON.parse(answers)) {
          const resolve = pending.get(request_id)!
          pending.delete(request_id)
          resolve(payload)
        }
      })
    }
  }
  let count = 0
  const call = (payload: Payload.Payload) =>
    new Promise<Payload.Payload>((resolve) => {
      const id = `7e1f5a0c-${++count}`
      pending.set(id, resolve)
      if (requests.length === 0) process.nextTick(flush)
      requests.push(JSON.stringify({ action: "echo", service: "echo", reply_to: "inbox", payload, request_id: id }))
    })
  return async (calls) => {
    let begun = 0
    const lane = async () => {
      while (begun < calls) {
        const { id, tags } = await call(Payload.make(begun++))
        if (id !== answer.id || tags.length !== 3) throw new Error(`answered with ${id}`)
      }
    }
    await Promise.all(Array.from({ length: inFlight }, lane))
  }
}

/** So many requests in packs, each with its own id and payload. */
const asking = (replyTo: string, count: number): ReadonlyArray<string> => {
  const packs: Array<string> = []
  for (let at = 0; at < count; at += Math.min(inFlight, maxPack)) {
    const requests = Array.from({ length: Math.min(inFlight, maxPack, count - at) }, (_, index) =>
      JSON.stringify({
        action: "echo",
        service: "echo",
        reply_to: replyTo,
        payload: Payload.make(at + index),
        request_id: `0f0f62a4-8a6e-4a0c-9b8e-5c7a4d3f2e1d-${(at + index).toString(36)}`,
        fiberbus: { v: 1, timeout_ms: 5000, packs: maxPack }
      })
    )
    packs.push(flat(`[${requests.join(",")}]`))
  }
  return packs
}

const countIn = (pack: string) => {
  let count = 0
  for (let at = pack.indexOf('"success"'); at >= 0; at = pack.indexOf('"success"', at + 1)) count++
  return count
}

/** Brings packs of requests, turn by turn, and counts the answers. */
const bringing =
  (packs: ReadonlyArray<string>, bring: (pack: string) => void, answers: { count: number }): Work =>
  async (calls) => {
    answers.count = 0
    for (let at = 0; answers.count < calls; at++) {
      // A string of its own each time, as a socket's.
      for (let i = 0; i < Math.ceil(inFlight / maxPack); i++) bring(flat(packs[(2 * at + i) % packs.length]!))
      await new Promise((resolve) => setImmediate(resolve))
      if (answers.count === 0 && at > 100) throw new Error("there are no answers")
    }
  }

const server = async (sources: Sources): Promise<Work> => {
  const { bus } = sources
  class Echo extends bus.Service.make(
    "echo",
    bus.Action.make("echo", { payload: schemas.payload, success: schemas.payload })
  ) {}
  const answers = { count: 0 }
  const { deliver, receivers, transport } = open(sources, (_, frame) => {
    answers.count += countIn(frame)
  })
  const EchoLive = bus.Handlers.layer(Echo, { echo: (payload) => Effect.succeed(payload) })
  const standing = Layer.effectDiscard(
    Effect.sync(() => {
      const own = [...receivers.keys()].find((name) => /echo.*-/.test(name))!
      ready(
        bringing(asking("caller:0f0f62a4-8a6e-4a0c-9b8e-5c7a4d3f2e1d", 20_000), (pack) => deliver(own, pack), answers)
      )
    })
  )
  let ready: (work: Work) => void = () => {}
  return new Promise((resolve, reject) => {
    ready = resolve
    const all = Layer.merge(EchoLive, Layer.provide(standing, EchoLive))
    Effect.runPromise(Layer.launch(Layer.provide(all, Layer.succeed(bus.Transport.Transport, transport)))).catch(reject)
  })
}

/** Ten listeners to one topic, whose handlers note the message: the cost is that of one delivery. */
const listeners = async (sources: Sources): Promise<Work> => {
  const { bus } = sources
  const Happened = bus.Topic.make("happened", schemas.payload)
  const answers = { count: 0 }
  const { deliver, transport } = open(sources, () => {})
  const listener = () =>
    bus.Listener.layer(Happened, ({ tags }) =>
      Effect.sync(() => {
        if (tags.length !== 3) throw new Error("heard something else")
        answers.count++
      })
    )
  const all = Layer.mergeAll(listener(), ...Array.from({ length: 9 }, listener))
  const packs = Array.from({ length: 200 }, (_, at) =>
    flat(JSON.stringify(Array.from({ length: maxPack }, (_, index) => Payload.make(at * maxPack + index))))
  )
  return new Promise((resolve, reject) => {
    const ready = Layer.effectDiscard(
      Effect.sync(() => resolve(bringing(packs, (pack) => deliver("happened", pack), answers)))
    )
    const standing = Layer.merge(all, Layer.provide(ready, all))
    Effect.runPromise(Layer.launch(Layer.provide(standing, Layer.succeed(bus.Transport.Transport, transport)))).catch(
      reject
    )
  })
}

const serverFloor = async (): Promise<Work> => {
  const answers = { count: 0 }
  const echo = async (payload: Payload.Payload) => payload
  let replies: Array<string> = []
  const flush = () => {
    const all = replies
    replies = []
    for (let at = 0; at < all.length; at += maxPack) {
      answers.count += countIn(flat(`[${all.slice(at, at + maxPack).join(",")}]`))
    }
  }
  const take = async ({ payload, request_id }: any) => {
    const answer = await echo(payload)
    if (replies.length === 0) setImmediate(flush)
    replies.push(JSON.stringify({ status: "success", payload: answer, request_id, final: true }))
  }
  return bringing(
    asking("inbox", 20_000),
    (pack) => {
      for (const request of JSON.parse(pack)) take(request)
    },
    answers
  )
}

const paths: Record<string, (sources: Sources) => Promise<Work>> = {
  client,
  "client-floor": clientFloor,
  server,
  listeners,
  "server-floor": serverFloor
}

/** What one process found, per call. */
interface Cost {
  readonly micros: number
  readonly bytes: number
}

const cost = async (path: string): Promise<Cost> => {
  const work = await paths[path]!(await sources())
  await work(calls / 3)
  const before = process.cpuUsage()
  await work(calls)
  const { system, user } = process.cpuUsage(before)
  // With a young generation that holds them all nothing is collected meanwhile.
  const few = 10_000
  globalThis.gc!()
  const { heapUsed } = process.memoryUsage()
  await work(few)
  return { micros: (user + system) / calls, bytes: (process.memoryUsage().heapUsed - heapUsed) / few }
}

/** Bytes per call by function, of what was alive and of what was not. */
const allocations = async (path: string): Promise<string> => {
  const work = await paths[path]!(await sources())
  await work(calls / 3)
  const session = new Inspector.Session()
  session.connect()
  await session.post("HeapProfiler.startSampling", {
    samplingInterval: 4_096,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true
  })
  await work(calls)
  const { profile } = await session.post("HeapProfiler.stopSampling")
  const bytes = new Map<string, number>()
  const add = ({ callFrame, children, selfSize }: Inspector.HeapProfiler.SamplingHeapProfileNode) => {
    const { functionName, lineNumber, url } = callFrame
    const name = `${functionName || "(anonymous)"} ${Path.basename(url)}:${lineNumber + 1}`
    bytes.set(name, (bytes.get(name) ?? 0) + selfSize)
    for (const child of children) add(child)
  }
  add(profile.head)
  const lines = [...bytes].sort(([, a], [, b]) => b - a).map(([name, of]) => [Math.round(of / calls), name] as const)
  const all = [...bytes.values()].reduce((sum, of) => sum + of, 0)
  return [
    `${Math.round(all / calls)} bytes per call`,
    ...lines.slice(0, 60).map(([of, name]) => `${of}\t${name}`)
  ].join("\n")
}

const measured = (path: string, root: string): Cost => {
  // One to count the bytes in, as its young generation takes all; one with the usual one for the time.
  const run = (...flags: ReadonlyArray<string>): Cost => {
    const { status, stderr, stdout } = spawnSync(
      process.execPath,
      [
        ...flags,
        "--expose-gc",
        import.meta.filename,
        "--path",
        path,
        "--root",
        root,
        "--calls",
        options.calls,
        "--in-flight",
        options["in-flight"]
      ],
      { encoding: "utf8", timeout: 300_000, env: { ...process.env, NODE_ENV: "production" } }
    )
    if (status !== 0) throw new Error(`${path} of ${root} failed:\n${stderr}`)
    return JSON.parse(stdout)
  }
  const profile = options.profile === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", options.profile]
  const { micros } = run(...profile)
  return { micros, bytes: run("--max-semi-space-size=512", "--min-semi-space-size=512").bytes }
}

if (options.path !== undefined) {
  if (options.allocations) {
    console.log(await allocations(options.path))
    process.exit(0)
  }
  console.log(JSON.stringify(await cost(options.path)))
  process.exit(0)
}
const names = options.only.split(",")
const roots = [here, ...options.other.map((folder) => Path.resolve(folder))]
const found = new Map<string, Array<Cost>>()
for (let round = 0; round < Number(options.rounds); round++) {
  for (const path of names) {
    for (const root of round % 2 === 0 ? roots : roots.toReversed()) {
      const key = `${path}${root === here ? "" : `@${Path.basename(root)}`}`
      found.set(key, [...(found.get(key) ?? []), measured(path, root)])
    }
  }
}
console.log(`per call, ${inFlight} in flight: median (least to most) of ${options.rounds}\n`)
for (const [key, costs] of [...found].sort(([a], [b]) => a.localeCompare(b))) {
  const of = (read: (cost: Cost) => number, digits: number) => {
    const values = costs.map(read)
    return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`
  }
  console.log(
    `${key.padEnd(22)} ${of(({ micros }) => micros, 2).padStart(22)} µs CPU ${of(({ bytes }) => bytes, 0).padStart(24)} bytes`
  )
}
