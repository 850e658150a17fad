"""Draw, reconcile, read and renew counts in Valkey, each by a Lua script that runs atomically.

A rate limit is a hash of what was `used` since it `began_at`; the streams of an owner are a sorted set of their ids by
the end of their leases. Times are milliseconds of the server's clock. The rule is that of app.state.limit_windows.

KEYS are the counts. ARGV has the arguments of the script first, then those of each count in order.
"""

from app.state.limit_windows import MINUTE_MS

_COUNTING = (
    f"local minute = {MINUTE_MS}"
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function count(key, unit)
  if unit == 'streams' then
    return redis.call('ZCOUNT', key, '(' .. now, '+inf'), 0
  end
  local kept = redis.call('HMGET', key, 'used', 'began_at')
  local began_at = tonumber(kept[2])
  if began_at and now < began_at then
    began_at = now
    redis.call('HSET', key, 'began_at', now)
    redis.call('PEXPIREAT', key, now + minute)
  end
  if began_at and now < began_at + minute then
    return tonumber(kept[1]), began_at
  end
  return 0, now
end
"""
)

READ = (
    _COUNTING
    + """
local counts = {}
for i, key in ipairs(KEYS) do
  local used, began_at = count(key, ARGV[i])
  counts[i] = {used, began_at}
end
return {now, counts}
"""
)
"""Return the time, and what is used of each count since when. ARGV: the unit of each."""

DRAW = (
    _COUNTING
    + """
local stream, lease = ARGV[1], ARGV[2]
local counts, granted = {}, true
for i, key in ipairs(KEYS) do
  local unit, amount, most = ARGV[3 * i], tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local used, began_at = count(key, unit)
  counts[i] = {used, began_at}
  granted = granted and used + math.max(amount, 1) <= most
end
if granted then
  for i, key in ipairs(KEYS) do
    if ARGV[3 * i] == 'streams' then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
      redis.call('ZADD', key, now + lease, stream)
      redis.call('PEXPIRE', key, lease)
    else
      local used, began_at = unpack(counts[i])
      redis.call('HSET', key, 'used', used + ARGV[3 * i + 1], 'began_at', began_at)
      redis.call('PEXPIREAT', key, began_at + minute)
    end
  end
end
return {now, counts}
"""
)
"""Grant all claims or none; return what READ did before. ARGV: stream and lease; unit, amount and most of each."""

RECONCILE = (
    _COUNTING
    + """
for i, key in ipairs(KEYS) do
  local unit, amount, at = ARGV[3 * i - 1], tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  if unit == 'streams' then
    redis.call('ZREM', key, ARGV[1])
  else
    local used, began_at = count(key, unit)
    if amount > 0 or (began_at <= at and at < began_at + minute) then
      redis.call('HSET', key, 'used', math.max(0, used + amount), 'began_at', began_at)
      redis.call('PEXPIREAT', key, began_at + minute)
    end
  end
end
"""
)
"""Correct counts and end a stream. ARGV: the stream; of each the unit, what to add and the time of its grant."""

RENEW = (
    _COUNTING
    + """
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[1], ARGV[i + 1])
  redis.call('PEXPIRE', key, ARGV[1])
end
"""
)
"""Renew streams, also those that the server has lost. ARGV: the lease; the stream of each."""
