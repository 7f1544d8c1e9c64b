/** The code of docs/topics.md. */
import { Console, Schema } from "effect"
import { Listener, Topic } from "fiberbus"

export const Orders = Topic.make("orders", { id: Schema.String })

export const Billing = Listener.layer(Orders, ({ id }) => Console.log(`bill ${id}`), { group: "billing" })

export const Prices = Topic.make("prices", { symbol: Schema.String, cents: Schema.Finite }).pipe(
  Topic.annotate(Topic.Numbered, true)
)

export const OnPrices = Listener.layer(Prices, ({ cents, symbol }) => Console.log(symbol, cents), {
  concurrency: 1,
  onGap: ({ from, missed }) => Console.warn(`${missed} prices of ${from} are missing`)
})

export const Ticks = Topic.make("ticks", { symbol: Schema.String, cents: Schema.Finite }).pipe(
  Topic.annotate(Topic.Packed, true)
)

export const Trades = Prices.pipe(Topic.annotate(Topic.History, { messages: 1_000, for: "5 minutes" }))

export const OnTrades = Listener.layer(Trades, ({ symbol }, { backfilled }) => Console.log(symbol, backfilled), {
  concurrency: 1,
  onGap: ({ missed }) => Console.warn(`${missed} are gone`)
})
