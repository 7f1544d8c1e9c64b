/** A server of the tests' own, Redis or another: started on a free port, ended with its Scope, started again between. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as FreePort from "./FreePort.ts"
import * as Machine from "./Machine.ts"
import * as ServerProcess from "./ServerProcess.ts"

/** What is to be started, and how one sees that it is ready. */
export interface Plan<E> {
  readonly program: ServerProcess.Program
  /** Its own, removed if this process ends without a word. */
  readonly folder: string
  readonly args: ReadonlyArray<string>
  /** Writes its configuration, before the first start; again with another port where that one was taken. */
  readonly configure: (port: number) => void
  /** Succeeds when our server, and no other, answers at the port. Asked every 10 ms. */
  readonly answers: (port: number) => Effect.Effect<unknown, unknown>
  readonly failed: (kind: "StartFailed" | "StopFailed", detail: string) => E
}

/** @see {@link make} */
export interface OwnServer<E> {
  readonly port: number
  /** Succeeds when it answers. Does nothing while it runs. Its own words in the error. */
  readonly start: Effect.Effect<void, E>
  /** Ends it in good order, by force after 5 seconds. */
  readonly stop: Effect.Effect<void, E>
  /** Ends it as a crash would. */
  readonly kill: Effect.Effect<void, E>
  readonly restart: Effect.Effect<void, E>
  /** Freezes it. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Does something first and then lets it read its configuration again. */
  readonly reload: (first: () => void) => Effect.Effect<void>
  readonly log: () => string
}

/** Starts it; one operation at a time from then on. Fails with `StartFailed` after 15 seconds without an answer. */
export const make = Effect.fnUntraced(function* <E extends { readonly detail: string }>({
  answers,
  args,
  configure,
  failed,
  folder,
  program
}: Plan<E>): Effect.fn.Return<OwnServer<E>, E, Scope.Scope> {
  let port = 0
  let server: ServerProcess.ServerProcess | undefined

  const start: Effect.Effect<void, E> = Effect.gen(function* () {
    if (server?.running()) return
    const starting = ServerProcess.start(program, folder, args)
    server = starting
    yield* Effect.raceFirst(
      Effect.retry(answers(port), Schedule.spaced("10 millis")).pipe(
        Effect.asVoid,
        Effect.mapError(() => failed("StartFailed", "no answer"))
      ),
      Effect.flatMap(starting.ended, () =>
        Effect.fail(failed("StartFailed", starting.log() || "it ended without a word"))
      )
    ).pipe(
      Effect.timeoutOrElse({
        duration: "15 seconds",
        orElse: () => Effect.fail(failed("StartFailed", `no answer within 15 seconds: ${starting.log()}`))
      }),
      Effect.onError(() => ServerProcess.kill(starting))
    )
  }).pipe(Machine.onRealTime)

  const end = (how: (server: ServerProcess.ServerProcess) => Effect.Effect<boolean>): Effect.Effect<void, E> =>
    Effect.suspend(() => {
      const ending = server
      if (ending === undefined || !ending.running()) return Effect.void
      return Effect.flatMap(how(ending), (gone) =>
        gone ? Effect.void : Effect.fail(failed("StopFailed", `process ${ending.pid} does not end`))
      )
    })

  const lock = yield* Semaphore.make(1)
  yield* Effect.addFinalizer(() => Effect.ignore(lock.withPermit(end(ServerProcess.stop))))

  // Another process may take the port between our look and the server's.
  yield* FreePort.find.pipe(
    Effect.flatMap((free) => {
      port = free
      configure(free)
      return start
    }),
    Effect.retry({ times: 4, while: (error) => /address already in use/i.test(error.detail) })
  )

  return {
    port,
    start: lock.withPermit(start),
    stop: lock.withPermit(end(ServerProcess.stop)),
    kill: lock.withPermit(end(ServerProcess.kill)),
    restart: lock.withPermit(Effect.andThen(end(ServerProcess.stop), start)),
    pause: lock.withPermit(Effect.sync(() => server?.signal("SIGSTOP"))),
    resume: lock.withPermit(Effect.sync(() => server?.signal("SIGCONT"))),
    reload: (first) =>
      lock.withPermit(
        Effect.sync(() => {
          first()
          server?.signal("SIGHUP")
        })
      ),
    log: () => server?.log() ?? ""
  }
})
