/**
 * One connection to NATS that is kept up: connects, tells life from death, reconnects, and ends every command once.
 *
 * The client is trusted with the protocol only. Each attempt gets one of its own that never reconnects: while it is down it would
 * keep what is published and send it late, and a subscription it has lost would not tell of a gap. Nor is a promise of it awaited
 * alone, for those of a flush never settle when the connection ends: commands stand in a queue of ours until the PONG behind them,
 * their deadline or the end of the connection, whichever is first.
 *
 * All timers here are Node's and not Effect's `Clock`: they guard a real socket, which TestClock cannot move.
 */
import { performance } from "node:perf_hooks"
import { connect, errors, type NatsConnection, type Subscription } from "@nats-io/transport-node"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TransportError } from "../Transport.ts"
import * as natsError from "./natsError.ts"
import * as natsGreeting from "./natsGreeting.ts"
import type { Address, Settings } from "./natsOptions.ts"
import * as Waits from "./waits.ts"

/** Called exactly once per command. */
export type Done = (error: TransportError | undefined) => void

/** Called for each message of a subscription. */
export type Message = (data: Uint8Array, subject: string) => void

/** What the owner of a link is told. */
export interface Owner {
  /** A new connection is there: subscribe everything on it. The link is up when all has been answered. */
  readonly prepare: () => void
  readonly up: () => void
  /** The connection is gone, or an attempt to reconnect failed. `wasUp` is true once per loss; commands end after this. */
  readonly down: (error: TransportError, wasUp: boolean) => void
  /** The schedule of attempts has ended, and the link with it. */
  readonly gaveUp: (error: TransportError) => void
}

/** @see {@link make} */
export interface NatsLink {
  /** Connects for the first time. Fails with what went wrong; after that the link keeps itself up until it is closed. */
  readonly start: Effect.Effect<void, TransportError>
  readonly isUp: () => boolean
  /** Why nothing can be sent while it is not up. */
  readonly refusal: () => TransportError
  /** Bytes given to `publish` that the server has not confirmed yet. */
  readonly bytesInFlight: () => number
  /** The largest message that the server takes, in bytes; 0 before the first connection. */
  readonly maxPayload: () => number
  /** Sends while the link is up, else refuses at once. Confirmed when the server has read it. */
  readonly publish: (subject: string, data: Uint8Array, done: Done) => void
  /** Subscribes on the present connection; `done` when the server has confirmed or refused. Nothing if there is none. */
  readonly subscribe: (subject: string, receive: Message, done: Done) => Subscription | undefined
  /** Unsubscribes; messages still come until `done`. */
  readonly unsubscribe: (subscription: Subscription, done: Done) => void
  /** Takes no more commands, gives the last ones up to a second to be answered, and closes the socket. Never hangs. */
  readonly close: Effect.Effect<void>
}

interface Command {
  readonly operation: string
  /** As in the server's `Permissions Violation for …`. */
  readonly verb: "publish" | "subscription" | "none"
  readonly subject: string
  readonly bytes: number
  /** Undefined once it has been called. */
  done: Done | undefined
}

/** A PING, and the commands that its PONG confirms. */
interface Ping {
  readonly commands: ReadonlyArray<Command>
  readonly askedAt: number
  /** What had been heard until then. */
  readonly heard: number
}

interface Connection {
  readonly client: NatsConnection
  readonly name: string
  /** Given to the client, with no PING behind them yet. */
  commands: Array<Command>
  readonly pings: Array<Ping>
  /** Counts signs of life. */
  heard: number
  heardAt: number
  bytes: number
  upSince: number | undefined
  /** What the server said last, in case it hangs up. */
  lastWord: Error | undefined
  over: boolean
  /** Looks after it. */
  guard: NodeJS.Timeout | undefined
  readonly ready: (exit: Exit.Exit<void, TransportError>) => void
}

/** A connection that lasted so long was a good one: the schedule begins again. */
const goodMillis = 5000

/** Time for the last commands at the end. */
const closeMillis = 1000

/** What a message costs besides its bytes, so that empty ones are bounded too. */
const overheadBytes = 64

/** Makes a link that has not connected yet. */
export const make = (settings: Settings, owner: Owner): NatsLink => {
  const { commandTimeoutMillis, connectTimeoutMillis, name, scrub } = settings
  const waits = Waits.make(settings.reconnect)
  let current: Connection | undefined
  let phase: "idle" | "starting" | "up" | "down" | "closed" = "idle"
  let refusal = closed(name, "no")
  let maxPayload = 0
  // So that many processes do not all choose the first.
  let next = Math.floor(Math.random() * settings.addresses.length)
  let attempting: Fiber.Fiber<void, TransportError> | undefined
  let retry: NodeJS.Timeout | undefined

  const end = (command: Command, error: TransportError | undefined) => {
    const { done } = command
    command.done = undefined
    done?.(error)
  }

  const lostCommand = ({ operation, done }: Command, detail: string) =>
    done === undefined
      ? undefined
      : new TransportError({ kind: "ConnectionLost", operation, detail, hint: "", sent: "unknown" })

  // ---- commands ----

  const ping = (connection: Connection) => {
    if (connection.over) return
    const entry: Ping = { commands: connection.commands, askedAt: performance.now(), heard: connection.heard }
    connection.commands = []
    connection.pings.push(entry)
    connection.client.flush().then(
      // The client tells of a refusal later than of the PONG behind it, by some microtasks.
      () => process.nextTick(answered, connection, entry),
      // It has ended, and tells us so.
      () => {}
    )
  }

  const answered = (connection: Connection, entry: Ping) => {
    if (connection.over) return
    alive(connection)
    const at = connection.pings.indexOf(entry)
    for (const { commands } of connection.pings.splice(0, at + 1)) {
      for (const command of commands) {
        connection.bytes -= command.bytes
        end(command, undefined)
      }
    }
  }

  const alive = (connection: Connection) => {
    connection.heard++
    connection.heardAt = performance.now()
  }

  // One PING for all commands of a turn, in one write with them: ours is the first microtask, the client's the second.
  const give = (connection: Connection, command: Command, act: () => void) => {
    if (connection.commands.length === 0) queueMicrotask(() => ping(connection))
    connection.commands.push(command)
    connection.bytes += command.bytes
    try {
      act()
    } catch (error) {
      end(command, natsError.fromUnknown(error, { operation: command.operation, sent: "no", scrub }))
    }
  }

  const all = function* (connection: Connection) {
    for (const { commands } of connection.pings) yield* commands
    yield* connection.commands
  }

  // The server says so before the PONG, once for each refused command, and does not act.
  const denied = (connection: Connection, error: InstanceType<typeof errors.PermissionViolationError>) => {
    for (const command of all(connection)) {
      if (command.done === undefined || command.verb !== error.operation || command.subject !== error.subject) continue
      return end(command, natsError.fromUnknown(error, { operation: command.operation, sent: "no", scrub }))
    }
  }

  // ---- life and death ----

  const listen = async (connection: Connection) => {
    for await (const status of connection.client.status()) {
      if (status.type !== "error") continue
      alive(connection)
      if (status.error instanceof errors.PermissionViolationError) denied(connection, status.error)
      else connection.lastWord = status.error
    }
  }

  const guard = (connection: Connection) => {
    const period = Math.max(1, commandTimeoutMillis / 4)
    let checkedAt = performance.now()
    connection.guard = setInterval(() => {
      const now = performance.now()
      const stoodStill = now - checkedAt > 2 * period
      checkedAt = now
      // What has come meanwhile is not read yet.
      if (stoodStill) return
      const [oldest] = connection.pings
      if (oldest === undefined) {
        if (now - connection.heardAt >= commandTimeoutMillis / 2) ping(connection)
        return
      }
      if (now - oldest.askedAt < commandTimeoutMillis) return
      if (oldest.heard === connection.heard) {
        return lose(connection, new Error(`no sign of life within ${commandTimeoutMillis} ms`), "ConnectionLost")
      }
      for (const { askedAt, commands } of connection.pings) {
        if (now - askedAt < commandTimeoutMillis) break
        for (const command of commands) {
          const { operation } = command
          const detail = `not confirmed within ${commandTimeoutMillis} ms`
          end(command, new TransportError({ kind: "Timeout", operation, detail, hint: "", sent: "unknown" }))
        }
      }
    }, period)
  }

  const lose = (connection: Connection, reason: unknown, kind?: TransportError["kind"]) => {
    if (connection.over) return
    connection.over = true
    clearInterval(connection.guard)
    // Not awaited: a frozen server does not hold it, and nothing of ours waits for it.
    connection.client.close().catch(() => {})
    if (current === connection) current = undefined
    const said = natsError.fromUnknown(reason, { operation: `use ${connection.name}`, sent: "unknown", scrub })
    const error = kind === undefined ? said : new TransportError({ ...fieldsOf(said), kind })
    const wasUp = connection.upSince !== undefined
    if (wasUp) {
      if (performance.now() - connection.upSince! >= goodMillis) waits.reset()
      if (phase !== "closed") {
        phase = "down"
        refusal = new TransportError({ ...fieldsOf(error), sent: "no" })
        owner.down(error, true)
      }
    }
    for (const command of all(connection)) end(command, lostCommand(command, error.detail))
    if (!wasUp) connection.ready(Exit.fail(error))
    else if (phase === "down") again(error)
  }

  // ---- connecting ----

  const failed = (address: Address, error: unknown) =>
    natsError.fromUnknown(error, { operation: `connect to ${address.name}`, sent: "no", scrub })

  const dial = (address: Address): Effect.Effect<NatsConnection, TransportError> =>
    Effect.callback((resume) => {
      let over = false
      const finish = (result: Effect.Effect<NatsConnection, TransportError>) => {
        over = true
        clearTimeout(timer)
        resume(result)
      }
      const timer = setTimeout(() => finish(Effect.fail(failed(address, new Error("timeout")))), connectTimeoutMillis)
      connect(settings.clientOptions(address)).then(
        (client) => {
          if (over) client.close().catch(() => {})
          else finish(Effect.succeed(client))
        },
        (error) => finish(Effect.fail(failed(address, error)))
      )
      return Effect.sync(() => {
        over = true
        clearTimeout(timer)
      })
    })

  const open = (address: Address) =>
    Effect.flatMap(natsGreeting.read(address, settings), ({ tlsRequired }) =>
      tlsRequired && !settings.tls
        ? Effect.fail(
            new TransportError({
              kind: "ProtocolError",
              operation: `connect to ${address.name}`,
              detail: "the server wants TLS",
              hint: "Use tls:// or tls: true",
              sent: "no"
            })
          )
        : dial(address)
    )

  const prepare = (address: Address, client: NatsConnection): Effect.Effect<void, TransportError> =>
    Effect.callback((resume) => {
      const now = performance.now()
      const connection: Connection = {
        client,
        name: address.name,
        commands: [],
        pings: [],
        heard: 0,
        heardAt: now,
        bytes: 0,
        upSince: undefined,
        lastWord: undefined,
        over: false,
        guard: undefined,
        ready: resume
      }
      current = connection
      maxPayload = client.info?.max_payload ?? maxPayload
      listen(connection).catch(() => {})
      client.closed().then((error) => {
        const reason = error ?? connection.lastWord ?? new Error("the server closed the connection")
        const forGood =
          reason instanceof errors.AuthorizationError || reason instanceof errors.UserAuthenticationExpiredError
        lose(connection, reason, forGood ? undefined : "ConnectionLost")
      })
      guard(connection)
      owner.prepare()
      // The PONG comes after all that the owner has asked for.
      const last: Command = {
        operation: `use ${address.name}`,
        verb: "none",
        subject: "",
        bytes: 0,
        done: (error) => {
          if (error !== undefined || connection.over) return
          connection.upSince = performance.now()
          phase = "up"
          // Before anybody can hear of a loss.
          owner.up()
          resume(Effect.void)
        }
      }
      give(connection, last, () => {})
      return Effect.sync(() => lose(connection, new Error("closed connection")))
    })

  /** Tries each server once, beginning with the next one. */
  const attempt: Effect.Effect<void, TransportError> = Effect.suspend(() => {
    const { addresses } = settings
    const first = next
    next = (next + 1) % addresses.length
    const from = (i: number): Effect.Effect<void, TransportError> => {
      const address = addresses[(first + i) % addresses.length]!
      const one = Effect.flatMap(open(address), (client) => prepare(address, client))
      return i + 1 < addresses.length ? Effect.catch(one, () => from(i + 1)) : one
    }
    return from(0)
  })

  const again = (reason: TransportError) => {
    waits.next(reason, (millis) => {
      if (phase !== "down") return
      if (millis === undefined) {
        phase = "closed"
        const gaveUp = new TransportError({ ...fieldsOf(reason), kind: "Closed", sent: "no" })
        refusal = gaveUp
        return owner.gaveUp(gaveUp)
      }
      retry = setTimeout(() => {
        attempting = Effect.runFork(attempt)
        attempting.addObserver((exit) => {
          attempting = undefined
          if (phase === "closed") return
          if (Exit.isSuccess(exit)) return
          const error = Cause.squash(exit.cause)
          const known =
            error instanceof TransportError
              ? error
              : natsError.fromUnknown(error, { operation: `connect to ${name}`, sent: "no", scrub })
          refusal = known
          owner.down(known, false)
          again(known)
        })
      }, millis)
    })
  }

  const whenUp = (operation: string, done: Done): Connection | undefined => {
    if (phase === "up" && current !== undefined) return current
    done(new TransportError({ ...fieldsOf(refusal), operation }))
    return undefined
  }

  return {
    start: Effect.suspend(() => {
      phase = "starting"
      return attempt.pipe(
        Effect.onError(() =>
          Effect.sync(() => {
            phase = "closed"
          })
        )
      )
    }),
    isUp: () => phase === "up",
    refusal: () => refusal,
    bytesInFlight: () => current?.bytes ?? 0,
    maxPayload: () => maxPayload,
    publish: (subject, data, done) => {
      const operation = `PUB ${subject}`
      const connection = whenUp(operation, done)
      if (connection === undefined) return
      const command: Command = { operation, verb: "publish", subject, bytes: data.length + overheadBytes, done }
      give(connection, command, () => connection.client.publish(subject, data))
    },
    subscribe: (subject, receive, done) => {
      const connection = current
      if (connection === undefined) return undefined
      let subscription: Subscription | undefined
      const command: Command = { operation: `SUB ${subject}`, verb: "subscription", subject, bytes: 0, done }
      give(connection, command, () => {
        subscription = connection.client.subscribe(subject, {
          callback: (error, message) => {
            // A refusal comes by the status as well.
            if (error !== null || connection.over) return
            alive(connection)
            receive(message.data, message.subject)
          }
        })
      })
      return subscription
    },
    unsubscribe: (subscription, done) => {
      const connection = current
      if (connection === undefined || subscription.isClosed()) return done(undefined)
      const command: Command = {
        operation: `UNSUB ${subscription.getSubject()}`,
        verb: "none",
        subject: "",
        bytes: 0,
        done
      }
      // `drain` goes on receiving until the server has confirmed; `unsubscribe` would drop what is on its way.
      give(connection, command, () => void subscription.drain().catch(() => {}))
    },
    close: Effect.callback<void>((resume) => {
      clearTimeout(retry)
      const wasUp = phase === "up"
      phase = "closed"
      refusal = closed(name, "no")
      if (attempting !== undefined) Effect.runFork(Fiber.interrupt(attempting))
      const connection = current
      if (connection === undefined) return resume(Effect.void)
      let finished = false
      const finish = () => {
        if (finished) return
        finished = true
        clearTimeout(timer)
        lose(connection, new Error("the transport is closed"), "Closed")
        resume(Effect.void)
      }
      const timer = setTimeout(finish, closeMillis)
      if (!wasUp) return finish()
      const last: Command = { operation: `use ${name}`, verb: "none", subject: "", bytes: 0, done: finish }
      give(connection, last, () => {})
    })
  }
}

/** The error of a transport that has ended. */
export const closed = (name: string, sent: TransportError["sent"]): TransportError =>
  new TransportError({ kind: "Closed", operation: `use ${name}`, detail: "the transport is closed", hint: "", sent })

const fieldsOf = ({ kind, operation, detail, hint, sent }: TransportError) => ({ kind, operation, detail, hint, sent })
