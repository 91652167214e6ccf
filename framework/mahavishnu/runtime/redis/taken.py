"""What a shared store said to one request: the server's answer, this process's own, or what holds without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, cast

from mahavishnu.protocols import Charge, Standing, Taken
from mahavishnu.runtime.redis.link import pack
from mahavishnu.runtime.redis.rates import DIGITS, WIDTH, Counted, KeyHash, twin
from mahavishnu.runtime.redis.script import TAKE


class _Fleet(Counted, Protocol):
    """A charge that says where it is counted, and what holds while that cannot be asked."""

    @property
    def shared(self) -> bool: ...
    @property
    def on_store_failure(self) -> str: ...


class Group(NamedTuple):
    """Some of a request's charges, and their places among all."""

    charges: tuple[_Fleet, ...]
    places: tuple[int, ...]

    def of(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Their keys."""
        return tuple(keys[place] for place in self.places)


class Plan:
    """The charges of a route, sorted by who counts them, with everything worked out that is always the same."""

    __slots__ = (
        "_hash",
        "_numbers",
        "_packed",
        "charges",
        "closed",
        "local",
        "open",
        "own",
        "shared",
        "twins",
    )

    def __init__(self, charges: Sequence[Charge], whose: str) -> None:
        self.charges = charges
        self._hash = KeyHash(whose)
        placed = tuple(enumerate(cast("Sequence[_Fleet]", charges)))
        self.shared = _group(one for one in placed if one[1].shared)
        self.own = _group(one for one in placed if not one[1].shared)
        self.local = _group(one for one in placed if _without(one[1]) == "local")
        self.open = _group(one for one in placed if _without(one[1]) == "open")
        self.closed = _group(one for one in placed if _without(one[1]) == "closed")
        self.twins = tuple(twin(one, whose) for one in self.shared.charges)
        self._numbers = tuple(word for one in self.twins for word in one.take)
        self._packed = self._pack()

    @property
    def closing(self) -> bool:
        """Whether a request is refused while the server is lost."""
        return any(one.enforced for one in self.closed.charges)

    def words(self, keys: Sequence[str]) -> tuple[str, ...]:
        """What the script is told: how many keys, the keys, the numbers of each rate."""
        named = self.named(keys)
        return (str(len(named)), *named, *self._numbers)

    def named(self, keys: Sequence[str]) -> list[str]:
        """The names of the buckets on the server."""
        over = self._hash.over
        places = zip(self.twins, self.shared.places, strict=True)
        return [one.prefix + over(keys[place]) for one, place in places]

    def question(self, keys: Sequence[str]) -> bytes:
        """The whole call of the script by its name, as it is sent: all but the digits of the keys never changes."""
        over, parts = self._hash.over, [self._packed[0]]
        for more, place in zip(self._packed[1:], self.shared.places):  # noqa: B905 - in front of every request
            parts += over(keys[place]).encode(), more
        return b"".join(parts)

    def _pack(self) -> list[bytes]:
        """What stands before, between and after the digits of the keys."""
        gap = "?" * DIGITS
        named = [one.prefix + gap for one in self.twins]
        return pack("EVALSHA", TAKE.name, str(len(named)), *named, *self._numbers).split(gap.encode())


class _Each:
    """What a client is told, bucket by bucket."""

    __slots__ = ()

    def standing(self, place: int) -> Standing:
        """Where a bucket stands now."""
        raise NotImplementedError

    def left(self, places: int) -> Sequence[tuple[int, int]]:
        """What a client is told of the first so many."""
        return [self.standing(place).told for place in range(places)]


class Answer(_Each):
    """What the server said; implements `protocols.Taken` over the shared charges of a plan."""

    __slots__ = ("_back", "_keys", "_numbers", "admitted", "denied", "plan")

    lost = False

    def __init__(self, plan: Plan, keys: Sequence[str], numbers: Sequence[int]) -> None:
        self.plan = plan
        self._numbers = numbers
        self._keys = keys
        self._back = False
        self.admitted = numbers[1] == 1
        fits = numbers[2::WIDTH]
        self.denied: Sequence[int] = () if 0 not in fits else [at for at, one in enumerate(fits) if not one]

    def standing(self, place: int) -> Standing:
        """Where a bucket stands now; what was given back is there again."""
        rate, cells = self.plan.twins[place], self._cells(place)
        return rate.standing(rate.before(cells) if self._back and cells[0] else cells, self._numbers[0])

    def returned(self) -> tuple[str, ...]:
        """What the script that gives back is told; nothing when nothing was consumed, or all of it is back already."""
        if self._back or not self.admitted:
            return ()
        self._back = True
        places = [place for place, one in enumerate(self._numbers[2::WIDTH]) if one]
        numbers = [self.plan.twins[one].give_back(self._cells(one), self._numbers[0]) for one in places]
        every = self.plan.named(self._keys)
        named = [every[place] for place in places]
        return (str(len(named)), *named, *(word for words in numbers for word in words)) if named else ()

    def _cells(self, place: int) -> Sequence[int]:
        return self._numbers[2 + place * WIDTH : 2 + (place + 1) * WIDTH]


class Part(NamedTuple):
    """What was said of some of the charges."""

    group: Group
    taken: Taken


class Joined(_Each):
    """What several have said, as one; implements `protocols.Taken`."""

    __slots__ = ("_by_place", "admitted", "denied", "parts")

    lost = False

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.admitted = all(one.taken.admitted for one in parts)
        self.denied = sorted(one.group.places[place] for one in parts for place in one.taken.denied)
        self._by_place = {
            place: (one.taken, number) for one in parts for number, place in enumerate(one.group.places)
        }

    def standing(self, place: int) -> Standing:
        """Where a bucket stands now."""
        taken, number = self._by_place[place]
        return taken.standing(number)


class Waived(_Each):
    """Nobody counts, and nobody is refused; implements `protocols.Taken`."""

    __slots__ = ("_charges",)

    admitted, lost = True, False
    denied: Sequence[int] = ()

    def __init__(self, group: Group) -> None:
        self._charges = group.charges

    def standing(self, place: int) -> Standing:
        """All of it is there."""
        return Standing(*self._charges[place].algorithm.standing(None, 0))


class Closed(_Each):
    """Refused for want of the server, until it may be there again; implements `protocols.Taken`."""

    __slots__ = ("_retry_after", "_waived", "admitted", "denied", "lost")

    def __init__(self, group: Group, places: Sequence[int], retry_after: int) -> None:
        self._waived = Waived(group)
        self._retry_after = retry_after
        self.denied = places
        self.admitted = not any(group.charges[place].enforced for place in places)
        self.lost = not self.admitted

    def standing(self, place: int) -> Standing:
        """Nothing is left of what is closed."""
        if place in self.denied:
            return Standing(0, self._retry_after, self._retry_after)
        return self._waived.standing(place)


def without_store(plan: Plan, local: Taken, retry_after: int) -> Taken:
    """What holds while the server is lost and nothing closes for that; `local` is this process's own count."""
    if len(plan.local.places) == len(plan.charges):
        return local
    closed = Closed(plan.closed, range(len(plan.closed.places)), retry_after)
    return Joined((Part(plan.local, local), Part(plan.open, Waived(plan.open)), Part(plan.closed, closed)))


def closed_by_loss(plan: Plan, retry_after: int) -> Closed:
    """The refusal of a request that a limit does not let in uncounted."""
    every = Group(tuple(cast("Sequence[_Fleet]", plan.charges)), tuple(range(len(plan.charges))))
    return Closed(every, plan.closed.places, retry_after)


def _without(charge: _Fleet) -> str:
    return charge.on_store_failure if charge.shared else "local"


def _group(placed: Iterable[tuple[int, _Fleet]]) -> Group:
    found = tuple(placed)
    return Group(tuple(one for _, one in found), tuple(place for place, _ in found))
