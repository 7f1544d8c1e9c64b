import { accessSync, constants } from "node:fs"
import { delimiter, isAbsolute, join } from "node:path"
import { defineConfig } from "vitest/config"

// The tests run the sources themselves, through the same export conditions as the examples.
const conditions = ["fiberbus-source"]

const isThere = (program: string) =>
  (isAbsolute(program) ? [""] : (process.env.PATH ?? "").split(delimiter)).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })

/**
 * Other servers than the one that all tests run on, on which those run again that are about the server: the programs in `OTHER_REDIS_SERVERS`,
 * names or whole paths with colons between them; without it Valkey, where it is installed. `REDIS_URL` leaves no choice.
 */
const named = process.env.OTHER_REDIS_SERVERS
const others = (named ?? "valkey-server").split(delimiter).filter((program) => program !== "")
const missing = named === undefined ? undefined : others.find((program) => !isThere(program))
if (missing !== undefined) throw new Error(`OTHER_REDIS_SERVERS names ${missing}, which is not there`)
const onOthers = process.env.REDIS_URL
  ? []
  : others.filter(isThere).filter((program) => program !== process.env.REDIS_SERVER)

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Each file starts servers and processes of its own, which need cores too.
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "all",
          include: ["test/**/*.test.ts"],
          typecheck: { enabled: true, include: ["test/**/*.test-d.ts"], checker: "tsc", tsconfig: "./tsconfig.json" }
        }
      },
      ...onOthers.map((program) => ({
        extends: true as const,
        test: {
          name: program.replaceAll("/", "_"),
          include: [
            "test/transport/{RedisCluster,Lease,claims,conformance}.test.ts",
            "test/durable/{port,redis,cluster,partitions,topics}.test.ts",
            "test/security/acl.test.ts"
          ],
          env: { REDIS_SERVER: program }
        }
      }))
    ]
  }
})
