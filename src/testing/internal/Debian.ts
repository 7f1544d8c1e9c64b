/** Gets a server from Debian's packages: installed by root, or unpacked into a folder by anyone. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import { CommandFailed, type Machine } from "./Machine.ts"

const policyFile = "/usr/sbin/policy-rc.d"

// Debian starts what it installs. For the time of the install this file says no; one that is there has its own say.
const noServices = (machine: Machine) =>
  Effect.acquireRelease(
    machine
      .run("sh", ["-c", `set -C; printf '#!/bin/sh\\nexit 101\\n' > ${policyFile} && chmod 755 ${policyFile}`])
      .pipe(Effect.isSuccess),
    (written) => (written ? Effect.ignore(machine.run("rm", ["-f", policyFile])) : Effect.void)
  )

/** Installs the package without starting the service of its name, neither now nor at the next boot. */
export const install = Effect.fnUntraced(function* (machine: Machine, name: string) {
  yield* noServices(machine)
  // One broken source fails the update although the others would do.
  yield* Effect.ignore(machine.run("apt-get", ["update"]))
  yield* machine.run(
    "apt-get",
    [
      "install",
      "-y",
      "--no-install-recommends",
      "-o",
      "DPkg::Lock::Timeout=120",
      "-o",
      "Dpkg::Options::=--force-confold",
      name
    ],
    { env: { DEBIAN_FRONTEND: "noninteractive" } }
  )
  if (Fs.existsSync("/run/systemd/system")) {
    yield* Effect.ignore(machine.run("systemctl", ["disable", "--now", name]))
  }
})

/** Unpacks packages and the libraries that the first one lacks here. `root` is complete when it exists. */
export const unpack = Effect.fnUntraced(function* (
  machine: Machine,
  root: string,
  names: readonly [string, ...ReadonlyArray<string>]
) {
  const work = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Path.dirname(root), "work-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  yield* download(machine, work, names, []).pipe(
    // No package lists (a fresh container) or old ones: only root may update the system's, so update a copy.
    Effect.catch(() => updateCopy(machine, work).pipe(Effect.flatMap((copy) => download(machine, work, names, copy))))
  )
  const unpacking = Path.join(work, "root")
  for (const file of Fs.readdirSync(work)) {
    if (file.endsWith(".deb")) yield* machine.run("dpkg", ["-x", file, unpacking], { cwd: work })
  }
  yield* Effect.try({
    try: () => {
      Fs.rmSync(root, { recursive: true, force: true })
      Fs.renameSync(unpacking, root)
    },
    catch: (error) => new CommandFailed({ command: `rename to ${root}`, detail: String(error) })
  })
})

/** Where an unpacked system keeps its libraries: `lib`, `usr/lib`, and their folders by architecture. */
export const libraryFolders = (root: string): ReadonlyArray<string> =>
  ["usr/lib", "lib"]
    .map((folder) => Path.join(root, folder))
    .filter((folder) => Fs.existsSync(folder))
    .flatMap((folder) => [
      ...Fs.readdirSync(folder)
        .filter((name) => name.includes("-linux-"))
        .map((name) => Path.join(folder, name)),
      folder
    ])

const download = Effect.fnUntraced(function* (
  machine: Machine,
  work: string,
  names: readonly [string, ...ReadonlyArray<string>],
  options: ReadonlyArray<string>
) {
  // A simulated install needs no rights and names what is missing here, dependencies of dependencies included.
  const plan = yield* machine.run("apt-get", [...options, "--simulate", "--no-install-recommends", "install", names[0]])
  const libraries = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1]!).filter(isLibrary)
  const packages = [...names, ...libraries]
  yield* machine.run("apt-get", [...options, "download", ...packages], { cwd: work })
})

// The C library belongs to the system's loader, and another one under the same loader crashes.
const isLibrary = (name: string) => /^(lib|lua-)/.test(name) && !/^libc(6|-)/.test(name)

const updateCopy = Effect.fnUntraced(function* (machine: Machine, work: string) {
  const lists = Path.join(work, "lists")
  const cache = Path.join(work, "cache")
  Fs.mkdirSync(lists)
  Fs.mkdirSync(cache)
  const options = ["-o", `Dir::State::Lists=${lists}`, "-o", `Dir::Cache=${cache}`]
  yield* machine.run("apt-get", [...options, "update"])
  return options
})
