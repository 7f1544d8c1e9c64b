/** The processes that take one action, and which of them gets the next call. */
import type * as Random from "effect/Random"
import type { Choose } from "../Balance.ts"
import type { Router } from "./router.ts"

/** A process that serves, as a caller knows it. */
export class Instance {
  readonly by: string
  /** Its own channel. */
  readonly channel: string
  /** Calls and attempts that wait for it. */
  pending = 0
  /** When it was last heard of, on the clock of the deadlines. */
  heardAt = 0
  /** The router's tick when a call was last sent to it or answered by it, and when it last answered one. */
  tick: number
  answeredTick = -1
  /** Since when it owes a sign of life. */
  probedAt: number | undefined = undefined
  /** It owes one for too long: others come first. */
  isSuspected = false
  /** It takes no more. */
  isLeaving = false
  /** It is gone for good; one that comes back is another. */
  isDead = false
  isMourned = false
  isLookedFor = false
  /** The most messages it takes in one frame; nothing where it takes one. */
  pack: number | undefined = undefined
  /** It takes long texts behind the JSON. */
  texts = false
  private actions: ReadonlySet<string> | undefined = undefined
  private said: ReadonlyArray<string> | undefined = undefined

  constructor(by: string, channel: string, tick: number) {
    this.by = by
    this.channel = channel
    this.tick = tick
  }

  takes(action: string) {
    return this.actions === undefined || this.actions.has(action)
  }

  /** Whether it said the same before. */
  takesOnly(actions: ReadonlyArray<string> | undefined) {
    const { said } = this
    if (actions === undefined || said === undefined) return actions === said
    return actions.length === said.length && actions.every((action, i) => action === said[i])
  }

  take(actions: ReadonlyArray<string> | undefined) {
    this.said = actions
    this.actions = actions === undefined ? undefined : new Set(actions)
  }
}

const none: ReadonlyArray<Instance> = []

/** @see the file's first line */
export class Members {
  readonly router: Router
  private readonly action: string
  private readonly random: Random.Random
  private found: ReadonlyArray<Instance> = none
  private version = -1

  constructor(router: Router, action: string, random: Random.Random) {
    this.router = router
    this.action = action
    this.random = random
  }

  /** Those that are there, of them the suspected only where there is nobody else. Replaced when somebody comes or goes, never changed. */
  get list(): ReadonlyArray<Instance> {
    const { router } = this
    if (this.version === router.version) return this.found
    this.version = router.version
    const able = [...router.all()].filter((one) => !one.isLeaving && !one.isDead && one.takes(this.action))
    const sound = able.filter(({ isSuspected }) => !isSuspected)
    this.found = sound.length > 0 ? sound : able
    return this.found
  }

  /** Numbers from 0 to 1, for those who choose. */
  readonly roll = () => this.random.nextDoubleUnsafe()

  /** The one for the next call, another than the one to avoid where there is another; nothing where none is known. */
  pick(choose: Choose, key: string | undefined, avoid: Instance | undefined): Instance | undefined {
    const { list } = this
    if (list.length < 2) return list[0]
    const chosen = list[choose(list, key)] ?? list[0]!
    if (chosen !== avoid) return chosen
    const others = list.filter((one) => one !== avoid)
    return others.length === 1 ? others[0] : (others[choose(others, key)] ?? others[0])
  }

  /** The one of that name, if it is known. */
  find(by: string): Instance | undefined {
    return this.list.find((one) => one.by === by)
  }
}
