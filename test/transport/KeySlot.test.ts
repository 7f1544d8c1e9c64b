import { assert, describe, it } from "vitest"
import * as KeySlot from "../../src/transport/KeySlot.ts"

// test/testing/RedisClusterServer.test.ts compares it with Redis' own.
describe("KeySlot", () => {
  it("is the checksum of the specification", () => {
    assert.strictEqual(KeySlot.of("123456789"), 0x31c3 % 16_384)
  })

  it("is the same for names that share a hash tag, and only then for what is in the braces", () => {
    for (const name of ["{shop}.orders", "mail{shop}", "{shop}", "a{shop}b{other}"]) {
      assert.strictEqual(KeySlot.of(name), KeySlot.of("shop"))
    }
    for (const name of ["{}shop", "{shop", "shop}"]) assert.notStrictEqual(KeySlot.of(name), KeySlot.of("shop"))
  })

  it("reads a name as UTF-8", () => {
    assert.strictEqual(KeySlot.of("{ü}a"), KeySlot.of("ü"))
    assert.notStrictEqual(KeySlot.of("ü"), KeySlot.of("u"))
  })
})
