import { assert, describe, it } from "@effect/vitest"
import { Context, Schema } from "effect"
import { Action, Service, Topic } from "fiberbus/contract"

describe("Action", () => {
  it("takes schemas or struct fields for each part, and has defaults for all", () => {
    const bare = Action.make("bare")
    assert.deepStrictEqual(
      [bare.payload, bare.success, bare.error, bare.progress].map((schema) => schema.ast._tag),
      ["Void", "Void", "Never", "Never"]
    )
    const full = Action.make("full", {
      payload: { id: Schema.String },
      success: Schema.String,
      error: { error: Schema.String },
      progress: { done: Schema.Finite }
    })
    assert.deepStrictEqual(Schema.decodeUnknownSync(full.payload)({ id: "1" }), { id: "1" })
    assert.strictEqual(full.success, Schema.String)
  })

  it("is annotated by a copy", () => {
    const get = Action.make("get")
    const patient = get.pipe(Action.annotate(Action.Timeout, "1 minute"), Action.annotate(Action.Idempotent, true))
    assert.deepEqual<unknown>(Context.get(patient.annotations, Action.Timeout), "1 minute")
    assert.isTrue(Context.get(patient.annotations, Action.Idempotent))
    assert.deepEqual<unknown>(Context.get(get.annotations, Action.Timeout), "5 seconds")
    assert.isFalse(Context.get(get.annotations, Action.Idempotent))
    assert.isTrue(Action.isAction(patient))
    assert.strictEqual(Action.annotate(get, Action.Idempotent, true).name, "get")
  })
})

describe("names", () => {
  for (const name of ["", "a b", "a\nb", "é", "a*", "[a]", "a?", "a\\b", "__proto__", "x".repeat(129)]) {
    it(`refuses ${JSON.stringify(name.slice(0, 12))} where it is defined`, () => {
      assert.throws(() => Action.make(name), /cannot be used/)
      assert.throws(() => Service.make(name), /cannot be used/)
    })
  }

  it("takes what Daebus' users write", () => {
    for (const name of ["get_user", "user-service", "svc.v2", "a:b/c", "x".repeat(128), "constructor", "toString"]) {
      assert.strictEqual(Action.make(name).name, name)
      assert.strictEqual(Service.make(name).serviceName, name)
    }
  })

  it("does not make a caller that a Promise would take for its own", () => {
    assert.throws(() => Action.make("then"), /taken for a Promise/)
  })
})

describe("Service", () => {
  class Users extends Service.make("user_service", Action.make("get_user"), Action.make("constructor")) {}

  it("is the same as a value and as a class", () => {
    const value = Service.make("user_service", Action.make("get_user"))
    assert.strictEqual(Users.serviceName, value.serviceName)
    assert.deepStrictEqual(Object.keys(Users.actions), ["get_user", "constructor"])
    assert.isTrue(Service.isService(Users))
    assert.isTrue(Service.isService(value))
    assert.isFalse(Service.isService(class {}))
  })

  it("has no actions but its own", () => {
    assert.isUndefined((Users.actions as Record<string, unknown>)["toString"])
    assert.strictEqual(Users.actions.constructor.name, "constructor")
  })

  it("refuses two actions of one name", () => {
    assert.throws(() => Service.make("s", Action.make("a"), Action.make("a")), /two actions named a/)
  })
})

describe("Topic", () => {
  it("is a channel, or with a glob a pattern", () => {
    const one = Topic.make("events", { type: Schema.String })
    const many = Topic.make("events.*", { type: Schema.String })
    assert.strictEqual(one.channel, "events")
    assert.strictEqual(many.pattern, "events.*")
    assert.isFalse(Topic.isPattern(one))
    assert.isTrue(Topic.isPattern(many))
    assert.strictEqual(Topic.at(many, "events.eu").channel, "events.eu")
    assert.throws(() => Topic.at(many, "other"), /does not match/)
    assert.throws(() => Topic.at(many, "events.*"), /cannot be used/)
  })
})
