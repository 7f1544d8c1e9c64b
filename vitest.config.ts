import { defineConfig } from "vitest/config"

// The tests run the sources themselves, through the same export conditions as the examples.
const conditions = ["fiberbus-source"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["test/**/*.test.ts"],
    typecheck: { enabled: true, include: ["test/**/*.test-d.ts"], checker: "tsc", tsconfig: "./tsconfig.json" },
    testTimeout: 30_000,
    hookTimeout: 120_000
  }
})
