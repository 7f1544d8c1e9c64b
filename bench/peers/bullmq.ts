/** BullMQ: a job is added, and its result waited for by `waitUntilFinished`. Done jobs are removed beyond the last 5,000, a worker takes 100 at once. */
import { Queue, QueueEvents, Worker } from "bullmq"
import { promises } from "../Meter.ts"
import { handlers, type Op, type Peer, type Setting } from "../Peer.ts"

const connection = ({ redis }: Setting) => ({ host: new URL(redis).hostname, port: Number(new URL(redis).port) })

export const peer: Peer = {
  serve: async (setting) => {
    const worker = new Worker(setting.name, async (job) => handlers[job.name as Op](job.data), {
      connection: { ...connection(setting), maxRetriesPerRequest: null },
      concurrency: setting.pool ?? 100
    })
    await worker.waitUntilReady()
  },
  connect: async (setting) => {
    const queue = new Queue(setting.name, {
      connection: connection(setting),
      defaultJobOptions: { removeOnComplete: { count: 5_000 }, removeOnFail: { count: 5_000 } }
    })
    const events = new QueueEvents(setting.name, { connection: connection(setting) })
    events.setMaxListeners(0)
    queue.setMaxListeners(0)
    await events.waitUntilReady()
    const call = (op: Op) => async (payload: any) => (await queue.add(op, payload)).waitUntilFinished(events)
    return { calls: promises({ echo: call("echo"), wait: call("wait") }) }
  }
}
