/** Breaks links on purpose: a TCP proxy between a client and its server whose connections can be cut or silenced. */
import * as Net from "node:net"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as FreePort from "./internal/FreePort.ts"
import { onRealTime } from "./internal/Machine.ts"

/** Where a proxy leads: a port, or a socket's path. */
export type Target = { readonly host: string; readonly port: number } | { readonly path: string }

/** A proxy that takes connections. Every operation has happened when it succeeds. */
export interface Proxy {
  readonly host: string
  /** The same for as long as the proxy lives, also over `refuse` and `accept`. */
  readonly port: number
  /** `redis://host:port` of this proxy, without credentials. */
  readonly url: string
  /** Another URL with this proxy's host and port: same scheme, credentials and database. */
  readonly through: (url: string) => string
  /** Destroys all connections, on both sides, and gives their number. New ones are welcome. */
  readonly cut: Effect.Effect<number>
  /** New connections are refused, as by a server that is down. Present ones stay. */
  readonly refuse: Effect.Effect<void>
  /** New connections are taken again. */
  readonly accept: Effect.Effect<void, ProxyError>
  /**
   * Takes bytes and passes none on, nor the news that one side has left, like a firewall that lost its state: each
   * side goes on believing in the other. New connections are taken and get the same.
   */
  readonly blackhole: Effect.Effect<void>
  /** New connections work again. Those the blackhole met stay silent for ever, since bytes of theirs are lost. */
  readonly heal: Effect.Effect<void>
  /**
   * Holds each piece of data for this long from now on, both ways. Pieces that arrive meanwhile wait for their turn, so
   * it is a floor for the delay and a limit of the throughput. 0 turns it off.
   */
  readonly delay: (latency: Duration.Input) => Effect.Effect<void>
  /** Clients that are connected: through to the server, or into a blackhole. */
  readonly connections: Effect.Effect<number>
  /** Waits until so many clients are connected, or more; with 0, until none is. Default limit 10 seconds. */
  readonly awaitConnections: (count: number, limit?: Duration.Input) => Effect.Effect<void, ProxyError>
}

/** The proxy could not listen, or the connections that were waited for did not come. */
export class ProxyError extends Schema.TaggedError<ProxyError>()("ProxyError", {
  operation: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.operation}: ${this.detail}`
  }
}

interface Link {
  readonly client: Net.Socket
  readonly server: Net.Socket | undefined
  /** It went through, or into a blackhole. */
  connected: boolean
  silent: boolean
  /** Who has said something that is still delayed. */
  readonly held: Set<Net.Socket>
}

const host = "127.0.0.1"
const maxConnections = 1_024
const connectLimitMillis = 5_000

/**
 * Puts a proxy on a free port of 127.0.0.1 before a target, while the Scope is open.
 *
 * Shape: bytes pass unread, so TLS works; its certificate has to name the proxy's host. At most 1,024 connections. The
 * target need not be there yet: a connection that does not reach it within 5 seconds is cut. Time is real time.
 * Errors: `ProxyError` when no port can be had.
 */
export const proxy = Effect.fnUntraced(function* (target: Target): Effect.fn.Return<Proxy, ProxyError, Scope.Scope> {
  const links = new Set<Link>()
  const watchers = new Set<() => void>()
  let silent = false
  let latencyMillis = 0
  let listener: Net.Server | undefined

  const count = () => {
    let connected = 0
    for (const link of links) if (link.connected) connected++
    return connected
  }
  const changed = () => {
    for (const watcher of watchers) watcher()
  }
  const sever = (link: Link) => {
    if (!links.delete(link)) return
    link.client.destroy()
    link.server?.destroy()
    changed()
  }

  const open = (client: Net.Socket) => {
    if (links.size >= maxConnections) return void client.destroy()
    client.setNoDelay(true)
    const server = silent ? undefined : Net.connect({ ...target, allowHalfOpen: true, noDelay: true })
    const link: Link = { client, server, connected: silent, silent, held: new Set() }
    links.add(link)
    const closed = (one: Net.Socket, failed: boolean) => {
      if (!link.silent) {
        if (failed || server === undefined) return sever(link)
        // What is still on its way to the other side arrives before the end does.
        if (!link.held.has(one)) (one === client ? server : client).destroySoon()
      }
      // In a blackhole the other side must not learn of it.
      if (client.destroyed && (server === undefined || server.destroyed)) links.delete(link)
      if ((one === client || !link.silent) && link.connected) {
        link.connected = false
        changed()
      }
    }
    for (const socket of server === undefined ? [client] : [client, server]) {
      socket.on("error", () => {})
      socket.on("close", (failed) => closed(socket, failed))
    }
    if (server === undefined) {
      client.on("end", () => client.end())
      client.resume()
      return changed()
    }
    server.setTimeout(connectLimitMillis, () => sever(link))
    server.once("connect", () => {
      server.setTimeout(0)
      link.connected = !client.destroyed
      changed()
    })
    pass(link, client, server, () => latencyMillis)
    pass(link, server, client, () => latencyMillis)
  }

  const listen = (port: number): Effect.Effect<void, ProxyError> =>
    Effect.callback((resume) => {
      if (listener !== undefined) return resume(Effect.void)
      const server = Net.createServer({ allowHalfOpen: true }, open)
      listener = server
      server.on("error", (error) => {
        if (listener === server) listener = undefined
        resume(Effect.fail(new ProxyError({ operation: `listen on ${host}:${port}`, detail: error.message })))
      })
      server.listen({ host, port, exclusive: true }, () => resume(Effect.void))
    })

  const refuse = Effect.sync(() => {
    listener?.close()
    listener = undefined
  })
  const cut = Effect.sync(() => {
    const connected = count()
    for (const link of [...links]) sever(link)
    return connected
  })

  yield* Effect.addFinalizer(() => Effect.andThen(refuse, cut))
  // Another process may take the port between our look and our own listening.
  const port = yield* FreePort.find.pipe(Effect.tap(listen), Effect.retry({ times: 4 }))

  return {
    host,
    port,
    url: `redis://${host}:${port}`,
    through: (url) => {
      const moved = new URL(url)
      moved.hostname = host
      moved.port = String(port)
      return moved.href
    },
    cut,
    refuse,
    accept: listen(port),
    blackhole: Effect.sync(() => {
      silent = true
      for (const link of links) {
        link.silent = true
        // One may rest because the other side does not read; from now on its bytes go nowhere.
        link.client.resume()
        link.server?.resume()
      }
    }),
    heal: Effect.sync(() => {
      silent = false
    }),
    delay: (latency) =>
      Effect.sync(() => {
        latencyMillis = Duration.toMillis(Duration.fromInputUnsafe(latency))
      }),
    connections: Effect.sync(count),
    awaitConnections: (wanted, limit = "10 seconds") =>
      Effect.callback<void>((resume) => {
        const look = () => {
          const connected = count()
          if (wanted === 0 ? connected > 0 : connected < wanted) return
          watchers.delete(look)
          resume(Effect.void)
        }
        watchers.add(look)
        look()
        return Effect.sync(() => watchers.delete(look))
      }).pipe(
        Effect.timeoutOrElse({
          duration: limit,
          orElse: () =>
            Effect.fail(
              new ProxyError({
                operation: `await ${wanted} connections through port ${port}`,
                detail: `${count()} are connected after ${Duration.format(Duration.fromInputUnsafe(limit))}`
              })
            )
        }),
        onRealTime
      )
  }
})

// One piece at a time: the reader rests until the writer has taken it, so a link holds one piece per direction.
const pass = (link: Link, from: Net.Socket, to: Net.Socket, latencyMillis: () => number) => {
  let ended = false
  const finish = () => {
    if (link.silent) from.end()
    else if (from.destroyed) to.destroySoon()
    else to.end()
  }
  const write = (piece: Buffer) => {
    link.held.delete(from)
    const full = !link.silent && !to.destroyed && !to.write(piece)
    // The end is told even to a reader that rests.
    if (ended) finish()
    else if (full) to.once("drain", () => from.resume())
    else from.resume()
  }
  from.on("data", (piece: Buffer) => {
    if (link.silent) return
    const latency = latencyMillis()
    if (latency > 0) {
      link.held.add(from)
      from.pause()
      setTimeout(write, latency, piece)
    } else if (!to.destroyed && !to.write(piece)) {
      from.pause()
      to.once("drain", () => from.resume())
    }
  })
  from.on("end", () => {
    ended = true
    if (!link.held.has(from)) finish()
  })
}
