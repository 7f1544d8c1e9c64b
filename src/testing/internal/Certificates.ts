/** Makes throw-away TLS certificates with the `openssl` command: an authority, a server's, a client's. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import type { Machine } from "./Machine.ts"

/** Files and their texts (PEM). Both certificates are signed by `ca` and valid for two days. */
export interface Certificates {
  readonly caFile: string
  readonly ca: string
  /** For `localhost` and 127.0.0.1. */
  readonly serverCertFile: string
  readonly serverKeyFile: string
  /** What a client shows when the server asks for a certificate. */
  readonly clientCert: string
  readonly clientKey: string
}

const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

export const make = Effect.fnUntraced(function* (machine: Machine, folder: string) {
  const openssl = (...args: ReadonlyArray<string>) => machine.run("openssl", args, { cwd: folder })
  // A file of our own, since an openssl of the system may come without its default one.
  Fs.writeFileSync(
    Path.join(folder, "openssl.cnf"),
    [
      "[req]",
      "distinguished_name = name",
      "[name]",
      "[ca]",
      "basicConstraints = critical, CA:true",
      "keyUsage = critical, keyCertSign, cRLSign",
      "[server]",
      "subjectAltName = DNS:localhost, IP:127.0.0.1",
      "extendedKeyUsage = serverAuth",
      "[client]",
      "extendedKeyUsage = clientAuth",
      ""
    ].join("\n")
  )
  const config = ["-config", "openssl.cnf"]
  yield* openssl(
    ...["req", "-x509", ...key, ...config, "-extensions", "ca", "-days", "2"],
    ...["-subj", "/CN=fiberbus test authority", "-keyout", "ca.key", "-out", "ca.crt"]
  )
  for (const who of ["server", "client"]) {
    yield* openssl("req", ...key, ...config, "-subj", `/CN=${who}`, "-keyout", `${who}.key`, "-out", `${who}.csr`)
    yield* openssl(
      ...["x509", "-req", "-in", `${who}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
      ...["-days", "2", "-extfile", "openssl.cnf", "-extensions", who, "-out", `${who}.crt`]
    )
  }
  const file = (name: string) => Path.join(folder, name)
  const text = (name: string) => Fs.readFileSync(file(name), "utf8")
  const made: Certificates = {
    caFile: file("ca.crt"),
    ca: text("ca.crt"),
    serverCertFile: file("server.crt"),
    serverKeyFile: file("server.key"),
    clientCert: text("client.crt"),
    clientKey: text("client.key")
  }
  return made
})
