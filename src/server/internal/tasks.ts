/** The names of a process's background tasks, daemons and blueprints over one transport, its views included. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Name from "../../contract/Name.ts"
import * as PerTransport from "../../transport/PerTransport.ts"
import * as Prefixed from "../../transport/Prefixed.ts"
import { Transport } from "../../transport/Transport.ts"
import type { Handle as DaemonHandle } from "../Daemon.ts"

/** Two of a kind bear one name over one transport: a mistake in the program, so the layers die instead of being built. */
export class DuplicateName extends Data.TaggedError("DuplicateName")<{
  readonly kind: Kind
  readonly given: string
  readonly places: readonly [string, string]
}> {
  override get message() {
    return `There are two ${this.kind}s named ${this.given}: ${this.places[0]} and ${this.places[1]}`
  }
}

/** What bears such names. */
export type Kind = "background task" | "daemon" | "blueprint"

/** @see {@link tasks} */
export interface Tasks {
  /** By their whole names. */
  readonly daemons: Map<string, DaemonHandle>
  /** Claims a name until the Scope closes. Dies with {@link DuplicateName}. */
  readonly claim: (kind: Kind, name: string, place: string) => Effect.Effect<void, never, Scope.Scope>
}

const shared = PerTransport.make(() =>
  Effect.sync((): Tasks => {
    const claims = new Map<string, string>()
    return {
      daemons: new Map(),
      claim: (kind, given, place) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.suspend(() => {
              const key = `${kind} ${given}`
              const other = claims.get(key)
              if (other !== undefined) return Effect.die(new DuplicateName({ kind, given, places: [other, place] }))
              claims.set(key, place)
              return Effect.succeed(key)
            }),
            (key) => Effect.sync(() => claims.delete(key))
          )
        )
    }
  })
)

/** The table of the transport that the current one is or views. */
export const tasks: Effect.Effect<Tasks, never, Transport | Scope.Scope> = Effect.flatMap(Transport, (transport) =>
  Effect.provideService(shared, Transport, Prefixed.rootOf(transport))
)

/** Claims a name below the prefix of the current transport, and gives the whole. */
export const claim = (kind: Kind, name: string, place: string): Effect.Effect<string, never, Transport | Scope.Scope> =>
  Effect.gen(function* () {
    const whole = Prefixed.addedBy(yield* Transport) + name
    Name.check(kind, whole)
    yield* (yield* tasks).claim(kind, whole, place)
    return whole
  })
