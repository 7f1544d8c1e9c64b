/**
 * What a payload costs on its way into a frame and out of it, without a bus: as JSON, as fiberbus writes it to its own kind (long texts behind the JSON,
 * `src/wire/LongTexts.ts`), and as MessagePack. `node bench/codecs.ts`
 *
 * CPU in microseconds to write and to read one, the median of rounds in turns: writing ends in the bytes that a socket gets, reading begins with them.
 */
import { Buffer, isAscii } from "node:buffer"
import { isDeepStrictEqual } from "node:util"
import { Packr } from "msgpackr"
import * as Codec from "../src/wire/Codec.ts"
import * as Envelope from "../src/wire/Envelope.ts"
import * as LongTexts from "../src/wire/LongTexts.ts"
import * as Payload from "./Payload.ts"

const rounds = 7
/** CPU of one turn in milliseconds, about. */
const turnMillis = 60

const kib = 1_024
const mib = 1_024 * kib

/** Text of so many bytes out of pieces, in one piece as it comes from elsewhere. */
const textOf = (bytes: number, piece: (index: number) => string) => {
  let text = ""
  for (let i = 0; text.length < bytes; i++) text += piece(i)
  const all = Buffer.from(text)
  // Not in the middle of a character.
  return all.toString("utf8", 0, bytes).replace(/\ufffd+$/, "")
}
const prose = (bytes: number) => Payload.text(bytes)
const code = (bytes: number) => textOf(bytes, (i) => `const x${i} = "a\\n${i}"\n\tif (x) { return "q" }\n`)
const russian = (bytes: number) => textOf(bytes, (i) => `Привет ${i}, мир. `)
const users = (bytes: number) => Array.from({ length: Math.ceil(bytes / 150) }, (_, id) => Payload.make(id))

const payloads: ReadonlyArray<readonly [name: string, payload: unknown]> = [
  ["an object of 150 bytes", Payload.make(7)],
  ["a text of 1 KiB", { id: 1, text: prose(kib) }],
  ["a text of 8 KiB", { id: 1, text: prose(8 * kib) }],
  ["a text of 64 KiB", { id: 1, text: prose(64 * kib) }],
  ["a text of 1 MiB", { id: 1, text: prose(mib) }],
  ["source code, 64 KiB", { id: 1, text: code(64 * kib) }],
  ["source code, 1 MiB", { id: 1, text: code(mib) }],
  ["Cyrillic, 64 KiB", { id: 1, text: russian(64 * kib) }],
  ["Cyrillic, 1 MiB", { id: 1, text: russian(mib) }],
  ["16 texts of 4 KiB", { rows: Array.from({ length: 16 }, (_, id) => ({ id, text: code(4 * kib) })) }],
  ["bytes as base64, 64 KiB", { bytes: Buffer.from(prose(48 * kib)).toString("base64") }],
  ["objects, 64 KiB", { rows: users(64 * kib) }],
  ["objects, 1 MiB", { rows: users(mib) }],
  ["numbers, 64 KiB", { numbers: Array.from({ length: 3_600 }, (_, i) => Math.sin(i) * 1_000) }]
]

interface Way {
  readonly name: string
  readonly write: (payload: unknown) => Buffer
  readonly read: (bytes: Buffer) => { readonly payload?: unknown }
}

const id = "7e1f0b5c-0000-4000-8000-000000000000-1"
const out = Buffer.alloc(8 * mib)

// As DirectPublish and RespReader do it.
const toSocket = (frame: string) => {
  const bytes = Buffer.byteLength(frame)
  return out.subarray(0, bytes === frame.length ? out.write(frame, "latin1") : out.write(frame))
}
const read = (bytes: Buffer) => {
  const frame = bytes[0] !== LongTexts.mark && isAscii(bytes) ? bytes.toString("latin1") : bytes
  const raw = Codec.parse(frame, bytes.length)
  if (raw instanceof Codec.Malformed) throw new Error(raw.reason)
  return raw
}
const asJson = (payload: unknown) =>
  Envelope.isBulky(payload)
    ? Envelope.writeBulkyReply(payload, id)
    : Envelope.writeReply("success", JSON.stringify(payload), id, true)
const packr = new Packr({ useRecords: false })

const ways: ReadonlyArray<Way> = [
  { name: "JSON", write: (payload) => toSocket(asJson(payload)), read },
  {
    name: "fiberbus",
    write: (payload) => {
      const lifted = LongTexts.lift(payload)
      if (lifted === undefined) return toSocket(asJson(payload))
      return toSocket(LongTexts.write(Envelope.writeReply("success", JSON.stringify(lifted.json), id, true), lifted))
    },
    read
  },
  {
    name: "MessagePack",
    write: (payload) => packr.pack({ status: "success", payload, request_id: id, final: true }),
    read: (bytes) => packr.unpack(bytes)
  }
]

const cpu = () => {
  const { system, user } = process.cpuUsage()
  return system + user
}
const turn = (count: number, act: () => void) => {
  const from = cpu()
  for (let i = 0; i < count; i++) act()
  return (cpu() - from) / count
}
const median = (values: Array<number>) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!

const table: Array<ReadonlyArray<string>> = []
for (const [name, payload] of payloads) {
  const cells: Array<string> = []
  const costs = ways.map(() => ({ write: [] as Array<number>, read: [] as Array<number> }))
  for (let round = -2; round < rounds; round++) {
    for (const [index, way] of ways.entries()) {
      const bytes = Buffer.from(way.write(payload))
      if (!isDeepStrictEqual(way.read(bytes).payload, payload)) throw new Error(`${way.name} changed ${name}`)
      // Less of what takes long, by what it took just now.
      const often = (act: () => void) => Math.max(3, Math.min(50_000, Math.round((turnMillis * 1_000) / turn(3, act))))
      const write = () => void way.write(payload)
      const readIt = () => void way.read(bytes)
      const cost = { write: turn(often(write), write), read: turn(often(readIt), readIt) }
      if (round < 0) continue
      costs[index]!.write.push(cost.write)
      costs[index]!.read.push(cost.read)
    }
  }
  for (const { read, write } of costs) {
    const [w, r] = [median(write), median(read)]
    cells.push(`${w.toFixed(1)} + ${r.toFixed(1)} = ${(w + r).toFixed(1)}`)
  }
  table.push([name, ...cells])
  console.error(name, ...cells)
}
console.log(`| CPU µs, write + read | ${ways.map(({ name }) => name).join(" | ")} |`)
console.log(`| --- | ${ways.map(() => "--:").join(" | ")} |`)
for (const row of table) console.log(`| ${row.join(" | ")} |`)
