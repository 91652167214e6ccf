"""Which routes a path can possibly go to: an index by the words that stand at fixed places of a path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

_place = attrgetter("place")
_NOBODYS = "\0"  # a word that stands in no route


class Placed(Protocol):
    """What is found by its shape, and when it is asked: those of a lower place go first."""

    @property
    def place(self) -> int: ...


class Shape(NamedTuple):
    """How a path must look, between its slashes: these words, None for any; if it is open, more may follow."""

    words: tuple[str | None, ...]
    open: bool


T = TypeVar("T", bound=Placed)
_Pick = Callable[[Sequence[Any]], Any]
_Buckets = dict[Any, tuple[T, ...]]


class Shapes(Generic[T]):
    """An index of things by their shape; one of no known shape (None) may be meant by every path.

    It only narrows down: what it leaves out cannot match, what it finds has to be asked. A path costs one
    look-up for each combination of fixed places that occurs among shapes of its length, which are few: in a
    REST interface two or three. Only the things themselves are kept, never a path that somebody asked for.
    """

    def __init__(self, things: Iterable[tuple[Shape | None, T]]) -> None:
        self._always: tuple[T, ...] = ()
        self._closed: dict[int, list[tuple[_Pick, _Buckets[T]]]] = {}
        self._ends: dict[int, list[tuple[tuple[str | None, ...], T]]] = {}  # those whose last word is fixed
        self._open: list[tuple[int, _Pick, _Buckets[T]]] = []
        self.static: dict[str, tuple[T, ...]] = {}
        """What paths without any parameter may mean; of all others `narrow` knows more."""
        words: dict[str, list[T]] = {}
        for (size, is_open, fixed), alike in _grouped(things).items():
            if size == 0 or not fixed:
                self._always = _merged(self._always, tuple(thing for _, thing in alike))
            elif is_open:
                self._open.append((size, _pick(fixed), _buckets(fixed, alike)))
            elif len(fixed) < size:
                if fixed[-1] == size - 1:
                    self._ends.setdefault(size, []).extend(
                        (shape.words[:-1], thing) for shape, thing in alike
                    )
                self._closed.setdefault(size, []).append((_pick(fixed), _buckets(fixed, alike)))
            else:
                for shape, thing in alike:
                    words.setdefault("/".join(word or "" for word in shape.words), []).append(thing)
        for path, those in words.items():
            self.static[path] = _merged(self._looked_up(path), tuple(those))

    def narrow(self, path: str) -> tuple[T, ...]:
        """Everything that a path which is not `static` may mean, in the order of the places."""
        found = self._looked_up(path)
        if path[-1:] == "\n":  # `$` at the end of a route's pattern lets one line break pass
            shorter = path[:-1]
            return _merged(found, self.static.get(shorter) or self._looked_up(shorter))
        return found

    def sure(self, shape: Shape, thing: T) -> bool:
        """Whether a shape's last word alone is free, and all its paths that are not `static` mean this thing first."""
        *head, last = shape.words
        if shape.open or last is not None or None in head:
            return False
        first = self._looked_up("/".join([*cast("list[str]", head), _NOBODYS]))[0]
        return first is thing and not any(
            one.place < thing.place and all(a is None or a == b for a, b in zip(words, head, strict=True))
            for words, one in self._ends.get(len(shape.words), ())
        )

    def _looked_up(self, path: str) -> tuple[T, ...]:
        words = path.split("/")
        size = len(words)
        found = self._always
        for pick, buckets in self._closed.get(size, ()):
            more = buckets.get(pick(words))
            if more is not None:
                found = _merged(found, more) if found else more
        for least, pick, buckets in self._open:
            if size >= least:
                more = buckets.get(pick(words))
                if more is not None:
                    found = _merged(found, more) if found else more
        return found


_Kind = tuple[int, bool, tuple[int, ...]]


def _grouped(things: Iterable[tuple[Shape | None, T]]) -> dict[_Kind, list[tuple[Shape, T]]]:
    """Things by length, openness and fixed places."""
    groups: dict[_Kind, list[tuple[Shape, T]]] = {}
    for shape, thing in things:
        known = shape or Shape((), open=True)
        fixed = tuple(place for place, word in enumerate(known.words) if word is not None)
        groups.setdefault((len(known.words), known.open, fixed), []).append((known, thing))
    return groups


def _pick(places: Sequence[int]) -> _Pick:
    return itemgetter(*places)


def _buckets(places: Sequence[int], alike: Iterable[tuple[Shape, T]]) -> _Buckets[T]:
    pick = _pick(places)
    buckets: _Buckets[T] = {}
    for shape, thing in alike:
        key = pick(shape.words)
        buckets[key] = (*buckets.get(key, ()), thing)
    return buckets


def _merged(some: tuple[T, ...], others: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(sorted({one.place: one for one in (*some, *others)}.values(), key=_place))
