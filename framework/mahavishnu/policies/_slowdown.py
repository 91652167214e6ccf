"""How much longer answers take than usual, each compared with what is usual for its own route."""

from __future__ import annotations

from math import exp, log, sqrt

Kind = tuple[str, str]
"""What answers are compared by: the template of a route, and a method."""
ANY: Kind = ("", "")
"""The kind of what has no route, and of what is one too many."""

ENOUGH = 100
"""Answers whose mean is worth something."""
KINDS = 1000
"""So many kinds are told apart."""
_EXACT = 0.05  # a mean is known when this is its standard error
_SURE = 2  # standard errors that may be chance
_INSTANT = 100_000  # ns; below that a duration says nothing of the load, and its logarithm too much
_MEMORY = 1.5  # windows that are remembered: the next one has a weight of 0.4


class Usual:
    """What is known of one kind of answers, and what the window has seen of them; durations by their logarithm."""

    __slots__ = ("count", "known", "logs", "usual")

    def __init__(self, first: float) -> None:
        self.usual = first
        self.known = 0.0
        """From how many answers; 0: it is the first one, and good for nothing but to see how the others scatter."""
        self.count = 0
        self.logs = 0.0

    def learn(self, kept: float) -> None:
        """So long is usual, by the answers of the window, and by no more than so many of those before."""
        self.known = min(self.known, kept) + self.count
        self.usual += (self.logs - self.count * self.usual) / self.known


class Slowdown:
    """The durations of one window against what is usual for each kind of answer, which is learnt.

    So it does not matter how many are of a slow kind. Durations are averaged by their logarithm: a mean of ratios,
    in which a long tail does not decide.
    """

    __slots__ = ("_kinds", "_off", "_squares", "count")

    def __init__(self) -> None:
        self._kinds: dict[Kind, Usual] = {}
        self.open()

    def open(self) -> None:
        """Begin another window."""
        for one in self._kinds.values():
            one.count, one.logs = 0, 0.0
        self.count = 0
        self._off = self._squares = 0.0

    def sample(self, kind: Kind, took: int) -> None:
        """An answer has taken so many ns."""
        length = log(took if took > _INSTANT else _INSTANT)  # noqa: FURB136 - a call costs half as much as all this
        one = self._kinds.get(kind) or self._meet(kind, length)
        one.count += 1
        one.logs += length
        off = length - one.usual
        self.count += 1
        self._off += off
        self._squares += off * off

    def is_exact(self) -> bool:
        """Whether the mean is known well enough; where nothing was measured, it is not what decides."""
        return self._variance() <= _EXACT**2 * self.count

    def seems(self, ratio: float) -> bool:
        """Whether answers may take more than so many times as long."""
        return self._off > self.count * log(ratio)

    def ratio(self) -> float | None:
        """How many times as long as usual they took, as far as that is no chance; None: nobody knows what is usual."""
        known = self._known()
        count = sum(one.count for one in known)
        if not count:
            return None
        shift = sum(one.logs - one.count * one.usual for one in known) / count
        chance = self._chance(known, count)
        return exp(max(0.0, shift - chance) + min(0.0, shift + chance))

    def usual(self) -> float:
        """How long the answers of this window would take as usual, on the average, ns; 0: nobody knows."""
        known = self._known()
        return sum(one.count * exp(one.usual) for one in known) / max(1, sum(one.count for one in known))

    def learn(self, *, anew: bool) -> None:
        """What this window has seen is as usual; `anew`: whatever was before."""
        for one in self._kinds.values():
            if one.count:
                one.learn(0.0 if anew else _MEMORY * max(one.count, ENOUGH))

    def _chance(self, known: list[Usual], count: int) -> float:
        """So much of the mean may be chance, beyond what it may be where a mean is known.

        Both what the window has seen of a kind and what is usual are means of so many answers.
        """
        scatter = sum(one.count * (1 + one.count / one.known) for one in known) / count**2
        return _SURE * sqrt(max(0.0, self._variance() * scatter - _EXACT**2))

    def _variance(self) -> float:
        """Of one answer."""
        count = self.count or 1
        return max(0.0, self._squares / count - (self._off / count) ** 2)

    def _known(self) -> list[Usual]:
        return [one for one in self._kinds.values() if one.count and one.known]

    def _meet(self, kind: Kind, length: float) -> Usual:
        return self._kinds.setdefault(kind if len(self._kinds) < KINDS else ANY, Usual(length))
