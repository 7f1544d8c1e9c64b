/** A JSON Schema in few words, as TypeScript writes types: for people. */
import * as Printable from "../wire/Printable.ts"

type Json = { readonly [key: string]: unknown }

/** Deeper than this, and below a definition that is being shown, a type is its name or `…`. */
const maxDepth = 6

/** Longest text, in characters. */
const maxLength = 2_000

/** What a schema says, as far as words go; the rest of it is in the JSON. */
export const toText = (schema: Json): string => {
  const definitions = isObject(schema["$defs"]) ? schema["$defs"] : {}

  const show = (value: unknown, depth: number, within: ReadonlyArray<string>): string => {
    if (!isObject(value)) return value === false ? "never" : "unknown"
    if (depth > maxDepth) return "…"
    const next = (inner: unknown) => show(inner, depth + 1, within)
    const {
      $ref,
      additionalProperties,
      allOf,
      anyOf,
      const: only,
      enum: values,
      items,
      oneOf,
      prefixItems,
      type
    } = value
    if (typeof $ref === "string") {
      const name = $ref.slice($ref.lastIndexOf("/") + 1)
      return within.includes(name) ? Printable.word(name) : show(definitions[name], depth, [...within, name])
    }
    if (only !== undefined) return Printable.json(only)
    if (Array.isArray(values)) return values.map((one) => Printable.json(one)).join(" | ")
    const either = anyOf ?? oneOf
    if (Array.isArray(either)) return either.map(next).join(" | ")
    if (Array.isArray(prefixItems)) {
      const rest = isObject(items) ? [`...${many(next(items))}`] : []
      return `[${[...prefixItems.map(next), ...rest].join(", ")}]`
    }
    if (type === "array") return many(next(items))
    if (type === "object" || isObject(value["properties"])) {
      const fields = isObject(value["properties"]) ? Object.entries(value["properties"]) : []
      const required = Array.isArray(value["required"]) ? value["required"] : []
      const known = fields.map(
        ([name, field]) => `${Printable.word(name)}${required.includes(name) ? "" : "?"}: ${next(field)}`
      )
      const others = isObject(additionalProperties) ? [`[name]: ${next(additionalProperties)}`] : []
      return known.length + others.length === 0 ? "{}" : `{ ${[...known, ...others].join(", ")} }`
    }
    const limits = limitsOf(value)
    const name = typeof type === "string" ? type : Array.isArray(type) ? type.join(" | ") : undefined
    if (name !== undefined) return `${Printable.line(name)}${limits}`
    return Array.isArray(allOf) ? allOf.map(next).join(" & ") : "unknown"
  }

  return Printable.cut(show(schema, 0, []), maxLength)
}

const many = (one: string) => (/[ ,]/.test(one) && !one.startsWith("{") ? `(${one})[]` : `${one}[]`)

const words: Readonly<Record<string, string>> = {
  minimum: ">=",
  exclusiveMinimum: ">",
  maximum: "<=",
  exclusiveMaximum: "<",
  minLength: "length >=",
  maxLength: "length <=",
  pattern: "matches",
  format: "format"
}

// Checks stand beside the type, or in what all of applies.
const limitsOf = (schema: Json): string => {
  const all = [schema, ...(Array.isArray(schema["allOf"]) ? schema["allOf"].filter(isObject) : [])]
  const said = all.flatMap((part) =>
    Object.entries(words).flatMap(([key, word]) =>
      part[key] === undefined || isSafeLimit(part[key]) ? [] : [`${word} ${Printable.line(String(part[key]))}`]
    )
  )
  return said.length === 0 ? "" : ` (${said.join(", ")})`
}

// Every integer of JavaScript has these.
const isSafeLimit = (value: unknown) => typeof value === "number" && Math.abs(value) === Number.MAX_SAFE_INTEGER

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)
