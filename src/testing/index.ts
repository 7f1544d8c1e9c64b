/** What tests of services need: a system in memory, laws for its handlers, a world where everything goes wrong, a real Redis and faults on the way to it. */
export * as Faults from "./Faults.ts"
export * as Laws from "./Laws.ts"
export * as RedisClusterServer from "./RedisClusterServer.ts"
export * as RedisServer from "./RedisServer.ts"
export * as Simulation from "./Simulation.ts"
export * as TestBus from "./TestBus.ts"
export * as TransportConformance from "./TransportConformance.ts"
