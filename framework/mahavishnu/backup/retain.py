"""Which snapshots go: those that our own plan and restic's dry run both let go, and only where that is sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mahavishnu.backup.restic import Taken
from mahavishnu.ground.cron import Schedule
from mahavishnu.snapshots.retention import RULES, Keep, kept
from mahavishnu.units import DAY, HOUR

_FEW = 2
_SHARE = 10
_PAUSES = 10
"""So many pauses of the schedule in a row without a snapshot: backups had stopped, or a clock is wrong."""


@dataclass(frozen=True)
class Plan:
    """What a policy says of the snapshots: those kept, with the reasons; those that both let go; and what is odd.

    `never` says why nothing may be removed at all, `unless` why nothing may be removed unless a person confirms it.
    """

    kept: dict[str, tuple[str, ...]]
    remove: tuple[str, ...]
    differs: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


def plan(
    taken: Sequence[Taken],
    keep: Keep,
    schedule: Schedule,
    restic: tuple[set[str], set[str]],
    now: int,
    *,
    oldest: bool,
) -> Plan:
    """The plan for all groups of snapshots, each by itself. `restic` are the ids it would keep and remove.

    `now` is in ns since 1970; it is not believed where it does not fit what the snapshots themselves say.
    """
    groups: dict[object, list[Taken]] = defaultdict(list)
    for one in taken:
        groups[one.group].append(one)
    holds: dict[str, tuple[str, ...]] = {}
    for group in groups.values():
        holds.update(kept([one.snapshot for one in group], keep, now, oldest=oldest))
    ours = {one.id for one in taken} - holds.keys()
    both = ours & restic[1] - restic[0]
    never = [why for group in groups.values() for why in _never(group, both)]
    unless = [why for group in groups.values() for why in _many(group, both)]
    # Of all together: where the source has moved, one group ends and another one goes on.
    unless += odd_times([one.snapshot.order for one in taken], keep, schedule, now)
    return Plan(
        holds,
        tuple(one.id for one in taken if one.id in both),
        tuple(sorted(ours ^ (restic[1] & {one.id for one in taken}))),
        tuple(never),
        tuple(dict.fromkeys(unless)),
    )


def _never(group: Sequence[Taken], going: set[str]) -> Iterator[str]:
    if all(one.id in going for one in group):
        yield "not one snapshot of a group would be left"


def _many(group: Sequence[Taken], going: set[str]) -> Iterator[str]:
    leaving = sum(one.id in going for one in group)
    most = max(_FEW, len(group) // _SHARE)
    if leaving > most:
        yield f"{leaving} of {len(group)} snapshots would go; in one run at most {most} do"


def odd_times(orders: Sequence[int], keep: Keep, schedule: Schedule, now: int) -> Iterator[str]:
    """What the times of snapshots (ns) say against the clock, or against the backups having run."""
    newest = sorted(orders, reverse=True)
    if newest and newest[0] > now + HOUR:
        yield f"a snapshot is {_days(newest[0] - now)} in the future: a clock is wrong, here or where it was made"
    count, pause = _dense(keep, schedule)
    moments = [now, *newest[: count + 1]]
    hole = max((one - two for one, two in pairwise(moments)), default=0)
    if hole > _PAUSES * pause:
        yield f"there is no snapshot for {_days(hole)}: backups had stopped, or a clock is wrong"


def _dense(keep: Keep, schedule: Schedule) -> tuple[int, int]:
    """How many of the newest snapshots lie close together, and how close (ns)."""
    _, longest = schedule.gaps()
    for rule in RULES[1:]:
        if count := getattr(keep, rule.name) or 0:
            return count, max(int(longest), rule.longest * DAY)
    return keep.last or _PAUSES, int(longest)


def _days(length: int) -> str:
    return f"{length / DAY:.1f} days"
