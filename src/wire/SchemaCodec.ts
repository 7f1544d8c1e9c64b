/** Values of a contract to JSON and back, compiled once per schema. */
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaJITCompiler from "effect/schema/SchemaJITCompiler"
import type { AnySchema } from "../contract/Action.ts"
import * as Codec from "./Codec.ts"
import { cut } from "./Envelope.ts"

/**
 * Both directions of one schema. What is returned is an `Exit` unless the schema itself does asynchronous work, so the
 * hot path reads it without a fiber.
 */
export interface SchemaCodec<in out T> {
  readonly decode: (json: unknown) => Effect.Effect<T, Schema.SchemaError>
  readonly encode: (value: T) => Effect.Effect<unknown, Schema.SchemaError>
  /** How deep its JSON nests at most, as far as the schema tells; absent or `Infinity` where it does not. */
  readonly depth?: number
}

/** True when a value, with so many levels around it, nests deeper than frames may. Mostly its schema says that none does. */
export const nestsTooDeep = (codec: { readonly depth?: number } | undefined, json: unknown, levels: number): boolean =>
  (codec?.depth === undefined || codec.depth + levels > Codec.maxDepth) && Codec.nestsTooDeep(json, levels)

const compiled = new WeakMap<AnySchema, SchemaCodec<any>>()

/**
 * Compiles the JSON codec of a schema (`Schema.toCodecJson`), or returns the one made before.
 *
 * `Schema.Void` and `Schema.Undefined` are special: whatever a peer sends there is read as nothing, because Daebus has no way to say nothing.
 */
export const make = <S extends AnySchema>(schema: S): SchemaCodec<S["Type"]> => {
  const known = compiled.get(schema)
  if (known !== undefined) return known
  const codec = isVoid(schema) ? voidCodec : compile(schema)
  compiled.set(schema, codec)
  return codec
}

/** True for schemas whose only value is nothing: `Schema.Void` and `Schema.Undefined`. */
export const isVoid = (schema: AnySchema): boolean => schema.ast._tag === "Void" || schema.ast._tag === "Undefined"

/** True for schemas without values: the part was left out of the contract. */
export const isNever = (schema: AnySchema): boolean => schema.ast._tag === "Never"

const voidCodec: SchemaCodec<any> = { decode: () => Exit.void, encode: () => Exit.succeed(null), depth: 0 }

const compile = (schema: AnySchema): SchemaCodec<any> => {
  const json = Schema.toCodecJson(schema)
  // For this schema alone, never globally. Where code from text is forbidden it stays interpreted by itself.
  SchemaJITCompiler.enable(json.ast)
  const decode = Schema.decodeUnknownEffect(json)
  const encode = Schema.encodeUnknownEffect(json)
  return { decode: contained(decode), encode: contained(encode), depth: depthOf(SchemaAST.toEncoded(json.ast)) }
}

const depthOf = (ast: SchemaAST.AST): number => {
  switch (ast._tag) {
    case "Objects":
      return (
        1 +
        Math.max(
          0,
          ...ast.propertySignatures.map(({ type }) => depthOf(type)),
          ...ast.indexSignatures.map(({ type }) => depthOf(type))
        )
      )
    case "Arrays":
      return 1 + Math.max(0, ...ast.elements.map(depthOf), ...ast.rest.map(depthOf))
    case "Union":
      return Math.max(0, ...ast.types.map(depthOf))
    case "Null":
    case "Undefined":
    case "String":
    case "Number":
    case "Boolean":
    case "Literal":
    case "TemplateLiteral":
    case "Enum":
    case "Never":
      return 0
    default:
      // Anything may be in it, itself among others.
      return Number.POSITIVE_INFINITY
  }
}

// A transformation of the user's that throws is a defect of this one value, not of the reader that met it.
const contained =
  <A>(run: (input: unknown) => Effect.Effect<A, Schema.SchemaError>) =>
  (input: unknown): Effect.Effect<A, Schema.SchemaError> => {
    try {
      return run(input)
    } catch (defect) {
      return Exit.die(defect)
    }
  }

const format = SchemaIssue.makeFormatterStandardSchemaV1()

/** Longest step of a path that {@link explain} tells, in characters: keys of a record are the sender's own text. */
const maxStepLength = 64

/** Where the first problem is and what was expected there, without the value that was found. Short, whatever was found. */
export const explain = (
  error: Schema.SchemaError
): { readonly path: ReadonlyArray<string>; readonly expected: string } => {
  const first = format(error.issue).issues[0]
  return {
    path: (first?.path ?? []).map((step) => cut(String(typeof step === "object" ? step.key : step), maxStepLength)),
    expected: cut(first?.message ?? "a valid value")
  }
}
