-- The sliding window as a log of instants, for many logs at once, by the server's clock.
--
-- KEYS[i] is a log. ARGV[i] holds nine numbers: permits and period (microseconds) of the rate, then burst, permits
-- asked for, two for leases, permits given back, the instant at which those were granted, and a level; burst, leases
-- and levels are for other algorithms.
--
-- A log is a list: "permits:period" of the rate under which it was written, then the instants, the oldest first. Under
-- another rate their ages and their number are rescaled. A refused call spends nothing.
--
-- The answer is one text, with six numbers for each log: permits granted, 0, the instant, 0, microseconds until the next permit
-- (0: there is one), and permits left. Where something else than a log stands under a key, -1 is granted there, and the
-- others are served.

local CHUNK = 1000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}

local function numbers(text)
  local found = {}
  for number in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(number) end
  return unpack(found)
end

local function push(key, instants)
  for start = 1, #instants, CHUNK do
    redis.call('RPUSH', key, unpack(instants, start, math.min(#instants, start + CHUNK - 1)))
  end
end

local function text(instant)
  return string.format('%.0f', instant)
end

-- Write the whole log anew, each instant moved by `moved`.
local function rewrite(key, header, instants, moved)
  local log = {header}
  for position, instant in ipairs(instants) do log[position + 1] = text(moved(tonumber(instant))) end
  redis.call('DEL', key)
  push(key, log)
end

-- Drop what is out of the window, which is half open: what is a period old is out of it. Return how many are left.
local function purge(key, header, period)
  local length = redis.call('LLEN', key) - 1
  local expired = 0
  while expired < length do
    local oldest = redis.call('LRANGE', key, expired + 1, expired + 100)
    local found = 0
    for _, instant in ipairs(oldest) do
      if instant + period > now then break end
      found = found + 1
    end
    expired = expired + found
    if found < #oldest then break end
  end
  if expired > 0 then
    redis.call('LTRIM', key, expired, -1)
    redis.call('LSET', key, 0, header)
  end
  return length - expired
end

-- Keep the share of the permits that was spent under another rate, the ages of the instants rescaled.
local function rescale(key, old_header, header, permits, period)
  local old_permits, old_period = string.match(old_header, '^(.-):(.-)$')
  local spent = purge(key, old_header, tonumber(old_period))
  local count = math.min(permits, math.ceil(spent / old_permits * permits - 0.000000001))
  local instants = redis.call('LRANGE', key, 1, -1)
  local kept = {}
  for position = 1, count do
    local source = count <= spent and spent - count + position or math.floor((position - 1) * spent / count) + 1
    kept[position] = instants[source]
  end
  rewrite(key, header, kept, function(instant) return now - (now - instant) * period / old_period end)
end

-- Refuse to touch a list of somebody else's: it begins with no rate, or ends with no instant.
local function prove(stored, newest)
  local ours = string.find(stored, '^%d+:[%d.e+-]+$') and (newest == stored or string.find(newest, '^%d+$'))
  if not ours then error('WRONGTYPE') end
end

local function log(key, argument)
  local permits, period, _, asked, _, _, back, granted_at = numbers(argument)
  local header = string.format('%.0f:%.17g', permits, period)
  local used = 0
  local renewed = false

  local stored = redis.call('LINDEX', key, 0)
  local last = redis.call('LINDEX', key, -1)
  if stored then prove(stored, last) end
  if stored and stored ~= header and back > 0 and asked == 0 then
    stored = nil  -- given back under a rate that is past
  end
  if stored then
    local newest = tonumber(last) or 0
    if newest > now then  -- the clock was set back: without this, nothing would leave the window for as long
      local instants = redis.call('LRANGE', key, 1, -1)
      rewrite(key, stored, instants, function(instant) return instant - (newest - now) end)
      renewed = true
    end
    if stored ~= header then
      rescale(key, stored, header, permits, period)
      renewed = true
    elseif back > 0 then  -- an instant is forgotten for each permit given back
      redis.call('LREM', key, -back, text(granted_at))
    end
    used = purge(key, header, period)
  end

  local granted = math.min(asked, math.max(0, permits - used))
  if granted > 0 then
    local instants = {}
    if not stored then instants[1] = header end
    for _ = 1, granted do instants[#instants + 1] = text(now) end
    push(key, instants)
    used = used + granted
  end
  if granted > 0 or renewed then  -- what is written anew would live for ever
    redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(period / 1000) + 1))
  end

  local delay = 0
  if used >= permits then
    delay = math.ceil(redis.call('LINDEX', key, used + 1 - permits) + period - now)
  end
  return string.format('%.0f 0 %.0f 0 %.0f %.0f', granted, now, delay, math.max(0, permits - used))
end

for index, key in ipairs(KEYS) do
  local done, said = pcall(log, key, ARGV[index])
  if not done then
    local text = type(said) == 'table' and said.err or said
    local foreign = string.find(text, 'WRONGTYPE', 1, true) or string.find(text, 'attempt to', 1, true)
    if not foreign then return type(said) == 'table' and said or redis.error_reply(said) end
    said = '-1 0 0 0 0 0'
  end
  answer[#answer + 1] = said
end

return table.concat(answer, ' ')
