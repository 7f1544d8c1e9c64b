// Two processes: the contract is all they share. Start server.ts, then client.ts; stop the server with Ctrl-C.
import { Schema } from "effect"
import { Action, Service } from "fiberbus"

export class Reports extends Service.make(
  "reports",
  Action.make("write", {
    payload: { title: Schema.String, pages: Schema.Int },
    progress: { page: Schema.Int },
    success: { file: Schema.String }
  })
) {}
