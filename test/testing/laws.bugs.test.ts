import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Laws, TestBus } from "fiberbus/testing"
import { Users, UsersLive } from "../users.ts"

describe("laws", () => {
  it.layer(TestBus.layer(UsersLive))("of users", (it) => {
    Laws.service(it, Users)
  })
})
