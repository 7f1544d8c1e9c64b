/** What is measured, in the order of the report. */
import type { Row } from "./Lab.ts"
import * as Burst from "./rows/burst.ts"
import * as Calls from "./rows/calls.ts"
import * as Capacity from "./rows/capacity.ts"
import * as Fanout from "./rows/fanout.ts"
import * as Footprint from "./rows/footprint.ts"
import * as Memory from "./rows/memory.ts"
import * as Payloads from "./rows/payloads.ts"
import * as Start from "./rows/start.ts"
import * as Streaming from "./rows/streaming.ts"
import * as Waiting from "./rows/waiting.ts"

export const all: ReadonlyArray<Row> = [
  Calls.latency,
  Calls.calls,
  Burst.row,
  Fanout.row,
  Streaming.row,
  Payloads.row,
  Memory.row,
  Waiting.row,
  Footprint.footprint,
  Footprint.flat,
  Start.row,
  Capacity.row
]
