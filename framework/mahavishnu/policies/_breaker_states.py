"""The states of a breaker, each with what it counts; what leads from one to another is the guard's."""

from __future__ import annotations

from mahavishnu.policies._window import Window

_CALLS, _WRONG, _SLOW = range(3)


class Closed:
    """Calls pass and are counted over the window.

    While it is `well`, nothing in the window is wrong, so good calls up to `until`, the end of the newest bucket, need
    not be judged: `fresh` counts them, and they join the window when the next one does that has to be;
    `ns` is how long they took together.
    """

    __slots__ = ("fresh", "ns", "passes", "since", "streak", "until", "well", "window")

    def __init__(self, since: int) -> None:
        self.window = Window(3)
        self.fresh = self.ns = self.streak = self.until = 0
        self.well = self.passes = True
        self.since = since

    def fold(self) -> tuple[int, int]:
        """Let the fresh ones join the window; how many there were, and how long they took together."""
        fresh, ns = self.fresh, self.ns  # no thread comes between: CPython switches at calls and jumps back
        self.fresh = self.ns = 0
        self.window.add(_CALLS, fresh)
        return fresh, ns

    def add(self, failed: bool, slow: bool) -> None:
        window = self.window
        window.add(_CALLS)
        window.add(_WRONG, failed)
        window.add(_SLOW, slow)
        self.streak = self.streak + 1 if failed else 0
        self.well = not (self.streak or window.totals[_WRONG] or window.totals[_SLOW])


class Open:
    """Nothing passes before `until`; `probing`: the probes that opened it, if any did, which may yet say otherwise."""

    __slots__ = ("passes", "probing", "until")

    def __init__(self, until: int, probing: HalfOpen | None = None) -> None:
        self.passes = False
        self.until = until
        self.probing = probing


NOT_BEGUN = 1 << 63
"""The end of the lease of a probe that still waits for something else, which ends that."""


class HalfOpen:
    """A few leased probes pass; what they report decides. Of those that are `lost` a failure is assumed."""

    __slots__ = ("leases", "lost", "passes", "reported", "slow", "wrong")

    def __init__(self) -> None:
        self.passes = False
        self.leases: dict[Probe, int] = {}
        self.lost: set[Probe] = set()
        self.reported = self.wrong = self.slow = 0

    def lose(self, now: int) -> None:
        """Whose lease is over is lost."""
        for probe in [probe for probe, until in self.leases.items() if until <= now]:
            del self.leases[probe]
            self.lost.add(probe)
            self.add(failed=True, slow=False)

    def find(self, probe: Probe) -> bool:
        """A probe is back: whether its report is still to come; what was assumed of it no longer counts."""
        if probe in self.lost:
            self.lost.remove(probe)
            self.reported -= 1
            self.wrong -= 1
            return True
        return self.leases.pop(probe, None) is not None

    def add(self, failed: bool, slow: bool) -> None:
        self.reported += 1
        self.wrong += failed
        self.slow += slow


class Held:
    """Nothing is judged: its mode says `open` or `closed`."""

    __slots__ = ("name", "passes")

    def __init__(self, name: str) -> None:
        self.passes = False
        self.name = name


class Probe:
    """The permit of one call while half open."""

    __slots__ = ("state",)

    def __init__(self, state: HalfOpen) -> None:
        self.state = state


State = Closed | Open | HalfOpen | Held
_NAMES: dict[type, str] = {Closed: "closed", Open: "open", HalfOpen: "half_open"}


def name_of(state: State) -> str:
    """As it is shown; what is held has the name of what it is held as."""
    return state.name if isinstance(state, Held) else _NAMES[type(state)]


def tally_of(state: State) -> tuple[int, int, int]:
    """The calls that it has counted, and how many of them failed and were slow."""
    if isinstance(state, Closed):
        calls, wrong, slow = state.window.totals
        return calls, wrong, slow
    return (state.reported, state.wrong, state.slow) if isinstance(state, HalfOpen) else (0, 0, 0)
