/**
 * No messaging at all: a handler of Effect called through the codec that fiberbus and effect/rpc need, compiled. Payload and answer are each encoded by
 * schema, written as JSON, read again and decoded. What a bus in memory costs is what it takes beyond this.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaJITCompiler from "effect/schema/SchemaJITCompiler"
import { effects } from "../Meter.ts"
import type { Payload } from "../Payload.ts"
import type { Peer } from "../Peer.ts"
import * as schemas from "../schemas.ts"

const json = Schema.toCodecJson(Schema.Struct(schemas.payload))
SchemaJITCompiler.enable(json.ast)
const decode = Schema.decodeUnknownEffect(json)
const encode = Schema.encodeUnknownEffect(json)

const across = (value: Payload) =>
  Effect.flatMap(encode(value), (encoded) => decode(JSON.parse(JSON.stringify(encoded))))
const handle = (payload: Payload) => Effect.succeed(payload)

export const peer: Peer = {
  connect: async () =>
    Effect.runPromise(
      Effect.map(Effect.context<never>(), (context) => ({
        calls: effects(
          { echo: (payload: Payload) => across(payload).pipe(Effect.flatMap(handle), Effect.flatMap(across)) },
          context
        )
      }))
    )
}
