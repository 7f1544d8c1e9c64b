/** What is measured, in the order of the table. */
import * as Path from "node:path"

export interface Subject {
  readonly name: string
  /** What `--only` calls it. */
  readonly key: string
  /** Files in subjects/. A subject in one process has only a client. */
  readonly server: string | undefined
  readonly client: string
  /** Folder of the build of fiberbus, where it is one. */
  readonly build: string | undefined
}

/** All subjects; with other builds of fiberbus, those beside ours, marked by the names of their folders. */
export const all = (build: string, others: ReadonlyArray<string>): ReadonlyArray<Subject> => [
  { name: "ioredis floor", key: "floor", server: "floor-server", client: "floor-client", build: undefined },
  { name: "Moleculer", key: "moleculer", server: "moleculer-server", client: "moleculer-client", build: undefined },
  ...fiberbus("", "", build),
  ...others.flatMap((other) => fiberbus(` (${Path.basename(other)})`, `-${Path.basename(other)}`, other))
]

const fiberbus = (mark: string, suffix: string, build: string): ReadonlyArray<Subject> => [
  { name: `fiberbus Redis${mark}`, key: `redis${suffix}`, server: "fiberbus-server", client: "fiberbus-client", build },
  { name: `fiberbus memory${mark}`, key: `memory${suffix}`, server: undefined, client: "fiberbus-memory", build },
  {
    name: `fiberbus memory, traced${mark}`,
    key: `traced${suffix}`,
    server: undefined,
    client: "fiberbus-memory-traced",
    build
  }
]
