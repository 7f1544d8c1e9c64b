/** Walks the syntax of a schema's JSON codec, and names its places. */
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import type { AnySchema } from "../../contract/Action.ts"

/** Where in a value: names of fields, numbers in tuples; {@link any} for items of arrays and values of records. */
export type Place = ReadonlyArray<string>

/** Any item, any key. */
export const any = "*"

/** Most nodes that are visited of one schema: recursive ones have no end. */
const maxNodes = 2_000

/** Visits of one recursive node below itself. */
const maxDepth = 2

/** A place as a key of a Map. */
export const keyOf = (place: Place): string => place.join("\u0000")

/** The syntax of what a schema writes and reads on the wire, with its transformations. */
export const codecOf = (schema: AnySchema): SchemaAST.AST => Schema.toCodecJson(schema).ast

/** Counts visits, so that recursion ends. */
export const depthGuard = () => {
  const open = new Map<SchemaAST.AST, number>()
  return <A>(node: SchemaAST.AST, inside: () => A, beyond: () => A): A => {
    const depth = open.get(node) ?? 0
    if (depth >= maxDepth) return beyond()
    open.set(node, depth + 1)
    const result = inside()
    open.set(node, depth)
    return result
  }
}

/**
 * Calls `each` for every node and the place of its values on the wire, from the outside in. `isTarget` says of a node that others are
 * encoded to it: what it allows, they may not.
 */
export const walk = (
  root: SchemaAST.AST,
  each: (node: SchemaAST.AST, place: Place, isTarget: boolean) => void
): void => {
  const guard = depthGuard()
  let left = maxNodes
  const visit = (node: SchemaAST.AST, place: Place, isTarget: boolean): void => {
    if (left-- <= 0) return
    guard(
      node,
      () => {
        each(node, place, isTarget)
        for (const { to } of node.encoding ?? []) visit(to, place, true)
        switch (node._tag) {
          case "Objects":
            for (const { name, type } of node.propertySignatures) visit(type, [...place, String(name)], false)
            for (const { type } of node.indexSignatures) visit(type, [...place, any], false)
            return
          case "Arrays":
            for (const [index, item] of node.elements.entries()) visit(item, [...place, String(index)], false)
            for (const item of node.rest) visit(item, [...place, any], false)
            return
          case "Union":
            for (const member of node.types) visit(member, place, isTarget)
            return
          case "Suspend":
            return visit(node.thunk(), place, isTarget)
        }
      },
      () => {}
    )
  }
  visit(root, [], false)
}

/** All names of fields. A key that is none of them is one of a record. */
export const fieldNames = (root: SchemaAST.AST): ReadonlySet<string> => {
  const names = new Set<string>()
  walk(root, (node) => {
    if (node._tag === "Objects") for (const { name } of node.propertySignatures) names.add(String(name))
  })
  return names
}
