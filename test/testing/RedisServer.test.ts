import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { Redis, type RedisOptions } from "ioredis"
import { CommandFailed, current, type Machine, onRealTime } from "../../src/testing/internal/Machine.ts"
import * as RedisBinary from "../../src/testing/internal/RedisBinary.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"

const client = (url: string, options: Omit<RedisOptions, "replyMapping"> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis(url, { ...options, maxRetriesPerRequest: 0, retryStrategy: () => null })
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

const ping = (redis: Redis) => Effect.tryPromise(() => redis.ping())

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    // A process whose parent has not yet taken note of its end is still listed.
    return !/^State:\s+Z/m.test(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    return false
  }
}

const eventually = (condition: () => boolean) =>
  Effect.suspend(() => (condition() ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.timeout("20 seconds"),
    onRealTime
  )

const serverPid = (server: RedisServer.RedisServer["Service"]) =>
  Effect.map(server.command("INFO", "server"), (info) => Number(/process_id:(\d+)/.exec(String(info))?.[1]))

describe("RedisServer", () => {
  describe("an own server", () => {
    it.effect("answers as soon as it is there", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        assert.isTrue(server.owned)
        assert.strictEqual(server.url, `redis://127.0.0.1:${server.port}`)
        assert.match(server.version, /^\d+\.\d+/)
        assert.strictEqual(yield* ping(yield* client(server.url)), "PONG")
        assert.strictEqual(yield* server.command("SET", "key", 1), "OK")
        assert.strictEqual(yield* server.command("GET", "key"), "1")
      })
    )

    it.effect("starts on ports of their own, ten at a time", () =>
      Effect.gen(function* () {
        const servers = yield* Effect.all(
          Array.from({ length: 10 }, () => RedisServer.make()),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(servers.map((server) => server.port)).size, 10)
        const pids = yield* Effect.forEach(servers, serverPid)
        assert.strictEqual(new Set(pids).size, 10)
      })
    )

    it.effect("restarts empty on the same port", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const before = yield* serverPid(server)
        yield* server.command("SET", "key", "value")
        yield* server.restart
        assert.isFalse(isAlive(before))
        const redis = yield* client(`redis://127.0.0.1:${server.port}`)
        assert.strictEqual(yield* Effect.tryPromise(() => redis.get("key")), null)
      })
    )

    it.effect("is gone after kill or stop, both of which may be repeated, until it is started", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        for (const end of [server.kill, server.stop]) {
          const pid = yield* serverPid(server)
          yield* end
          yield* end
          assert.isFalse(isAlive(pid))
          assert.strictEqual((yield* Effect.flip(server.command("PING"))).kind, "Unreachable")
          yield* server.start
          yield* server.start
          assert.strictEqual(yield* server.command("PING"), "PONG")
        }
      })
    )

    it.effect("leaves neither a process nor a folder behind its Scope", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const server = yield* RedisServer.make({ unixSocket: true }).pipe(Scope.provide(scope))
        const pid = yield* serverPid(server)
        const folder = Path.dirname(server.socketPath!)
        assert.isTrue(Fs.existsSync(folder))
        yield* Scope.close(scope, Exit.void)
        assert.isFalse(isAlive(pid))
        assert.isFalse(Fs.existsSync(folder))
      })
    )

    it.effect("dies with a process that is killed", () =>
      Effect.gen(function* () {
        const source = new URL("../../src/testing/RedisServer.ts", import.meta.url).href
        const script = `
          import * as Effect from "effect/Effect"
          import * as RedisServer from ${JSON.stringify(source)}
          const program = Effect.gen(function* () {
            const server = yield* RedisServer.make({ unixSocket: true })
            const info = yield* server.command("INFO", "server")
            console.log(/process_id:(\\d+)/.exec(info)[1] + " " + server.socketPath)
            yield* Effect.never
          })
          Effect.runPromise(Effect.scoped(program))`
        const parent = yield* Effect.acquireRelease(
          Effect.sync(
            (): ChildProcess =>
              spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] })
          ),
          (child) => Effect.sync(() => child.kill("SIGKILL"))
        )
        const line = yield* Effect.callback<string, string>((resume) => {
          parent.stdout?.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString().trim())))
          parent.once("exit", (code) => resume(Effect.fail(`ended with ${code}`)))
        })
        const [pid = "", socketPath = ""] = line.split(" ")
        assert.isTrue(isAlive(Number(pid)))
        parent.kill("SIGKILL")
        yield* eventually(() => !isAlive(Number(pid)) && !Fs.existsSync(Path.dirname(socketPath)))
      })
    )

    it.effect("says in one line, in Redis' words, why it does not start", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(RedisServer.make({ args: ["--no-such-setting", "1"] }))
        assert.strictEqual(error.kind, "StartFailed")
        assert.match(error.message, /no-such-setting/)
        assert.notInclude(error.message, "\n")
      })
    )

    it.effect("takes more arguments", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ args: ["--maxclients", "7"] })
        assert.deepStrictEqual(yield* server.command("CONFIG", "GET", "maxclients"), ["maxclients", "7"])
      })
    )

    it.effect("asks for its password, which its URL holds", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ password: "p@ss word/1" })
        assert.strictEqual(yield* ping(yield* client(server.url)), "PONG")
        const without = yield* client(`redis://127.0.0.1:${server.port}`)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(ping(without))))
        assert.strictEqual(yield* server.command("PING"), "PONG")
      })
    )

    it.effect("knows users with few rights", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({
          acl: ["user default off", "user alice on >secret ~* &orders.* +ping +publish"]
        })
        const alice = yield* client(`redis://alice:secret@127.0.0.1:${server.port}`, { enableReadyCheck: false })
        assert.strictEqual(yield* Effect.tryPromise(() => alice.publish("orders.new", "x")), 0)
        const denied = yield* Effect.flip(
          Effect.tryPromise({ try: () => alice.publish("users.new", "x"), catch: (error) => String(error) })
        )
        assert.match(denied, /NOPERM/)
        assert.strictEqual(yield* server.command("PING"), "PONG")
      })
    )

    for (const password of [undefined, "p@ss&word"]) {
      it.effect(`listens on a socket ${password === undefined ? "without" : "with"} a password`, () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.make({ unixSocket: true, ...(password === undefined ? {} : { password }) })
          assert.isTrue(server.url.startsWith(server.socketPath!))
          assert.strictEqual(yield* ping(yield* client(server.url)), "PONG")
          assert.strictEqual((yield* RedisServer.fromUrl(server.url)).socketPath, server.socketPath)
        })
      )
    }

    it.effect("speaks TLS to those who know its authority", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ tls: {} })
        assert.strictEqual(server.url, `rediss://127.0.0.1:${server.port}`)
        assert.strictEqual(Fs.readFileSync(server.tls!.caFile, "utf8"), server.tls!.ca)
        assert.strictEqual(yield* ping(yield* client(server.url, { tls: { ca: server.tls!.ca } })), "PONG")
        const local = `rediss://localhost:${server.port}`
        assert.strictEqual(yield* ping(yield* client(local, { tls: { ca: server.tls!.ca } })), "PONG")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(ping(yield* client(server.url)))))
      })
    )

    it.effect("asks for a client's certificate", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ tls: { clients: "required" } })
        const { ca, cert, key } = server.tls!
        assert.strictEqual(yield* ping(yield* client(server.url, { tls: { ca, cert, key } })), "PONG")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(ping(yield* client(server.url, { tls: { ca } })))))
      })
    )
  })

  describe("a server by its URL", () => {
    it.effect("is used, and not ended", () =>
      Effect.gen(function* () {
        const own = yield* RedisServer.make({ password: "secret" })
        const server = yield* RedisServer.fromUrl(own.url)
        assert.isFalse(server.owned)
        assert.deepStrictEqual(
          [server.host, server.port, server.password, server.version],
          ["127.0.0.1", own.port, "secret", own.version]
        )
        for (const operation of [server.start, server.stop, server.kill, server.restart, server.pause, server.resume]) {
          const error = yield* Effect.flip(operation)
          assert.strictEqual(error.kind, "NotOwned")
          assert.notInclude(error.message, "secret")
        }
        assert.strictEqual(yield* server.command("PING"), "PONG")
      })
    )

    it.effect("is what the layer gives when REDIS_URL is set", () =>
      Effect.gen(function* () {
        const own = yield* RedisServer.make()
        const before = process.env.REDIS_URL
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            process.env.REDIS_URL = own.url
          }),
          () =>
            Effect.sync(() => {
              if (before === undefined) delete process.env.REDIS_URL
              else process.env.REDIS_URL = before
            })
        )
        const server = yield* RedisServer.RedisServer.pipe(Effect.provide(RedisServer.layer))
        assert.deepStrictEqual([server.url, server.owned], [own.url, false])
        assert.deepStrictEqual(yield* RedisServer.find, { _tag: "External", url: own.url })
      })
    )

    it.effect("fails at once when it is none, is not there, or wants another password", () =>
      Effect.gen(function* () {
        const own = yield* RedisServer.make({ password: "secret" })
        const fails = (url: string) => Effect.flip(RedisServer.fromUrl(url))
        assert.strictEqual((yield* fails("http://127.0.0.1")).kind, "InvalidUrl")
        assert.strictEqual((yield* fails("nonsense")).kind, "InvalidUrl")
        const wrong = yield* fails(`redis://:guess@127.0.0.1:${own.port}`)
        assert.match(wrong.message, /WRONGPASS|NOAUTH/)
        assert.notInclude(wrong.message, "guess")
        yield* own.stop
        const gone = yield* fails(own.url)
        assert.strictEqual(gone.kind, "Unreachable")
        assert.match(gone.message, /ECONNREFUSED/)
        assert.notInclude(gone.message, "secret")
      })
    )
  })

  it.layer(RedisServer.layer)("layer", (it) => {
    it.effect("gives all tests of a block one server", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        assert.strictEqual(yield* server.command("PING"), "PONG")
      })
    )
  })
})

describe("RedisServer.find", () => {
  // A computer of which only the folder is real: its commands are functions that may put programs there.
  const makeMachine = Effect.fnUntraced(function* (
    options: Partial<Machine> & {
      readonly programs?: ReadonlyArray<string>
      readonly commands?: (line: string, folder: string, cwd: string) => string | undefined
    }
  ) {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fiberbus-find-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    for (const program of options.programs ?? []) addProgram(folder, program)
    const lines: Array<string> = []
    const machine: Machine = {
      env: { XDG_CACHE_HOME: Path.join(folder, "cache"), ...options.env },
      path: folder,
      platform: options.platform ?? "linux",
      uid: options.uid ?? 1000,
      lock: () => Effect.sync(() => void lines.push("lock")),
      run: (command, args, runOptions) =>
        Effect.suspend(() => {
          const line = [Path.basename(command), ...args].join(" ")
          lines.push(line)
          const output = options.commands?.(line, folder, runOptions?.cwd ?? "")
          if (output !== undefined) return Effect.succeed(output)
          return args[0] === "--version"
            ? Effect.succeed("Redis server v=1.2.3 sha=0")
            : Effect.fail(new CommandFailed({ command: line, detail: "E: no" }))
        })
    }
    return { folder, machine, lines }
  })
  const addProgram = (folder: string, name: string) => {
    Fs.mkdirSync(folder, { recursive: true })
    Fs.writeFileSync(Path.join(folder, name), "", { mode: 0o755 })
  }

  it.effect("prefers REDIS_URL to all else", () =>
    Effect.gen(function* () {
      const { machine, lines } = yield* makeMachine({ env: { REDIS_URL: "redis://there" }, programs: ["redis-server"] })
      assert.deepStrictEqual(yield* RedisBinary.locate(machine), { _tag: "External", url: "redis://there" })
      assert.deepStrictEqual(lines, [])
      assert.strictEqual((yield* RedisBinary.binary(machine))._tag, "Binary")
    })
  )

  for (const [programs, chosen] of [
    [["redis-server"], "redis-server"],
    [["valkey-server"], "valkey-server"],
    [["redis-server", "valkey-server"], "redis-server"]
  ] as const) {
    it.effect(`takes ${chosen} when the path has ${programs.join(" and ")}`, () =>
      Effect.gen(function* () {
        const { folder, machine } = yield* makeMachine({ programs, env: { REDIS_URL: "" } })
        assert.deepStrictEqual(yield* RedisBinary.locate(machine), {
          _tag: "Binary",
          file: Path.join(folder, chosen),
          version: "1.2.3",
          env: {},
          source: "path"
        })
      })
    )
  }

  it.effect("takes the program that is asked for, by its name or its path, and no other", () =>
    Effect.gen(function* () {
      const { folder, machine } = yield* makeMachine({
        programs: ["redis-server", "valkey-server"],
        env: { REDIS_SERVER: "valkey-server" }
      })
      const file = (name: string) => Path.join(folder, name)
      assert.strictEqual((yield* RedisBinary.binary(machine)).file, file("valkey-server"))
      assert.strictEqual((yield* RedisBinary.binary(machine, "redis-server")).file, file("redis-server"))
      assert.strictEqual((yield* RedisBinary.binary(machine, file("redis-server"))).file, file("redis-server"))
      const error = yield* Effect.flip(RedisBinary.binary(machine, "keydb-server"))
      assert.strictEqual(error.kind, "NotFound")
      assert.include(error.message, "keydb-server")
    })
  )

  it.effect("starts the program that is asked for", () =>
    Effect.gen(function* () {
      const { folder } = yield* makeMachine({})
      const { binary } = yield* RedisServer.make()
      const file = Path.join(folder, "valkey-server")
      Fs.symlinkSync(binary!.file, file)
      const server = yield* RedisServer.make({ program: file })
      assert.strictEqual(server.binary?.file, file)
      assert.strictEqual(yield* server.command("PING"), "PONG")
    })
  )

  it.effect("passes over a program that does not run", () =>
    Effect.gen(function* () {
      const { folder, machine, lines } = yield* makeMachine({ programs: ["redis-server", "valkey-server"] })
      const broken: Machine = {
        ...machine,
        run: (command, args, options) =>
          command.endsWith("redis-server")
            ? Effect.fail(new CommandFailed({ command, detail: "not for this machine" }))
            : machine.run(command, args, options)
      }
      const found = yield* RedisBinary.binary(broken)
      assert.strictEqual(found.file, Path.join(folder, "valkey-server"))
      assert.deepStrictEqual(lines, ["valkey-server --version"])
    })
  )

  it.effect("installs the package as root on Debian, without starting its service", () =>
    Effect.gen(function* () {
      const { folder, machine, lines } = yield* makeMachine({
        uid: 0,
        programs: ["apt-get"],
        commands: (line, folder) => {
          if (line.startsWith("apt-get update")) return ""
          if (/^(sh|rm|systemctl) /.test(line)) return ""
          if (!line.startsWith("apt-get install")) return undefined
          addProgram(folder, "redis-server")
          return ""
        }
      })
      const found = yield* RedisBinary.binary(machine)
      assert.deepStrictEqual([found.file, found.source], [Path.join(folder, "redis-server"), "installed"])
      const steps = lines.filter((line) => !line.startsWith("systemctl")).map((line) => line.split(" ", 2).join(" "))
      assert.deepStrictEqual(steps, [
        "lock",
        "sh -c",
        "apt-get update",
        "apt-get install",
        "redis-server --version",
        "rm -f"
      ])
      assert.match(lines[1]!, /policy-rc\.d/)
    })
  )

  it.effect("leaves a service policy that was there before", () =>
    Effect.gen(function* () {
      const { machine, lines } = yield* makeMachine({
        uid: 0,
        programs: ["apt-get"],
        commands: (line, folder) => {
          if (line.startsWith("sh ")) return undefined
          if (line.startsWith("apt-get install")) addProgram(folder, "redis-server")
          return line.endsWith("--version") ? undefined : ""
        }
      })
      yield* RedisBinary.binary(machine)
      assert.isFalse(lines.some((line) => line.startsWith("rm")))
    })
  )

  it.effect("takes what another process installed while this one waited", () =>
    Effect.gen(function* () {
      const { folder, machine, lines } = yield* makeMachine({ uid: 0, programs: ["apt-get"] })
      const found = yield* RedisBinary.binary({
        ...machine,
        lock: () => Effect.sync(() => addProgram(folder, "redis-server"))
      })
      assert.strictEqual(found.source, "installed")
      assert.deepStrictEqual(lines, ["redis-server --version"])
    })
  )

  const debian = (line: string, _folder: string, cwd: string) => {
    if (line.includes("--simulate")) {
      return "Inst libjemalloc2 (5.3.0-1 Debian)\nInst libc6 [1] (2 Debian)\nInst redis-tools (5:7 Debian)\nConf libx (1)\n"
    }
    if (line.includes(" download ")) Fs.writeFileSync(Path.join(cwd, "redis-server_7.deb"), "")
    if (line.startsWith("dpkg ")) {
      addProgram(Path.join(cwd, "root/usr/bin"), "redis-server")
      Fs.mkdirSync(Path.join(cwd, "root/usr/lib/x86_64-linux-gnu"), { recursive: true })
    }
    return line.endsWith("--version") ? undefined : ""
  }

  it.effect("unpacks the package and its libraries without root, once", () =>
    Effect.gen(function* () {
      const { folder, machine, lines } = yield* makeMachine({ programs: ["apt-get"], commands: debian })
      const found = yield* RedisBinary.binary(machine)
      const root = Path.join(folder, `cache/fiberbus/redis/debian-${process.arch}`)
      assert.deepStrictEqual(found, {
        _tag: "Binary",
        file: Path.join(root, "usr/bin/redis-server"),
        version: "1.2.3",
        env: { LD_LIBRARY_PATH: `${root}/usr/lib/x86_64-linux-gnu:${root}/usr/lib` },
        source: "unpacked"
      })
      assert.include(lines, "apt-get download redis-server redis-tools libjemalloc2")
      lines.length = 0
      assert.deepStrictEqual(yield* RedisBinary.binary(machine), found)
      assert.deepStrictEqual(lines, ["lock", "redis-server --version"])
      assert.deepStrictEqual(Fs.readdirSync(Path.dirname(root)), [Path.basename(root)])
    })
  )

  it.effect("updates a copy of the package lists when the system's do not do", () =>
    Effect.gen(function* () {
      const { machine, lines } = yield* makeMachine({
        programs: ["apt-get"],
        commands: (line, folder, cwd) =>
          line.includes("Dir::State::Lists") || !line.startsWith("apt-get") ? debian(line, folder, cwd) : undefined
      })
      assert.strictEqual((yield* RedisBinary.binary(machine)).source, "unpacked")
      assert.isTrue(lines.some((line) => /^apt-get -o Dir::State::Lists=\S+ -o Dir::Cache=\S+ update$/.test(line)))
    })
  )

  for (const [where, options] of [
    ["where apt-get is missing", {}],
    ["on another system", { platform: "darwin", programs: ["apt-get"] }]
  ] as const) {
    it.effect(`says what to do ${where}`, () =>
      Effect.gen(function* () {
        const { machine } = yield* makeMachine(options)
        const error = yield* Effect.flip(RedisBinary.locate(machine))
        assert.strictEqual(error.kind, "NotFound")
        assert.match(error.message, /Install redis-server .* or set REDIS_URL/)
        assert.notInclude(error.message, "\n")
      })
    )
  }

  for (const uid of [0, 1000]) {
    it.effect(`says what to do when apt-get fails for user ${uid}`, () =>
      Effect.gen(function* () {
        const { machine } = yield* makeMachine({ uid, programs: ["apt-get"] })
        const error = yield* Effect.flip(RedisBinary.locate(machine))
        assert.strictEqual(error.kind, "InstallFailed")
        assert.match(error.message, /E: no\. Install redis-server .* or set REDIS_URL/)
        assert.notInclude(error.message, "\n")
      })
    )
  }

  // Only Debian and its kin install, and there flock is essential.
  it.effect.runIf(process.platform === "linux")("installs in one process at a time", () =>
    Effect.gen(function* () {
      const { folder } = yield* makeMachine({})
      const { lock } = current()
      const file = Path.join(folder, "lock")
      const holding = yield* Scope.make()
      yield* lock(file).pipe(Scope.provide(holding))
      const order: Array<string> = []
      const waiting = yield* Deferred.make<void>()
      const second = yield* Deferred.succeed(waiting, undefined).pipe(
        Effect.andThen(
          Effect.scoped(
            Effect.andThen(
              lock(file),
              Effect.sync(() => void order.push("second"))
            )
          )
        ),
        Effect.forkChild
      )
      yield* Deferred.await(waiting)
      // A third that does not wait proves that the lock is held.
      assert.isTrue(Result.isFailure(yield* Effect.result(current().run("flock", ["-n", file, "true"]))))
      order.push("first")
      yield* Scope.close(holding, Exit.void)
      yield* Fiber.join(second)
      assert.deepStrictEqual(order, ["first", "second"])
    })
  )
})
