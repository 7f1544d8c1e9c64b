/** Finds the services and topics of two revisions, and which of one is which of the other. */
import * as Service from "../../contract/Service.ts"
import * as Topic from "../../contract/Topic.ts"

/** A topic, or a pattern of topics. */
export type AnyTopic = Topic.Any | Topic.AnyPattern

/** What can be compared: a service, a topic, or an object of them, as a module's exports are. */
export type Contract = Service.Any | AnyTopic | { readonly [name: string]: unknown }

/** One of them, and the name of its export where it has one. */
export interface Named<A> {
  readonly value: A
  readonly exported: string | undefined
}

/** All of a revision; each once, whatever the number of its exports. */
export interface Contracts {
  readonly services: ReadonlyArray<Named<Service.Any>>
  readonly topics: ReadonlyArray<Named<AnyTopic>>
}

/** What is the same on both sides, what is there no more, and what is new. */
export interface Pairs<A> {
  readonly both: ReadonlyArray<{ readonly old: A; readonly new: A }>
  readonly removed: ReadonlyArray<A>
  readonly added: ReadonlyArray<A>
}

/** True for topics and patterns. */
export const isTopic = (value: unknown): value is AnyTopic =>
  typeof value === "object" && value !== null && "~fiberbus/contract/Topic" in value

/** Reads what a revision consists of; two of one name are one. */
export const read = (contract: Contract): Contracts => {
  const entries: ReadonlyArray<readonly [string | undefined, unknown]> =
    Service.isService(contract) || isTopic(contract) ? [[undefined, contract]] : Object.entries(contract)
  const services = new Map<string, Named<Service.Any>>()
  const topics = new Map<string, Named<AnyTopic>>()
  for (const [exported, value] of entries) {
    if (Service.isService(value) && !services.has(value.serviceName))
      services.set(value.serviceName, { value, exported })
    if (isTopic(value) && !topics.has(channelOf(value))) topics.set(channelOf(value), { value, exported })
  }
  return { services: [...services.values()], topics: [...topics.values()] }
}

/** The channel of a topic, or its pattern. */
export const channelOf = (topic: AnyTopic): string => (Topic.isPattern(topic) ? topic.pattern : topic.channel)

/** Pairs services by name; those left over by the name of their export, or by their actions: they were renamed. */
export const pairServices = (old: Contracts, now: Contracts): Pairs<Service.Any> =>
  pair(
    old.services,
    now.services,
    ({ serviceName }) => serviceName,
    (one, other) => {
      const names = Object.keys(one.actions)
      const shared = names.filter((name) => Object.hasOwn(other.actions, name)).length
      return shared > 0 && 2 * shared >= Math.max(names.length, Object.keys(other.actions).length)
    }
  )

/** Pairs topics by channel; those left over by the name of their export. */
export const pairTopics = (old: Contracts, now: Contracts): Pairs<AnyTopic> =>
  pair(old.topics, now.topics, channelOf, () => false)

const pair = <A>(
  old: ReadonlyArray<Named<A>>,
  now: ReadonlyArray<Named<A>>,
  nameOf: (value: A) => string,
  alike: (one: A, other: A) => boolean
): Pairs<A> => {
  const both: Array<{ readonly old: A; readonly new: A }> = []
  let [removed, added] = [[...old], [...now]]
  const match = (isPair: (one: Named<A>, other: Named<A>) => boolean) => {
    for (const one of removed) {
      const other = added.find((candidate) => isPair(one, candidate))
      if (other === undefined) continue
      both.push({ old: one.value, new: other.value })
      removed = removed.filter((left) => left !== one)
      added = added.filter((left) => left !== other)
    }
  }
  match((one, other) => nameOf(one.value) === nameOf(other.value))
  match((one, other) => one.exported !== undefined && one.exported !== "default" && one.exported === other.exported)
  // A single one on each side was given as such: it is meant to be compared.
  match(
    (one, other) =>
      (old.length === 1 && now.length === 1 && one.exported === undefined) || alike(one.value, other.value)
  )
  return { both, removed: removed.map(({ value }) => value), added: added.map(({ value }) => value) }
}
