import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Concurrency from "../../src/policy/Concurrency.ts"
import { Admission, type Gate, type Job, type Place } from "../../src/server/internal/admission.ts"

class Request implements Job<Request> {
  place: Place<Request> | undefined = undefined
  readonly name: string
  readonly gate: Gate<Request>
  constructor(name: string, gate: Gate<Request>) {
    this.name = name
    this.gate = gate
  }
}

interface Settings {
  readonly slots?: number
  readonly size?: number
  readonly whenFull?: "refuse" | "dropOldest" | "dropNewest"
  readonly onStart?: (request: Request) => void
}

const make = ({ onStart, size = 100, slots = 1, whenFull = "refuse" }: Settings = {}) => {
  const begun: Array<string> = []
  const displaced: Array<string> = []
  const broke: Array<unknown> = []
  const limit = Concurrency.makeUnsafe(slots)
  const admission: Admission<Request> = new Admission<Request>({
    limit,
    backlog: { size, whenFull },
    start: (request) => {
      begun.push(request.name)
      onStart?.(request)
    },
    displaced: ({ name }) => displaced.push(name),
    refused: () => {},
    broke: (defect) => broke.push(defect)
  })
  const open = admission.gate(Number.POSITIVE_INFINITY)
  return {
    admission,
    begun,
    displaced,
    broke,
    limit,
    open,
    /** What becomes of requests that arrive one after the other. Their names begin with their key. */
    enter: (names: string, gate = open) =>
      names.split(" ").map((name) => {
        const request = new Request(name, gate)
        if (admission.start(request, gate)) return "begun"
        return admission.wait(request, gate, name[0]!) ? "waits" : "refused"
      }),
    release: (times: number, gate = open) => {
      for (let i = 0; i < times; i++) admission.release(gate)
    }
  }
}

describe("Admission", () => {
  it("begins what there is a slot for, lets wait what the backlog holds, refuses the rest", () => {
    const { admission, begun, enter, release } = make({ slots: 2, size: 1 })
    assert.deepStrictEqual(enter("a1 a2 a3 a4"), ["begun", "begun", "waits", "refused"])
    assert.deepStrictEqual([admission.running, admission.waiting], [2, 1])
    release(1)
    assert.deepStrictEqual([begun, admission.running, admission.waiting], [["a1", "a2", "a3"], 2, 0])
    release(2)
    assert.deepStrictEqual([admission.running, admission.waiting], [0, 0])
    assert.deepStrictEqual(enter("a5"), ["begun"])
  })

  it("serves the keys in turn, each in order of arrival", () => {
    const { begun, enter, release } = make()
    enter("x a1 a2 a3 b1 c1 b2")
    release(6)
    assert.deepStrictEqual(begun, ["x", "a1", "b1", "c1", "a2", "b2", "a3"])
  })

  it("keeps nobody from a free slot for whom a full gate is none of theirs, and serves gates in turn", () => {
    const { admission, begun, enter, open, release } = make({ slots: 3 })
    const narrow = admission.gate(1)
    assert.deepStrictEqual(enter("n1 n2 n3", narrow), ["begun", "waits", "waits"])
    assert.deepStrictEqual(enter("o1 o2 o3 o4"), ["begun", "begun", "waits", "waits"])
    assert.deepStrictEqual([narrow.running, open.running], [1, 2])
    // A slot of another action is none for the full gate.
    release(1)
    assert.deepStrictEqual(begun.slice(3), ["o3"])
    release(1, narrow)
    assert.deepStrictEqual(begun.slice(4), ["n2"])
    release(1, narrow)
    assert.deepStrictEqual(begun.slice(5), ["o4"])
    assert.deepStrictEqual([narrow.running, open.running, admission.waiting], [0, 3, 1])
    release(1)
    assert.deepStrictEqual(begun.slice(6), ["n3"])
  })

  it("takes none that has left, from wherever in the line", () => {
    for (const out of [0, 1, 2]) {
      const { admission, begun, open, release } = make()
      const requests = ["x", "a1", "a2", "a3"].map((name) => new Request(name, open))
      for (const request of requests) if (!admission.start(request, open)) admission.wait(request, open, "a")
      requests[1 + out]!.place!.leave()
      assert.isUndefined(requests[1 + out]!.place)
      assert.strictEqual(admission.waiting, 2)
      release(3)
      assert.deepStrictEqual(
        begun,
        ["x", "a1", "a2", "a3"].filter((_, index) => index !== 1 + out)
      )
    }
  })

  it("takes out all that wait, in the order in which they would have begun their turns, and begins none of them", () => {
    const { admission, begun, enter, open, release } = make()
    enter("x a1 b1 a2")
    assert.sameMembers(
      admission.clear().map(({ name }) => name),
      ["a1", "b1", "a2"]
    )
    assert.strictEqual(admission.waiting, 0)
    release(1)
    assert.deepStrictEqual(begun, ["x"])
    assert.deepStrictEqual([open.running, admission.running], [0, 0])
    assert.lengthOf(admission.clear(), 0)
  })

  describe("when the backlog is full", () => {
    const ends = (settings: Settings, names: string) => {
      const { admission, begun, displaced, enter, release } = make({ size: 4, ...settings })
      const fates = enter(`x ${names}`)
      const last = fates.at(-1)
      assert.isAtMost(admission.waiting, 4)
      release(6)
      return { last, displaced, begun: begun.slice(1) }
    }

    it("refuses the newcomer where its own key is the longest line, or about as long", () => {
      for (const [names, begun] of [
        ["a1 a2 a3 a4 a5", ["a1", "a2", "a3", "a4"]],
        ["a1 a2 b1 b2 a3", ["a1", "b1", "a2", "b2"]],
        ["a1 a2 b1 b2 b3", ["a1", "b1", "a2", "b2"]],
        ["a1 b1 c1 d1 e1", ["a1", "b1", "c1", "d1"]],
        ["a1 a2 a3 b1 b2 b3", ["a1", "b1", "a2", "b2"]]
      ] as const) {
        const refusing = ends({ whenFull: "refuse" }, names)
        assert.deepStrictEqual([refusing.last, refusing.begun], ["refused", [...begun]], names)
        assert.deepStrictEqual(ends({ whenFull: "dropNewest" }, names), refusing)
      }
    })

    it("puts the newest of the longest line out for a key that has much less", () => {
      for (const [names, displaced, begun] of [
        ["a1 a2 a3 a4 b1", ["a4"], ["a1", "b1", "a2", "a3"]],
        ["b1 a1 a2 a3 b2", ["a3"], ["b1", "a1", "b2", "a2"]],
        ["a1 a2 b1 b2 c1", ["a2"], ["a1", "b1", "c1", "b2"]],
        // What was the longest line is none any more.
        ["a1 a2 a3 a4 b1 c1", ["a4", "a3"], ["a1", "b1", "c1", "a2"]]
      ] as const) {
        const ended = ends({ whenFull: "refuse" }, names)
        assert.deepStrictEqual([ended.last, ended.displaced, ended.begun], ["waits", [...displaced], [...begun]], names)
      }
    })

    it("puts the oldest out where it is told to: of the longest line, else of the newcomer's own", () => {
      for (const [names, displaced] of [
        ["a1 a2 a3 a4 a5", ["a1"]],
        ["a1 a2 a3 a4 b1", ["a1"]],
        ["a1 a2 b1 b2 b3", ["b1"]],
        ["a1 b1 c1 d1 e1", ["a1"]]
      ] as const) {
        const ended = ends({ whenFull: "dropOldest" }, names)
        assert.deepStrictEqual([ended.last, ended.displaced], ["waits", [...displaced]], names)
      }
    })

    it("knows which line is the longest now, not which one was", () => {
      const shrunk = make({ size: 4 })
      shrunk.enter("x a1 a2 a3 b1 c1")
      assert.deepStrictEqual(shrunk.displaced, ["a3"])
      shrunk.release(1)
      assert.deepStrictEqual(shrunk.enter("b2 d1"), ["waits", "waits"])
      assert.deepStrictEqual(shrunk.displaced, ["a3", "b2"])

      const { admission, displaced, open } = make({ size: 6 })
      const enter = (name: string) => {
        const request = new Request(name, open)
        assert.isTrue(admission.start(request, open) || admission.wait(request, open, name[0]!) || name === "a3")
        return request
      }
      const requests = ["x", "a1", "a2", "b1", "b2", "c1", "c2", "a3"].map(enter)
      for (const { name, place } of requests) if (name.startsWith("c")) place!.leave()
      for (const name of ["b3", "b4", "d1"]) enter(name)
      assert.deepStrictEqual(displaced, ["b4"])
    })

    it("refuses where there is no backlog at all", () => {
      for (const whenFull of ["refuse", "dropOldest", "dropNewest"] as const) {
        const { admission, enter } = make({ size: 0, whenFull })
        assert.deepStrictEqual(enter("a1 a2"), ["begun", "refused"])
        assert.strictEqual(admission.waiting, 0)
      }
    })
  })

  it("tells of what throws where others would catch it, who share the limit, and takes nothing from them", () => {
    const defect = new Error("broken")
    const broken = make({
      onStart: ({ name }) => {
        if (name === "a1") throw defect
      }
    })
    broken.enter("x a1")
    broken.release(1)
    assert.deepStrictEqual(broken.broke, [defect])
    assert.isTrue(broken.limit.takeUnsafe())
  })

  const Step = Schema.Literals(["a", "b", "narrow a", "narrow c", "release", "release narrow", "leave"])

  it.prop(
    "wastes no slot, exceeds no limit, loses nobody, and keeps each line in order",
    [Schema.Array(Step)],
    ([steps]) => {
      for (const whenFull of ["refuse", "dropOldest"] as const) {
        const { admission, begun, displaced, open } = make({ slots: 2, size: 3, whenFull })
        const narrow = admission.gate(1)
        const all: Array<Request> = []
        const gone = new Set<string>()
        let ended = 0
        for (const [index, step] of steps.entries()) {
          if (step === "release" || step === "release narrow") {
            const gate = step === "release" ? open : narrow
            if (gate.running > 0) {
              ended++
              admission.release(gate)
            }
          } else if (step === "leave") {
            const waiting = all.find(({ place }) => place !== undefined)
            if (waiting !== undefined) {
              gone.add(waiting.name)
              waiting.place!.leave()
            }
          } else {
            const gate = step.startsWith("narrow") ? narrow : open
            const request = new Request(`${step} ${index}`, gate)
            all.push(request)
            if (!admission.start(request, gate) && !admission.wait(request, gate, step)) gone.add(request.name)
          }
          for (const name of displaced) gone.add(name)
          const waiting = all.filter(({ place }) => place !== undefined)
          assert.strictEqual(admission.waiting, waiting.length)
          assert.isAtMost(waiting.length, 3)
          assert.strictEqual(admission.running, open.running + narrow.running)
          assert.isTrue(admission.running <= 2 && narrow.running <= 1)
          assert.strictEqual(begun.length, ended + admission.running)
          assert.strictEqual(all.length, begun.length + waiting.length + gone.size)
          if (admission.running < 2) {
            assert.isTrue(waiting.every(({ gate }) => gate === narrow && narrow.running === 1))
          }
        }
        for (const key of ["a", "b", "narrow a", "narrow c"]) {
          const order = begun
            .filter((name) => name.replace(/ \d+$/, "") === key)
            .map((name) => Number(name.split(" ").at(-1)))
          assert.deepStrictEqual(
            order,
            [...order].sort((one, other) => one - other)
          )
        }
      }
    }
  )
})
