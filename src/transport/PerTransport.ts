/** Things of which a process wants one per transport, shared by all who use them: the inbox, the host. */
import * as Effect from "effect/Effect"
import * as RcRef from "effect/RcRef"
import * as Scope from "effect/Scope"
import { Transport } from "./Transport.ts"

/**
 * Makes an accessor. The first to ask for a transport's instance acquires it, later ones share it, and it is released when the
 * last Scope that holds it closes.
 */
export const make = <A, E>(
  acquire: (transport: Transport["Service"]) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, E, Transport | Scope.Scope> => {
  const instances = new WeakMap<Transport["Service"], RcRef.RcRef<A, E>>()
  return Effect.gen(function* () {
    const transport = yield* Transport
    let instance = instances.get(transport)
    if (instance === undefined) {
      // The counted instance ends with its last holder; the RcRef around it holds nothing of its own to be closed.
      instance = yield* Scope.provide(RcRef.make({ acquire: acquire(transport) }), Scope.makeUnsafe())
      instances.set(transport, instance)
    }
    return yield* RcRef.get(instance)
  })
}
