/**
 * What is not mutated: texts for people that no program reads. docs/mutation.md has the rule and its reason.
 *
 * A text that travels to a peer (the words of an error, of a refusal) is not one of these.
 */
import { declareValuePlugin, PluginKind } from "@stryker-mutator/api/plugin"

interface Node {
  readonly type: string
  readonly name?: string
  readonly property?: Node
  readonly object?: Node
  readonly key?: Node
  readonly callee?: Node
}

interface Path {
  readonly node: Node
  readonly parentPath: Path | null
  readonly listKey?: string
}

const isText = ({ type }: Node) => type === "StringLiteral" || type === "TemplateLiteral"

/** The end of a callee's name: `logError` of `Effect.logError`. */
const nameOf = (callee: Node | undefined): string => callee?.property?.name ?? callee?.name ?? ""

const reasonFor = ({ listKey, node, parentPath }: Path): string | undefined => {
  if (!isText(node) || parentPath === null) return undefined
  const parent = parentPath.node
  if (parent.type === "ObjectProperty" && (parent.key?.name === "description" || parent.key?.name === "hint")) {
    return `the ${parent.key.name} is for people`
  }
  if (parent.type !== "CallExpression" || listKey !== "arguments") return undefined
  if (/^log[A-Z]/.test(nameOf(parent.callee))) return "a log line is for people"
  return nameOf(parent.callee) === "Reference" ? "any key that no other reference has would do" : undefined
}

export const strykerPlugins = [
  declareValuePlugin(PluginKind.Ignore, "prose", { shouldIgnore: (path: unknown) => reasonFor(path as Path) })
]
