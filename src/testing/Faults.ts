/** Breaks links on purpose: a TCP proxy between a client and its server whose connections can be cut, slowed or silenced. */
import * as Net from "node:net"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as FreePort from "./internal/FreePort.ts"
import { onRealTime } from "./internal/Machine.ts"
import * as RespScanner from "./internal/respScanner.ts"

/** Where a proxy leads: a port, or a socket's path. */
export type Target = { readonly host: string; readonly port: number } | { readonly path: string }

/** A place between two bytes of a conversation with Redis. */
export interface CutPoint {
  /** The name of a command, in any case. */
  readonly command: string
  /** Which one, counted from 1 over all connections from now on. Default 1. */
  readonly count?: number
  /**
   * `unsent`: it does not reach the server. `forwarded`: the server has done it, nothing after it, and its reply is lost.
   * `answered`: the same, and the client has the reply. Of several replies (SUBSCRIBE a b) the first counts.
   */
  readonly when: "unsent" | "forwarded" | "answered"
}

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
  /** As `cut`, by RST: both sides get `ECONNRESET`. Over a socket's path the server's side is closed as by `cut`. */
  readonly reset: Effect.Effect<number>
  /**
   * Sets a trap that cuts one connection at an exact place, once; other connections stay. The result waits until it has happened.
   * It knows the place by reading Redis' protocol, so not with TLS.
   */
  readonly cutAt: (point: CutPoint) => Effect.Effect<Effect.Effect<void>>
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
  /**
   * Passes at most so many bytes a second from now on, per connection and direction, in small pieces: a slow link. 0 turns it off.
   */
  readonly throttle: (bytesPerSecond: number) => Effect.Effect<void>
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
  /** Replies that were asked for and that went through, and the replies that a trap waits for. */
  asked: number
  answered: number
  readonly caught: Array<{ readonly reply: number; readonly trap: Trap }>
  /** Replies that belong to one command, from the first to the last. */
  readonly several: Array<{ readonly first: number; readonly last: number }>
}

interface Trap {
  readonly command: string
  readonly when: CutPoint["when"]
  left: number
  readonly sprung: Deferred.Deferred<void>
}

/** What a piece of data meets on its way. */
interface Weather {
  readonly latencyMillis: () => number
  readonly bytesPerSecond: () => number
  /** Where this direction ends, and maybe the connection with it. Called once, in order, with what is about to go. */
  readonly stop: (piece: Buffer) => { readonly after: number; readonly sever: boolean } | undefined
  readonly sever: () => void
}

const host = "127.0.0.1"
const maxConnections = 1_024
const connectLimitMillis = 5_000
/** A slow link passes so many pieces a second. */
const piecesPerSecond = 20

/**
 * Puts a proxy on a free port of 127.0.0.1 before a target, while the Scope is open.
 *
 * Shape: bytes pass unchanged, so TLS works; its certificate has to name the proxy's host. At most 1,024 connections. The
 * target need not be there yet: a connection that does not reach it within 5 seconds is cut. Time is real time.
 * Errors: `ProxyError` when no port can be had.
 */
export const proxy = Effect.fnUntraced(function* (target: Target): Effect.fn.Return<Proxy, ProxyError, Scope.Scope> {
  const links = new Set<Link>()
  const watchers = new Set<() => void>()
  let silent = false
  let latencyMillis = 0
  let bytesPerSecond = 0
  const traps = new Set<Trap>()
  let listener: Net.Server | undefined

  const count = () => {
    let connected = 0
    for (const link of links) if (link.connected) connected++
    return connected
  }
  const changed = () => {
    for (const watcher of watchers) watcher()
  }
  const forget = (link: Link) => {
    // What was to be cut at its reply has none any more; the next such command is met instead.
    for (const { trap } of link.caught) trap.left = 1
    return links.delete(link)
  }
  const sever = (link: Link, how: (socket: Net.Socket) => void = (socket) => socket.destroy()) => {
    if (!forget(link)) return
    how(link.client)
    if (link.server !== undefined) how(link.server)
    changed()
  }
  const severAll = (how?: (socket: Net.Socket) => void) =>
    Effect.sync(() => {
      const connected = count()
      for (const link of [...links]) sever(link, how)
      return connected
    })
  const spring = (trap: Trap) => {
    traps.delete(trap)
    trap.left = 0
    Deferred.doneUnsafe(trap.sprung, Exit.void)
  }

  // Both see each piece just before it goes through.
  const watchCommands = (link: Link): Weather["stop"] => {
    const scan = RespScanner.make("client")
    return (piece) => {
      let start = 0
      for (const { word, size, end } of scan(piece)) {
        const reply = ++link.asked
        if (/SUBSCRIBE$/.test(word) && size > 2) {
          link.asked += size - 2
          link.several.push({ first: reply, last: link.asked })
        }
        for (const trap of traps) {
          if (trap.command !== word || trap.left === 0 || --trap.left > 0) continue
          if (trap.when === "unsent") {
            spring(trap)
            return { after: start, sever: true }
          }
          // What follows it could be done as well before its reply is here.
          link.caught.push({ reply, trap })
          return { after: end, sever: false }
        }
        start = end
      }
      return undefined
    }
  }
  const watchReplies = (link: Link): Weather["stop"] => {
    const scan = RespScanner.make("server")
    return (piece) => {
      let start = 0
      for (const { type, word, end } of scan(piece)) {
        // A message answers nothing; under RESP2 it looks like a reply, but for its first word.
        if (!(type === ">" && !/SUBSCRIBE$/.test(word)) && !(type === "*" && /^[PS]?MESSAGE$/.test(word)))
          link.answered++
        const caught = link.caught.find(({ reply }) => reply === link.answered)
        const [several] = link.several
        // Refused as a whole, by one reply.
        if (type === "-" && link.answered === several?.first) link.answered = several.last
        if (several !== undefined && link.answered >= several.last) link.several.shift()
        if (caught !== undefined) {
          spring(caught.trap)
          return { after: caught.trap.when === "answered" ? end : start, sever: true }
        }
        start = end
      }
      return undefined
    }
  }

  const open = (client: Net.Socket) => {
    if (links.size >= maxConnections) return void client.destroy()
    client.setNoDelay(true)
    const server = silent ? undefined : Net.connect({ ...target, allowHalfOpen: true, noDelay: true })
    const link: Link = {
      client,
      server,
      connected: silent,
      silent,
      held: new Set(),
      asked: 0,
      answered: 0,
      caught: [],
      several: []
    }
    links.add(link)
    const closed = (one: Net.Socket, failed: boolean) => {
      if (!link.silent) {
        if (failed || server === undefined) return sever(link)
        // What is still on its way to the other side arrives before the end does.
        if (!link.held.has(one)) (one === client ? server : client).destroySoon()
      }
      // In a blackhole the other side must not learn of it.
      if (client.destroyed && (server === undefined || server.destroyed)) forget(link)
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
    const weather = (stop: Weather["stop"]): Weather => ({
      latencyMillis: () => latencyMillis,
      bytesPerSecond: () => bytesPerSecond,
      stop,
      sever: () => sever(link)
    })
    pass(link, client, server, weather(watchCommands(link)))
    pass(link, server, client, weather(watchReplies(link)))
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
  const cut = severAll()

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
    reset: severAll((socket) => {
      // One that is not connected yet has nothing to reset, nor has one that is no TCP.
      if (socket.connecting || ("path" in target && socket.remoteAddress === undefined)) socket.destroy()
      else socket.resetAndDestroy()
    }),
    cutAt: ({ command, count: left = 1, when }) =>
      Effect.sync(() => {
        const sprung = Deferred.makeUnsafe<void>()
        traps.add({ command: command.toUpperCase(), when, left, sprung })
        return Deferred.await(sprung)
      }),
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
    throttle: (rate) =>
      Effect.sync(() => {
        bytesPerSecond = rate
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
const pass = (link: Link, from: Net.Socket, to: Net.Socket, weather: Weather) => {
  let ended = false
  let stopped = false
  const finish = () => {
    if (link.silent) from.end()
    else if (from.destroyed) to.destroySoon()
    else to.end()
  }
  /** Writes a piece, or as much of it as may go; true if there is room for more. */
  const write = (piece: Buffer): boolean => {
    if (link.silent || stopped || to.destroyed) return true
    const stop = weather.stop(piece)
    if (stop === undefined) return to.write(piece)
    stopped = true
    // What came before it is on its way first.
    to.write(piece.subarray(0, stop.after), () => {
      if (stop.sever) weather.sever()
    })
    return true
  }
  const hold = (piece: Buffer) => {
    const rate = weather.bytesPerSecond()
    const size = rate > 0 ? Math.max(1, Math.floor(rate / piecesPerSecond)) : piece.length
    const now = piece.subarray(0, size)
    const later = piece.subarray(size)
    const next = () => {
      if (later.length > 0) hold(later)
      else from.resume()
    }
    const go = () => {
      if (later.length === 0) link.held.delete(from)
      const room = write(now)
      // The end is told even to a reader that rests.
      if (ended && later.length === 0) finish()
      else if (room || to.destroyed) next()
      else to.once("drain", next)
    }
    setTimeout(go, weather.latencyMillis() + (rate > 0 ? (now.length / rate) * 1000 : 0))
  }
  from.on("data", (piece: Buffer) => {
    if (link.silent || stopped) return
    if (weather.latencyMillis() > 0 || weather.bytesPerSecond() > 0) {
      link.held.add(from)
      from.pause()
      hold(piece)
    } else if (!write(piece)) {
      from.pause()
      to.once("drain", () => from.resume())
    }
  })
  from.on("end", () => {
    ended = true
    if (!link.held.has(from)) finish()
  })
}
