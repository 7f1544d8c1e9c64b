/** For the row `start`: imports a package, or starts a service with it, and prints how long that took, and its CPU time. Node has read TypeScript before. */
import * as Path from "node:path"
import { pathToFileURL } from "node:url"

const [what, file = "", redis = "", build = ""] = process.argv.slice(2)

const imports: Record<string, () => Promise<unknown>> = {
  fiberbus: () => import(pathToFileURL(Path.join(build, "index.js")).href),
  moleculer: () => import("moleculer"),
  nest: async () => {
    await import("reflect-metadata")
    return Promise.all([import("@nestjs/core"), import("@nestjs/microservices"), import("@nestjs/common")])
  }
}

const cpuBefore = process.cpuUsage()
const begun = performance.now()
if (what === "import") await imports[file]!()
else {
  const { peer } = await import(pathToFileURL(Path.join(import.meta.dirname, "peers", `${file}.ts`)).href)
  const variant = file === "fiberbus" ? "redis" : "checked"
  await peer.serve({ variant, name: "starting", redis, port: 0, build, limits: "default" })
}
const millis = performance.now() - begun
const { system, user } = process.cpuUsage(cpuBefore)
console.log(JSON.stringify({ millis, cpu: (user + system) / 1000 }))
process.exit(0)
