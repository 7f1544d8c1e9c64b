/** Says for one service of this process that it is there: at its beginning, when asked, again and again, and when it takes no more. */
import type * as Random from "effect/Random"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import * as Channels from "../../wire/Channels.ts"
import * as LongTexts from "../../wire/LongTexts.ts"
import * as Pack from "../../wire/Pack.ts"
import * as Presence from "../../wire/Presence.ts"
import type { Link } from "./exchange.ts"

/** Time between two announcements that nobody asked for, in milliseconds; each varies by up to a tenth. */
export const beatMillis = 2_000

/** Those who ask within so many milliseconds of an announcement share the next one. */
export const coalesceMillis = 50

/** Announces the actions that callers may send to this process itself. */
export class Announcer extends TimerWheel.Entry {
  private readonly link: Link
  private readonly channel: string
  private readonly random: Random.Random
  private readonly beats: boolean
  private readonly actions = new Set<string>()
  private saidAt = Number.NEGATIVE_INFINITY
  private frame = ""

  private readonly onBeat: (() => void) | undefined

  constructor(link: Link, service: string, random: Random.Random, onBeat: (() => void) | undefined) {
    super()
    this.link = link
    this.channel = Channels.instances(link.transport.prefix, service)
    this.random = random
    this.onBeat = onBeat
    // Nobody loses sight of who is in the same process.
    this.beats = link.transport.capabilities.inProcess !== true
  }

  get isEmpty() {
    return this.actions.size === 0
  }

  /** It takes these from now on. */
  add(actions: ReadonlyArray<string>) {
    for (const action of actions) this.actions.add(action)
    this.changed()
  }

  /** It takes these no more. */
  remove(actions: ReadonlyArray<string>) {
    for (const action of actions) this.actions.delete(action)
    if (!this.isEmpty) return this.changed()
    this.link.wheel.remove(this)
    this.send(Presence.write({ _tag: "Gone", by: this.link.instance }))
  }

  private changed() {
    const { instance, transport } = this.link
    const { maxFrameBytes, packs } = transport.capabilities
    this.frame = Presence.write({
      _tag: "Here",
      by: instance,
      actions: [...this.actions],
      pack: packs ? Pack.maxCount : undefined,
      texts: maxFrameBytes >= Pack.maxBytes ? LongTexts.version : undefined
    })
    this.announce()
  }

  /** Somebody asks who is there. */
  asked() {
    if (this.isEmpty) return
    const { link } = this
    const wait = this.saidAt + coalesceMillis - link.wheel.now()
    if (wait <= 0 || !this.beats) return this.announce()
    if (this.tick >= 0 && this.expiresAt <= this.saidAt + coalesceMillis) return
    link.wheel.remove(this)
    link.wheel.add(this, wait)
  }

  /** Says so now, and again after a beat. */
  announce() {
    const { wheel } = this.link
    this.saidAt = wheel.now()
    this.send(this.frame)
    if (!this.beats) return
    wheel.remove(this)
    wheel.add(this, beatMillis * (0.9 + 0.2 * this.random.nextDoubleUnsafe()))
  }

  override expire() {
    this.onBeat?.()
    this.announce()
  }

  private send(frame: string) {
    const { discards, transport } = this.link
    transport.send(this.channel, frame, (error) => {
      if (error !== undefined) discards.count(`PresenceNotSent:${error.kind}`)
    })
  }
}
