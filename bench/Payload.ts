/** What every peer is given to echo: about 150 bytes of JSON, different in each call, and a check of what came back. */

/** The object that travels. */
export interface Payload {
  readonly id: number
  readonly name: string
  readonly email: string
  readonly active: boolean
  readonly score: number
  readonly tags: ReadonlyArray<string>
}

/** A text of a given length, with a number that differs from call to call. */
export interface Blob {
  readonly id: number
  readonly text: string
}

/** One payload; two with different ids differ in five of their fields. */
export const make = (id: number): Payload => ({
  id,
  name: `Ada Lovelace the ${id}th`,
  email: `ada.lovelace.${id}@example.org`,
  active: (id & 1) === 0,
  score: id / 8,
  tags: ["admin", "billing", "europe"]
})

/** True when nothing was lost, changed or mixed up on the way. */
export const same = (sent: Payload, answer: Payload): boolean =>
  answer !== sent &&
  answer.id === sent.id &&
  answer.name === sent.name &&
  answer.email === sent.email &&
  answer.active === sent.active &&
  answer.score === sent.score &&
  answer.tags.length === sent.tags.length &&
  answer.tags.every((tag, index) => tag === sent.tags[index])

/** A text of so many bytes: printable, nothing that JSON has to escape, no short repetition. */
export const text = (bytes: number): string => {
  let text = ""
  for (let i = 0; text.length < bytes; i++) text += `${(i * 2_654_435_761) % 4_294_967_296}-`
  return text.slice(0, bytes)
}

/** As {@link same}, for blobs. */
export const sameBlob = (sent: Blob, answer: Blob): boolean =>
  answer !== sent && answer.id === sent.id && answer.text === sent.text
