/** What tests of services need: a real Redis, faults on the way to it, and a world where everything goes wrong. */
export * as Faults from "./Faults.ts"
export * as RedisServer from "./RedisServer.ts"
export * as Simulation from "./Simulation.ts"
export * as TransportConformance from "./TransportConformance.ts"
