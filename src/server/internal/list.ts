/** A list whose members know their neighbours: each leaves from wherever it stands, at the same small cost. */

/** Extend it; it may be in one list at a time. */
export abstract class Member {
  next: this | undefined = undefined
  previous: this | undefined = undefined
}

/** @see the file's first line */
export class List<M extends Member> {
  first: M | undefined = undefined
  last: M | undefined = undefined
  size = 0

  push(member: M) {
    member.previous = this.last
    member.next = undefined
    if (this.last === undefined) this.first = member
    else this.last.next = member
    this.last = member
    this.size++
  }

  remove(member: M) {
    if (member.previous === undefined) this.first = member.next
    else member.previous.next = member.next
    if (member.next === undefined) this.last = member.previous
    else member.next.previous = member.previous
    member.next = undefined
    member.previous = undefined
    this.size--
  }

  /** Sends one to the end, for those who are served in turn. */
  rotate(member: M) {
    if (this.last === member) return
    this.remove(member)
    this.push(member)
  }
}
