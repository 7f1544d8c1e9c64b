/**
 * Checks the package as a user gets it: packed, installed into an empty project, type-checked and run.
 *
 * Run by `npm run check:package`, since it needs the network and a minute; it fails at the first thing that is wrong.
 */
import { execFileSync } from "node:child_process"
import { copyFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")
const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const project = mkdtempSync(join(tmpdir(), "fiberbus-package-"))

const step = (title: string, command: string, args: ReadonlyArray<string>, cwd: string): string => {
  console.log(`• ${title}`)
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
  } catch (error) {
    const { stdout, stderr } = error as { readonly stdout: string; readonly stderr: string }
    console.error(`${command} ${args.join(" ")}\n${stdout}\n${stderr}`)
    process.exit(1)
  }
}

const expect = (condition: boolean, message: string) => {
  if (condition) return
  console.error(message)
  process.exit(1)
}

try {
  step("build and pack", "npm", ["pack", "--pack-destination", project], root)
  const tarball = readdirSync(project).find((file) => file.endsWith(".tgz"))!
  step("publint", join(root, "node_modules/.bin/publint"), ["run", join(project, tarball), "--strict"], root)
  step(
    "are the types wrong",
    join(root, "node_modules/.bin/attw"),
    [join(project, tarball), "--profile", "esm-only"],
    root
  )

  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({ name: "user", private: true, type: "module", dependencies: { fiberbus: `file:./${tarball}` } })
  )
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "ES2023",
        module: "NodeNext",
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        outDir: "out",
        types: ["node"]
      },
      include: ["*.ts"]
    })
  )
  for (const file of ["01_first_call.ts", "02_errors.ts", "10_redis.ts", "40_nats.ts"]) {
    copyFileSync(join(root, "examples", file), join(project, file))
  }
  step("install into an empty project", "npm", ["install", "--no-audit", "--no-fund"], project)
  const peers = ["@nats-io/transport-node"].map((name) => `${name}@${devDependencies[name]}`)
  step("install the optional peers", "npm", ["install", "--no-audit", "--no-fund", ...peers], project)
  const tools = ["typescript", "@types/node"].map((name) => `${name}@${devDependencies[name]}`)
  step(
    "install a type checker beside it",
    "npm",
    ["install", "--no-audit", "--no-fund", "--save-dev", ...tools],
    project
  )
  step("type-check the examples against it", join(project, "node_modules/.bin/tsc"), ["-p", "."], project)
  const said = step("run the first example against it", process.execPath, ["out/01_first_call.js"], project)
  expect(said.trim() !== "", "the first example said nothing")
  // From its sources: Node itself takes the types away, for the threads too.
  cpSync(join(root, "examples/21_cpu_bound"), join(project, "threads"), { recursive: true })
  const counted = step("run the example with threads against it", process.execPath, ["threads/main.ts"], project)
  expect(counted.includes("result"), "the example with threads had no result")
  const help = step("run its command", join(project, "node_modules/.bin/fiberbus"), ["--help"], project)
  for (const command of ["call", "send", "tap"])
    expect(help.includes(command), `fiberbus --help does not name ${command}`)
  // Browsers import contracts: neither they nor the chunks they share with others may need Node.
  const installed = join(project, "node_modules/fiberbus/dist")
  const importsOf = (file: string, seen = new Set<string>()): ReadonlySet<string> => {
    for (const [, name] of readFileSync(file, "utf8").matchAll(/^(?:import|export) [^;]*?"([^"]+)";$/gm)) {
      const path = name!.startsWith(".") ? resolve(dirname(file), name!) : name!
      if (seen.has(path)) continue
      seen.add(path)
      if (name!.startsWith(".")) importsOf(path, seen)
    }
    return seen
  }
  const ofContracts = [...importsOf(join(installed, "contract/index.js"))]
  expect(ofContracts.includes("effect/Schema"), "the imports of fiberbus/contract were not found")
  const ofNode = ofContracts.filter((name) => name.startsWith("node:") || name === "ioredis")
  expect(ofNode.length === 0, `fiberbus/contract imports ${ofNode.join(", ")}`)
  const subpaths = Object.keys(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).exports)
  const specifiers = subpaths.filter((path) => !path.endsWith(".json")).map((path) => join("fiberbus", path))
  const importing = `await Promise.all(${JSON.stringify(specifiers)}.map((name) => import(name)))`
  step(`import ${specifiers.join(", ")}`, process.execPath, ["--input-type=module", "--eval", importing], project)
  console.log("The package is as it should be.")
} finally {
  rmSync(project, { recursive: true, force: true })
}
