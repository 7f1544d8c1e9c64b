// Stands for an OpenTelemetry collector: takes spans over HTTP, as JSON, and keeps them.
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect } from "effect"

/** A span as it is exported, as far as the tree below needs it. */
interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly status: { readonly code: number }
  readonly service: string
}

const kinds = ["", "internal", "server", "client", "producer", "consumer"]

/** Starts one on a free port, until the Scope closes. */
export const start = Effect.gen(function* () {
  const spans: Array<Span> = []
  const server = createServer(async (request, response) => {
    const chunks: Array<Uint8Array> = []
    for await (const chunk of request) chunks.push(chunk)
    // Logs and metrics come too, on other paths.
    if (request.url === "/v1/traces") {
      for (const { resource, scopeSpans } of JSON.parse(Buffer.concat(chunks).toString()).resourceSpans) {
        const { value } = resource.attributes.find(({ key }: { key: string }) => key === "service.name")
        for (const scope of scopeSpans)
          for (const span of scope.spans) spans.push({ ...span, service: value.stringValue })
      }
    }
    response.writeHead(200, { "content-type": "application/json" }).end("{}")
  })
  yield* Effect.acquireRelease(
    Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
    () => Effect.sync(() => void server.close())
  )
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, tree: () => tree(spans, undefined, "") }
})

const tree = (spans: ReadonlyArray<Span>, parent: string | undefined, indent: string): ReadonlyArray<string> =>
  spans
    .filter(({ parentSpanId }) => parentSpanId === parent)
    .sort((one, other) => Number(BigInt(one.startTimeUnixNano) - BigInt(other.startTimeUnixNano)))
    .flatMap(({ spanId, name, kind, service, status }) => [
      `${indent}${name} (${kinds[kind]} in ${service}${status.code === 2 ? ", failed" : ""})`,
      ...tree(spans, spanId, `${indent}  `)
    ])
