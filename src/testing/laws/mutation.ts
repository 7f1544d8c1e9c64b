/** Requests that somebody got wrong, or wrote with bad intent. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** What is changed, and where: places of a payload are counted from the outside in, and begin again at the end. */
export interface Mutation {
  readonly how: How
  readonly where: number
  readonly what: number
}

type How = "replace" | "remove" | "add" | "rename the action" | "cut the frame"

/** A request before its addresses are added. */
export interface Message {
  readonly action: string
  readonly service: string
  readonly payload: unknown
}

const natural = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 }))

const weighted: ReadonlyArray<How> = [
  "replace",
  "replace",
  "replace",
  "replace",
  "replace",
  "replace",
  "remove",
  "add",
  "rename the action",
  "cut the frame"
]

/** Mostly changes of the payload. */
export const arbitrary: Arbitrary.Arbitrary<Mutation> = Arbitrary.map(
  Arbitrary.schema(Schema.Struct({ how: natural, where: natural, what: natural })),
  ({ how, what, where }) => ({ how: weighted[how % weighted.length]!, where, what })
)

const nested = (depth: number): unknown => (depth === 0 ? 0 : [nested(depth - 1)])

/** What stands in the place of something else, by its kind. */
const junk = {
  string: ["", "text", "-1", "1.5", "2020-13-45", "\u0000", "\ud800", "x".repeat(10_000)],
  number: [0, -1, 1.5, 1e308, Number.MAX_SAFE_INTEGER + 1],
  boolean: [true, false],
  object: [
    null,
    [],
    [null],
    {},
    { _tag: "Other" },
    JSON.parse('{"__proto__":{"polluted":true}}'),
    { constructor: { prototype: {} } },
    nested(70)
  ]
}
const allJunk: ReadonlyArray<unknown> = Object.values(junk).flat()

// One of the same kind is not found out as easily: every other time.
const instead = (value: unknown, what: number): unknown => {
  const alike: ReadonlyArray<unknown> = junk[typeof value as keyof typeof junk] ?? allJunk
  const choice = what % 2 === 0 ? alike : allJunk
  return choice[Math.floor(what / 2) % choice.length]
}

/** Changes a request. The text is there where the frame as such was changed. */
export const apply = (mutation: Mutation, message: Message): { readonly message: Message; readonly text?: string } => {
  const { how, what, where } = mutation
  if (how === "rename the action") return { message: { ...message, action: `${message.action}-${what}` } }
  if (how === "cut the frame") {
    const text = JSON.stringify(message)
    return { message, text: text.slice(0, where % text.length) }
  }
  const places = placesOf(message.payload)
  const path = places[where % places.length]!
  return { message: { ...message, payload: change(message.payload, path, how, what) } }
}

/** A mutation for people. */
export const describe = ({ how }: Mutation): string => `(${descriptions[how]})`

const descriptions: { readonly [_ in How]: string } = {
  replace: "a part was replaced",
  remove: "a part was removed",
  add: "a part was added",
  "rename the action": "sent to an action of another name",
  "cut the frame": "the frame was cut off there"
}

type Path = ReadonlyArray<string>

const placesOf = (value: unknown, path: Path = []): ReadonlyArray<Path> =>
  typeof value === "object" && value !== null
    ? [path, ...Object.entries(value).flatMap(([key, field]) => placesOf(field, [...path, key]))]
    : [path]

const change = (value: unknown, path: Path, how: How, what: number): unknown => {
  const [key, ...rest] = path
  const isObject = typeof value === "object" && value !== null
  if (key === undefined) {
    if (how === "remove") return isObject ? (Array.isArray(value) ? [] : {}) : null
    if (how === "replace" || !isObject) return instead(value, what)
    return Array.isArray(value)
      ? [...value, instead(undefined, what)]
      : { ...value, unknown_field: instead(undefined, what) }
  }
  if (Array.isArray(value)) {
    return value.map((item, index) => (String(index) === key ? change(item, rest, how, what) : item))
  }
  const fields = Object.entries(value as object)
  const kept = rest.length === 0 && how === "remove" ? fields.filter(([name]) => name !== key) : fields
  return Object.fromEntries(kept.map(([name, field]) => [name, name === key ? change(field, rest, how, what) : field]))
}
