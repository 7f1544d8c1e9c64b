/** What a transport may do besides. Whoever wraps one hands it on. */
import type { Transport } from "./Transport.ts"

type Shape = Transport["Service"]

/** The operations that are there, called as those of the transport itself: it may be the instance of a class. */
export const of = (transport: Shape): Pick<Shape, "claim" | "barrier" | "linkOf"> => {
  const { barrier, claim, linkOf } = transport
  return {
    ...(claim === undefined ? undefined : { claim: claim.bind(transport) }),
    ...(barrier === undefined ? undefined : { barrier: barrier.bind(transport) }),
    ...(linkOf === undefined ? undefined : { linkOf: linkOf.bind(transport) })
  }
}
