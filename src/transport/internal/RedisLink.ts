/**
 * One connection to Redis that is kept up: connects, tells life from death, reconnects, and ends every command once.
 *
 * ioredis is trusted with the protocol only. Each attempt gets a client of its own that never reconnects, resends or
 * resubscribes, and no promise of it is awaited: commands stand in a queue of ours until their reply, their deadline or
 * the end of the connection, whichever is first: see {@link Outstanding}. PUBLISH, FCALL, XREADGROUP,
 * and messages of channels, pass it by: see {@link DirectPublish}.
 *
 * All timers here are Node's and not Effect's `Clock`: they guard a real socket, which TestClock cannot move, and they
 * end with the link.
 */
import { performance } from "node:perf_hooks"
import * as Effect from "effect/Effect"
import { Redis } from "ioredis"
import { type Frame, type Sent, TransportError } from "../Transport.ts"
import * as DirectPublish from "./DirectPublish.ts"
import { type Command, type Done, Outstanding } from "./Outstanding.ts"
import * as redisError from "./redisError.ts"
import type { Settings } from "./redisOptions.ts"
import * as Waits from "./waits.ts"

export type { Done } from "./Outstanding.ts"

/** What the owner of a link is told. */
export interface Owner {
  /** A new client is connected: listen to its events and give the first commands. The link is up when all are answered. */
  readonly prepare: (client: Redis) => void
  readonly up: () => void
  /** The connection is gone, or an attempt to reconnect failed. `wasUp` is true once per loss. */
  readonly down: (error: TransportError, wasUp: boolean, strain: Strain) => void
  /** Whether a lost link may connect again now; if not, `proceed` says when. */
  readonly mayReconnect: () => boolean
  /** The schedule of attempts has ended, and the link with it. */
  readonly gaveUp: (error: TransportError) => void
  /** One who was told how a command ended has thrown, which it must not. */
  readonly threw?: (subject: string, defect: unknown) => void
  /** A message of a channel, of so many bytes; where nobody is given, messages are events of the client, as all else. */
  readonly message?: (channel: string, frame: Frame, bytes: number) => void
}

/** What a connection had to bear in its last seconds. */
export interface Strain {
  /** Bytes that came in. */
  readonly bytesRead: number
  /** The longest time for which this process did not look. */
  readonly stalledMillis: number
}

/** @see {@link make} */
export interface RedisLink {
  /** Connects for the first time. Fails with what went wrong; after that the link keeps itself up until it is closed. */
  readonly start: Effect.Effect<void, TransportError>
  /** Connects for the first time, and tries again as after a loss where that fails. */
  readonly open: () => void
  readonly isUp: () => boolean
  /** Why nothing can be sent while it is not up. */
  readonly refusal: () => TransportError
  /** Bytes given to `command` that Redis has not answered yet. */
  readonly bytesInFlight: () => number
  /** Sends a command. `done` is called exactly once: on the reply, at the deadline, or when the connection is lost. */
  readonly command: (name: string, args: ReadonlyArray<string>, bytes: number, done: Done) => void
  /** The same while the link is up and checked, else refuses at once. */
  readonly commandWhenUp: RedisLink["command"]
  /** The same, with a reply whose texts are bytes as they came, or text where they are plain ASCII. */
  readonly bytesWhenUp: RedisLink["command"]
  /** Publishes a frame of so many bytes, by SPUBLISH where `sharded`, while the link is up and checked; else refuses at once. */
  readonly publish: (channel: string, frame: string, bytes: number, done: Sent, sharded?: boolean) => void
  /** Says that a whole message has come in, which is a sign of life. */
  readonly alive: () => void
  /** Makes the attempt that `mayReconnect` has put off. */
  readonly proceed: () => void
  /** Gives the connection up for another one, for a reason that only the owner can know. */
  readonly rebuild: (error: TransportError) => void
  /** Takes no more commands, gives the last ones up to a second to be answered, and closes the socket. Never hangs. */
  readonly close: Effect.Effect<void>
}

/** A link is asked for a sign of life by PING after one command timeout of silence, and is dead after so many. */
const deadTimeouts = 3
/** A link that has been up for this long starts again with short waits when it is lost. */
const steadyMillis = 5000
/** What a connection had to bear is kept for this long, and up to twice as long. */
const strainMillis = 2000
/** What closing waits for replies. */
const closeMillis = 1000

/** Commands that need no ioredis: those of the hot path, whose replies have one form, or are read whichever form they have. */
const readHere: ReadonlySet<string> = new Set(["fcall", "xreadgroup"])

/** Makes a link that is not connected yet. The name is shown by Redis' CLIENT LIST. */
export const make = (settings: Settings, name: string, owner: Owner): RedisLink => {
  let phase: "idle" | "connecting" | "preparing" | "up" | "down" | "closed" = "idle"
  let client: Redis | undefined
  let first: ((error: TransportError | undefined) => void) | undefined
  let closing = false
  let putOff = false
  let attempts = 0
  const waits = Waits.make(settings.reconnect)
  let upSince = 0
  let connectTimer: NodeJS.Timeout | undefined
  let reconnectTimer: NodeJS.Timeout | undefined
  let sweepTimer: NodeJS.Timeout | undefined
  let onIdle: (() => void) | undefined

  let outstanding = new Outstanding()
  let signs = 0
  let direct: DirectPublish.DirectPublish | undefined

  const connectOperation = `connect to ${settings.name}`
  const place = (operation: string, sent: TransportError["sent"], command?: { name: string; subject: string }) => ({
    operation,
    sent,
    user: settings.user,
    command,
    tls: settings.tls,
    scrub: settings.scrub
  })
  // Made once per loss and shared by all it concerns: there may be tens of thousands.
  let refusal = notConnected(settings.name, "it has not been connected yet")

  const attempt = () => {
    phase = "connecting"
    const candidate = new Redis(settings.clientOptions(`fiberbus:${name}`, attempts++))
    client = candidate
    const current = () => client === candidate
    const timer = setTimeout(() => {
      if (!current() || phase !== "connecting") return
      const accepted = socketOf(candidate)?.connecting === false
      const missing = `the connection was accepted, but ${settings.tls && candidate.status === "connecting" ? "TLS" : "the handshake"} was not answered`
      lose(
        new TransportError({
          kind: "Timeout",
          operation: connectOperation,
          detail: `${accepted ? missing : "no connection"} within ${settings.connectTimeoutMillis} ms`,
          hint: settings.tls
            ? "Check that a Redis with TLS listens there"
            : "Check that a Redis without TLS listens there, and that it is not overloaded",
          sent: "no"
        })
      )
    }, settings.connectTimeoutMillis)
    connectTimer = timer
    let sentinelError = ""
    candidate.on("error", (error: unknown) => {
      if (current()) lose(redisError.fromUnknown(error, place(connectOperation, "no"), sentinelError))
    })
    candidate.on("sentinelError", (error: unknown) => {
      if (current()) sentinelError = redisError.textOf(error, settings.scrub)
    })
    candidate.on("close", () => {
      if (current()) lose(closedByServer())
    })
    // Before the first byte has been read.
    candidate.on("connect", () => {
      if (current()) direct = publishing(candidate)
    })
    candidate.on("ready", () => {
      if (!current()) return
      clearTimeout(timer)
      phase = "preparing"
      owner.prepare(candidate)
      probe((error) => {
        if (!current() || phase !== "preparing") return
        if (error !== undefined) return lose(error)
        phase = "up"
        bytesBefore = 0
        bytesAtStart = 0
        upSince = performance.now()
        owner.up()
        first?.(undefined)
        first = undefined
      })
    })
    // What goes wrong comes as an event, with its cause; only the search among Sentinels tells it nowhere else.
    candidate.connect().catch((error: unknown) => {
      if (settings.sentinels && current() && phase === "connecting") {
        lose(redisError.fromUnknown(error, place(connectOperation, "no"), sentinelError))
      }
    })
  }

  const publishing = (connected: Redis) => {
    const mine = outstanding
    const publisher = DirectPublish.make(connected.stream, {
      isOurs: () => mine.isNextDirect(),
      isNumber: () => mine.next?.name === "publish" || mine.next?.name === "spublish",
      answered: (value, text) => {
        const command = mine.read()!
        const reply = command.asBytes ? value : texts(value)
        const error = text === undefined ? undefined : refused(text)
        // Of those before it ioredis tells a moment later.
        if (command === mine.oldest) settle(command, error, reply)
        else command.answer = { error, reply }
      },
      handedOn: (reply) => {
        const command = mine.read()
        // ioredis has asked for more than we know of: nobody can tell whose reply is next.
        if (command?.echo !== undefined && !reply.includes(command.echo)) publisher.stop()
      },
      lost: () => {
        if (mine.hasDirect) lose(unreadable())
      },
      message: owner.message
    })
    return publisher
  }

  const unreadable = () =>
    new TransportError({
      kind: "ProtocolError",
      operation: `read from ${settings.name}`,
      detail: "what came is no answer to what was asked",
      hint: "",
      sent: "unknown"
    })

  const closedByServer = () =>
    redisError.fromUnknown(new Error("the server closed the connection"), place(connectOperation, "no"))

  // Replies are matched by order alone. One that carries its question back shows that none has slipped.
  const probe = (done: (error: TransportError | undefined) => void) => {
    const question = `fiberbus ${Math.random()}`
    const answered: Done = (error, reply) => {
      const answer = Array.isArray(reply) ? reply[1] : reply
      if (error !== undefined || answer === question) return done(error)
      done(
        new TransportError({
          kind: "ProtocolError",
          operation: connectOperation,
          detail: "PING was answered with something else",
          hint: "",
          sent: "no"
        })
      )
    }
    write("ping", [question], 0, answered, { echo: question })
  }

  const lose = (error: TransportError) => {
    const lost = client
    if (lost === undefined) return
    const wasUp = phase === "up"
    client = undefined
    phase = "down"
    clearTimeout(connectTimer)
    destroy(lost)
    if (wasUp && performance.now() - upSince >= steadyMillis) waits.reset()
    const strain = strained(lost)
    if (!closing) refusal = notConnected(settings.name, error.detail)
    const starting = first
    first = undefined
    if (starting !== undefined || closing) phase = "closed"
    // First the news, then its consequences: what somebody begins because of them meets a link that is known to be down.
    owner.down(error, wasUp, strain)
    abandon(
      new TransportError({
        kind: error.kind === "Timeout" ? "Timeout" : "ConnectionLost",
        operation: `wait for ${settings.name}`,
        detail: `the connection was lost before the reply: ${error.detail}`,
        hint: "",
        sent: "unknown"
      })
    )
    starting?.(error)
    if (phase !== "down") return
    waits.next(error, (millis) => {
      if (phase !== "down") return
      if (millis !== undefined) {
        reconnectTimer = setTimeout(() => {
          if (owner.mayReconnect()) attempt()
          else putOff = true
        }, millis)
        return
      }
      const last = gaveUp(settings.name, error)
      refusal = last
      end(last)
      owner.gaveUp(last)
    })
  }

  // Two windows, so that the record never begins with the very moment of the loss.
  let strainSince = 0
  let bytesBefore = 0
  let bytesAtStart = 0
  let stalledBefore = 0
  let stalledNow = 0

  const strained = ({ stream }: Redis): Strain => {
    const lateBy = performance.now() - lastSweep - sweepMillis
    return {
      bytesRead: (socketOf({ stream })?.bytesRead ?? 0) - bytesBefore,
      stalledMillis: Math.max(stalledBefore, stalledNow, lateBy)
    }
  }

  const record = (now: number, lateBy: number) => {
    stalledNow = Math.max(stalledNow, lateBy)
    if (now - strainSince < strainMillis) return
    strainSince = now
    stalledBefore = stalledNow
    stalledNow = 0
    bytesBefore = bytesAtStart
    bytesAtStart = client === undefined ? 0 : (socketOf(client)?.bytesRead ?? 0)
  }

  const abandon = (error: TransportError) => {
    const abandoned = outstanding.abandon()
    outstanding = new Outstanding()
    direct?.drop()
    direct = undefined
    for (const command of abandoned) {
      if (command.answer === undefined) finish(command, error, undefined)
      else tell(command, command.answer.error, command.answer.reply)
    }
    idle()
  }

  const idle = () => {
    if (outstanding.isEmpty) onIdle?.()
  }

  const write = (
    commandName: string,
    args: ReadonlyArray<string>,
    bytes: number,
    done: Done,
    { asBytes = false, echo, heartbeat = false }: { asBytes?: boolean; echo?: string; heartbeat?: boolean } = {}
  ) => {
    const connected = client
    if (
      connected === undefined ||
      (phase !== "up" && phase !== "preparing") ||
      connected.status !== "ready" ||
      !connected.stream.writable
    ) {
      return done(refusal, undefined)
    }
    const isDirect = phase === "up" && readHere.has(commandName) && direct?.canPublish() === true
    const command: Command = {
      name: commandName,
      subject: args[0] ?? "",
      bytes,
      at: performance.now(),
      heartbeat,
      direct: isDirect,
      asBytes,
      echo,
      state: "waiting",
      answer: undefined,
      done
    }
    outstanding.add(command)
    if (isDirect) return direct!.command(commandName, args, bytes)
    direct?.theirs()
    const answered = (error: Error | null | undefined, reply: unknown) => {
      if (command.state === "settled") return
      // Not from Redis, hence about the connection as a whole.
      if (error && !redisError.isReply(error)) return lose(redisError.fromUnknown(error, place(connectOperation, "no")))
      settle(command, error ?? undefined, reply)
    }
    if (asBytes) connected.callBuffer(commandName, args as Array<string>, answered)
    else connected.call(commandName, args as Array<string>, answered)
    if (bytes > DirectPublish.directBytes) direct?.flush()
  }

  const publish = (channel: string, frame: string, bytes: number, done: Sent, sharded = false) => {
    const connected = client
    if (phase !== "up" || connected === undefined) return refuse(channel, done)
    if (direct?.canPublish() !== true) {
      return write(sharded ? "spublish" : "publish", [channel, frame], bytes, (error, reply) =>
        done(error, typeof reply === "number" ? reply : 0)
      )
    }
    if (connected.status !== "ready" || !connected.stream.writable) return refuse(channel, done)
    const at = direct.publish(sharded, channel, frame, bytes)
    outstanding.add({
      name: sharded ? "spublish" : "publish",
      subject: channel,
      bytes,
      at,
      heartbeat: false,
      direct: true,
      asBytes: false,
      echo: undefined,
      state: "waiting",
      answer: undefined,
      done: done as Done
    })
  }

  const refuse = (channel: string, done: Sent) => {
    try {
      done(refusal, 0)
    } catch (defect) {
      owner.threw?.(channel, defect)
    }
  }

  // What is told may be a stranger: the others of this turn have nothing to do with what it does.
  const finish = (command: Command, error: TransportError | undefined, reply: unknown) => {
    try {
      command.done(error, reply)
    } catch (defect) {
      if (owner.threw !== undefined) return owner.threw(command.subject, defect)
      process.nextTick(() => {
        throw defect
      })
    }
  }

  const tell = (command: Command, error: Error | undefined, reply: unknown) =>
    finish(
      command,
      error === undefined
        ? undefined
        : redisError.fromUnknown(error, place(operationOf(command), "unknown", heartbeatless(command))),
      reply
    )

  const settle = (command: Command, error: Error | undefined, reply: unknown) => {
    settleOne(command, error, reply)
    for (let next = outstanding.oldest; next?.answer !== undefined; next = outstanding.oldest) {
      settleOne(next, next.answer.error, next.answer.reply)
    }
    idle()
  }

  const settleOne = (command: Command, error: Error | undefined, reply: unknown) => {
    const { state } = command
    outstanding.settle(command)
    signs++
    if (state === "waiting") tell(command, error, reply)
  }

  let lastSigns = 0
  let lastSign = 0
  let lastSweep = 0
  let stalled = false
  const sweepMillis = Math.max(5, Math.min(250, settings.commandTimeoutMillis / 10))

  const sweep = () => {
    const now = performance.now()
    const late = now - lastSweep > sweepMillis * 4
    record(now, now - lastSweep - sweepMillis)
    lastSweep = now
    if (signs !== lastSigns) {
      lastSigns = signs
      lastSign = now
    }
    if (client === undefined || (phase !== "up" && phase !== "preparing")) {
      lastSign = now
      return
    }
    // This process was busy or frozen: answers may be waiting in the socket, so look once more before judging.
    if (late && !stalled) {
      stalled = true
      return
    }
    stalled = false
    if (outstanding.isEmpty) {
      if (settings.defences.heartbeat && now - lastSign >= settings.commandTimeoutMillis)
        write("ping", [], 0, () => {}, { heartbeat: true })
      return
    }
    expire(now)
    const { oldest } = outstanding
    if (oldest === undefined) return
    // While replies or messages keep coming, a late one is behind others and not lost.
    const limit =
      oldest.heartbeat && oldest.state === "waiting"
        ? deadTimeouts * settings.commandTimeoutMillis
        : settings.commandTimeoutMillis
    if (now - Math.max(oldest.at, lastSign) >= limit) lose(silent(oldest, limit))
  }

  const silent = (oldest: Command, limit: number) =>
    new TransportError({
      kind: "Timeout",
      operation: operationOf(oldest),
      detail: `no sign of life for ${limit} ms`,
      hint: "Check the network, and whether a slow command blocks Redis",
      sent: "unknown"
    })

  const expire = (now: number) => {
    const late = outstanding.expire(now - settings.commandTimeoutMillis)
    if (late.length === 0) return
    const error = new TransportError({
      kind: "Timeout",
      operation: `wait for ${settings.name}`,
      detail: `no reply within ${settings.commandTimeoutMillis} ms`,
      hint: "Check the network and Redis' load, or raise commandTimeout",
      sent: "unknown"
    })
    for (const command of late) finish(command, error, undefined)
  }

  const end = (error: TransportError) => {
    phase = "closed"
    clearTimeout(connectTimer)
    clearTimeout(reconnectTimer)
    clearInterval(sweepTimer)
    const last = client
    client = undefined
    if (last !== undefined) destroy(last)
    abandon(error)
  }

  const open = () => {
    lastSweep = performance.now()
    sweepTimer = setInterval(sweep, sweepMillis)
    sweepTimer.unref()
    attempt()
  }

  return {
    open,
    start: Effect.callback((resume) => {
      first = (error) => resume(error === undefined ? Effect.void : Effect.fail(error))
      open()
      return Effect.sync(() => end(closed(settings.name, "unknown")))
    }),
    isUp: () => phase === "up",
    refusal: () => refusal,
    bytesInFlight: () => outstanding.bytes,
    command: (commandName, args, bytes, done) => write(commandName, args, bytes, done),
    commandWhenUp: (commandName, args, bytes, done) => {
      if (phase === "up") write(commandName, args, bytes, done)
      else done(refusal, undefined)
    },
    bytesWhenUp: (commandName, args, bytes, done) => {
      if (phase === "up") write(commandName, args, bytes, done, { asBytes: true })
      else done(refusal, undefined)
    },
    publish,
    alive: () => {
      signs++
    },
    proceed: () => {
      if (!putOff || phase !== "down") return
      putOff = false
      attempt()
    },
    rebuild: (error) => {
      if (!closing) lose(error)
    },
    close: Effect.callback<void>((resume) => {
      closing = true
      // One that has given up goes on saying why.
      if (phase !== "closed") refusal = closed(settings.name, "no")
      direct?.flush()
      const finish = () => {
        clearTimeout(timer)
        onIdle = undefined
        end(closed(settings.name, "unknown"))
        resume(Effect.void)
      }
      const timer = setTimeout(finish, closeMillis)
      // Not up: there is nothing that could still be answered.
      if (phase !== "up" || outstanding.isEmpty) return finish()
      phase = "closed"
      onIdle = finish
    })
  }
}

/** The error of whatever comes after the end. */
export const closed = (name: string, sent: TransportError["sent"]) =>
  new TransportError({ kind: "Closed", operation: `use ${name}`, detail: "the transport is closed", hint: "", sent })

const gaveUp = (name: string, error: TransportError) =>
  new TransportError({
    kind: "Closed",
    operation: `reconnect to ${name}`,
    detail: `given up: ${error.detail}`,
    hint: "The reconnect schedule has ended; leave it endless to go on for ever",
    sent: "no"
  })

const notConnected = (name: string, why: string) =>
  new TransportError({
    kind: "ConnectionLost",
    operation: `use ${name}`,
    detail: `not connected: ${why}`,
    hint: "It reconnects by itself",
    sent: "no"
  })

// As ioredis would give it.
const texts = (reply: unknown): unknown => {
  if (Array.isArray(reply)) return reply.map(texts)
  return Buffer.isBuffer(reply) ? reply.toString() : reply
}

// An error as ioredis would make it.
const refused = (text: string) => Object.assign(new Error(text), { name: "ReplyError" })

const operationOf = ({ name, subject, heartbeat }: Command) => {
  const upper = name.toUpperCase()
  return heartbeat || upper === "PING" || subject === "" ? upper : `${upper} ${subject}`
}

const heartbeatless = ({ name, subject }: Command) => ({ name, subject: name === "ping" ? "" : subject })

// Its type says that it is always there, but it comes a turn after the client.
const socketOf = (client: { readonly stream?: Redis["stream"] }) => client.stream

// `disconnect` alone would wait for the other side to close as well.
const destroy = (client: Redis) => {
  const stream = socketOf(client)
  stream?.on("error", () => {})
  client.disconnect()
  stream?.destroy()
}
