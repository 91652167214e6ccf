"""Dead letters on a Redis or Valkey server, for a whole fleet: one script, so every step is whole, and its clock."""

# Not Redis Streams: a consumer group knows no time at which an entry is due, so every pause between two attempts would
# need a second structure, and a move between the two. A sorted set by due time holds pauses and leases alike.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast
from uuid import uuid4

from mahavishnu.runtime.dead_letters.letters import (
    LEFT_BEHIND,
    Bounds,
    Letter,
    LettersSilent,
    LettersUnreachable,
    Put,
    Standing,
    Stats,
)
from mahavishnu.runtime.redis.blocking import FAULTS, REFUSED, Blocking
from mahavishnu.runtime.redis.names import tag

_SCRIPT = """
local base, verb, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local function whole(number) return string.format('%.0f', number) end
local function at(name) return base .. ':' .. name end
local function letter(id) return at('l:' .. id) end
local function field(id, name) return redis.call('HGET', letter(id), name) end
local function room(entries, size)
  redis.call('HINCRBY', at('room'), 'entries', entries)
  redis.call('HINCRBY', at('room'), 'size', size)
end
-- A server without memory refuses what adds, but not of a script that has begun to delete: so all but `put` do.
local function gone(id)
  local dependency, size = field(id, 'dependency'), field(id, 'size')
  if not dependency then return 0 end
  redis.call('HDEL', at('keys'), dependency .. ' ' .. field(id, 'key'))
  for _, set in ipairs({'due:', 'waiting:', 'quarantined:'}) do redis.call('ZREM', at(set .. dependency), id) end
  redis.call('ZREM', at('born'), id)
  redis.call('DEL', letter(id))
  room(-1, -tonumber(size))
  return 1
end
local function due(id, dependency, at_ms)
  redis.call('ZREM', at('due:' .. dependency), id)
  redis.call('ZADD', at('due:' .. dependency), at_ms, id)
  redis.call('HSET', letter(id), 'due', at_ms)
end
local function waits(id, dependency, at_ms)
  redis.call('ZREM', at('quarantined:' .. dependency), id)
  redis.call('ZADD', at('waiting:' .. dependency), field(id, 'created'), id)
  due(id, dependency, at_ms)
  redis.call('HSET', letter(id), 'quarantined', '')
end
local function quarantine(id, dependency)
  redis.call('ZREM', at('due:' .. dependency), id)
  redis.call('ZREM', at('waiting:' .. dependency), id)
  redis.call('ZADD', at('quarantined:' .. dependency), field(id, 'created'), id)
  redis.call('HSET', letter(id), 'quarantined', '1', 'token', '')
end
local function held(id)  -- whether somebody works on it now
  return field(id, 'token') ~= '' and tonumber(field(id, 'due')) > now
end
local function oldest(but)  -- that nobody works on
  local from = 0
  while true do
    local some = redis.call('ZRANGE', at('born'), from, from + 99)
    for _, id in ipairs(some) do if id ~= but and not held(id) then return id end end
    if #some < 100 then return nil end
    from = from + 100
  end
end

if verb == 'put' then
  local id, dependency, key, size = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
  local entries, bytes, displace = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
  local created = whole(now)
  local known = redis.call('HGET', at('keys'), dependency .. ' ' .. key)
  local places, freed, displaced = 0, 0, 0
  if known then
    if field(known, 'quarantined') == '' or field(known, 'operation') ~= ARGV[12] then return {'known', known, 0} end
    places, freed = 1, tonumber(field(known, 'size'))
  end
  if size > bytes then return {'full', '', 0} end
  while true do
    local used = redis.call('HMGET', at('room'), 'entries', 'size')
    if (tonumber(used[1]) or 0) - places < entries and (tonumber(used[2]) or 0) - freed + size <= bytes then break end
    local first = displace and oldest(known)
    if not first then return {'full', '', 0} end
    displaced = displaced + gone(first)
  end
  if known then gone(known) end
  redis.call('HSET', letter(id), 'id', id, 'dependency', dependency, 'key', key, 'size', size, 'created', created,
             'attempts', 0, 'token', '', unpack(ARGV, 11))
  redis.call('HSET', at('keys'), dependency .. ' ' .. key, id)
  redis.call('ZADD', at('born'), created, id)
  redis.call('SADD', at('dependencies'), dependency)
  waits(id, dependency, whole(now + tonumber(ARGV[10])))
  room(1, size)
  return {'stored', id, displaced}
elseif verb == 'take' then
  local dependency, most, lease, attempts, token, behind = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]),
    tonumber(ARGV[6]), ARGV[7], ARGV[8]
  local taken, mine = {}, at('taken:' .. token)
  for _, id in ipairs(redis.call('LRANGE', mine, 0, -1)) do  -- whose answer was lost asks again
    if field(id, 'token') == token then taken[#taken + 1] = redis.call('HGETALL', letter(id)) end
  end
  if #taken > 0 then return taken end
  while #taken < most do
    local id = redis.call('ZRANGEBYSCORE', at('due:' .. dependency), '-inf', whole(now), 'LIMIT', 0, 1)[1]
    if not id then break end
    if tonumber(field(id, 'attempts')) >= attempts then
      local left = field(id, 'token') ~= ''
      quarantine(id, dependency)
      if left then redis.call('HSET', letter(id), 'error', behind) end
    else
      due(id, dependency, whole(now + lease))
      redis.call('HINCRBY', letter(id), 'attempts', 1)
      redis.call('HSET', letter(id), 'token', token)
      redis.call('RPUSH', mine, id)
      taken[#taken + 1] = redis.call('HGETALL', letter(id))
    end
  end
  redis.call('PEXPIRE', mine, lease)
  return taken
elseif verb == 'renew' then
  for place = 4, #ARGV, 2 do
    local id = ARGV[place]
    if field(id, 'token') == ARGV[place + 1] then
      due(id, field(id, 'dependency'), whole(now + tonumber(ARGV[3])))
    end
  end
elseif verb == 'back' then
  local id, token, pause, error, less, bad = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8] == '1'
  if field(id, 'token') == token then
    if bad then quarantine(id, field(id, 'dependency')) else waits(id, field(id, 'dependency'), whole(now + pause)) end
    redis.call('HINCRBY', letter(id), 'attempts', less)
    redis.call('HSET', letter(id), 'error', error, 'token', '')
  end
elseif verb == 'prune' then
  local old = redis.call('ZRANGEBYSCORE', at('born'), '-inf', '(' .. whole(now - tonumber(ARGV[3])), 'LIMIT', 0, 1000)
  for _, id in ipairs(old) do gone(id) end
  return #old
elseif verb == 'redrive' then
  local count = 0
  for place = 3, #ARGV do
    local id = ARGV[place]
    local dependency = field(id, 'dependency')
    if dependency and not held(id) then
      waits(id, dependency, whole(now))
      redis.call('HSET', letter(id), 'attempts', 0, 'token', '')
      count = count + 1
    end
  end
  return count
elseif verb == 'drop' then
  local count = 0
  for place = 3, #ARGV do count = count + gone(ARGV[place]) end
  return count
elseif verb == 'stats' then
  local said = redis.call('HMGET', at('room'), 'entries', 'size')
  said = {tonumber(said[1]) or 0, tonumber(said[2]) or 0}
  for _, dependency in ipairs(redis.call('SMEMBERS', at('dependencies'))) do
    local first = redis.call('ZRANGE', at('waiting:' .. dependency), 0, 0, 'WITHSCORES')
    said[#said + 1] = {dependency, redis.call('ZCARD', at('waiting:' .. dependency)),
      redis.call('ZCARD', at('quarantined:' .. dependency)), math.max(0, now - (tonumber(first[2]) or now))}
  end
  return said
end
"""
_BATCH = 500


class RedisLetters:
    """Implements `letters.Letters` on a server, whose clock counts unless `now` (ms since 1970) is given.

    Used by one thread at a time. The server must not forget: `maxmemory-policy noeviction`, and an append-only file.
    """

    batch = 1

    def __init__(self, url: str, whose: str, now: Callable[[], int] | None = None) -> None:
        self._servers = Blocking(url)
        self._base = tag(whose, "letters")
        self.now = now
        self._script = self.server.register_script(_SCRIPT)

    @property
    def server(self) -> Any:
        """The client of the server at work."""
        return self._servers.server

    def together(self) -> nullcontext[None]:
        return nullcontext()

    def put(self, letter: Letter, pause: int, bounds: Bounds) -> tuple[Put, str, int]:
        fields = (
            "operation", letter.operation, "payload", letter.payload, "request", letter.request, "error", letter.error,
        )  # fmt: skip
        head = (letter.id, letter.dependency, letter.key, letter.size)
        room = (bounds.entries, bounds.size, int(bounds.displace))
        said = self._ask("put", *head, *room, pause, *fields)
        return cast("Put", said[0].decode()), said[1].decode(), said[2]

    def take(self, dependency: str, most: int, lease: int, attempts: int) -> Sequence[Letter]:
        said = self._ask("take", dependency, most, lease, attempts, uuid4().hex, LEFT_BEHIND)
        return [_letter(dict(zip(one[::2], one[1::2], strict=True))) for one in said]

    def renew(self, letters: Iterable[Letter], lease: int) -> None:
        self._ask("renew", lease, *(word for one in letters for word in (one.id, one.token)))

    def done(self, letter: Letter) -> None:
        self._ask("drop", letter.id)

    def back(
        self, letter: Letter, pause: int, error: str, *, attempted: bool, quarantine: bool = False
    ) -> None:
        self._ask("back", letter.id, letter.token, pause, error, -int(not attempted), int(quarantine))

    def prune(self, age: int) -> int:
        return int(self._ask("prune", age))

    def stats(self) -> Stats:
        entries, size, *rows = self._ask("stats")
        of = {name.decode(): Standing(waiting, quarantined, age) for name, waiting, quarantined, age in rows}
        return Stats(of, entries, size)

    def some(self, most: int, dependency: str | None = None) -> Sequence[Letter]:
        found: list[Letter] = []
        for start in range(0, 2**31, _BATCH):
            ids = self._ids(start)
            read = (self.find(one.decode()) for one in ids)
            found += [one for one in read if one and dependency in (None, one.dependency)]
            if len(found) >= most or len(ids) < _BATCH:
                break
        return found[:most]

    def _ids(self, start: int) -> Sequence[bytes]:
        last = start + _BATCH - 1
        ids: Sequence[bytes] = self._asked(lambda server: server.zrange(f"{self._base}:born", start, last))
        return ids

    def find(self, name: str) -> Letter | None:
        fields = self._asked(lambda server: server.hgetall(f"{self._base}:l:{name}"))
        return _letter(fields) if fields else None

    def redrive(self, ids: Iterable[str]) -> int:
        return int(self._ask("redrive", *ids))

    def drop(self, ids: Iterable[str]) -> int:
        return int(self._ask("drop", *ids))

    def close(self) -> None:
        self._servers.close()

    def _ask(self, verb: str, *words: str | int | bytes) -> Any:
        now = 0 if self.now is None else self.now()
        said = {"keys": [self._base], "args": [verb, now, *words]}
        return self._asked(lambda server: self._script(**said, client=server))

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        """The answer; faults in words of our own, without addresses and passwords."""
        try:
            return self._servers.ask(question)
        except FAULTS as fault:
            kind = LettersUnreachable if isinstance(fault, REFUSED) else LettersSilent
            raise kind(f"the server of the dead letters: {self._servers.words(fault)}") from None


def _letter(fields: Mapping[bytes, bytes]) -> Letter:
    said: dict[str, Any] = {
        name: _READ.get(name, bytes.decode)(fields[name.encode()]) for name in Letter.__slots__
    }
    return Letter(**said)


_READ: Mapping[str, Callable[[bytes], Any]] = {
    "payload": bytes,
    **dict.fromkeys(("created", "due", "attempts"), int),
    "quarantined": bool,
}
