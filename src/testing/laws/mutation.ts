/** Requests that somebody got wrong, or wrote with bad intent. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** What is changed, and where: places of a payload are counted from the outside in, and begin again at the end. */
export interface Mutation {
  readonly how: "replace" | "remove" | "add" | "rename the action" | "cut the frame"
  readonly where: number
  readonly what: number
}

/** A request before its addresses are added. */
export interface Message {
  readonly action: string
  readonly service: string
  readonly payload: unknown
}

const natural = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 }))

/** Mostly changes of the payload. */
export const arbitrary: Arbitrary.Arbitrary<Mutation> = Arbitrary.schema(
  Schema.Struct({
    how: Schema.Literals(["replace", "remove", "add", "replace", "add", "rename the action", "cut the frame"]),
    where: natural,
    what: natural
  })
)

const nested = (depth: number): unknown => (depth === 0 ? 0 : [nested(depth - 1)])

/** What stands in the place of something else. */
const junk: ReadonlyArray<unknown> = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  "",
  "text",
  "2020-13-45",
  "\u0000",
  "x".repeat(10_000),
  [],
  [null],
  {},
  { _tag: "Other" },
  JSON.parse('{"__proto__":{"polluted":true}}'),
  { constructor: { prototype: {} } },
  nested(70)
]

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
  return { message: { ...message, payload: change(message.payload, path, how, junk[what % junk.length]) } }
}

/** A mutation for people. */
export const describe = ({ how }: Mutation): string => `(${descriptions[how]})`

const descriptions: { readonly [How in Mutation["how"]]: string } = {
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

const change = (value: unknown, path: Path, how: Mutation["how"], what: unknown): unknown => {
  const [key, ...rest] = path
  if (key === undefined) {
    if (how === "replace" || typeof value !== "object" || value === null) return how === "remove" ? null : what
    if (how === "remove") return Array.isArray(value) ? [] : {}
    return Array.isArray(value) ? [...value, what] : { ...value, unknown_field: what }
  }
  const fields = value as Record<string, unknown>
  if (Array.isArray(value))
    return value.map((item, index) => (String(index) === key ? change(item, rest, how, what) : item))
  if (rest.length === 0 && how === "remove")
    return Object.fromEntries(Object.entries(fields).filter(([name]) => name !== key))
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, name === key ? change(field, rest, how, what) : field])
  )
}
