/** Moleculer's service; its validator asks for what fiberbus' schema asks for. */
import * as Child from "../Child.ts"
import type { Payload } from "../Payload.ts"
import * as Moleculer from "./moleculer.ts"

const broker = Moleculer.make("server")
broker.createService({
  name: "echo",
  actions: {
    echo: {
      params: {
        $$strict: "remove",
        id: { type: "number", integer: true },
        name: { type: "string", empty: false },
        email: { type: "string" },
        active: { type: "boolean" },
        score: { type: "number" },
        tags: { type: "array", items: "string" }
      },
      handler: ({ params }: { readonly params: Payload }) => params
    }
  }
})
await broker.start()
Child.ready()
