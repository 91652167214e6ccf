"""How much a service can do at once, learnt from how long it takes: Gradient2, with a baseline that cannot drift."""

from __future__ import annotations

from math import log

from mahavishnu.policies._slowdown import ANY, ENOUGH, Kind, Slowdown
from mahavishnu.units import SECOND

WINDOW = SECOND
"""The least length of a window, ns; as in Netflix's WindowedLimit."""
START = 20
"""Where an adaptive limit begins."""
LEAST = 1
"""Below which it never falls."""

_FEW = 10  # samples of a window, when it has lasted ten times as long as it should
_SMOOTHING = 0.2  # of each step towards the new limit
_TOLERANCE = 1.05  # by so much may an answer be slower before the limit stops to grow
_HEADROOM = 0.03  # of the limit is added to what the gradient asks for, but at least one place
_STEEPEST, _GENTLEST = 0.5, 1.25  # bounds of the gradient
_LEARNING = 0.4  # weight of one window in the throughput
_CHANGED = 1.25  # durations so far from what is usual are another service now
_QUICKLY = 1.25  # growth of a window as long as nothing becomes slower
_SLOWER = 1.15  # the ratio that ends the quick growth …
_CALM, _NO_SLOWER = 4, 1.03  # … and so many full windows with a mean ratio below that start it again
_DRAIN = 0.5  # the part of what ran that a drained window lets in …
_WORTH = 0.6  # … if that much of the limit was used
_DRAIN_FIRST, _DRAIN_EVERY = 3, 50  # full windows between two of them, at first and in the end …
_DRAIN_SOON, _DOUBTS, _DOUBTFUL = 5, 3, 0.8  # … or these, when so many gradients in a row were below that
_IN_VAIN = 0.8  # a smaller limit with this much of the throughput was the better one
_GIVEN_UP = 0.5  # of those that left, without an answer: the service is slower than clients wait
_LATE, _SOME = 0.4, 30  # of a window that the event loop was late; the samples that are enough then


class Gradient:
    """The adaptive limit of one gate; every time is given, in nanoseconds, so that it can be simulated.

    Netflix's Gradient2 (concurrency-limits): once a window `limit = .8 limit + .2 (gradient * limit + headroom)`,
    where `gradient = tolerance * baseline / recent` is clamped, and nothing changes while less than half of the
    limit is used. Its baseline is a mean over all windows: under lasting overload it follows the very queue that
    the limit should prevent, and the limit grows for ever (Netflix/concurrency-limits#134, failsafe-go#127). And it
    is one mean for everything: where more requests than before are for a slow route, it sees a slowdown.

    Here each route and method has a baseline of its own, which is learnt only where the limit causes no queue: in
    windows that use less than half of it, and in drained ones, in which now and then half as much is let in (Envoy's
    adaptive concurrency drains to three). A drained window that does as much as a full one has shown the limit to be
    too high, and keeps it low. While nothing becomes slower the limit grows by a quarter each window, and nothing is
    drained; when something does, the last of these steps is taken back, and to say so a window lasts until the mean
    of `Slowdown` is known to 5 %. What remains: where more requests than before are for the slow work of one route,
    which depends on their bodies, that is still taken for a slowdown.
    """

    __slots__ = (
        "_baseline",
        "_began",
        "_calm",
        "_doubts",
        "_drain_after",
        "_drained",
        "_drains",
        "_late",
        "_limit",
        "_most",
        "_next",
        "_pressed",
        "_quick",
        "_rate",
        "_settling",
        "_since_drain",
        "_slowdown",
        "_total",
        "_unanswered",
        "limit",
    )

    def __init__(self, most: int, now: int, *, drains: bool = True) -> None:
        """`drains`: whether the limit is enforced; where it only observes, nothing can be drained."""
        self._most = most
        self._drains = drains
        self._limit = float(min(START, most))
        self.limit = int(self._limit)
        """How many may run now."""
        self._slowdown = Slowdown()
        self._baseline = 0.0
        self._rate = 0.0
        self._quick = True
        self._calm: tuple[float, ...] = ()
        self._doubts = 0
        self._drained = False
        self._since_drain = self._drain_after = _DRAIN_FIRST  # whether it began with too many is seen first
        self._settling = True  # what ends first was short: it tells nothing of the rest
        self._open(now)

    @property
    def whole(self) -> int:
        """How many may run of what is not drained: critical requests."""
        return int(self._limit)

    @property
    def baseline(self) -> int:
        """How long an answer of those of late takes while nothing stands in its way, ns; 0 before that is known."""
        return round(self._baseline)

    def become(self, most: int, *, drains: bool) -> None:
        """Go on with another bound; what was learnt is kept."""
        self._most, self._drains = most, drains
        self._limit = min(self._limit, float(most))
        self.limit = min(self.limit, most)

    def pressed(self) -> None:
        """Somebody found no place: the limit is what holds this window back."""
        self._pressed = True

    def lagging(self, by: int) -> None:
        """The event loop was late by so many ns: whatever the durations say, the limit does not grow now."""
        self._late += by

    def sample(self, now: int, took: int | None, running: int, kind: Kind = ANY) -> bool:
        """One of so many requests ends, `took` None: without an answer. Whether `limit` is another one now."""
        self._total += running
        if took is None:
            self._unanswered += 1
        else:
            self._slowdown.sample(kind, took)
        if now < self._next or not self._full(now):
            return False
        before = self.limit
        if self._settling:
            self._settling = False
        else:
            self._close(now)
        self._open(now)
        return self.limit != before

    def _open(self, now: int) -> None:
        self._began = now
        # Long enough to see the effect of the limit: what ends in the first part of it has begun before.
        self._next = now + max(WINDOW, 2 * round(self._baseline))
        self._slowdown.open()
        self._unanswered = self._total = 0
        self._late = 0
        self._pressed = False

    def _full(self, now: int) -> bool:
        """Whether the window has told enough, or has lasted long enough without."""
        seen = self._slowdown.count + self._unanswered
        if self._settling or now - self._began >= 10 * (self._next - self._began):
            return seen >= _FEW
        if self._is_late(now):
            return seen >= _SOME
        return seen >= ENOUGH and (self._is_easy() or self._slowdown.is_exact())

    def _is_easy(self) -> bool:
        """Whether nothing speaks against another quick step."""
        return self._quick and not self._drained and not self._slowdown.seems(_SLOWER)

    def _is_late(self, now: int) -> bool:
        """Whether the event loop itself is overloaded: then everything is slow, and nothing to compare with."""
        return self._late > _LATE * (now - self._began)

    def _is_idle(self, running: float) -> bool:
        """Whether there is no queue of ours."""
        return running < self._limit / 2 and not self._pressed

    def _is_relieved(self, ratio: float) -> bool:
        """Whether the service is faster again, which no queue makes it; a window that was too short may err."""
        return ratio < 1 / _CHANGED and self._slowdown.is_exact()

    def _close(self, now: int) -> None:
        count, ratio = self._slowdown.count, self._slowdown.ratio()
        lost = self._unanswered / (self._unanswered + count)
        rate = count / (now - self._began)
        running = self._total / (self._unanswered + count)
        if self._drained:
            self._end_drain(ratio, rate, lost, running)
        elif lost > _GIVEN_UP:
            self._give_way(rate, lost)
        elif ratio is None or self._is_idle(running) or self._is_relieved(ratio):
            self._learn(ratio)
        elif self._pressed and self._is_late(now):
            # Whether less at once is enough is all that can be found out; the durations hold the lag itself.
            self._quick = False
            self._rate = rate
            self._doubts = _DOUBTS
            self._drain_if_due(self._limit)
        elif self._pressed:
            self._rate += (_LEARNING if self._rate else 1.0) * (rate - self._rate)
            self._adapt(ratio, running)
        elif ratio > _SLOWER:
            self._step(_TOLERANCE / ratio, self._limit)
        self._baseline = self._slowdown.usual() or self._baseline

    def _give_way(self, rate: float, lost: float) -> None:
        """More clients went than were answered: what is left of the durations is what was short enough."""
        if self._pressed:
            self._quick = False
            self._rate = rate
            self._step(1 - lost, self._limit)
            self._doubts = _DOUBTS
            self._drain_if_due(self._limit)

    def _learn(self, ratio: float | None) -> None:
        changed = ratio is not None and not 1 / _CHANGED < ratio < _CHANGED
        if changed:
            self._drain_after = _DRAIN_FIRST
        self._slowdown.learn(anew=changed)

    def _adapt(self, ratio: float, running: float) -> None:
        """A window in which the limit held back, and answers took this much longer than the baseline."""
        self._watch(ratio)
        if self._quick and self._limit < self._most:
            self._set(self._limit * _QUICKLY)
            return
        gradient = _TOLERANCE / ratio
        self._doubts = self._doubts + 1 if gradient < _DOUBTFUL else 0
        # Where the limit only observes, more runs than it says.
        self._step(gradient, max(self.limit, running), max(1.0, _HEADROOM * self._limit))
        self._drain_if_due(running)

    def _watch(self, ratio: float) -> None:
        """Whether it may grow quickly: until something becomes slower, and again when nothing was for a while."""
        self._calm = (*self._calm[1 - _CALM :], log(ratio))
        if self._late or ratio > _SLOWER:
            if self._quick:
                self._set(self._limit / _QUICKLY)  # the last step was one too many
            self._quick = False
        elif len(self._calm) == _CALM and sum(self._calm) < _CALM * log(_NO_SLOWER):
            self._quick = True

    def _step(self, gradient: float, running: float, headroom: float = 0.0) -> None:
        target = min(max(gradient, _STEEPEST), _GENTLEST) * running + headroom
        if self._late:
            target = min(target, self._limit)
        self._set((1 - _SMOOTHING) * self._limit + _SMOOTHING * target)

    def _drain_if_due(self, running: float) -> None:
        self._since_drain += 1
        soon = self._doubts >= _DOUBTS and self._since_drain >= _DRAIN_SOON
        due = soon or self._since_drain >= self._drain_after
        if self._drains and due and running > max(LEAST, _WORTH * self._limit):
            self._drained = self._settling = True
            self._since_drain = 0
            self._drain_after = min(3 * self._drain_after, _DRAIN_EVERY)
            self.limit = max(LEAST, int(min(running, self._limit) * _DRAIN))

    def _end_drain(self, ratio: float | None, rate: float, lost: float, running: float) -> None:
        """What took as long with less running was no queue of ours; what was as much needs no more."""
        self._drained = False
        self._doubts = 0
        self._calm = ()
        if running > (1 + _DRAIN) / 2 * self._limit:
            self._set(self._limit)  # critical requests were let in all the same
        elif lost > _GIVEN_UP or rate >= _IN_VAIN * self._rate:
            if ratio is None or ratio < 1:
                self._learn(ratio)
            self._rate = rate
            self._since_drain = self._drain_after - 1
            self._set(float(self.limit))
        else:
            self._learn(ratio)
            self._set(self._limit)

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, float(LEAST)), float(self._most))
        self.limit = int(self._limit)
