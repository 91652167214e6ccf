"""Which snapshots a calendar policy keeps, and how much history that guarantees."""

# The algorithm is restic's (`forget --keep-…`, restic.net, "Removing snapshots according to a policy"): from the
# newest to the oldest, each rule keeps the first snapshot of each of its periods until its count is spent. Periods
# without snapshots do not count, and a snapshot's day is that of its own UTC offset.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from mahavishnu.ground.cron import Schedule
from mahavishnu.ground.unfit import unfit
from mahavishnu.settings import Settings
from mahavishnu.units import DAY, HOUR, Duration

_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
Many = Annotated[int, Field(strict=True, ge=1, le=10_000)]


def _whole_hours(within: Duration) -> Duration:
    if within % HOUR:
        what = f"{within} is no whole number of hours"
        raise unfit(what, "write it like `48h` or `7d`")
    return within


class Keep(Settings):
    """Which snapshots are kept: whatever any of the rules asks for."""

    last: Many | None = None
    """So many of the newest."""
    daily: Many | None = None
    """The newest of each day, for so many days with snapshots."""
    weekly: Many | None = None
    """The newest of each ISO week, for so many weeks with snapshots."""
    monthly: Many | None = None
    """The newest of each month, for so many months with snapshots."""
    yearly: Many | None = None
    """The newest of each year, for so many years with snapshots."""
    within: Annotated[Duration, AfterValidator(_whole_hours)] = Duration.parse("7d")
    """Everything that is at most so much older than the newest one: what somebody adds, who may write, can push
    nothing out that is younger."""
    retain_at_least: Duration | None = None
    """The history that must be guaranteed: fewer is refused by `mahavishnu check`."""

    @property
    def text(self) -> str:
        """`30 daily, 12 weekly, 6 monthly, within 7d`."""
        counts = [f"{count} {rule.name}" for rule in RULES if (count := getattr(self, rule.name))]
        return ", ".join([*counts, f"within {self.within}"])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot: its id, its time with its own UTC offset, and the same in ns since 1970 (or an order)."""

    id: str
    at: datetime
    order: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What a count of the policy counts: snapshots, or periods of at least so many days each."""

    name: str
    period: Callable[[datetime, int], object]
    shortest: Callable[[int], int]
    """The length in days of so many whole periods in a row, at the least."""
    longest: int
    """The length in days of one period, at the most; 0: no period of time."""


def _months(count: int) -> int:
    return min(sum(_MONTHS[(first + one) % 12] for one in range(count)) for first in range(12))


RULES = (
    Rule("last", lambda _, number: number, lambda _: 0, 0),
    Rule("daily", lambda at, _: at.date(), lambda count: count, 1),
    Rule("weekly", lambda at, _: at.isocalendar()[:2], lambda count: 7 * count, 7),
    Rule("monthly", lambda at, _: (at.year, at.month), _months, 31),
    Rule("yearly", lambda at, _: at.year, lambda count: 365 * count, 366),
)


def kept(snapshots: Sequence[Snapshot], keep: Keep, now: int, *, oldest: bool) -> dict[str, tuple[str, ...]]:
    """The ids that are kept, newest first, each with the rules that ask for it; all others may go.

    `now` (ns since 1970) only says which snapshots lie in the future: `within` does not count back from those.
    `oldest`: a rule whose count is not spent keeps the oldest of all, as restic does since 0.16.
    """
    ordered = sorted(snapshots, key=lambda one: -one.order)
    left = {rule: getattr(keep, rule.name) or 0 for rule in RULES}
    seen: dict[Rule, object] = {}
    since = max((one.order for one in ordered if one.order < now), default=None)
    found: dict[str, tuple[str, ...]] = {}
    for number, one in enumerate(ordered):
        reasons = ["within"] if since is None or one.order > since - keep.within else []
        for rule in (rule for rule in RULES if left[rule]):
            period = rule.period(one.at, number)
            if (rule not in seen or seen[rule] != period) or (oldest and number == len(ordered) - 1):
                seen[rule] = period
                left[rule] -= 1
                reasons.append(rule.name)
        if reasons:
            found[one.id] = tuple(reasons)
    return found


def guaranteed(keep: Keep, schedule: Schedule) -> Duration:
    """The time from the newest snapshot back to the oldest, at the least, once backups have run long enough.

    A rule that counts n periods holds one snapshot in each of n; n - 2 of these lie wholly between the outermost.
    """
    shortest, longest = schedule.gaps()
    spans = [int(keep.within) - longest]
    for rule in RULES:
        if (count := getattr(keep, rule.name) or 0) > 1:
            spans += [(count - 1) * shortest, rule.shortest(count - 2) * DAY + shortest]
    return Duration(max(0, *spans))


def most(keep: Keep, schedule: Schedule) -> int:
    """How many snapshots are kept at the most, once backups have run long enough.

    The newest of a longer period is also that of a shorter one wherever the shorter ones still reach.
    """
    shortest, longest = schedule.gaps()
    dense = max(keep.last or 0, -(-int(keep.within) // shortest))
    reach = dense * int(shortest) // DAY if longest <= DAY else dense
    total = dense
    for rule in RULES[1:]:
        if count := getattr(keep, rule.name) or 0:
            total += max(0, count - -(-reach // rule.longest))
            reach = max(reach, count) if rule.name == "daily" else reach
    return total


def words(keep: Keep) -> list[str]:
    """The same policy as options of `restic forget`; hours, since its `m` is a month."""
    counts = [(rule.name, getattr(keep, rule.name)) for rule in RULES]
    said = [word for name, count in counts if count for word in (f"--keep-{name}", str(count))]
    return [*said, "--keep-within", f"{int(keep.within) // HOUR}h"]
