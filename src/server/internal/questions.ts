/** The questions of one exchange that wait for their answers. */
import * as Effect from "effect/Effect"
import type { Answer } from "../../wire/Control.ts"

/** Questions of one request that may be open at once. */
export const maxOpen = 64

/** An answer; nothing when the request was over before one came. */
export type Given = Answer["answer"] | undefined

/** @see the file's first line */
export class Questions {
  private readonly open = new Map<number, (answer: Given) => void>()
  private asked = 0

  /** Sends a question under a number of its own and waits; nothing when too many are open. */
  ask(send: (id: number) => void): Effect.Effect<Given> | undefined {
    if (this.open.size >= maxOpen) return undefined
    return Effect.callback((resume) => {
      const id = this.asked++
      this.open.set(id, (answer) => resume(Effect.succeed(answer)))
      send(id)
      return Effect.sync(() => this.open.delete(id))
    })
  }

  /** The first answer counts. */
  answer(id: number, answer: Answer["answer"]) {
    const resume = this.open.get(id)
    this.open.delete(id)
    resume?.(answer)
  }

  /** No answer can come any more. */
  close() {
    const open = [...this.open.values()]
    this.open.clear()
    for (const resume of open) resume(undefined)
  }
}
