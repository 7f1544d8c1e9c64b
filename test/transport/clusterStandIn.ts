/** A stand-in for a node of a Redis Cluster, which says what a test tells it to: for moments that real nodes pass through too fast. */
import * as Net from "node:net"
import { Effect } from "effect"

export interface StandIn {
  readonly port: number
  /** Commands but PING and the handshake, as they came, e.g. `ssubscribe line`. */
  readonly asked: Array<string>
  /** What it says when it is asked, as RESP. Without an answer for a command: `+OK`. */
  readonly says: Map<string, string | ((args: ReadonlyArray<string>) => string)>
  /** Masters for its CLUSTER SLOTS, each with an equal part. */
  masters: ReadonlyArray<number>
  epoch: number
  role: "master" | "slave"
  /** Sends to all that have subscribed. */
  readonly push: (text: string) => void
}

export const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`

export const make = Effect.acquireRelease(
  Effect.callback<StandIn & { readonly close: () => void }>((resume) => {
    const sockets = new Set<Net.Socket>()
    const subscribers = new Set<Net.Socket>()
    const server = Net.createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => {
        sockets.delete(socket)
        subscribers.delete(socket)
      })
      let text = ""
      let subscribed = false
      socket.on("data", (chunk) => {
        text += chunk.toString("latin1")
        for (;;) {
          const [, count] = /^\*(\d+)\r\n/.exec(text) ?? []
          if (count === undefined) return
          const parts = text.split("\r\n")
          const length = 1 + 2 * Number(count)
          if (parts.length <= length) return
          const args = parts.slice(1, length).filter((_, i) => i % 2 === 1)
          text = parts.slice(length).join("\r\n")
          if (args[0]!.toLowerCase() === "ssubscribe") {
            subscribed = true
            subscribers.add(socket)
          }
          socket.write(answer(args, subscribed))
        }
      })
    })
    const standIn: StandIn & { readonly close: () => void } = {
      port: 0,
      asked: [],
      says: new Map(),
      masters: [],
      epoch: 1,
      role: "master",
      push: (text) => {
        for (const socket of subscribers) socket.write(text)
      },
      close: () => {
        server.close()
        for (const socket of sockets) socket.destroy()
      }
    }
    const answer = (args: ReadonlyArray<string>, subscribed: boolean): string => {
      const [name = "", ...rest] = args.map((arg, i) => (i === 0 ? arg.toLowerCase() : arg))
      if (name === "hello") return "-ERR unknown command 'HELLO'\r\n"
      if (name === "ping") return subscribed ? `*2\r\n${bulk("pong")}${bulk(rest[0] ?? "")}` : bulk(rest[0] ?? "PONG")
      const line = [name, ...rest].join(" ")
      standIn.asked.push(line)
      const said = standIn.says.get(name)
      if (said !== undefined) return typeof said === "string" ? said : said(rest)
      if (line === "info replication") return bulk(`role:${standIn.role}\r\n`)
      if (line === "cluster info") return bulk(`cluster_current_epoch:${standIn.epoch}\r\n`)
      if (line === "cluster slots") {
        const { masters } = standIn
        const part = 16_384 / masters.length
        const ranges = masters.map((port, i) => {
          const [from, to] = [Math.floor(i * part), Math.floor((i + 1) * part) - 1]
          return `*3\r\n:${from}\r\n:${to}\r\n*3\r\n${bulk("127.0.0.1")}:${port}\r\n${bulk("id")}`
        })
        return `*${ranges.length}\r\n${ranges.join("")}`
      }
      if (name === "ssubscribe" || name === "sunsubscribe") return `*3\r\n${bulk(name)}${bulk(rest[0]!)}:1\r\n`
      if (name === "spublish") return ":1\r\n"
      return "+OK\r\n"
    }
    server.listen(0, "127.0.0.1", () => {
      resume(Effect.succeed(Object.assign(standIn, { port: (server.address() as Net.AddressInfo).port })))
    })
  }),
  ({ close }) => Effect.sync(close)
)
