import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Glob from "../../src/contract/Glob.ts"
import * as Channels from "../../src/wire/Channels.ts"

describe("Channels", () => {
  it("are those of Daebus where there is no prefix", () => {
    assert.strictEqual(Channels.service("", "math"), "math")
    assert.strictEqual(Channels.unaddressed("", "math"), "math.responses")
    assert.strictEqual(Channels.topic("", "user_events"), "user_events")
    assert.strictEqual(Channels.instance("", "math", "1f"), "math.instance:1f")
    assert.match(Channels.inbox(""), /^caller:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it("all begin with the prefix", () => {
    const prefix = "staging/"
    for (const channel of [
      Channels.service(prefix, "math"),
      Channels.unaddressed(prefix, "math"),
      Channels.instance(prefix, "math", "1f"),
      Channels.topic(prefix, "user_events"),
      Channels.inboxPrefix(prefix),
      Channels.inbox(prefix)
    ]) {
      assert.isTrue(channel.startsWith(prefix))
    }
    assert.isTrue(Channels.inbox(prefix).startsWith(Channels.inboxPrefix(prefix)))
    assert.strictEqual(Channels.withoutPrefix(prefix, "staging/math"), "math")
    assert.isUndefined(Channels.withoutPrefix(prefix, "math"))
  })

  it("an inbox is nobody else's", () => {
    assert.strictEqual(new Set(Array.from({ length: 10_000 }, () => Channels.inbox(""))).size, 10_000)
  })

  it.prop("a pattern behind any prefix matches what has just this prefix", [Schema.String], ([prefix]) => {
    const matches = Glob.matcher(Channels.pattern(prefix, "user.*"))
    assert.isTrue(matches(Channels.topic(prefix, "user.created")))
    assert.isFalse(matches(`${Channels.topic(prefix, "order.created")}`))
    assert.isFalse(matches(`x${Channels.topic(prefix, "user.created")}`))
  })

  describe("an address", () => {
    it("is printable text of up to 256 bytes", () => {
      for (const address of [
        "caller:1",
        Channels.inbox("a/"),
        "x",
        "fx:1",
        "é你🚀",
        "x".repeat(256),
        "é".repeat(128)
      ]) {
        assert.isTrue(Channels.isAddress(address), address)
      }
      for (const address of ["", "x".repeat(257), "é".repeat(129), "🚀".repeat(65)]) {
        assert.isFalse(Channels.isAddress(address), address)
      }
    })

    it("has nothing that a pattern, a terminal or a reader could take for something else", () => {
      const hidden = ["*", "?", "[", "]", "\\", " ", "\t", "\n", "\r", "\u0000", "\u001b", "\u007f", "\u0085", "\u00a0"]
      const unseen = ["\u00ad", "\u200b", "\u202e", "\u2028", "\u2029", "\u2066", "\ufeff", "\ud83d", "\udc00"]
      for (const char of [...hidden, ...unseen]) {
        for (const address of [char, `caller:${char}`, `${char}caller:1`, `caller:a${char}b`]) {
          assert.isFalse(Channels.isAddress(address), JSON.stringify(address))
        }
      }
    })
  })
})
