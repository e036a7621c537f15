-- Say that a process is there, and count those that are.
--
-- KEYS[1] is a sorted set of processes, each with the instant (milliseconds) until which it counts. ARGV: the process,
-- and for how many milliseconds it counts from now. The answer is how many processes there are. That this script writes
-- tells a server that takes writes from one that does not. 0: something else stands under the key.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
