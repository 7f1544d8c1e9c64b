import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { HashRing } from "fiberbus"

/** The node that a key belongs to, by its name. */
const ownerOf = (nodes: ReadonlyArray<string>) => {
  const ring = HashRing.make(nodes)
  return (key: string) => nodes[ring.indexOf(key)]
}

describe("HashRing", () => {
  it.prop(
    "moves no key but those of the node that leaves",
    [Schema.Array(Schema.String), Schema.Array(Schema.String)],
    ([names, keys]) => {
      const nodes = [...new Set([...names, "x", "y"])]
      const left = nodes.slice(1)
      const before = ownerOf(nodes)
      const after = ownerOf(left.toReversed())
      for (const key of [...keys, "", "a"]) {
        if (before(key) === nodes[0]) assert.include(left, after(key))
        else assert.strictEqual(after(key), before(key))
      }
    }
  )

  it("has no node for a key where there is none, and the only one where there is one", () => {
    assert.strictEqual(HashRing.make([]).indexOf("a"), -1)
    for (const key of ["", "a", "b"]) assert.strictEqual(HashRing.make(["x"]).indexOf(key), 0)
  })

  it("gives each of ten nodes between half and twice its share", () => {
    const nodes = Array.from({ length: 10 }, (_, n) => `node-${n}`)
    const ring = HashRing.make(nodes)
    const shares = nodes.map(() => 0)
    for (let key = 0; key < 10_000; key++) shares[ring.indexOf(`key-${key}`)]!++
    for (const share of shares) assert.isTrue(share > 500 && share < 2_000, String(shares))
  })

  // Callers of two versions of fiberbus that send one key to two replicas would break what keys are for.
  it("gives a key to the same node in every version", () => {
    const owner = ownerOf(["a", "b", "c", "d"])
    const shares: Record<string, number> = {}
    for (let key = 0; key < 10_000; key++) shares[owner(`key-${key}`)!] = (shares[owner(`key-${key}`)!] ?? 0) + 1
    assert.deepStrictEqual(shares, { a: 2675, b: 2465, c: 2530, d: 2330 })
    assert.strictEqual(Array.from({ length: 16 }, (_, key) => owner(`key-${key}`)).join(""), "dbdddaabdddccaac")
    assert.deepStrictEqual(["", "a", "größe", "😀", "order:2026-01-01/0001"].map(owner), ["b", "c", "b", "b", "c"])
  })

  it("gives a key that falls on a point to the node of this point", () => {
    const nodes = ["a", "b", "c", "d"]
    const owner = ownerOf(nodes)
    for (const node of nodes)
      for (const point of [0, 1, HashRing.points - 1]) assert.strictEqual(owner(`${node}#${point}`), node)
  })

  it("gives a key on a point of two nodes to the same of both, whatever their order", () => {
    const nodes = ["node-89", "node-1698"]
    assert.strictEqual(ownerOf(nodes)("node-89#99"), "node-1698")
    assert.strictEqual(ownerOf(nodes.toReversed())("node-89#99"), "node-1698")
    // It is a point of both: each of them owns it where the other is not.
    const others = Array.from({ length: 20 }, (_, n) => `other-${n}`)
    for (const node of nodes) assert.strictEqual(ownerOf([...others, node])("node-89#99"), node)
  })
})
