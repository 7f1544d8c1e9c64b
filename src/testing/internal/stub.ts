/** Stands in for a service that is not under test. */
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Service from "../../contract/Service.ts"
import * as Handlers from "../../server/Handlers.ts"
import * as Response from "../../server/Response.ts"
import type { StoreOf } from "../../transport/Durable.ts"
import type { Transport, TransportError } from "../../transport/Transport.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"

/**
 * Serves a contract with handlers for some of its actions.
 *
 * A call of one that was left out fails with a `CallError` whose reason is `RemoteError`, and whose text names the action.
 */
export const stub = <S extends Service.Any, Given extends Partial<Handlers.HandlersOf<S>>>(
  service: S,
  handlers: Given & { readonly [Name in Exclude<keyof Given, Service.ActionName<S>>]: never }
): Layer.Layer<never, TransportError, Transport | StoreOf<S> | Exclude<Handlers.ServicesOf<Given>, Scope.Scope>> => {
  const given = handlers as { readonly [name: string]: Handlers.Handler<any> | undefined }
  const all = Object.values(service.actions).map((action) => {
    const missing = Response.error(
      `${service.serviceName}.${action.name} has no stub: TestBus.stub was given none for it`
    )
    const answer = SchemaCodec.isNever(action.items) ? () => missing : () => Stream.drain(Stream.fromEffect(missing))
    return [action.name, given[action.name] ?? answer]
  })
  const complete = Service.make(service.serviceName, ...Object.values(service.actions)).pipe(
    Service.partitioned(service.partitions)
  )
  return Handlers.layer(complete, Object.fromEntries(all)) as any
}
