"""Places for what runs at once, by rank: who gets one, who waits for one, and who goes without."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mahavishnu.policies._codel import TARGET, Codel

CRITICAL, NORMAL, SHEDDABLE = 0, 1, 2
RANKS = ("critical", "normal", "sheddable")
"""The names of the ranks; the first goes last."""
_KEPT = 10  # one place in so many is kept from each lower rank


class Waiter:
    """One who waits for a place; `told` is called once, with whether he got one, and says whether he is there still."""

    __slots__ = ("rank", "since", "told")

    def __init__(self, rank: int, since: int, told: Callable[[bool], bool]) -> None:
        self.rank = rank
        self.since = since
        self.told = told


class Places:
    """The places of one gate, and its queue; every time is given, in nanoseconds.

    Three rules, by which a lower rank never takes what a higher one needs:

    1. A rank gets a place while fewer run than its bound: all places for critical ones, a tenth less for normal
       ones where some are critical, a tenth less again for sheddable ones. (Trunk reservation: what is kept is
       the last of the places, not a part of them, so that none is idle before they are nearly full.)
    2. A place that comes free goes to the highest rank that waits; within a rank to who has waited longest, or,
       while the queue stands (CoDel), to who came last, whose client is the likeliest to be there still.
    3. Who finds the queue full takes the spot of the lowest rank below his own. While the queue stands, all but
       critical ones leave it after 5 ms, once somebody was served. Critical ones may always wait, up to as many
       as there are places.

    Whoever waits is at his rank's bound: to compare what runs with it is all that a newcomer has to do.
    """

    __slots__ = ("_codel", "_kept", "_queue", "_queues", "bounds", "limit", "running", "waiting")

    def __init__(self, limit: int, queue: int, *, critical: bool = False, sheddable: bool = False) -> None:
        """`critical`, `sheddable`: whether there is any of that rank."""
        self._codel = Codel()
        self._queue = queue
        self._queues: tuple[OrderedDict[Waiter, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._kept = critical, sheddable
        self.bounds: tuple[int, ...] = (0, 0, 0)
        self.limit = 0
        self.running = 0
        self.waiting = 0
        self.resize(limit, 0)

    @property
    def standing(self) -> bool:
        """Whether the queue has stood for a while."""
        return self._codel.standing

    def resize(self, limit: int, now: int, whole: int | None = None) -> None:
        """From now on so many may run, or `whole` of them if critical; who runs beyond that is not stopped."""
        self.limit = limit
        critical, *lower = bounds(limit, *self._kept)
        self.bounds = (whole or critical) if self._kept[0] else critical, *lower
        self._serve(now)

    def become(self, queue: int, *, critical: bool, sheddable: bool) -> None:
        """Another queue and other ranks, before the next `resize`; who waits goes on waiting."""
        self._queue = queue
        self._kept = critical, sheddable

    def let_in(self) -> None:
        """All who wait, whatever the bounds: nobody is held back any more."""
        for queue in self._queues:
            while queue:
                if self._pop(queue, last=False).told(True):
                    self.running += 1
        self._codel.empty()

    def has_room(self, rank: int) -> bool:
        """Whether there is a place for a newcomer of that rank."""
        return self.running < self.bounds[rank]

    def take(self, rank: int) -> bool:
        """A place for a newcomer, if there is one for that rank."""
        if self.running < self.bounds[rank]:
            self.running += 1
            return True
        return False

    def wait(self, rank: int, now: int, told: Callable[[bool], bool]) -> Waiter | None:
        """A spot in the queue for one who found no place; None when there is none for that rank."""
        if self._codel.standing:
            self._shorten(now)
        if self.waiting >= self._queue and not self._displace(rank) and not self._always(rank):
            return None
        waiter = Waiter(rank, now, told)
        self._queues[rank][waiter] = None
        self.waiting += 1
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """He waits no longer."""
        if waiter in self._queues[waiter.rank]:
            del self._queues[waiter.rank][waiter]
            self.waiting -= 1

    def leave(self, now: int) -> None:
        """A place comes free."""
        self.running -= 1
        if self.waiting:
            self._serve(now)
        elif self.running < self.limit:
            self._codel.empty()

    def _serve(self, now: int) -> None:
        served = False
        for rank, queue in enumerate(self._queues):
            while queue and self.running < self.bounds[rank]:
                waiter = self._pop(queue, last=self._codel.standing and rank != CRITICAL)
                if waiter.told(True):
                    self.running += 1
                    self._codel.waited(now - waiter.since, now)
                    served = True
        if served and self._codel.standing:
            self._shorten(now)

    def _shorten(self, now: int) -> None:
        """The queue stands: whoever is not critical has waited long enough after 5 ms."""
        for queue in self._queues[NORMAL:]:
            while queue and now - next(iter(queue)).since > TARGET:
                self._pop(queue, last=False).told(False)

    def _displace(self, rank: int) -> bool:
        """The last of the lowest rank below this one gives up his spot."""
        for lower in range(SHEDDABLE, rank, -1):
            if self._queues[lower]:
                self._pop(self._queues[lower], last=True).told(False)
                return True
        return False

    def _always(self, rank: int) -> bool:
        return rank == CRITICAL and len(self._queues[CRITICAL]) < self.limit

    def spots(self, rank: int) -> int:
        """How many of a rank may wait, were it alone."""
        return max(self._queue, self.limit) if rank == CRITICAL else self._queue

    def _pop(self, queue: OrderedDict[Waiter, None], *, last: bool) -> Waiter:
        self.waiting -= 1
        return queue.popitem(last=last)[0]


def bounds(limit: int, critical: bool, sheddable: bool) -> tuple[int, int, int]:
    """How many may run at the most for a request of each rank to be let in."""
    kept = -(-limit // _KEPT)
    normal = max(1, limit - kept) if critical else limit
    return limit, normal, max(1, normal - kept) if sheddable else normal
