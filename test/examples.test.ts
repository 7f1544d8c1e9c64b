import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NatsServer from "../src/testing/NatsServer.ts"
import * as RedisClusterServer from "../src/testing/RedisClusterServer.ts"
import * as RedisServer from "../src/testing/RedisServer.ts"

const folder = fileURLToPath(new URL("../examples/", import.meta.url))

// What an example prints, line by line. A RegExp where the words are not the example's own.
const transcripts: Readonly<Record<string, ReadonlyArray<string | RegExp>>> = {
  "01_first_call.ts": ["Hello, Ada!"],
  "02_errors.ts": [
    "withdraw 30    { left: 70 }",
    "withdraw 150   50 missing, instanceof Overdrawn: true",
    /^withdraw -1 {4}bank\.withdraw: InvalidPayload, .*\["amount"\].* \(no\)$/,
    "tax report     nobody is there, told at once, started: no",
    "audit          no answer within 50 ms"
  ],
  "03_progress.ts": [
    "step    1 of 3",
    "step    2 of 3",
    "step    3 of 3",
    "result  3 rows imported",
    "step    1",
    "step    2",
    "step    3",
    "call    3 rows imported"
  ],
  "04_broadcast.ts": [
    "mail     Welcome, Ada!",
    "metrics  one more: Ada",
    "(reached 1 process, with two listeners)",
    "logger   sensors.kitchen: 21 degrees",
    "freezer  too warm",
    "logger   sensors.cellar: 4 degrees"
  ],
  "05_context.ts": [
    "documents.open for ada: found Plan",
    "documents.open for ada: rendered Plan",
    "documents.open for bob: found Bill",
    "documents.open for bob: rendered Bill",
    "outside of a handler: None"
  ],
  "06_dependencies.ts": ["total  1200 cents", "rate   19 percent"],
  "07_daebus_style.ts": [
    "service  answered, and goes on",
    "caller   Progress { percent: 50 }",
    "caller   Progress { percent: 100 }",
    "caller   Success { stored: '/files/notes.txt' }",
    "caller   RemoteError: will not store virus.exe"
  ],
  "08_dynamic.ts": [
    'Oslo   {"celsius":-4,"at":"1970-01-01T00:00:00.000Z"}',
    'stream {"_tag":"Progress","value":"asking the station"}',
    'stream {"_tag":"Success","value":{"celsius":-4,"at":"1970-01-01T00:00:00.000Z"}}',
    /^error .*"_tag":"NotFound","city":"Atlantis"/,
    /^refused weather\.now: InvalidPayload, .*\["city"\]/,
    /^refused weather\.tomorrow: UnknownAction, .*"tomorrow"/
  ],
  "09_shop.ts": [
    "A small shop, over memory",
    "",
    "Ada orders two mugs: a call, and a call below it",
    "   1           ada → orders         2 × mug, please, from card 4242",
    "   2        orders → payments       charge 24 euros to card 4242",
    "   3      payments → orders         charged, receipt r-1",
    "   4        orders ⇒ everyone       order_placed o-1",
    "   5        orders → ada            your order is o-1",
    "",
    "Everyone who listens hears of it: a broadcast",
    "   6  order_placed ⇒ mail           writes letter 1: thank you for o-1, Ada",
    "   7  order_placed ⇒ stock          takes 2 × mug off the shelf, 8 left",
    "",
    "Bob's card is declined: a declared error, the same class on every side",
    "   8           bob → orders         9 × mug, please, from card 1111",
    "   9        orders → payments       charge 108 euros to card 1111",
    "  10      payments → orders         CardDeclined: 108 euros are over the limit of card 1111",
    "  11        orders → bob            CardDeclined: 108 euros are over the limit of card 1111",
    "                                    (no order was placed, and nobody heard of it)",
    "",
    "Ada watches her parcel being packed: progress, then the result",
    "  12           ada → warehouse      pack o-1",
    "  13     warehouse → notifications  tell Ada that o-1 is being packed",
    "  14 notifications → warehouse      sent as letter 2",
    "  15     warehouse → ada            1 of 2 packed",
    "  16     warehouse → ada            2 of 2 packed",
    "  17     warehouse → ada            done, parcel p-o-1",
    "",
    "Ada sends it back, but nobody serves returns: told at once, not after a timeout",
    "  18           ada → returns        send back o-1",
    /^ {2}19 {6}fiberbus → ada {12}CallError: returns\.send_back: NoResponders, /,
    "                                    (started: no, so it is safe to try again)",
    "",
    /^The code is in examples\/shop\. /
  ],
  "10_redis.ts": ["over   memory (at-most-once)", "total  5"],
  "12_retries.ts": [
    "shop    opens",
    "shop    takes 250 cents",
    "pay     thank you",
    "shop    looks for the price of a mug, attempt 1",
    "shop    looks for the price of a mug, attempt 2",
    "price   250",
    "shop    takes 5000 cents",
    "pay     DeadlineExceeded, started: yes",
    "shop    looks for the price of a spoon, attempt 1",
    "price   no answer within 300 ms"
  ],
  "13_limits.ts": [
    "one oven, two cooks",
    "  bakes bread for table 1",
    "  cooks soup for table 2",
    "  bakes cake for table 1",
    "a table of many, and one of two",
    "  cooks soup for table 1",
    "  cooks fish for table 1",
    "  cooks rice for table 1",
    "  cooks plums for table 2",
    "  cooks eggs for table 1",
    "  cooks pears for table 2",
    "more than can wait, until there are more cooks",
    "  cooks dish 1 for table 1",
    "  cooks dish 2 for table 1",
    "  too busy for dish 7 for table 1",
    "  four more cooks come in",
    "  cooks dish 3 for table 1",
    "  cooks dish 4 for table 1",
    "  cooks dish 5 for table 1",
    "  cooks dish 6 for table 1"
  ],
  "14_tracing.ts": [
    "mug    thank you",
    "plate  no plate left",
    "shop.buy (client in browser)",
    "  shop.buy (server in shop)",
    "    stock.take (client in shop)",
    "      stock.take (server in stock)",
    "    tell the customer (internal in shop)",
    "      mail.write (client in shop)",
    "        mail.write (server in mail)",
    "shop.buy (client in browser)",
    "  shop.buy (server in shop)",
    "    stock.take (client in shop, failed)",
    "      stock.take (server in stock, failed)"
  ],
  "15_metrics.ts": [
    "While one is in flight:",
    'fiberbus_call_duration_milliseconds_count{service="oven",action="bake"} 3',
    'fiberbus_calls_in_flight{service="oven",action="bake"} 1',
    'fiberbus_calls_total{service="oven",action="bake",outcome="Busy"} 1',
    'fiberbus_calls_total{service="oven",action="bake",outcome="success"} 2',
    'fiberbus_handled_total{service="oven",action="bake",outcome="success"} 2',
    'fiberbus_handler_duration_milliseconds_count{service="oven",action="bake"} 2',
    "When it is over:",
    'fiberbus_call_duration_milliseconds_count{service="oven",action="bake"} 4',
    'fiberbus_calls_in_flight{service="oven",action="bake"} 0',
    'fiberbus_calls_total{service="oven",action="bake",outcome="Busy"} 1',
    'fiberbus_calls_total{service="oven",action="bake",outcome="DeadlineExceeded"} 1',
    'fiberbus_calls_total{service="oven",action="bake",outcome="success"} 2',
    'fiberbus_handled_total{service="oven",action="bake",outcome="interrupted"} 1',
    'fiberbus_handled_total{service="oven",action="bake",outcome="success"} 2',
    'fiberbus_handler_duration_milliseconds_count{service="oven",action="bake"} 3'
  ],
  "16_background.ts": [
    "now       a report",
    "log       fiberbus: the background task report failed",
    "counted   1 succeeded, 1 failed",
    "often     3 by now, and paused",
    "fleet     the nightly job runs, under token 1",
    "replicas  left it to another, left it to another, ran it"
  ],
  "17_daemon.ts": [
    "packer   begins",
    "packed   a mug",
    "packer   sweeps the floor",
    "log      fiberbus: the daemon packer failed, again in 20 ms",
    "packer   begins",
    "packed   a book",
    "packer   sweeps the floor",
    "holiday  the packer is Stopped",
    "packer   begins",
    "packed   a lamp",
    "packer   sweeps the floor"
  ],
  "18_blueprint.ts": [
    "oslo     fish: 220 crowns",
    "rome     fish: 99 crowns",
    "by name  ice: 99 crowns",
    "kitchen  Oslo cooks fish",
    "kitchen  Rome cooks ice"
  ],
  "19_lifecycle.ts": [
    "health    Starting, without stock",
    "stock     opens",
    "ready     7 mugs in stock",
    "health    Ready",
    "stopping  the last mug is put on the shelf"
  ],
  "20_conversation.ts": [
    "password? (1)  1234",
    "password? (2)  home-secret",
    "connected      10.0.0.7",
    "not connected  password: Declined, I do not know it"
  ],
  "22_rest.ts": [
    "http   GET /stock/mug: 200 ok, 3 left",
    "call   took 2, 1 left",
    "http   POST /stock/mug/take: 409 SoldOut, 1 left",
    "call   takes the last one",
    "task   no mug left, orders 5",
    "event  5 × mug delivered",
    "http   GET /stock/mug: 200 ok, 5 left"
  ],
  "23_fan_out.ts": ["prices  0, 10, 20, 30, 40, … 30 of them", "most    4 asked at once"],
  "24_producer_consumer.ts": ["printed  12 of 12 pages", "ahead    3 at most: two in the queue, one with the printer"],
  "25_worker_pool.ts": ["cooked  9 dishes", "stoves  1, 2, 3"],
  "26_gather.ts": [
    "list    12, 40; failed: NotSold, NotSold",
    "north   40",
    "south   NotSold",
    "best    9, by 2 of 3 shops"
  ],
  "27_timeouts.ts": [
    "A call",
    "maps    looks for a route",
    "caller  no answer within 50 ms",
    "maps    has stopped looking",
    "An inherited deadline",
    "maps    was given what trips had left",
    "A part of a handler",
    "caller  no news of traffic",
    "A whole workflow, which may fail to end in time",
    "maps    looks for a route",
    "maps    has stopped looking",
    "caller  takes the train"
  ],
  "28_shared_state.ts": ["careless  votes were lost", "careful   10 of 10", "logs in", "tokens    10 × token-1"],
  "29_cache_aside.ts": [
    "cache     in memory",
    "database  asked for 1",
    "caller    Ada",
    "caller    Ada",
    "database  asked for 1",
    "caller    Ada Lovelace",
    "database  asked for 2",
    "caller    no user 2",
    "caller    no user 2"
  ],
  "30_counter.ts": ["counted  in memory", "tickets  100, all different: true", "last     100"],
  "31_status_service.ts": [
    "registry  data_processor has started",
    "monitor   a heartbeat: healthy",
    "caller    sum 6",
    "caller    there was no data",
    "monitor   a heartbeat: shutting_down",
    "caller    shutting_down, 1 request for it"
  ],
  "32_registration.ts": [
    "users         created Ada",
    "mail          opened a box for u-Ada",
    "mail          wrote to Ada",
    "caller        registered as u-Ada",
    "users         created Eve",
    "mail          opened a box for u-Eve",
    "mail          closed box-u-Eve",
    "users         deleted u-Eve",
    "caller        refused: no letters to Eve"
  ],
  "34_items.ts": [
    "caller   the hottest of ten: 29 degrees",
    "caller   it measured no more than it had to: true",
    "service  nobody wants more, stopped"
  ],
  "35_websocket.ts": [
    'bob  {"type":"said","data":{"by":"Ann","text":"hello"}}',
    'ann  {"type":"response","data":{"length":5}}',
    'ann  {"type":"said","data":{"by":"Ann","text":"hello"}}',
    'bob  {"type":"error","data":{"error":"chat.shout: UnknownAction, unknown action \\"shout\\""}}'
  ],
  "36_answering_listener.ts": [
    "caller    { heard: 'where is the tea?' }",
    "listener  heard the kettle boils, nobody waits"
  ],
  "37_testing.ts": [
    "sold after three seconds of the test's clock, which took none of ours",
    "declined: no money",
    "charge 4200 cents: Success",
    "charge 4200 cents: Success",
    "charge 4200 cents: Failure",
    "payments.refund: RemoteError, payments.refund has no stub: TestBus.stub was given none for it"
  ],
  "38_laws.ts": [
    "",
    'till.share breaks the law "never dies": the handler died',
    "",
    '  payload    {"cents":0,"among":0}',
    "  came back  RemoteDefect (started: yes)",
    "             RangeError: Division by zero",
    /^ {17}at .*38_laws\.ts:16:\d+\)?$/,
    /^ {2}found {6}in run \d+ of 100, made smaller \d+ times?$/,
    /^ {2}replay {5}Laws\.service\(it, Till, \{ replay: 'share: never dies: \[1,"example",.*\]' \}\)$/,
    "",
    "share fits its contract: yes",
    "share comes back unchanged: yes",
    "",
    'till.share breaks the law "refuses what does not fit": the handler died of what the contract allows',
    "",
    /^ {2}payload {4}\{.*"among":-?0.*\}$/,
    /^ {13}\(.*\)$/,
    "  came back  RemoteDefect (started: yes)",
    "             RangeError: Division by zero",
    /^ {17}at .*38_laws\.ts:16:\d+\)?$/,
    /^ {2}found {6}in run \d+ of 100, made smaller \d+ times?$/,
    /^ {2}replay {5}Laws\.service\(it, Till, .*\)$/,
    "",
    "share keeps its deadline: yes",
    "share leaves nothing open: yes"
  ],
  "46_groups_and_gaps.ts": [
    "audit    order 1",
    "audit    order 2",
    "audit    3 to 4 are gone",
    "audit    order 5, from the history",
    "audit    order 6",
    "groups   6 billed, 6 shipped"
  ],
  "40_nats.ts": [
    "over   memory (at-most-once, receivers exact)",
    "Dune   lent, 0 left",
    "Dune   all are lent",
    "shelf  Dune, Emma"
  ],
  // How many, and which seed, follows from every frame that is sent.
  "44_durable.ts": [
    "nobody serves, and nothing is lost",
    "  result   not yet",
    "  printer  letter, delivery 1",
    "  result   6 pages",
    "the same id is the same message",
    "  result   6 pages",
    "a handler that dies gets another delivery; an error of the contract is an answer",
    "  printer  photo, delivery 1",
    "  printer  photo, delivery 2",
    "  result   5 pages",
    "  printer  form, delivery 1",
    "  result   tray 2 is empty",
    "what goes on failing is set aside, with its cause",
    "  printer  poster, delivery 1",
    "  printer  poster, delivery 2",
    "  dead     print, 2 deliveries, Defect"
  ],
  "42_cluster.ts": [
    "masters   3, receivers are exact",
    "mug       300 cents",
    "failover  the service has followed its channel",
    "teapot    600 cents"
  ],
  "43_replicas.ts": [
    "99 orders were placed, and 99 handled",
    "each replica was asked: 3 answers",
    "every customer has the same replica again: true",
    "200 orders during a shutdown, 0 failed",
    "only anna's customers moved: true",
    "both that are left have flushed"
  ],
  "45_discovery.ts": [
    "found     mail -: send",
    "found     orders 1.2.0: place",
    'payload   ["count"]',
    "health    live true, ready true",
    "caller    sold out",
    'outcomes  {"success":1,"error":1}',
    "health    live true, ready false (stock: none left)",
    "error     nobody listens on the channel of nobody"
  ],
  "39_simulation.ts": [
    "1100 calls in 100 runs, and every promise was kept",
    /^ {2}Success {10}\d+$/,
    /^ {2}\w+ +\d+$/,
    /^ {2}\w+ +\d+$/,
    /^ {2}\w+ +\d+$/,
    /^ {2}\w+ +\d+$/,
    "",
    /^seed \d+ breaks "nobody is charged twice": ann#\d+ is charged twice$/,
    "",
    /^It takes 1 of \d+ faults:$/,
    /^ {2}frame \d+ of ann arrives twice$/,
    "",
    "     ms  shop          ann",
    /^ +\d+ {2}│ {13}● {13}ann#\d+: shop\.pay$/,
    /^ +\d+ {2}│◀─{12}┤ {13}pay ann#\d+$/,
    /^ +\d+ {2}● {13}│ {13}runs ann#\d+$/,
    /^ +\d+ {2}● {13}│ {13}charged "id1-\w+"$/,
    /^ +\d+ {2}│◀─{12}┤ {13}pay ann#\d+, sent at \d+, again$/,
    /^ +\d+ {2}● {13}│ {13}runs ann#\d+$/,
    /^ +\d+ {2}● {13}│ {13}charged "id1-\w+"$/,
    /^ +\d+ {2}│ {13}│ {13}✗ ann#\d+ is charged twice$/,
    "",
    /^To see it again: Simulation\.run\(\{ …, seed: \d+, faults: \[\{"_tag":"Twice","process":"ann","frame":\d+\}\] \}\)$/
  ]
}

/** Examples of several files or processes, which have tests of their own below. */
const folders = ["11_two_processes", "21_cpu_bound", "33_mixed_fleet", "41_contract_diff"]
/** What is no example itself, but a part of one. */
const parts = { shop: "09_shop.ts", tracing: "14_tracing.ts" }

interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Running {
  readonly child: ChildProcess
  /** Waits until the text has been printed. Fails when the process ends without it. */
  readonly printed: (text: string) => Effect.Effect<void, Error>
  readonly ended: Effect.Effect<Ended>
}

interface RunOptions {
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  readonly node?: ReadonlyArray<string>
}

// Nothing of the tests' own environment reaches an example: neither colours nor a Redis.
const clean = Object.fromEntries(
  ["PATH", "HOME", "TMPDIR"].flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))
)

const start = (file: string, { args = [], env = {}, node = [] }: RunOptions = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Running => {
      const child = spawn(
        process.execPath,
        ["--conditions=fiberbus-source", ...node, Path.join(folder, file), ...args],
        { env: { ...clean, ...env }, stdio: ["ignore", "pipe", "pipe"] }
      )
      let stdout = ""
      let stderr = ""
      let end: Ended | undefined
      const changed = new Set<() => void>()
      const change = () => {
        for (const check of [...changed]) check()
      }
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text
        change()
      })
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        stderr += text
      })
      child.on("close", (status) => {
        end = { status, stdout, stderr }
        change()
      })
      const when = <A, E = never>(look: () => Effect.Effect<A, E> | undefined) =>
        Effect.callback<A, E>((resume) => {
          const check = () => {
            const found = look()
            if (found === undefined) return
            changed.delete(check)
            resume(found)
          }
          changed.add(check)
          check()
          return Effect.sync(() => changed.delete(check))
        })
      return {
        child,
        ended: when(() => (end === undefined ? undefined : Effect.succeed(end))),
        printed: (text) =>
          when<void, Error>(() => {
            if (stdout.includes(text)) return Effect.void
            return end === undefined
              ? undefined
              : Effect.fail(new Error(`${file} ended without printing ${text}:\n${stdout}${stderr}`))
          })
      }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

const run = (file: string, options?: RunOptions) =>
  Effect.scoped(Effect.flatMap(start(file, options), ({ ended }) => ended))

const linesOf = (text: string) => text.replace(/\n$/, "").split("\n")

const assertWell = ({ status, stderr }: Ended) => {
  assert.strictEqual(stderr, "")
  assert.strictEqual(status, 0)
}

const assertTranscript = (stdout: string, expected: ReadonlyArray<string | RegExp>) => {
  const lines = linesOf(stdout)
  // Lines that fit their pattern are replaced by it, so that a failure shows the whole transcript side by side.
  const shown = lines.map((line, index) => {
    const wanted = expected[index]
    return wanted instanceof RegExp && wanted.test(line) ? String(wanted) : line
  })
  assert.deepStrictEqual(
    shown,
    expected.map((wanted) => (wanted instanceof RegExp ? String(wanted) : wanted))
  )
}

const entries = Fs.readdirSync(folder).sort()
const examples = entries.filter((name) => name.endsWith(".ts"))

describe("examples", () => {
  it("are all known to this test", () => {
    assert.deepStrictEqual(
      entries.filter((name) => name !== "README.md"),
      [...Object.keys(transcripts), ...folders, ...Object.keys(parts)].sort()
    )
  })

  it("have a number each", () => {
    const numbers = [...examples, ...folders].map((name) => Number(name.slice(0, 2)))
    assert.isAbove(Math.min(...numbers), 0)
    assert.strictEqual(new Set(numbers).size, numbers.length)
  })

  it("tell their lesson in the first line", () => {
    for (const name of Fs.readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      if (!name.endsWith(".ts")) continue
      assert.match(Fs.readFileSync(Path.join(folder, name), "utf8"), /^\/\/ [A-Z].{20,}\.\n/, name)
    }
  })

  it("stand in the table of their README, in order, with a file that starts them", () => {
    const readme = Fs.readFileSync(Path.join(folder, "README.md"), "utf8")
    const started = Array.from(
      readme.matchAll(/^\| (\d\d) \| .+ \| (?:no|yes|(?:optional|own): .+) \| `examples\/(\S+?)`.* \|$/gm)
    )
    assert.deepStrictEqual(
      started.map(([, , file]) => file!.split("/")[0]!),
      [...examples, ...folders].sort()
    )
    for (const [, number, file] of started) {
      assert.isTrue(file!.startsWith(`${number}_`), file)
      assert.isTrue(Fs.existsSync(Path.join(folder, file!)), file)
    }
  })

  it("have no part that is not used", () => {
    for (const [part, user] of Object.entries(parts)) {
      const files = Fs.readdirSync(Path.join(folder, part))
      const sources = [user, ...files.map((file) => Path.join(part, file))]
        .map((file) => Fs.readFileSync(Path.join(folder, file), "utf8"))
        .join("\n")
      for (const file of files) assert.match(sources, new RegExp(`from "\\./(${part}/)?${file}"`))
    }
  })

  it("begin with a call in under thirty lines", () => {
    assert.isBelow(linesOf(Fs.readFileSync(Path.join(folder, "01_first_call.ts"), "utf8")).length, 30)
  })

  for (const name of examples) {
    it.live(`${name} shows its lesson`, () =>
      Effect.gen(function* () {
        const ended = yield* run(name)
        assertWell(ended)
        assertTranscript(ended.stdout, transcripts[name] ?? [])
      })
    )
  }
})

describe("the demo", () => {
  it.live("in memory loads no Redis client", () =>
    Effect.gen(function* () {
      const refuse = `import { registerHooks } from "node:module"
        registerHooks({ resolve(name, context, next) {
          if (name === "ioredis") throw new Error("loads ioredis")
          return next(name, context)
        } })`
      const node = [`--import=data:text/javascript,${encodeURIComponent(refuse)}`]
      assertWell(yield* run("09_shop.ts", { node }))
      // The hook does see it where it is loaded.
      const { stdout } = yield* run("09_shop.ts", { node, args: ["--redis", "redis://127.0.0.1:1"] })
      assert.include(stdout, "loads ioredis")
    })
  )

  it.live("is coloured on request, and says the same", () =>
    Effect.gen(function* () {
      const plain = yield* run("09_shop.ts")
      const coloured = yield* run("09_shop.ts", { env: { FORCE_COLOR: "1" } })
      assert.notInclude(plain.stdout, "\u001b")
      assert.include(coloured.stdout, "\u001b[")
      assert.strictEqual(stripVTControlCharacters(coloured.stdout), plain.stdout)
    })
  )

  for (const [what, args, line] of [
    ["a Redis that is not there", ["--redis", "redis://127.0.0.1:1"], /^demo: .*redis:\/\/127\.0\.0\.1:1\b.*\n$/],
    ["a url that is none", ["--redis", "nonsense"], /^demo: .*url.*\n$/],
    ["an option it does not have", ["--radish"], /^demo: the only option is --redis redis:\/\/host:port\n$/]
  ] as const) {
    it.live(`ends with one line and status 1 for ${what}`, () =>
      Effect.gen(function* () {
        const { status, stdout, stderr } = yield* run("09_shop.ts", { args })
        assert.strictEqual(stdout, "")
        assert.match(stderr, line)
        assert.strictEqual(status, 1)
      })
    )
  }
})

describe("examples in folders", () => {
  it.live("41_contract_diff: tells what breaks for whom, as docs/contracts-over-time.md and docs/cli.md show it", () =>
    Effect.gen(function* () {
      const ended = yield* run("41_contract_diff/main.ts")
      assertWell(ended)
      const payload = [
        "breaks old callers against the new service: orders.place, payload",
        '  value      {"article":"","count":501,"shipping":"pickup"}',
        '  at         ["count"]',
        "  expected   a value between 1 and 500",
        "  so         the service refuses the call with InvalidPayload; its handler does not run"
      ]
      assertTranscript(ended.stdout, [
        ...payload,
        "",
        "breaks new callers against the old service: orders.place, payload",
        /^ {2}value {6}\{"article":"","count":1,"shipping":"drone"\}$/,
        '  at         ["shipping"]',
        '  expected   "standard" | "express" | "pickup"',
        "  so         the service refuses the call with InvalidPayload; its handler does not run",
        "",
        "changes for new callers against the old service: orders.place, payload",
        /^ {2}value {6}\{.*"note":""\}$/,
        '  at         ["note"]',
        "  so         it is read without this",
        "",
        "changes for old listeners of new publishers: orders.shipped, message",
        /^ {2}value {6}\{.*"by":""\}$/,
        '  at         ["by"]',
        "  so         it is read without this",
        "",
        /^2 breaking, 2 other changes \(\d+ values tried, seed "fiberbus"\)$/,
        "",
        "In this order:",
        "",
        ...payload,
        "",
        /^1 breaking \(\d+ values tried, seed "fiberbus"\)$/
      ])
      for (const page of ["contracts-over-time.md", "cli.md"])
        assert.include(Fs.readFileSync(Path.join(folder, "../docs", page), "utf8"), payload.join("\n"))
    })
  )

  it.live("21_cpu_bound: pings are answered while a thread counts primes", () =>
    Effect.gen(function* () {
      const ended = yield* run("21_cpu_bound/main.ts")
      assertWell(ended)
      assertTranscript(ended.stdout, [
        "step    25 percent, and a ping: pong",
        "step    50 percent, and a ping: pong",
        "step    75 percent, and a ping: pong",
        "step    100 percent, and a ping: pong",
        "result  148933 primes",
        "error   10000000 is the most"
      ])
    })
  )
})

it.layer(NatsServer.layer)("over NATS", (it) => {
  it.effect("40_nats.ts says with NATS what it says in memory", () =>
    Effect.gen(function* () {
      const { url } = yield* NatsServer.NatsServer
      const ended = yield* run("40_nats.ts", { env: { NATS_SERVERS: url } })
      assertWell(ended)
      const [first, ...rest] = linesOf(ended.stdout)
      assert.strictEqual(first, `over   ${url} (at-most-once, receivers hint)`)
      assert.deepStrictEqual(rest, transcripts["40_nats.ts"]!.slice(1))
    })
  )
})

it.effect("44_durable.ts says the same in a Redis Cluster", () =>
  Effect.gen(function* () {
    const { nodes } = yield* RedisClusterServer.make()
    const ended = yield* run("44_durable.ts", { args: ["--cluster", `${nodes[0]!.host}:${nodes[0]!.port}`] })
    assertWell(ended)
    assertTranscript(ended.stdout, transcripts["44_durable.ts"]!)
  }).pipe(Effect.scoped)
)

it.layer(RedisServer.layer)("over Redis", (it) => {
  const withUrl = Effect.map(RedisServer.RedisServer, ({ url }) => ({
    url,
    // A Redis of the developer's own may be in use by another run.
    env: { REDIS_URL: url, FIBERBUS_PREFIX: `examples-${randomUUID()}:` }
  }))

  it.effect("the demo tells the same as in memory, also beside another one", () =>
    Effect.gen(function* () {
      const { url } = yield* withUrl
      const inMemory = yield* run("09_shop.ts")
      const overRedis = run("09_shop.ts", { args: ["--redis", url] })
      for (const ended of yield* Effect.all([overRedis, overRedis], { concurrency: 2 })) {
        assertWell(ended)
        const [first, ...rest] = linesOf(ended.stdout)
        assert.match(first!, /^A small shop, over (rediss?|unix):\/\//)
        assert.deepStrictEqual(rest, linesOf(inMemory.stdout).slice(1))
      }
    })
  )

  it.effect("10_redis.ts says what it says in memory, by another Layer", () =>
    Effect.gen(function* () {
      const { env } = yield* withUrl
      const ended = yield* run("10_redis.ts", { env })
      assertWell(ended)
      assertTranscript(ended.stdout, [/^over {3}(rediss?|unix):\/\/.* \(at-most-once\)$/, "total  5"])
    })
  )

  it.effect("44_durable.ts says the same over Redis", () =>
    Effect.gen(function* () {
      const { env, url } = yield* withUrl
      const ended = yield* run("44_durable.ts", { args: ["--redis", url], env })
      assertWell(ended)
      assertTranscript(ended.stdout, transcripts["44_durable.ts"]!)
    })
  )

  it.effect("22_rest.ts says the same over Redis", () =>
    Effect.gen(function* () {
      const { url } = yield* withUrl
      const ended = yield* run("22_rest.ts", { args: ["--redis", url] })
      assertWell(ended)
      assertTranscript(ended.stdout, transcripts["22_rest.ts"]!)
    })
  )

  for (const name of ["29_cache_aside.ts", "30_counter.ts"]) {
    it.effect(`${name} says with Redis what it says in memory`, () =>
      Effect.gen(function* () {
        const { env } = yield* withUrl
        const ended = yield* run(name, { env })
        assertWell(ended)
        const [first, ...rest] = linesOf(ended.stdout)
        assert.match(first!, /in Redis$/)
        assert.deepStrictEqual(rest, transcripts[name]!.slice(1))
      })
    )
  }

  it.effect("33_mixed_fleet: a peer of another language is called, streamed and heard", () =>
    Effect.gen(function* () {
      const { env } = yield* withUrl
      const ended = yield* run("33_mixed_fleet/main.ts", { env })
      assertWell(ended)
      assertTranscript(ended.stdout, [
        /^fleet {3}Python's Daebus is (installed: daebus_service\.py is started|not installed: a stand-in .*)$/,
        /^call {4}2 \+ 40 is 42, says (Daebus|the stand-in)$/,
        /^hops {4}twice 21 is 42, says Node, who asked (Daebus|the stand-in)$/,
        'stream  Progress {"step":1}',
        'stream  Progress {"step":2}',
        'stream  Success {"counted":3}',
        "error   no such user",
        "events  daebus heard Grüße"
      ])
    })
  )

  it.effect("11_two_processes: SIGTERM lets a running handler answer its caller, then closes the server", () =>
    Effect.gen(function* () {
      const { env } = yield* withUrl
      const server = yield* start("11_two_processes/server.ts", { env })
      yield* server.printed("server  ready\n")

      const client = yield* start("11_two_processes/client.ts", { env })
      yield* client.printed("client  page 1\n")
      server.child.kill("SIGTERM")

      const asked = yield* client.ended
      assertWell(asked)
      assertTranscript(asked.stdout, [
        "client  page 1",
        "client  page 2",
        "client  page 3",
        "client  got /reports/sales.pdf"
      ])

      const served = yield* server.ended
      assertWell(served)
      assertTranscript(served.stdout, [
        "server  ready",
        /^server {2}fiberbus: serving reports over redis:/,
        "server  writes sales",
        "server  fiberbus: shutting down, 1 running and 0 waiting",
        "server  has written sales",
        /^server {2}fiberbus: shut down, 1 finished, 0 refused, 0 interrupted, \d+ ms$/
      ])

      const late = yield* run("11_two_processes/client.ts", { env })
      assertWell(late)
      assertTranscript(late.stdout, ["client  nobody serves reports, start server.ts first"])
    })
  )
})
