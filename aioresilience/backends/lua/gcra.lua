-- The generic cell rate algorithm for many buckets at once, by the server's clock.
--
-- KEYS[i] is a bucket. ARGV[i] holds nine numbers: permits and period (microseconds) of the rate, burst,
-- permits asked for, permits wanted ahead as a lease, the parts into which what remains is shared for a lease,
-- permits given back, and of those the instant at which they were granted and the level up to which they filled.
--
-- A bucket is "level:at:permits:period:burst": so many permits were spent and not refilled at that instant, under that
-- rate. Under another rate the spent share stays the same. An empty bucket has no key. A
-- refused call writes nothing, unless the rate changed or the clock was set back.
--
-- The answer is one text, with six numbers for each bucket: permits granted, permits leased, the instant, the level after them,
-- microseconds until the next permit (0: there is one), and permits left. Where something else than a bucket stands under
-- a key, -1 is granted there, and the others are served.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}

local function numbers(text)
  local found = {}
  for number in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(number) end
  return unpack(found)
end

local function bucket(key, argument)
  local permits, period, burst, asked, ahead, parts, back, granted_at, filled = numbers(argument)
  local rate = permits / period
  local slack = math.min(0.5, 0.000001 + rate * 0.01)  -- ten nanoseconds' worth, and a millionth of a permit

  local level = 0
  local changed = false
  local stored = redis.call('GET', key)
  if stored then
    local spent, at, old_permits, old_period, old_burst = string.match(stored, '^(.-):(.-):(.-):(.-):(.-)$')
    local elapsed = now - at
    if elapsed < 0 then  -- the clock was set back: nothing is refilled, and from here on it drains as ever
      elapsed = 0
      changed = true
    end
    level = math.max(0, spent - elapsed * old_permits / old_period)
    if tonumber(old_permits) ~= permits or tonumber(old_period) ~= period or tonumber(old_burst) ~= burst then
      level = math.min(1, level / old_burst) * burst
      changed = asked > 0 or back == 0  -- from here on it drains under this rate
      back = 0  -- it was charged under another one
    end
  end

  level = math.max(0, level - math.min(back, math.max(0, filled - math.max(0, now - granted_at) * rate)))
  local granted = math.min(asked, math.max(0, math.floor(burst + slack - level)))
  level = level + granted
  local leased = 0
  if granted == asked and ahead > 0 then
    leased = math.min(ahead, math.max(0, math.floor((burst - level) / parts)))
    level = level + leased
  end

  if granted + leased > 0 or changed or (back > 0 and stored) then
    local lifetime = math.ceil(level / rate / 1000)
    if lifetime > 0 then
      local bucket = string.format('%.17g:%.0f:%.0f:%.17g:%.0f', level, now, permits, period, burst)
      redis.call('SET', key, bucket, 'PX', string.format('%.0f', lifetime))
    else
      redis.call('DEL', key)
    end
  end

  local missing = level + 1 - burst
  local delay = missing > slack and math.ceil(missing / rate) or 0
  local left = math.max(0, math.floor(burst - level + 0.000001))
  return string.format('%.0f %.0f %.0f %.17g %.0f %.0f', granted, leased, now, level, delay, left)
end

for index, key in ipairs(KEYS) do
  local done, said = pcall(bucket, key, ARGV[index])
  if not done then
    local text = type(said) == 'table' and said.err or said
    local foreign = string.find(text, 'WRONGTYPE', 1, true) or string.find(text, 'attempt to', 1, true)
    if not foreign then return type(said) == 'table' and said or redis.error_reply(said) end
    said = '-1 0 0 0 0 0'
  end
  answer[#answer + 1] = said
end

return table.concat(answer, ' ')
