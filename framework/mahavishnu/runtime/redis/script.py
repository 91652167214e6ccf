"""The rates of `algorithms` in Lua: each decided and consumed inside the server, by its clock, in exact integers."""

# Lua counts in doubles, which are exact below 2^53 only. So times are whole microseconds and a rest counted in
# parts of 1/count µs, and the products that could be larger are made or compared in limbs.
#
# A bucket is a text of records, one for each rule that a process of the service has charged it by: the rule, when it
# last decided, and the state, which is `whole rest spent born` of GCRA's arrival, `index before current` of a
# window, and the times of a log, 8 bytes each. A request is decided by the rule of its own process and, once let in,
# counted under every other one: so versions of a service that are at work side by side, while a fleet rolls from one
# spec to another, count each other's requests. A rule that is new to a bucket goes on from the one that decided last.

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

-- many * (whole + rest/count), exactly, for many and count below 2^30.
local function times(many, whole, rest, count)
  local low = many % 32768
  local high = (many - low) / 32768 * rest
  local parts = high % count
  local sum = parts * 32768 + low * rest
  local left = sum % count
  return many * whole + (high - parts) / count * 32768 + (sum - left) / count, left
end

-- Every kind of rule, made when it is met, can: `prepare` what is always the same, `open` a state by now (and say
-- whether it had to be corrected: the server's clock went back), say what is `charged` (filled to the brim where it
-- does not fit) and whether that fits, how much is `used`, the state `having` that much, when it `ends`, what it
-- `tells` the process, its `text`, and the state once a request has been `returned`.
local make = {}

function make.g()
  local gcra = {}

  function gcra.prepare(rule)
    rule.bit = rule.period % rule.count
    rule.unit = (rule.period - rule.bit) / rule.count
    rule.room, rule.slack = times(rule.burst, rule.unit, rule.bit, rule.count)
    rule.most, rule.horizon = rule.burst, rule.room + (rule.slack > 0 and 1 or 0)
  end

  -- No clock that went back locks anybody out for longer than an empty bucket would.
  function gcra.open(rule, body)
    if not body then return {now, 0, 0, now} end
    local whole, rest, spent, born = string.match(body, '^(%d+) (%d+) (%d+) (%d+)$')
    whole, rest, spent, born = tonumber(whole), tonumber(rest), tonumber(spent), tonumber(born)
    if later(whole, rest, now + rule.room, rule.slack) then
      return {now + rule.room, rule.slack, spent, born}, true
    end
    if whole < now then whole, rest = now, 0 end
    return {whole, rest, spent, born}
  end

  function gcra.charged(rule, state, cost)
    local step, part = times(cost, rule.unit, rule.bit, rule.count)
    local whole, rest = state[1] + step, state[2] + part
    if rest >= rule.count then whole, rest = whole + 1, rest - rule.count end
    local fits = not later(whole, rest, now + rule.room, rule.slack)
    if not fits then whole, rest = now + rule.room, rule.slack end
    return {whole, rest, state[3] + cost, state[4]}, fits
  end

  function gcra.used(rule, state)
    return ((state[1] - now) * rule.count + state[2]) / rule.period
  end

  function gcra.having(rule, many)
    local whole, rest = now + math.ceil(many * rule.period / rule.count), 0
    local parts = math.ceil(many * rule.period)
    if parts < 9007199254740992 then -- exact: a whole microsecond may be many requests
      rest = parts % rule.count
      whole = now + (parts - rest) / rule.count
    end
    if later(whole, rest, now + rule.room, rule.slack) then whole, rest = now + rule.room, rule.slack end
    return {whole, rest, 0, now}
  end

  function gcra.ends(_, state) return state[1] + 1 end

  function gcra.tells(_, state) return state end

  function gcra.text(_, state)
    return string.format('%.0f %.0f %.0f %.0f', unpack(state))
  end

  function gcra.returned(rule, state, cost, at, mark, birth)
    local whole, rest, spent, born = unpack(state)
    local since = spent - mark
    if born ~= birth or now - at >= rule.horizon or since >= rule.burst then return nil end
    local from, parts = times(since, rule.unit, rule.bit, rule.count)
    from = from + now
    local step, part = times(cost, rule.unit, rule.bit, rule.count)
    local least, left = whole - step, rest - part
    if left < 0 then least, left = least - 1, left + rule.count end
    if later(whole, rest, from, parts) then whole, rest = from, parts end
    if later(least, left, whole, rest) then whole, rest = least, left end
    return {whole, rest, since == 0 and spent - cost or spent, born}
  end

  return gcra
end

function make.w()
  local window = {}

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

  function window.prepare(rule)
    rule.elapsed = now % rule.period
    rule.index = (now - rule.elapsed) / rule.period
    rule.most, rule.horizon = rule.count, 2 * rule.period
  end

  function window.open(rule, body)
    if not body then return {0, 0} end
    local of, before, current = string.match(body, '^(%d+) (%d+) (%d+)$')
    of, before, current = tonumber(of), tonumber(before), tonumber(current)
    if of >= rule.index then return {before, current}, of > rule.index end
    return {of == rule.index - 1 and current or 0, 0}
  end

  function window.charged(rule, state, cost)
    local before, current = unpack(state)
    local room = rule.count - current - cost
    local fits = room >= 0 and not exceeds(before, rule.period - rule.elapsed, room, rule.period)
    return {before, math.min(current + cost, rule.count)}, fits
  end

  function window.used(rule, state)
    return (state[1] * (rule.period - rule.elapsed) + state[2] * rule.period) / rule.period
  end

  function window.having(_, many) return {0, math.ceil(many)} end

  function window.ends(rule) return (rule.index + 2) * rule.period end

  function window.tells(_, state) return {state[1], state[2], 0, 0} end

  function window.text(rule, state)
    return string.format('%.0f %.0f %.0f', rule.index, unpack(state))
  end

  function window.returned(rule, state, cost, at)
    local age = rule.index - (at - at % rule.period) / rule.period
    local before, current = unpack(state)
    if age == 1 then before = math.max(0, before - cost) end
    if age == 0 then current = math.max(0, current - cost) end
    return {before, current}
  end

  return window
end

function make.l()
  local log = {}

  local WIDTH = 8
  local function packed(at) return struct.pack('>I8', at) end

  local function seat(body, number) return (struct.unpack('>I8', body, number * WIDTH + 1)) end

  function log.prepare(rule)
    rule.most, rule.horizon = rule.count, rule.period
  end

  function log.open(rule, body)
    body = body or ''
    local size = #body / WIDTH
    local past = size
    while past > 0 and seat(body, past - 1) > now do past = past - 1 end
    local corrected = past < size
    if corrected then body = string.sub(body, 1, past * WIDTH) .. string.rep(packed(now), size - past) end
    local gone = 0
    while gone < size and seat(body, gone) <= now - rule.period do gone = gone + 1 end
    return string.sub(body, gone * WIDTH + 1), corrected
  end

  function log.charged(rule, state, cost)
    local fits = #state / WIDTH + cost <= rule.count
    return string.sub(state .. string.rep(packed(now), math.min(cost, rule.count)), -rule.count * WIDTH), fits
  end

  function log.used(_, state) return #state / WIDTH end

  function log.having(_, many) return string.rep(packed(now), math.ceil(many)) end

  function log.ends(rule, state)
    return state == '' and now or seat(state, #state / WIDTH - 1) + rule.period
  end

  -- How many are remembered, the newest, and the one that has to go before this one fits.
  function log.tells(rule, state, cost)
    local size = #state / WIDTH
    local over = size + cost - rule.count
    local leaves = (over > 0 and cost <= rule.count) and seat(state, over - 1) or 0
    return {size, size > 0 and seat(state, size - 1) or 0, leaves, 0}
  end

  function log.text(_, state) return state end

  function log.returned(_, state, cost, at)
    local last = #state / WIDTH
    while last > 0 and seat(state, last - 1) > at do last = last - 1 end
    local first = last
    while first > 0 and last - first < cost and seat(state, first - 1) == at do first = first - 1 end
    return string.sub(state, 1, first * WIDTH) .. string.sub(state, last * WIDTH + 1)
  end

  return log
end

local kinds = {}

-- A rule by its name: `g<count>.<period>.<burst>`, `w<count>.<period>`, `l<count>.<period>`.
local function ruled(name)
  local letter, count, period, burst = string.match(name, '^(%a)(%d+)%.(%d+)%.?(%d*)$')
  kinds[letter] = kinds[letter] or make[letter]()
  local rule = {kind = kinds[letter], count = tonumber(count), period = tonumber(period), burst = tonumber(burst)}
  rule.kind.prepare(rule)
  return rule
end

local function opened(record)
  record.rule = ruled(record.name)
  record.state, record.corrected = record.rule.kind.open(record.rule, record.body)
  return record
end

-- What is used of one rule, of another: as many requests or, where that gives more at once, the same share.
local function carried(from, to)
  local many = from.rule.kind.used(from.rule, from.state)
  if many <= 0 then return end
  if to.rule.most > from.rule.most then many = many * to.rule.most / from.rule.most end
  to.state = to.rule.kind.having(to.rule, math.min(many, to.rule.most))
  to.corrected = true
end

-- The record of a rule in a bucket, and those of other rules; who decided last comes first.
local function bucket(key, name)
  local text, mine, others, place = redis.call('GET', key), nil, {}, 1
  while text and place <= #text do
    local rule, seen, size, from = string.match(text, '^(%S+) (%d+) (%d+)\\n()', place)
    place = from + size
    local record = {name = rule, seen = tonumber(seen), body = string.sub(text, from, place - 1)}
    if rule == name then mine = record else others[#others + 1] = opened(record) end
  end
  return mine, others
end

local MOST = 4  -- rules that a bucket remembers

-- Others are kept for as long as the longest of them all remembers: each is then as good as if it stood alone.
local function keep(key, mine, others)
  mine.seen = now
  local longest, ends, parts = mine.rule.horizon, now, {}
  for _, one in ipairs(others) do longest = math.max(longest, one.rule.horizon) end
  local function add(one)
    local body = one.rule.kind.text(one.rule, one.state)
    parts[#parts + 1] = string.format('%s %.0f %d\\n', one.name, one.seen, #body) .. body
    ends = math.max(ends, one.rule.kind.ends(one.rule, one.state))
  end
  add(mine)
  for _, one in ipairs(others) do
    if #parts < MOST and now - one.seen <= longest then add(one) end
  end
  redis.call('SET', key, table.concat(parts), 'PX', ttl(ends - now))
end
"""

_TAKE = (
    _COMMON
    + """
local asked, admitted = {}, true
for number, key in ipairs(KEYS) do
  local name, enforced, cost = unpack(ARGV, 3 * number - 2, 3 * number)
  local mine, others = bucket(key, name)
  local one = {mine = opened(mine or {name = name}), others = others, cost = tonumber(cost)}
  if not mine and others[1] then carried(others[1], one.mine) end
  one.after, one.fits = one.mine.rule.kind.charged(one.mine.rule, one.mine.state, one.cost)
  if enforced == '1' and not one.fits then admitted = false end
  asked[number] = one
end

local answer = {now, admitted and 1 or 0}
for number, key in ipairs(KEYS) do
  local one = asked[number]
  local mine, others = one.mine, one.others
  if admitted and one.fits then
    mine.state = one.after
    for _, other in ipairs(others) do other.state = other.rule.kind.charged(other.rule, other.state, one.cost) end
    keep(key, mine, others)
  elseif mine.corrected or (others[1] and now - (mine.seen or now) > mine.rule.horizon / 2) then
    -- Who is refused keeps nothing else: each time he would begin anew, or be taken for one who comes no more.
    keep(key, mine, others)
  end
  local told = mine.rule.kind.tells(mine.rule, mine.state, one.cost)
  answer[#answer + 1] = one.fits and 1 or 0
  for cell = 1, 4 do answer[#answer + 1] = told[cell] end
end
return answer
"""
)

_GIVE_BACK = (
    _COMMON
    + """
-- Only by the rule that charged it: under another one it may have been counted for less than it is.
for number, key in ipairs(KEYS) do
  local name = ARGV[5 * number - 4]
  local mine, others = bucket(key, name)
  if mine then
    local numbers = {}
    for place = 5 * number - 3, 5 * number do numbers[#numbers + 1] = tonumber(ARGV[place]) end
    opened(mine)
    mine.state = mine.rule.kind.returned(mine.rule, mine.state, unpack(numbers)) or mine.state
    keep(key, mine, others)
  end
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
"""`KEYS`: one of each rate; `ARGV`: of each its rule, whether it refuses (1 or 0), and the cost.

Answers the time in µs, whether all is admitted, and five numbers for each rate.
"""
GIVE_BACK = Script(_GIVE_BACK)
"""`KEYS`: one of each rate that was consumed; `ARGV`: of each its rule, the cost, when it was taken, two numbers."""
