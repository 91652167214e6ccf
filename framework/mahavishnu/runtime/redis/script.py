"""The rates of `algorithms` in Lua: each decided and consumed inside the server, by its clock, in exact integers.

Lua counts in doubles, which are exact below 2^53 only. So times are whole microseconds and a rest counted in
parts of 1/count µs; quotients that do not change come as arguments; and the one product that could be
larger is compared in three limbs of 20 bits. Key by key the state is text: `whole rest count spent born` of
GCRA's arrival, `index before current` of a window, and a list of times of a log.
"""

from __future__ import annotations

from hashlib import sha1

_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- At least until the state says nothing any more, counted in the server's own milliseconds.
local function ttl(us)
  return string.format('%.0f', math.max(math.ceil(us / 1000), 0) + 1)
end

local function later(whole, rest, than, parts)
  return whole > than or (whole == than and rest > parts)
end

local function arrival(key, count)
  local held = redis.call('GET', key)
  if not held then return nil end
  local whole, rest, of, spent, born = string.match(held, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  whole, rest, of = tonumber(whole), tonumber(rest), tonumber(of)
  if of ~= count and rest > 0 then whole, rest = whole + 1, 0 end
  return whole, rest, tonumber(spent), tonumber(born)
end

local function keep(key, whole, rest, count, spent, born)
  local text = string.format('%.0f %.0f %.0f %.0f %.0f', whole, rest, count, spent, born)
  redis.call('SET', key, text, 'PX', ttl(whole + 1 - now))
end

local function held(key)
  local state = redis.call('GET', key)
  if not state then return nil end
  local of, before, current = string.match(state, '^(%d+) (%d+) (%d+)$')
  return tonumber(of), tonumber(before), tonumber(current)
end

local function hold(key, index, before, current, period)
  local text = string.format('%.0f %.0f %.0f', index, before, current)
  redis.call('SET', key, text, 'PX', ttl((index + 2) * period - now))
end

local place = 0
local function given(many)
  local first = place + 1
  place = place + many
  return first
end
"""

_TAKE = (
    _COMMON
    + """
local function gcra(key, cost, count, step, part, room, slack)
  local whole, rest, spent, born = now, 0, 0, now
  local at, parts, sum, birth = arrival(key, count)
  if at then
    spent, born = sum, birth
    -- A server whose clock went back must lock nobody out for longer than an empty bucket would: kept at once, for
    -- who is refused keeps nothing, and each time would begin anew.
    if later(at, parts, now + room, slack) then
      at, parts = now + room, slack
      keep(key, at, parts, count, spent, born)
    end
    if at >= now then whole, rest = at, parts end
  end
  local to, left = whole + step, rest + part
  if left >= count then to, left = to + 1, left - count end
  local before = {whole, rest, spent, born}
  if later(to, left, now + room, slack) then return before end
  return before, {to, left, spent + cost, born}, function() keep(key, to, left, count, spent + cost, born) end
end

local LIMB = 1048576
local function product(a, b)
  local low = b % LIMB
  local high = (b - low) / LIMB
  local middle = high % LIMB
  high = (high - middle) / LIMB
  local last = a * low
  local first = last % LIMB
  local next = a * middle + (last - first) / LIMB
  local second = next % LIMB
  return a * high + (next - second) / LIMB, second, first
end

local function exceeds(a, b, c, d)
  local x, y, z = product(a, b)
  local u, v, w = product(c, d)
  if x ~= u then return x > u end
  if y ~= v then return y > v end
  return z > w
end

local function window(key, cost, count, period)
  local elapsed = now % period
  local index = (now - elapsed) / period
  local before, current = 0, 0
  local of, past, present = held(key)
  if of and of > index then  -- the server's clock went back
    hold(key, index, past, present, period)
    of = index
  end
  if of == index then
    before, current = past, present
  elseif of == index - 1 then
    before = present
  end
  local kept = {before, current, 0, 0}
  local room = count - current - cost
  if room < 0 or exceeds(before, period - elapsed, room, period) then return kept end
  return kept, {before, current + cost, 0, 0}, function()
    hold(key, index, before, current + cost, period)
  end
end

local function log(key, cost, count, period)
  local function at(seat) return tonumber(redis.call('LINDEX', key, seat) or 0) end
  local size = redis.call('LLEN', key)
  local seat = size - 1
  while seat >= 0 and at(seat) > now do  -- the server's clock went back
    redis.call('LSET', key, seat, string.format('%.0f', now))
    seat = seat - 1
  end
  while size > 0 and at(0) <= now - period do
    redis.call('LPOP', key)
    size = size - 1
  end
  local over = size + cost - count
  local kept = {size, size > 0 and at(-1) or 0, (over > 0 and cost <= count) and at(over - 1) or 0, 0}
  if over > 0 then return kept end
  return kept, {size + cost, now, 0, 0}, function()
    local text, times = string.format('%.0f', now), {}
    for one = 1, cost do times[one] = text end
    redis.call('RPUSH', key, unpack(times))
    redis.call('PEXPIRE', key, ttl(period))
  end
end

local kinds = {g = {gcra, 6}, w = {window, 3}, l = {log, 3}}
local befores, afters, writes, admitted = {}, {}, {}, true
for number, key in ipairs(KEYS) do
  local kind, enforced = ARGV[place + 1], ARGV[place + 2] == '1'
  place = place + 2
  local decide, many = unpack(kinds[kind])
  local numbers = {}
  for one = given(many), place do numbers[#numbers + 1] = tonumber(ARGV[one]) end
  befores[number], afters[number], writes[number] = decide(key, unpack(numbers))
  if enforced and not afters[number] then admitted = false end
end

local answer = {now, admitted and 1 or 0}
for number in ipairs(KEYS) do
  local allowed = afters[number] and 1 or 0
  if admitted and writes[number] then writes[number]() end
  local state = admitted and afters[number] or befores[number]
  answer[#answer + 1] = allowed
  for one = 1, 4 do answer[#answer + 1] = state[one] end
end
return answer
"""
)

_GIVE_BACK = (
    _COMMON
    + """
-- many * (whole + rest/count), exactly, for many and count below 2^30.
local function times(many, whole, rest, count)
  local low = many % 32768
  local high = (many - low) / 32768 * rest
  local parts = high % count
  local sum = parts * 32768 + low * rest
  local left = sum % count
  return many * whole + (high - parts) / count * 32768 + (sum - left) / count, left
end

local function gcra(key, cost, count, step, part, unit, bit, burst, horizon, at, mark, birth)
  local whole, rest, spent, born = arrival(key, count)
  if not whole or born ~= birth or now - at >= horizon then return end
  local since = spent - mark
  if since >= burst then return end
  local from, parts = times(since, unit, bit, count)
  from = from + now
  local least, left = whole - step, rest - part
  if left < 0 then least, left = least - 1, left + count end
  if later(whole, rest, from, parts) then whole, rest = from, parts end
  if later(least, left, whole, rest) then whole, rest = least, left end
  keep(key, whole, rest, count, since == 0 and spent - cost or spent, born)
end

local function window(key, cost, period, at)
  local of, before, current = held(key)
  if not of then return end
  local index = (at - at % period) / period
  if of == index + 1 then before = math.max(0, before - cost) end
  if of == index then current = math.max(0, current - cost) end
  hold(key, of, before, current, period)
end

local function log(key, cost, at)
  redis.call('LREM', key, cost, string.format('%.0f', at))
end

local kinds = {g = {gcra, 11}, w = {window, 3}, l = {log, 2}}
for _, key in ipairs(KEYS) do
  local back, many = unpack(kinds[ARGV[place + 1]])
  place = place + 1
  local numbers = {}
  for one = given(many), place do numbers[#numbers + 1] = tonumber(ARGV[one]) end
  back(key, unpack(numbers))
end
return 1
"""
)


class Script:
    """A text, and the name by which the server knows it once it has it."""

    __slots__ = ("name", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.name = sha1(text.encode(), usedforsecurity=False).hexdigest()


TAKE = Script(_TAKE)
"""`KEYS`: one of each rate. Answers the time in µs, whether all is admitted, and five numbers for each rate."""
GIVE_BACK = Script(_GIVE_BACK)
"""`KEYS`: one of each rate that was consumed."""
