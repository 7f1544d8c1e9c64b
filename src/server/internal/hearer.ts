/** Who takes what is published on a channel that this process listens to: one listener, or a group of which one has each message. */
import type { Frame } from "../../transport/Transport.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import type { Entry } from "./entry.ts"
import type { Mount } from "./mount.ts"

/** @see the file's first line */
export interface Hearer {
  /** Takes a message and the topic that it came on; the frame where it came alone. */
  readonly hear: (message: Envelope.Request, topic: string, frame: Frame | undefined) => void
}

/** A listener that is mounted. */
export interface Member {
  readonly entry: Entry
  readonly mount: Mount
}

/** Hands a message to a listener. One that may not be answered is heard all the same. */
export const give = ({ entry, mount }: Member, message: Envelope.Request, topic: string) => {
  const answerable = message.replyTo === undefined || mount.mayAnswer(message.replyTo)
  mount.accept(entry, topic, answerable ? message : { ...message, replyTo: undefined }, false)
}
