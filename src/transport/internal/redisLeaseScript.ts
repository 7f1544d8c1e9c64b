/** What a Redis does about leases, in one step each: the rules of `leaseMemory`, on the clock of Redis. */
import { maxAheadMillis, sameWithin } from "./leaseMemory.ts"

/**
 * One hash per name: `owner`, `until` (when the lease lapses), `token`, and of the last occurrence `last` and `lastOwner`.
 *
 * Arguments: `acquire`, owner, time to live, and for an occurrence its time and its wait; `renew`, owner, time to live;
 * `release`, owner. Answers: `Held` and the token, or what else became of it.
 *
 * Tokens are the time of day in microseconds, or one more than the last if that is higher: they rise also when Redis has lost its data.
 */
export const text = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local whole = function(number) return string.format('%.0f', number) end
local place = redis.call('HMGET', KEYS[1], 'owner', 'until', 'token', 'last', 'lastOwner')
local owner = ARGV[2]
local isOwner = place[1] == owner

if ARGV[1] == 'release' then
  if isOwner then redis.call('HSET', KEYS[1], 'owner', '', 'until', '0') end
  return { 'Released' }
end

if ARGV[1] == 'renew' then
  if not isOwner then return { 'Lost' } end
  redis.call('HSET', KEYS[1], 'until', whole(now + ARGV[3]))
  return { 'Held' }
end

if place[2] and tonumber(place[2]) > now then
  if isOwner then return { 'Held', place[3] } end
  return { 'Taken' }
end
local at = tonumber(ARGV[4])
if at then
  if at > now + ${maxAheadMillis} then return { 'Early' } end
  local last = tonumber(place[4] or '')
  if last and not (place[5] == owner and last == at) then
    if at <= last or at - last < ARGV[5] * ${sameWithin} then return { 'Over' } end
  end
  redis.call('HSET', KEYS[1], 'last', whole(at), 'lastOwner', owner)
end
local token = whole(math.max(time[1] * 1000000 + time[2], (tonumber(place[3] or '') or 0) + 1))
redis.call('HSET', KEYS[1], 'owner', owner, 'until', whole(now + ARGV[3]), 'token', token)
-- Kept for longer than the wait of a yearly job; a name that nobody uses any more goes away.
redis.call('PEXPIRE', KEYS[1], whole(400 * 86400000 + ARGV[3]))
return { 'Held', token }
`
