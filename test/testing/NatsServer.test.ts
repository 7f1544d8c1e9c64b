import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { current, type Machine } from "../../src/testing/internal/Machine.ts"
import * as NatsBinary from "../../src/testing/internal/NatsBinary.ts"
import * as NatsServer from "../../src/testing/NatsServer.ts"

/** The server's first line; nothing when nobody is there. */
const greeting = (port: number) =>
  Effect.callback<string>((resume) => {
    const socket = Net.connect({ host: "127.0.0.1", port })
    socket.on("error", () => resume(Effect.succeed("")))
    socket.once("data", (chunk) => {
      resume(Effect.succeed(chunk.toString()))
      socket.destroy()
    })
  })

describe("NatsServer", () => {
  it.effect("answers as soon as it is there, and again after a crash, on the same port", () =>
    Effect.gen(function* () {
      const server = yield* NatsServer.make({ config: ["max_payload: 12345"] })
      assert.strictEqual(server.url, `nats://127.0.0.1:${server.port}`)
      assert.match(server.version, /^\d+\.\d+/)
      assert.match(yield* greeting(server.port), /^INFO .*"max_payload":12345/)
      for (const end of [server.kill, server.stop]) {
        yield* end
        yield* end
        assert.strictEqual(yield* greeting(server.port), "")
        yield* server.start
        yield* server.start
        assert.match(yield* greeting(server.port), /^INFO /)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("is gone with its Scope", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { port } = yield* Scope.provide(NatsServer.make(), scope)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* greeting(port), "")
    })
  )

  it.effect("says in one line why it does not start", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(NatsServer.make({ config: ["max_payload: much"] })))
      assert.strictEqual(error.kind, "StartFailed")
      assert.match(error.message, /^start \S+nats-server: .*nats\.conf:3:1/)
      assert.notInclude(error.message, "\n")
    })
  )

  describe("without a nats-server on the path", () => {
    const bare: Machine = { ...current(), path: "/nowhere" }

    it.effect("fails, and says what to install", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(NatsBinary.find({ ...bare, platform: "darwin" }))
        assert.strictEqual(error.kind, "NotFound")
        assert.match(error.message, /Install nats-server/)
      })
    )

    it.effect("installs Debian's package as root", () =>
      Effect.gen(function* () {
        const commands: Array<string> = []
        const error = yield* Effect.flip(
          NatsBinary.find({
            ...current(),
            platform: "linux",
            uid: 0,
            lock: () => Effect.void,
            run: (command, args) =>
              Effect.sync(() => {
                commands.push([command, ...args].join(" "))
                // As if it did not run.
                return ""
              }).pipe(
                Effect.flatMap(() =>
                  args[0] === "--version"
                    ? Effect.fail({ _tag: "CommandFailed", command, detail: "no" } as never)
                    : Effect.succeed("")
                )
              )
          })
        )
        assert.strictEqual(error.kind, "InstallFailed")
        assert.isTrue(
          commands.some((command) => /^apt-get install .* nats-server$/.test(command)),
          commands.join("\n")
        )
      })
    )
  })
})
