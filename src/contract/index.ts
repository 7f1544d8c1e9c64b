/** What can be said: contracts as plain data, with no runtime, no Redis client and no Node built-ins behind them. */
export * as Action from "./Action.ts"
export * as Service from "./Service.ts"
export * as Topic from "./Topic.ts"
