import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Glob from "../../src/contract/Glob.ts"
import * as natsSubject from "../../src/transport/internal/natsSubject.ts"

/** NATS' own rule: `>` is one token or more, at the end. */
const holds = (subject: string, wildcard: string) =>
  wildcard === ">" || (wildcard.endsWith(".>") && subject.startsWith(wildcard.slice(0, -1)))

// Texts with many of the characters that matter.
const names = Schema.String.check(
  Schema.makeFilter(() => true, {
    arbitraryConstraint: { patterns: [{ source: "^[a_.*>%$ é?\\\\[\\]]{0,8}$", flags: "" }] }
  } as never)
)

describe("natsSubject", () => {
  it("leaves plain names as they are", () => {
    for (const name of ["users", "user_service", "sensors.kitchen.1", "caller:8f14e45f-ceea", "a/b@c#d"]) {
      assert.strictEqual(natsSubject.fromChannel(name), name)
      assert.strictEqual(natsSubject.toChannel(name), name)
    }
  })

  it("writes the others with %XX, and an empty token as %", () => {
    assert.strictEqual(natsSubject.fromChannel("a b"), "a%20b")
    assert.strictEqual(natsSubject.fromChannel("a..b."), "a.%.b.%")
    assert.strictEqual(natsSubject.fromChannel(""), "%")
    assert.strictEqual(natsSubject.fromChannel("%"), "%25")
    assert.strictEqual(natsSubject.fromChannel("a.*.>"), "a.%2A.%3E")
    assert.strictEqual(natsSubject.fromChannel("$SYS.REQ"), "%24SYS.REQ")
    assert.strictEqual(natsSubject.fromChannel("_INBOX.x"), "%5FINBOX.x")
    assert.strictEqual(natsSubject.fromChannel("é"), "%C3%A9")
  })

  for (const [what, schema] of [
    ["any text", Schema.String],
    ["awkward texts", names]
  ] as const) {
    it.effect.prop(`gives ${what} a subject of its own, which NATS takes`, [schema], ([name]) =>
      Effect.sync(() => {
        const subject = natsSubject.fromChannel(name)
        assert.match(subject, /^[\w:\-/@#%]+(\.[\w:\-/@#%]+)*$/)
        assert.isFalse(/^(\$|_INBOX(\.|$))/.test(subject))
        assert.strictEqual(natsSubject.toChannel(subject), name.toWellFormed())
      })
    )

    it.effect.prop(`finds what a pattern of ${what} matches under its wildcard`, [schema, schema], ([head, rest]) =>
      Effect.sync(() => {
        // The text itself as a literal, then anything.
        const pattern = `${head.replace(/[*?[\]\\]/g, "\\$&")}*`
        const channel = (head + rest).toWellFormed()
        if (!Glob.matcher(pattern.toWellFormed())(channel)) return
        const subject = natsSubject.fromChannel(channel)
        assert.isTrue(
          holds(subject, natsSubject.overPattern(pattern)),
          `${subject} ${natsSubject.overPattern(pattern)}`
        )
      })
    )
  }

  it("subscribes as little as it can", () => {
    assert.strictEqual(natsSubject.overPattern("sensors.*"), "sensors.>")
    assert.strictEqual(natsSubject.overPattern("shop.sensors.k?tchen"), "shop.sensors.>")
    assert.strictEqual(natsSubject.overPattern("sens*"), ">")
  })

  it("lets a subject that is not of our writing stand for itself", () => {
    for (const subject of ["a%41", "a.%zz", "a%", "%.a%2a", "_INBOX.x"]) {
      assert.strictEqual(natsSubject.toChannel(subject), subject)
    }
  })
})
