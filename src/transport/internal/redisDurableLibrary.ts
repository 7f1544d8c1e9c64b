/**
 * What a Redis does about messages that are kept, in one step each: the rules of `durableMemory`, on the clock of Redis.
 *
 * Functions (Redis 7) and no scripts: what is passed to EVALSHA shows in the client library's tracing channel, what is passed to FCALL
 * does not. The library and its functions bear a part of the hash of their text, so that processes of different versions can share a Redis.
 *
 * The keys of a queue begin with its name, `<prefix>{<service>}`, whose braces keep them in one slot of a cluster:
 * - `.requests`: the stream; fields `id`, `frame`, and where they say something `n` (deliveries before), `at` (when it was appended), `key`
 * - `.id:<id>`: `w` while the message waits, its result afterwards, for a window of time
 * - `.delayed`: what is due later, by its time; `.held`: the messages of these, by number; `.number`: the last number
 * - `.lanes`: by key, where its first message is; `.lane:<key>`: those behind it; `.laned`: how many these are in all
 * - `.dead`: the stream of dead letters
 *
 * Each group of listeners to a topic has a queue of its own, `<prefix>{<topic>}:<group>`. The topic has `.groups` (the names of these),
 * `.log` (what is kept for groups that come later) and `.id:<id>`.
 */
import { createHash } from "node:crypto"
import { publishedMillis } from "./durableMemory.ts"

/** For how long an id is remembered whose message has no result, in milliseconds: then somebody has deleted the message by hand. */
const openMillis = 7 * 86_400_000

/** Longest time until the next look at what is delayed, in milliseconds: another process may have delayed something. */
const restMillis = 250

/** After how long without a word a consumer's name is forgotten, in milliseconds: one that lives reads every two seconds. */
const goneMillis = 3_600_000

/** Lanes that are looked at per round. */
const lanesPerRound = 100

const body = (name: (operation: string) => string) => `
local function whole(number) return string.format('%.0f', number) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function baseOf(keys) return string.sub(keys[1], 1, -10) end

local function message(fields)
  local m = { id = '', frame = '', n = '0', at = '', key = '' }
  for i = 1, #fields, 2 do m[fields[i]] = fields[i + 1] end
  return m
end

-- Where it is new, its fields are those of nearly all entries, which Redis packs best.
local function deliverable(base, m)
  local entry
  if m.key == '' and m.n == '0' and m.at == '' then
    entry = redis.call('XADD', base .. '.requests', '*', 'id', m.id, 'frame', m.frame)
  else
    if m.at == '' then m.at = whole(now()) end
    entry = redis.call('XADD', base .. '.requests', '*', 'id', m.id, 'frame', m.frame, 'n', m.n, 'at', m.at, 'key', m.key)
  end
  if m.key ~= '' then redis.call('HSET', base .. '.lanes', m.key, entry) end
end

local function enter(base, m)
  if m.key ~= '' and redis.call('HSETNX', base .. '.lanes', m.key, '?') == 0 then
    if m.at == '' then m.at = whole(now()) end
    redis.call('RPUSH', base .. '.lane:' .. m.key, cmsgpack.pack(m))
    redis.call('INCR', base .. '.laned')
  else
    deliverable(base, m)
  end
end

local function pass(base, key)
  if key == '' then return end
  local following = redis.call('LPOP', base .. '.lane:' .. key)
  if following then
    redis.call('DECR', base .. '.laned')
    deliverable(base, cmsgpack.unpack(following))
  else
    redis.call('HDEL', base .. '.lanes', key)
  end
end

local function delay(base, m, millis, leads)
  if m.at == '' then m.at = whole(now()) end
  m.leads = leads
  local number = redis.call('INCR', base .. '.number')
  redis.call('HSET', base .. '.held', number, cmsgpack.pack(m))
  redis.call('ZADD', base .. '.delayed', whole(now() + millis), number)
  if leads and m.key ~= '' then redis.call('HSET', base .. '.lanes', m.key, 'delayed ' .. number) end
end

local function lengthOf(base)
  return redis.call('XLEN', base .. '.requests') + redis.call('ZCARD', base .. '.delayed')
    + tonumber(redis.call('GET', base .. '.laned') or '0')
end

local function keep(known, result, millis, keeps)
  if keeps then return redis.pcall('SET', known, result, 'PX', millis) end
  return redis.pcall('DEL', known)
end

-- The reply, if it is an error.
local function failure(reply)
  if type(reply) == 'table' and reply.err then return reply end
end

-- Nothing if it was ended before.
local function finish(base, group, entry)
  if redis.call('XACK', base .. '.requests', group, entry) == 0 then return nil end
  local found = redis.call('XRANGE', base .. '.requests', entry, entry)
  redis.call('XDEL', base .. '.requests', entry)
  if #found == 0 then return nil end
  local m = message(found[1][2])
  if m.at == '' then m.at = string.match(entry, '^%d+') end
  return m
end

local function said(thrown)
  if type(thrown) == 'table' then thrown = thrown.err end
  return 'e' .. tostring(thrown)
end

local function place(base, id, frame, key, millis)
  local m = { id = id, frame = frame, n = '0', at = '', key = key }
  if millis > 0 then delay(base, m, millis, false) else enter(base, m) end
end

-- most, whether all are plain, then of each: id, frame, and where not all are plain: key, delay. Plain ones have neither of these. 0: all are
-- kept now. Else of each: 'a' that it is, 'f' that there was no room, 'w' that it was before, 'r' and the result that there is already, 'e' and the error.
local function append(keys, args)
  local call, stream, base, most = redis.call, keys[1], baseOf(keys), tonumber(args[1])
  local isPlain, ids, length, told = args[2] == '1', base .. '.id:', 0, nil
  local width = isPlain and 2 or 4
  if most > 0 then length = lengthOf(base) end
  for i = 3, #args, width do
    local id, frame, millis = args[i], args[i + 1], isPlain and 0 or tonumber(args[i + 3])
    local known, open, outcome = ids .. id, '${openMillis}', nil
    if millis > 0 then open = whole(millis + ${openMillis}) end
    if not call('SET', known, 'w', 'NX', 'PX', open) then
      outcome = redis.pcall('GET', known)
      if type(outcome) ~= 'string' then outcome = said(outcome) elseif outcome ~= 'w' then outcome = 'r' .. outcome end
    elseif most > 0 and length >= most then
      call('DEL', known)
      outcome = 'f'
    else
      local kept, thrown
      if isPlain then
        thrown = redis.pcall('XADD', stream, '*', 'id', id, 'frame', frame)
        kept = type(thrown) ~= 'table'
      else
        kept, thrown = pcall(place, base, id, frame, args[i + 2], millis)
      end
      if kept then
        length = length + 1
      else
        -- Else the next attempt would be told that it is kept.
        redis.pcall('DEL', known)
        outcome = said(thrown)
      end
    end
    if outcome then
      if not told then
        told = {}
        for n = 1, (#args - 2) / width do told[n] = 'a' end
      end
      told[(i - 3) / width + 1] = outcome
    end
  end
  return told or 0
end

-- id, frame, keep, most, channel
local function publish(keys, args)
  local base = baseOf(keys)
  local known = base .. '.id:' .. args[1]
  if not redis.call('SET', known, 'w', 'NX', 'PX', ${publishedMillis}) then return { 'Waiting', 0 } end
  local groups = redis.call('SMEMBERS', base .. '.groups')
  local most = tonumber(args[4])
  if most > 0 then
    for _, group in ipairs(groups) do
      if lengthOf(group) >= most then
        redis.call('DEL', known)
        return { 'Full', group }
      end
    end
  end
  for _, group in ipairs(groups) do enter(group, { id = args[1], frame = args[2], n = '0', at = '', key = '' }) end
  local keeps = tonumber(args[3])
  if keeps > 0 then
    redis.call('XADD', base .. '.log', 'MINID', '~', whole(now() - keeps), '*', 'id', args[1], 'frame', args[2])
  end
  local receivers = 0
  if args[5] ~= '' then receivers = redis.call('PUBLISH', args[5], args[2]) end
  return { 'Added', receivers }
end

-- queue, whether with all that is kept
local function subscribe(keys, args)
  local base = baseOf(keys)
  if redis.call('SADD', base .. '.groups', args[1]) == 0 or args[2] ~= '1' then return 0 end
  for _, entry in ipairs(redis.call('XRANGE', base .. '.log', '-', '+')) do
    local m = message(entry[2])
    enter(args[1], { id = m.id, frame = m.frame, n = '0', at = '', key = '' })
  end
  return 1
end

-- queue
local function unsubscribe(keys, args)
  local base = baseOf(keys)
  redis.call('SREM', base .. '.groups', args[1])
  for _, part in ipairs({ '.requests', '.delayed', '.held', '.number', '.dead' }) do redis.call('DEL', args[1] .. part) end
  return 1
end

-- Calls visit with the number of each message, where its words begin, how many these are, and where its caller listens.
local function each(args, visit)
  local i, n = 3, 0
  while i <= #args do
    local width = tonumber(args[i + 1])
    local last = i + 2 + args[i + 2] * width
    for at = i + 3, last, width do
      n = n + 1
      visit(n, at, width, args[i])
    end
    i = last + 1
  end
end

-- What becomes of each where some were ended before, and so many were acknowledged just now. None is to be acknowledged any more, so that the
-- messages have to say it: who ends one deletes it, or has given it back under another name. What somebody else has deleted still waits.
local function found(base, entries, ids, acked)
  local told, gone = {}, {}
  for n, entry in ipairs(entries) do
    if redis.call('XDEL', base .. '.requests', entry) == 1 then
      told[n] = 's'
      acked = acked - 1
    else
      told[n] = 'l'
      gone[#gone + 1] = n
    end
  end
  for _, n in ipairs(gone) do
    if acked > 0 and ids[n] ~= '' and redis.pcall('GET', base .. '.id:' .. ids[n]) == 'w' then
      told[n] = 's'
      acked = acked - 1
    end
  end
  return told
end

-- Ends deliveries, and deletes their entries. Nothing where all were there to be ended, else of each: 's' that it was, 'l' that it was ended before.
local function finishAll(base, group, entries, ids)
  -- Redis 8.2 says it of each; its user may not have the right yet. What somebody else has acknowledged still waits.
  if redis.REDIS_VERSION_NUM >= ${0x080200} then
    local each = redis.pcall('XACKDEL', base .. '.requests', group, 'IDS', #entries, unpack(entries))
    if not each.err then
      local all = true
      for n, entry in ipairs(entries) do
        local ended = each[n] ~= -1 or redis.call('XDEL', base .. '.requests', entry) == 1
        all = all and ended
        each[n] = ended and 's' or 'l'
      end
      return not all and each or nil
    end
  end
  local acked = redis.call('XACK', base .. '.requests', group, unpack(entries))
  if acked ~= #entries then return found(base, entries, ids, acked) end
  redis.call('XDEL', base .. '.requests', unpack(entries))
end

-- group, window, then of each caller: where it listens, how many words a message has, how many messages, and of each of these: entry, id, frame,
-- and where there are four words, key. 0: all are settled now. Else of each: 's' that it is, 'l' that it was ended before, 'e' and the error.
local function settle(keys, args)
  local base, window = baseOf(keys), args[2]
  local known, keeps, entries, ids = base .. '.id:', tonumber(window) > 0, {}, {}
  each(args, function(n, at) entries[n], ids[n] = args[at], args[at + 1] end)
  local told = finishAll(base, args[1], entries, ids)
  each(args, function(n, at, width, replyTo)
    if told and told[n] == 'l' then return end
    local frame, thrown = args[at + 2], nil
    if ids[n] ~= '' then thrown = failure(keep(known .. ids[n], frame, window, keeps)) end
    if width == 4 and args[at + 3] ~= '' then
      local passed, why = pcall(pass, base, args[at + 3])
      if not passed then thrown = thrown or why end
    end
    if replyTo ~= '' then thrown = failure(redis.pcall('PUBLISH', replyTo, frame)) or thrown end
    if thrown then
      if not told then
        told = {}
        for one = 1, #entries do told[one] = 's' end
      end
      told[n] = said(thrown)
    end
  end)
  return told or 0
end

-- group, entry, deliveries, delay
local function again(keys, args)
  local base = baseOf(keys)
  local m = finish(base, args[1], args[2])
  if not m then return 0 end
  m.n = args[3]
  local millis = tonumber(args[4])
  if millis > 0 then delay(base, m, millis, true) else deliverable(base, m) end
  return 1
end

-- group, entry, deliveries, most, reason, cause, action, window, replyTo, settled, frame
local function bury(keys, args)
  local base = baseOf(keys)
  local m = finish(base, args[1], args[2])
  if not m then return 0 end
  redis.call('XADD', base .. '.dead', 'MAXLEN', args[4], '*', 'id', m.id, 'frame', m.frame, 'n', args[3], 'at', m.at, 'key', m.key,
    'reason', args[5], 'cause', args[6], 'action', args[7])
  if args[10] == '1' then
    if m.id ~= '' then keep(base .. '.id:' .. m.id, args[11], args[8], tonumber(args[8]) > 0) end
    if args[9] ~= '' then redis.call('PUBLISH', args[9], args[11]) end
  elseif m.id ~= '' then
    redis.call('DEL', base .. '.id:' .. m.id)
  end
  pass(base, m.key)
  return 1
end

local function delivered(stream, group, consumer, pending, claims)
  local entries, lost = {}, 0
  for _, open in ipairs(pending) do
    local entry, count = open[1], open[4]
    local found
    if claims then
      found = redis.call('XCLAIM', stream, group, consumer, claims, entry)
      count = count + 1
    else
      found = redis.call('XRANGE', stream, entry, entry)
    end
    if #found > 0 and found[1] and found[1][2] then
      entries[#entries + 1] = { entry, count, found[1][2] }
    else
      redis.call('XACK', stream, group, entry)
      lost = lost + 1
    end
  end
  return { lost, entries }
end

-- group, consumer, idle, most
local function claim(keys, args)
  local pending = redis.call('XPENDING', keys[1], args[1], 'IDLE', args[3], '-', '+', args[4])
  return delivered(keys[1], args[1], args[2], pending, args[3])
end

-- group, consumer, most: what was delivered to it
local function own(keys, args)
  return delivered(keys[1], args[1], args[2], redis.call('XPENDING', keys[1], args[1], '-', '+', args[3], args[2]), nil)
end

-- group, consumer, entries
local function renew(keys, args)
  local others = {}
  for i = 3, #args do
    local open = redis.call('XPENDING', keys[1], args[1], args[i], args[i], 1, args[2])
    if #open == 0 then
      others[#others + 1] = args[i]
    else
      redis.call('XCLAIM', keys[1], args[1], args[2], 0, args[i], 'JUSTID')
    end
  end
  return others
end

-- The first of a key may have been deleted by somebody: the next one must not wait for ever.
local function sweep(base, cursor)
  local page = redis.call('HSCAN', base .. '.lanes', cursor, 'COUNT', ${lanesPerRound})
  for i = 1, #page[2], 2 do
    local key, place = page[2][i], page[2][i + 1]
    local number = string.match(place, '^delayed (%d+)$')
    local there
    if number then there = redis.call('HEXISTS', base .. '.held', number) == 1
    elseif place == '?' then there = false
    else there = #redis.call('XRANGE', base .. '.requests', place, place) > 0 end
    if not there then pass(base, key) end
  end
  return page[1]
end

-- Consumers that have been gone for long, and have nothing in hand: each process has a name of its own.
local function prune(stream, group)
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = {}
    for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
    if consumer.pending == 0 and consumer.idle > ${goneMillis} then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    end
  end
end

-- group, cursor of the lanes or nothing
local function promote(keys, args)
  local base = baseOf(keys)
  local time = now()
  local due = redis.call('ZRANGEBYSCORE', base .. '.delayed', '-inf', whole(time), 'LIMIT', 0, 100)
  for _, number in ipairs(due) do
    local packed = redis.call('HGET', base .. '.held', number)
    redis.call('ZREM', base .. '.delayed', number)
    redis.call('HDEL', base .. '.held', number)
    if packed then
      local m = cmsgpack.unpack(packed)
      if m.leads then deliverable(base, m) else enter(base, m) end
    end
  end
  local nextMillis = ${restMillis}
  local first = redis.call('ZRANGE', base .. '.delayed', 0, 0, 'WITHSCORES')
  if #first > 0 then nextMillis = math.max(0, math.min(nextMillis, first[2] - time)) end
  local pending = redis.call('XPENDING', keys[1], args[1])[1]
  local cursor = '0'
  if args[2] == '0' then prune(keys[1], args[1]) end
  if args[2] ~= '' then cursor = sweep(base, args[2]) end
  return { whole(nextMillis), lengthOf(base) - pending, redis.call('XLEN', base .. '.dead'), cursor }
end

-- letter
local function replay(keys, args)
  local base = baseOf(keys)
  local found = redis.call('XRANGE', base .. '.dead', args[1], args[1])
  if #found == 0 then return 0 end
  redis.call('XDEL', base .. '.dead', args[1])
  local m = message(found[1][2])
  if m.id ~= '' then redis.call('SET', base .. '.id:' .. m.id, 'w', 'PX', whole(${openMillis})) end
  enter(base, { id = m.id, frame = m.frame, n = '0', at = '', key = m.key })
  return 1
end

-- group, consumer
local function leave(keys, args)
  if #redis.call('XPENDING', keys[1], args[1], '-', '+', 1, args[2]) > 0 then return 0 end
  redis.call('XGROUP', 'DELCONSUMER', keys[1], args[1], args[2])
  return 1
end

-- Appending is refused at maxmemory; all else makes room, or will.
redis.register_function('${name("append")}', append)
redis.register_function('${name("publish")}', publish)
redis.register_function('${name("subscribe")}', subscribe)
${["settle", "again", "bury", "claim", "own", "renew", "promote", "replay", "leave", "unsubscribe"]
  .map(
    (operation) =>
      `redis.register_function{ function_name = '${name(operation)}', callback = ${operation}, flags = { 'allow-oom' } }`
  )
  .join("\n")}
`

const version = createHash("sha256")
  .update(body((operation) => operation))
  .digest("hex")
  .slice(0, 8)

/** The name of a function. */
export const named = (operation: string) => `fiberbus_${operation}_${version}`

/** What FUNCTION LOAD takes. */
export const text = `#!lua name=fiberbus_${version}\n${body(named)}`
