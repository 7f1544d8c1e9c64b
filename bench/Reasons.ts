/** Why a goal is missed where it is, and what was tried: shown on the page only for goals that the run missed. */
import * as Goals from "./Goals.ts"
import type { Results } from "./Results.ts"

const hundred = "100 in flight"
const thousand = "1,000 in flight"

const checks =
  "Each call is encoded and decoded four times by its schemas, is a fiber, and has a deadline, an id, an admission and counts, of which the clients by hand and nats.js have none, and Moleculer and NestJS some."
const writes =
  "Tried: one write per turn of the event loop, messages read from the bytes without ioredis in between (28.2 to 15.8 µs of CPU per call), compiled codecs, no walk over a frame and no metric by name (17.3 to 15.7), packs of answers and of requests (14.5 to 12.8), one callback for a call with nothing around it (5.3 to 4.9 at the caller), an answer at once where a handler ends at once (4.1 to 2.9 at the service)."
const kept =
  "With 1,000 in flight most of what pending calls keep outlives a collection of young objects, which copies it: a call costs a caller about twice what it does with 100. Tried: a larger young generation (64 MiB), which made it worse."
const frames =
  "Without packs each message is a PUBLISH and a read of its own, and Redis' part and the system calls are the same for all who publish."
const young =
  "The 99th percentile is mostly the collection of young objects, of which a call with checks, a fiber and a deadline leaves more than a plain function does. Tried: a wheel instead of a timer per call, metrics that are found once, one object for one time."
const bursts =
  "All calls of the burst are begun in one turn of the event loop, each a fiber with what it keeps until its answer (Memory, below, says how much), so that collections take a larger part of it than of calls in turn. Tried: writes of 64 KiB within that turn, packs, one entry of a wheel per deadline."
const packedEvents =
  "A pack spares frames, not deliveries: each listener of a process decodes its own copy by its schema, and each of its handlers is a fiber with a context, a Scope, an admission and a count. Tried: a context is two additions to what was prepared instead of four (1.8 to 1.6 µs of CPU and 3.3 to 2.6 KB per delivery without a broker)."

const events =
  "Each process decodes and checks each event, and counts it. Tried: broadcasts are not taken apart into an envelope where they have none, depth is looked at only where a schema can nest, and a topic may say that what one turn publishes shares a frame (`Topic.Packed`), which is off by default for the sake of Daebus' listeners."
const items =
  "The producer is held back by the consumer's credit (256 items by default), each item is checked on both sides, and it passes a Stream of Effect at both ends. Tried: the steps of one turn leave in one frame of up to 16 KiB."
const large =
  "At these sizes the JSON and copying are nearly all there is. Tried: the envelope is written around long text in one go (12.3 to 11.2 ms of CPU for 1 MiB there and back), long frames are written directly instead of with others, long texts travel behind the JSON (118 to 65 µs of CPU to write and read 64 KiB, 4.7 to 2.4 ms for 1 MiB). At 1 MiB a call takes milliseconds on every core it passes, so with two cores for all its rounds differ widely."
const timers =
  "Node's timers have a resolution of 1 ms and are late under load: `timers alone` shows what they leave of the limit without any messaging. Where that is near ours, nothing is lost in the bus; at 1,000 at once the limit would be 100,000 calls/s, more than two cores carry."
const streams =
  "A durable call is kept, deduplicated by its id, and settled with its result in one step of Redis' own program, which the client by hand does not do: it acknowledges after its answer and remembers nothing. Tried: what one turn keeps or settles is one step (71 to 44 µs of CPU per call), and is written and read without ioredis (50 to 36)."

/** By what {@link Goals.idOf} says. */
export const reasons: Readonly<Record<string, string>> = {
  [`calls, ${hundred}, rate, fiberbus-single to moleculer`]: `${frames} ${writes}`,
  [`calls, ${hundred}, rate, fiberbus-single to nest`]: `${frames} ${writes}`,
  [`calls, ${hundred}, rate, fiberbus-single to floor`]: `${checks} ${writes}`,
  [`calls, ${hundred}, rate, fiberbus-single to floor-corked`]: `${checks} ${writes}`,
  [`calls, ${hundred}, rate, fiberbus to moleculer`]: `${checks} ${writes}`,
  [`calls, ${hundred}, rate, fiberbus to nats`]: `${checks} ${writes}`,
  [`calls, ${hundred}, rate, fiberbus to effect-rpc-jit`]: `effect/rpc goes from process to process, so that nobody copies its messages between. ${writes}`,
  [`calls, ${hundred}, rate, fiberbus to floor-packed`]: `${checks} ${writes}`,
  [`calls, ${thousand}, rate, fiberbus to moleculer`]: `${checks} ${kept} ${writes}`,
  [`calls, ${thousand}, rate, fiberbus to nats`]: `${checks} ${kept} ${writes}`,
  [`calls, ${thousand}, rate, fiberbus to floor-packed`]: `${checks} ${kept} ${writes}`,
  "latency, 1 in flight, p50, fiberbus to floor": `${checks} Alone in flight, a call shares none of that with others. Tried: what a turn publishes is written at its end, not one round of the event loop later (calls/s to the client by hand 1.04 to 1.51 then).`,
  "latency, 1 in flight, p99, fiberbus to floor": young,
  [`calls, ${hundred}, cpu, fiberbus-single to moleculer`]: `${frames} ${writes}`,
  [`calls, ${hundred}, cpu, fiberbus to moleculer`]: `${checks} ${writes}`,
  [`calls, ${hundred}, p99, fiberbus-single to moleculer`]: young,
  [`calls, ${hundred}, p99, fiberbus to moleculer`]: young,
  "burst, 10,000 at once, millis, fiberbus to moleculer": bursts,
  "burst, 100,000 at once, millis, fiberbus to moleculer": bursts,
  "fanout, in one process, rate, fiberbus-single to moleculer": events,
  "fanout, in 10 processes, rate, fiberbus-single to moleculer": events,
  "fanout, in one process, rate, fiberbus-packed to moleculer": packedEvents,
  "fanout, in 10 processes, rate, fiberbus-packed to moleculer": packedEvents,
  "streaming, 10,000 items, rate, fiberbus to moleculer": items,
  "streaming, 10,000 items, rate, fiberbus to effect-rpc-jit": items,
  "streaming, 10,000 items, rate, fiberbus-daebus to moleculer":
    "A Daebus caller gets each item in a frame of its own, so each is a PUBLISH and a read.",
  "payloads, 64 KiB, rate, fiberbus to floor": large,
  "payloads, 1 MiB, rate, fiberbus to floor": large,
  "payloads, 64 KiB, rate, fiberbus to moleculer": large,
  "payloads, 1 MiB, rate, fiberbus to moleculer": large,
  [`memory, ${hundred}, rate, fiberbus-memory to moleculer-fake`]:
    "`Effect and codec alone` shows what two encodings, two decodings and an effect take by themselves, as messages pass as the same text as over the wire: ten times as many calls as Moleculer would leave next to nothing for the bus. Tried: 10.4 to 8.0 µs of CPU per call, as depth, time and broadcasts' fields are looked at only where something depends on them.",
  "waiting, 10 at once, share, fiberbus": timers,
  "waiting, 100 at once, share, fiberbus": timers,
  "waiting, 1,000 at once, share, fiberbus": timers,
  "start, import, millis, fiberbus to moleculer":
    "`effect/Schema`, `Stream` and `Layer`, which a contract and a service are made of, take more CPU to load than all of Moleculer does (about 140 ms to 117, measured in turns). Tried: the package's files are bundled (269 to 231 ms), and load neither a Redis client nor what only another entry point needs; what is left of our own is reading and compiling, of which Node's compile cache takes a quarter of the whole off where the application turns it on.",
  "start, service ready on Redis, millis, fiberbus to moleculer": "It is what the import takes more.",
  [`calls, ${hundred}, rate, fiberbus to fiberbus-live`]:
    "A caller of `one` chooses a replica for each call and follows what becomes of that replica; a caller of `live` sends to all.",
  [`calls, ${hundred}, rate, fiberbus-durable to floor-streams`]: streams,
  [`calls, ${hundred}, rate, fiberbus-durable to bullmq`]:
    "Both keep each call in Redis, remember its id, and write its result there: what is left is how many steps of Redis, and how many system calls, a call shares with others. Tried: what one turn keeps or settles is one step (71 to 44 µs of CPU per call), and is written and read without ioredis (50 to 36)."
}

/** The goals that were measured and missed, those of one reason together, as a list; empty where there are none. */
export const list = (results: Results): string => {
  const missed = new Map<string, Array<string>>()
  for (const goal of Goals.goals) {
    const found = Goals.measured(results, goal)
    if (found === undefined || Goals.isMet(goal, found)) continue
    const reason = reasons[Goals.idOf(goal)] ?? "Not explained yet."
    const title = `*${Goals.titleOf(goal)}*, ${goal.case}`
    missed.set(reason, [...(missed.get(reason) ?? []), title])
  }
  return Array.from(missed, ([reason, titles]) => `- ${titles.join("; ")}. ${reason}`).join("\n")
}
