"""A rate as the server keeps it: what the script must be told of it, and what its answer means."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.protocols import BEFORE, Charge, Standing
from mahavishnu.runtime.redis.names import tag

WIDTH = 5
"""How many numbers the script answers for each rate: whether it fits, and four of its state."""
_US = 1000  # ns; no duration of the spec is finer than a millisecond
Cells = Sequence[int]


class Counted(Charge, Protocol):
    """A charge that says by what its callers are told apart."""

    @property
    def per(self) -> tuple[str, ...]: ...


class Twin(Protocol):
    """One rate on both sides: arguments for Lua, and what Lua's numbers say; `now` and `at` are µs."""

    @property
    def prefix(self) -> str: ...
    @property
    def take(self) -> tuple[str, ...]: ...
    def give_back(self, cells: Cells, at: int, /) -> tuple[str, ...]: ...
    def before(self, cells: Cells, /) -> Cells: ...
    def standing(self, cells: Cells, now: int) -> Standing: ...


def twin(charge: Counted, whose: str) -> Twin:
    """The twin of a rate; raises TypeError for an algorithm the script does not know."""
    algorithm = charge.algorithm
    if isinstance(algorithm, Gcra):
        return _Gcra(charge, algorithm, whose)
    if isinstance(algorithm, SlidingWindow):
        return _Window(charge, algorithm, whose)
    if isinstance(algorithm, SlidingLog):
        return _Log(charge, algorithm, whose)
    raise TypeError(f"limit `{charge.name}`: no script for {type(algorithm).__name__}")


class KeyHash:
    """Callers' keys as 32 hex digits: nobody's address, name or credential can be read in the store."""

    __slots__ = ("_keyed",)

    def __init__(self, whose: str) -> None:
        # A key has 64 bytes at most: the end of a long name says which environment it is.
        self._keyed = blake2b(digest_size=16, key=whose.encode()[-64:])

    def over(self, key: str) -> str:
        """The digits of one key, the same in every process of the service and environment."""
        digest = self._keyed.copy()
        digest.update(key.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


DIGITS = 32
"""How many digits hide a key."""


def _prefix(whose: str, charge: Counted) -> str:
    """What all keys of a rate begin with, whatever its numbers are: a bucket knows by which rules it was charged.

    Callers who are told apart otherwise have other buckets: a key that is the same by both would be charged twice,
    and given back.
    """
    return f"{tag(whose)}:{charge.name.rstrip(BEFORE)}:{'+'.join(charge.per)}:"


class _Told:
    """What the scripts are told of any rate: by which rule, whether it refuses, what a request costs."""

    __slots__ = ("_cost", "_rule", "prefix", "take")

    def __init__(self, charge: Counted, whose: str, rule: str) -> None:
        self.prefix = _prefix(whose, charge)
        self._rule, self._cost = rule, charge.cost
        self.take = (rule, "1" if charge.enforced else "0", str(charge.cost))

    def give_back(self, cells: Cells, at: int, /) -> tuple[str, ...]:  # noqa: ARG002 - not all look at them
        return (self._rule, *_text((self._cost, at, 0, 0)))


class _Gcra(_Told):
    """Arrival as whole µs and a rest in parts of 1/count µs, the cost ever taken, and since when it is kept."""

    __slots__ = ("_rate",)

    def __init__(self, charge: Counted, rate: Gcra, whose: str) -> None:
        super().__init__(charge, whose, f"g{rate.count}.{rate.period // _US}.{rate.burst}")
        self._rate = rate

    def give_back(self, cells: Cells, at: int, /) -> tuple[str, ...]:
        return (self._rule, *_text((self._cost, at, cells[3], cells[4])))

    def before(self, cells: Cells) -> Cells:
        """The same without its request; the rest may be less than nothing."""
        step, part = divmod(self._cost * self._rate.period // _US, self._rate.count)
        return cells[0], cells[1] - step, cells[2] - part

    def standing(self, cells: Cells, now: int) -> Standing:
        allowed, whole, rest = cells[:3]
        rate = self._rate
        # In ticks of 1/count ns, as `Gcra` has it.
        ahead = ((whole - now) * rate.count + rest) * _US
        full = rate.period * rate.burst
        left, reset = (full - ahead) // rate.period, -(-ahead // rate.count)
        if allowed:
            return Standing(left, reset)
        never = self._cost > rate.burst
        wait = None if never else -(-(ahead + self._cost * rate.period - full) // rate.count)
        return Standing(left, reset, wait)


class _Window(_Told):
    """Two counters, and the window they belong to."""

    __slots__ = ("_rate",)

    def __init__(self, charge: Counted, rate: SlidingWindow, whose: str) -> None:
        super().__init__(charge, whose, f"w{rate.count}.{rate.period // _US}")
        self._rate = rate

    def before(self, cells: Cells) -> Cells:
        """The same without its request."""
        return cells[0], cells[1], cells[2] - self._cost

    def standing(self, cells: Cells, now: int) -> Standing:
        time = now * _US
        state = (time // self._rate.period, cells[1], cells[2])
        left, reset = self._rate.standing(state, time)
        return Standing(left, reset, 0 if cells[0] else self._rate.wait(state, time, self._cost))


class _Log(_Told):
    """How many requests are remembered, the newest, and the one that has to go before the next fits."""

    __slots__ = ("_rate",)

    def __init__(self, charge: Counted, rate: SlidingLog, whose: str) -> None:
        super().__init__(charge, whose, f"l{rate.count}.{rate.period // _US}")
        self._rate = rate

    def before(self, cells: Cells) -> Cells:
        """The same without its request; nobody has said which is the newest now, so that it stays where it is."""
        return cells[0], cells[1] - self._cost, *cells[2:]

    def standing(self, cells: Cells, now: int) -> Standing:
        allowed, size, newest, leaves = cells[:4]
        left = self._rate.count - size
        reset = (newest - now) * _US + self._rate.period if size else 0
        if allowed:
            return Standing(left, reset)
        never = self._cost > self._rate.count
        return Standing(left, reset, None if never else (leaves - now) * _US + self._rate.period)


def _text(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(number) for number in numbers)
