/** The rings that are mutated, and the tests that look at each. */
export interface Ring {
  /** Tests that run in memory and alike each time: no broker, no process, no thread. */
  readonly tests: ReadonlyArray<string>
  /** Names of those among them that take long: storms, large frames, real time. What they alone find counts as not found. */
  readonly without?: ReadonlyArray<string>
}

/** Storms of calls from the client's side. */
const storms = [
  "end once each, by their deadline; nothing runs twice unasked, and no more is sent than the budget allows",
  "all succeed where the actions are idempotent and the losses end in time"
]

export const rings: Record<string, Ring> = {
  wire: {
    tests: ["test/wire/*.test.ts"],
    without: [
      "on 20,000 mutated frames, and agrees with JSON.parse about every frame that is strict JSON",
      "beside a text of any length",
      "in time that grows with the frame, not with its square",
      "for a reason: without the limit, a frame that JSON.parse takes kills whoever walks it",
      "reads 10,000 values of any kind without a throw",
      "reads anything: 20,000 objects with any value in any field"
    ]
  },
  policy: { tests: ["test/policy/*.test.ts"] },
  client: {
    // Attempts are tried by the policies that make them, durable calls beside their topics.
    tests: [
      "test/client/*.test.ts",
      "test/policy/{Policy,Retry}.test.ts",
      "test/durable/{calls,topics,laws,waiting,receipts,publishing}.test.ts"
    ],
    without: storms
  },
  server: {
    // What a handler streams, asks and reports is tried from the side of its caller; groups of listeners
    // beside their topics; what nobody should send, where it comes from.
    tests: [
      "test/server/*.test.ts",
      "test/client/*.test.ts",
      "test/durable/{calls,topics,laws}.test.ts",
      "test/hostile/*.test.ts",
      "test/simulation/durable.test.ts",
      "test/topics/!(packed).test.ts"
    ],
    without: [
      ...storms,
      "lets thousands that end at once run after each other, in order, without a deeper stack",
      "begins nothing afterwards, also when a payload is read later that could not be stopped",
      "does not wait for a test's clock, which nobody moves any more, whatever its grace",
      "may be cron in a time zone, over both changes of the clocks there",
      "that is cron takes an hour that comes twice once, and makes up for one that is left out",
      "may be further away than a timer of Node can wait",
      "a run that cannot be interrupted does not hold it up for long",
      "leaves nobody waiting once its Layer has closed, also where it could not be stopped",
      "is not sent of a handler that ends at once, nor to callers that name no time",
      "ends each of ten thousand calls at once in a typed outcome, with an exact account",
      "outlives 30,000 random requests, whole, mutated and as bytes, and answers only whom it may",
      "outlives 10,000 frames of noise",
      "with the first of a hundred thousand errors, short",
      "outlives 10,000 random messages and is given objects only",
      "is not ended by 30,000 frames that do not know its id",
      "ends in a typed outcome by whatever comes with its id, 6,000 times, and other calls go on",
      "writes a line for a flood of garbage, without its content, and answers the next good request",
      "the simulation finds a store that forgets what a dead process had in hand",
      "exactly one runs each occurrence of a nightly job, however their clocks differ and however long it takes",
      "some are started just before the time, or end just then, and it is still one run",
      "one at a time does what recurs by an interval, never twice within nine tenths of it",
      "is its own for each of hundreds of handlers that run interleaved"
    ]
  }
}

/** The ring whose tests run now. */
export const current = (): Ring => {
  const ring = rings[process.env["FIBERBUS_MUTATION_RING"] ?? ""]
  if (ring === undefined) throw new Error("FIBERBUS_MUTATION_RING names no ring")
  return ring
}
