import { assert, describe, it } from "vitest"
import type * as RedisLink from "../../src/transport/internal/RedisLink.ts"
import { confirmed } from "../../src/transport/internal/redisGive.ts"
import { TransportError } from "../../src/transport/Transport.ts"

interface Given {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly done: RedisLink.Done
}

/** A connection whose replies the test gives, in the order of the commands. */
const standIn = () => {
  const given: Array<Given> = []
  const take: RedisLink.RedisLink["command"] = (name, args, _bytes, done) => void given.push({ name, args, done })
  const link = { commandWhenUp: take, bytesWhenUp: take } as unknown as RedisLink.RedisLink
  const reply = (value: unknown, error?: TransportError) => given.shift()!.done(error, value)
  const names = () => given.map(({ name }) => name)
  return { link, names, reply, given }
}

const failed = (sent: TransportError["sent"]) =>
  new TransportError({ kind: "ConnectionLost", operation: "use it", detail: "gone", hint: "", sent })

/** Gives commands, and what became of them. */
const scene = (replicas: number) => {
  const { given, link, names, reply } = standIn()
  const give = confirmed(replicas, 500)
  const told: Array<string> = []
  const add = (name: string) =>
    give(
      link,
      name,
      [],
      0,
      (error, value) => told.push(error === undefined ? `${name} ${value}` : `${name} ${error.kind} ${error.sent}`),
      false
    )
  return { given, names, reply, told, add }
}

describe("a command that replicas must have", () => {
  it("ends when they have it, and not before", () => {
    const { add, given, names, reply, told } = scene(2)
    add("a")
    assert.deepStrictEqual(names(), ["a", "wait"])
    assert.deepStrictEqual(given[1]!.args, ["2", "500"])
    reply("kept")
    assert.deepStrictEqual(told, [])
    reply(2)
    assert.deepStrictEqual(told, ["a kept"])
  })

  it("shares a question with those that came while another one was open", () => {
    const { add, names, reply, told } = scene(1)
    for (const name of ["a", "b", "c"]) add(name)
    assert.deepStrictEqual(names(), ["a", "wait", "b", "c"])
    reply("kept")
    reply(1)
    assert.deepStrictEqual(told, ["a kept"])
    assert.deepStrictEqual(names(), ["b", "c", "wait"])
    add("d")
    reply("kept")
    reply("kept")
    reply(1)
    assert.deepStrictEqual(told, ["a kept", "b kept", "c kept"])
    assert.deepStrictEqual(names(), ["d", "wait"])
  })

  it("may be there where too few have it, or nobody says how many", () => {
    const { add, reply, told } = scene(1)
    add("a")
    reply("kept")
    reply(0)
    add("b")
    reply("kept")
    reply(undefined, failed("no"))
    assert.deepStrictEqual(told, ["a Unreachable unknown", "b ConnectionLost unknown"])
  })

  it("ends with its own error, whatever the others do", () => {
    const { add, reply, told } = scene(1)
    add("a")
    add("b")
    add("c")
    reply(undefined, failed("no"))
    reply(1)
    reply("kept")
    reply(undefined, failed("unknown"))
    reply(1)
    assert.deepStrictEqual(told, ["a ConnectionLost no", "b kept", "c ConnectionLost unknown"])
  })
})
