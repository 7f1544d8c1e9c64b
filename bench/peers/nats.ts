/** nats.js against nats-server: its own request and reply, JSON, nothing checked. */
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { promises } from "../Meter.ts"
import * as Payload from "../Payload.ts"
import { handlers, type Op, type Peer, publishesAtOnce, type Setting } from "../Peer.ts"

const open = ({ nats }: Setting): Promise<NatsConnection> => connect({ servers: nats ?? "" })

const ops = ["echo", "wait", "blob", "hold"] as const satisfies ReadonlyArray<Op>

export const peer: Peer = {
  serve: async (setting) => {
    const connection = await open(setting)
    for (const op of ops) {
      connection.subscribe(`${setting.name}.${op}`, {
        callback: (error, message) => {
          if (error) throw error
          const answer = handlers[op](message.json<any>())
          if (answer instanceof Promise) answer.then((answer) => message.respond(JSON.stringify(answer)))
          else message.respond(JSON.stringify(answer))
        }
      })
    }
    await connection.flush()
  },
  connect: async (setting) => {
    const connection = await open(setting)
    const timeout = setting.limits === "default" ? 5_000 : 600_000
    const call = (op: Op) => async (payload: unknown) =>
      (await connection.request(`${setting.name}.${op}`, JSON.stringify(payload), { timeout })).json<any>()
    return {
      calls: promises({ echo: call("echo"), wait: call("wait"), blob: call("blob"), hold: call("hold") }),
      publish: async (count) => {
        for (let id = 0; id < count; id++) {
          connection.publish(`${setting.name}.events`, JSON.stringify(Payload.make(id)))
          if (id % publishesAtOnce === publishesAtOnce - 1) await connection.flush()
        }
        await connection.flush()
      }
    }
  },
  listen: async (setting, listeners, heard) => {
    const connection = await open(setting)
    for (let i = 0; i < listeners; i++) {
      connection.subscribe(`${setting.name}.events`, {
        callback: (error, message) => {
          if (error) throw error
          heard(message.json<Payload.Payload>())
        }
      })
    }
    await connection.flush()
  }
}
