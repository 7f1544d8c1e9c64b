import { type Cause, Context, type Cron, Effect, type Exit, Layer, Schedule, Schema } from "effect"
import {
  Action,
  Background,
  Blueprint,
  Daemon,
  Handlers,
  type Lease,
  Lifecycle,
  Service,
  type Transport
} from "fiberbus"
import { describe, expectTypeOf, it } from "vitest"

class Database extends Context.Service<Database, { readonly rows: Effect.Effect<number> }>()("Database") {}
class NoPaper extends Schema.TaggedError<NoPaper>()("NoPaper", {}) {}

class Report extends Background.Service<Report, number, NoPaper>()("report") {}
class Indexer extends Daemon.Service<Indexer>()("indexer") {}
class Users extends Service.make("users", Action.make("ping")) {}

const rows = Effect.flatMap(Database, (database) => database.rows)
const minute = Schedule.spaced("1 minute")

describe("Background.layer", () => {
  it("asks for what the effect needs, and gives the handle of a named task", () => {
    expectTypeOf(Background.layer("rows", minute, rows)).toEqualTypeOf<
      Layer.Layer<never, never, Transport.Transport | Database>
    >()
    expectTypeOf(Background.layer(Report, minute, rows)).toEqualTypeOf<
      Layer.Layer<Report, never, Transport.Transport | Database>
    >()
  })

  it("asks for leases where it is to run once per fleet", () => {
    expectTypeOf(Background.layer("rows", minute, Effect.void, { oncePerFleet: true })).toEqualTypeOf<
      Layer.Layer<never, never, Transport.Transport | Lease.Lease>
    >()
    expectTypeOf(
      Background.layer("rows", minute, Effect.void, { oncePerFleet: { ttl: "1 minute" }, overlap: "queue" })
    ).toEqualTypeOf<Layer.Layer<never, never, Transport.Transport | Lease.Lease>>()
    expectTypeOf(Background.layer("rows", minute, Effect.void, { overlap: { beside: 2 } })).toEqualTypeOf<
      Layer.Layer<never, never, Transport.Transport>
    >()
  })

  it("has the errors of the schedule, and none of the effect", () => {
    expectTypeOf(Background.layer("rows", Schedule.cron("0 3 * * *", "UTC"), Effect.fail("no"))).toEqualTypeOf<
      Layer.Layer<never, Cron.CronParseError, Transport.Transport>
    >()
  })

  it("refuses what cannot be once per fleet", () => {
    // @ts-expect-error one run at a time in the fleet
    Background.layer("rows", minute, Effect.void, { oncePerFleet: true, overlap: { beside: 2 } })
    // @ts-expect-error each replica would run it when it starts
    Background.layer("rows", minute, Effect.void, { oncePerFleet: true, first: "now" })
    // @ts-expect-error no such option
    Background.layer("rows", minute, Effect.void, { overlapping: "skip" })
  })

  it("refuses an effect that is not what the task's name says", () => {
    Background.layer(Report, minute, Effect.fail(new NoPaper()))
    // @ts-expect-error a text is no number
    Background.layer(Report, minute, Effect.succeed("report"))
    // @ts-expect-error a failure that the name does not tell of
    Background.layer(Report, minute, Effect.fail("other"))
  })

  it("gives the exits of its runs their types", () => {
    const exit = Effect.flatMap(Report, ({ runNow }) => runNow)
    expectTypeOf(exit).toEqualTypeOf<Effect.Effect<Exit.Exit<number, NoPaper>, Background.NotRun, Report>>()
  })
})

describe("Daemon.layer", () => {
  it("asks for what the effect needs, and gives the handle of a named daemon", () => {
    expectTypeOf(Daemon.layer("rows", rows)).toEqualTypeOf<Layer.Layer<never, never, Transport.Transport | Database>>()
    expectTypeOf(Daemon.layer(Indexer, Effect.never)).toEqualTypeOf<Layer.Layer<Indexer, never, Transport.Transport>>()
  })

  it("hands the schedule the cause of the effect's own errors", () => {
    const restart = Schedule.spaced("1 second").pipe(Schedule.setInputType<Cause.Cause<NoPaper>>())
    Daemon.layer("rows", Effect.fail(new NoPaper()), { restart })
    // @ts-expect-error the schedule reads other errors
    Daemon.layer("rows", Effect.fail("other"), { restart })
  })
})

describe("Blueprint.make", () => {
  const UsersLive = Handlers.layer(Users, { ping: () => Effect.asVoid(rows) })
  const blueprint = Blueprint.make("users", [UsersLive, Background.layer(Report, minute, Effect.succeed(1))])

  it("is a Layer of all that it groups", () => {
    expectTypeOf<Layer.Success<typeof blueprint>>().toEqualTypeOf<Report>()
    expectTypeOf<Layer.Error<typeof blueprint>>().toEqualTypeOf<Transport.TransportError>()
    expectTypeOf<Layer.Services<typeof blueprint>>().toEqualTypeOf<Transport.Transport | Database>()
    expectTypeOf(blueprint.pipe(Blueprint.prefixed("v2."))).toEqualTypeOf<
      Layer.Layer<Report, Transport.TransportError, Transport.Transport | Database>
    >()
  })

  it("groups something", () => {
    // @ts-expect-error nothing to group
    Blueprint.make("nothing", [])
  })
})

describe("Lifecycle", () => {
  it("is asked for by its hooks, and given by managed", () => {
    const App = Layer.mergeAll(Lifecycle.onReady(rows), Lifecycle.waitFor(Users))
    expectTypeOf(App).toEqualTypeOf<Layer.Layer<never, never, Lifecycle.Lifecycle | Database | Transport.Transport>>()
    expectTypeOf(App.pipe(Lifecycle.managed)).toEqualTypeOf<
      Layer.Layer<Lifecycle.Lifecycle, Lifecycle.DependencyMissing, Database | Transport.Transport>
    >()
  })
})
