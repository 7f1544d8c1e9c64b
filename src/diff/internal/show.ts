/** Findings in the words of a report. */
import * as Printable from "../../wire/Printable.ts"
import type { Finding, Report, Severity, Who } from "../ContractDiff.ts"

/** Longest witness, and longest expectation, that is shown, in characters. */
const maxLength = 1_000
const maxExpected = 200

/** All findings, and the sum of them. */
export const report = ({ findings, seed, tried }: Report): string => {
  const count = (severity: Severity) => findings.filter((finding) => finding.severity === severity).length
  const [breaking, change, unknown] = [count("breaking"), count("change"), count("unknown")]
  const sum =
    findings.length === 0
      ? "no differences were found"
      : [
          breaking === 0 ? "nothing breaks" : `${breaking} breaking`,
          ...(unknown === 0 ? [] : [`${unknown} not known`]),
          ...(change === 0 ? [] : [`${change} other change${change === 1 ? "" : "s"}`])
        ].join(", ")
  return [
    ...findings.flatMap((finding) => [...one(finding), ""]),
    `${sum} (${tried} values tried, seed ${JSON.stringify(seed)})`
  ].join("\n")
}

const one = (finding: Finding): ReadonlyArray<string> => {
  const { action, because, expected, instead, of, part, path, severity, who, witness } = finding
  const subject = action === undefined ? of : `${of}.${action}`
  return [
    Printable.line(`${words[severity]} ${who} ${against[who]}: ${subject}, ${part}`),
    ...column("value", witness === undefined ? undefined : Printable.cut(Printable.json(witness), maxLength)),
    ...column("at", path.length === 0 ? undefined : Printable.json(path)),
    ...column("expected", expected === undefined ? undefined : Printable.cut(expected, maxExpected)),
    ...column("read as", instead),
    ...column("so", because)
  ]
}

const words: { readonly [_ in Severity]: string } = {
  breaking: "breaks",
  change: "changes for",
  unknown: "not known for"
}

const against: { readonly [_ in Who]: string } = {
  "old callers": "against the new service",
  "new callers": "against the old service",
  "old listeners": "of new publishers",
  "new listeners": "of old publishers"
}

const column = (name: string, text: string | undefined): ReadonlyArray<string> =>
  text === undefined
    ? []
    : [Printable.line(`  ${name.padEnd(11)}${text.replace(/^Expected /, "").replaceAll("\n", " ")}`)]
