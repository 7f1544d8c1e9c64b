/** Sums up CPU profiles: `node bench/profile.ts <folder or file.cpuprofile> …`. Shares are of the time that was not idle. */
import * as Fs from "node:fs"
import * as Path from "node:path"

interface CpuProfile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  }>
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

const ownerOf = (url: string, name: string): string => {
  if (name === "(garbage collector)") return "garbage collector"
  const dependency = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]
  if (dependency === ".fiberbus") return "fiberbus"
  if (dependency !== undefined) return dependency
  if (url.startsWith("node:")) return "node"
  if (url === "") return "native"
  return url.includes("/bench/") ? "bench" : "fiberbus"
}

const summary = (file: string): string => {
  const { nodes, samples, timeDeltas } = JSON.parse(Fs.readFileSync(file, "utf8")) as CpuProfile
  const byId = new Map(nodes.map((node) => [node.id, node.callFrame]))
  const functions = new Map<string, number>()
  const owners = new Map<string, number>()
  let busy = 0
  samples.forEach((id, index) => {
    const { functionName, url, lineNumber } = byId.get(id)!
    const micros = timeDeltas[index]!
    if (functionName === "(idle)" || functionName === "(program)") return
    busy += micros
    const owner = ownerOf(url, functionName)
    const place = url === "" ? "" : ` ${Path.basename(url)}:${lineNumber + 1}`
    const name = `${owner}: ${functionName === "" ? "(anonymous)" : functionName}${place}`
    functions.set(name, (functions.get(name) ?? 0) + micros)
    owners.set(owner, (owners.get(owner) ?? 0) + micros)
  })
  const top = (counts: ReadonlyMap<string, number>, count: number) =>
    [...counts]
      .sort(([, a], [, b]) => b - a)
      .slice(0, count)
      .map(([name, micros]) => `  ${((micros / busy) * 100).toFixed(1).padStart(5)} %  ${name}`)
  return [Path.basename(file), ...top(owners, 8), "", ...top(functions, 40)].join("\n")
}

for (const given of process.argv.slice(2)) {
  const files = Fs.statSync(given).isDirectory()
    ? Fs.readdirSync(given)
        .filter((name) => name.endsWith(".cpuprofile"))
        .map((name) => Path.join(given, name))
    : [given]
  for (const file of files) console.log(`${summary(file)}\n`)
}
