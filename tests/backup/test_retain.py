"""What is removed: only what two plans let go, and nothing while anything is odd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.backup.evidence import Copy, Evidence, write
from mahavishnu.backup.job import Job
from mahavishnu.backup.restic import Taken, parsed
from mahavishnu.backup.retain import Plan, plan
from mahavishnu.ground.cron import Schedule
from mahavishnu.runtime.telemetry.backups import show
from mahavishnu.signals import Signal
from mahavishnu.snapshots.retention import Keep, kept
from mahavishnu.snapshots.series import BACKUP_HISTORY, BACKUP_HISTORY_DUE
from mahavishnu.spec import Spec
from tests.backup.world import spec

KEEP = Keep.model_validate({"daily": 30, "weekly": 12, "monthly": 6})
DAILY = Schedule.parse("0 2 * * *")
NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)


def said(number: int, at: datetime, paths: Sequence[str] = ("/orders.sqlite",)) -> dict[str, Any]:
    """A snapshot as restic lists it."""
    return {"id": f"{number:064x}", "time": at.isoformat(), "hostname": "shop", "paths": [*paths], "tags": []}


def taken(number: int, at: datetime) -> Taken:
    one = parsed(said(number, at))
    assert one is not None
    return one


def dailies(count: int, last: datetime = NOON) -> list[Taken]:
    """The newest first."""
    return [taken(day, last - timedelta(days=day)) for day in range(count)]


def agreed(snapshots: Iterable[Taken], keep: Keep = KEEP) -> tuple[set[str], set[str]]:
    """What a restic says that is of the same mind."""
    listed = [*snapshots]
    holds = {*kept([one.snapshot for one in listed], keep, 2**62, oldest=False)}
    return holds, {one.id for one in listed} - holds


def planned(
    snapshots: list[Taken], now: datetime = NOON + timedelta(minutes=1), keep: Keep = KEEP, **more: Any
) -> Plan:
    theirs = more.get("theirs") or agreed(snapshots, keep)
    return plan(snapshots, keep, DAILY, theirs, int(now.timestamp()) * 10**9, oldest=False)


def settled() -> list[Taken]:
    """A year of backups, pruned every day but the last three."""
    held: list[Taken] = []
    for day in range(365):
        held.insert(0, taken(day, NOON - timedelta(days=364 - day)))
        if day < 362:
            holds, _ = agreed(held)
            held = [one for one in held if one.id in holds]
    return held


def test_after_usual_nights_a_few_go() -> None:
    """And nothing is odd."""
    made = planned(settled())
    assert 1 <= len(made.remove) <= 3
    assert (made.never, made.unless, made.differs) == ((), (), ())


def test_only_what_both_let_go_is_removed() -> None:
    """Either of the two can save a snapshot; what they differ over is told."""
    snapshots = settled()
    (one, *_) = planned(snapshots).remove
    holds, goes = agreed(snapshots)
    saved = planned(snapshots, theirs=(holds | {one}, goes - {one}))
    assert one not in saved.remove
    assert saved.differs == (one,)
    kept_by_us = snapshots[0].id
    greedy = planned(snapshots, theirs=(holds - {kept_by_us}, goes | {kept_by_us}))
    assert kept_by_us not in greedy.remove
    assert greedy.differs == (kept_by_us,)


def test_two_hundred_dailies_wait_for_a_person() -> None:
    """160 of 200 are far more than a run removes by itself."""
    made = planned(dailies(200))
    assert len(made.remove) >= 158
    assert made.unless == (f"{len(made.remove)} of 200 snapshots would go; in one run at most 20 do",)


@pytest.mark.parametrize("off", [-365, 365, -2, 30])
def test_a_clock_that_is_off_removes_nothing(off: int) -> None:
    """Behind: there are snapshots in its future. Ahead: there were no backups for long."""
    made = planned(settled(), now=NOON + timedelta(days=off))
    assert made.unless


@pytest.mark.parametrize("runs", [1, 2, 10, 25])
def test_snapshots_of_a_clock_that_was_off_remove_nothing(runs: int) -> None:
    """A year ahead for some days: what was made then pushes nothing out, also while the clock is still wrong."""
    ahead = NOON + timedelta(days=365)
    forged = [taken(1000 + run, ahead + timedelta(days=run)) for run in range(runs)]
    snapshots = [*reversed(forged), *settled()]
    assert planned(snapshots, now=ahead + timedelta(days=runs)).unless
    assert planned(snapshots, now=NOON).unless


def test_a_source_that_has_moved_is_no_pause() -> None:
    """Its snapshots end where those of the new place begin; a real pause is one of both."""
    keep = Keep.model_validate({"daily": 12})
    ended = [moved(100 + day, NOON - timedelta(days=day)) for day in range(13, 17)]
    snapshots = [*dailies(13), *ended]
    made = planned(snapshots, keep=keep)
    assert (made.remove, made.unless) == ((snapshots[12].id,), ())
    assert planned(snapshots, NOON + timedelta(days=12), keep).unless
    assert planned([*dailies(2), *ended], keep=keep).unless


def moved(number: int, at: datetime) -> Taken:
    """Of another folder."""
    one = parsed(said(number, at, ["/old"]))
    assert one is not None
    return one


def test_a_group_is_never_emptied() -> None:
    """Also where a person confirms: two sources in one repository each keep theirs."""
    snapshots = dailies(3)
    everything = {one.id for one in snapshots}
    made = plan([], KEEP, DAILY, (set(), everything), int(NOON.timestamp()) * 10**9, oldest=False)
    assert made.remove == ()
    keep = Keep.model_validate({"last": 1, "within": "1h"})
    made = planned(snapshots, keep=keep)
    assert len(made.remove) == 2
    assert made.never == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": "yesterday"},
        {"time": "2026-13-01T00:00:00Z"},
        {"time": None},
        {"id": "0f"},
        {"id": "../x"},
        {"id": None},
    ],
)
def test_what_cannot_be_understood_is_never_removed(wrong: dict[str, Any]) -> None:
    """A snapshot without a time or an id is none of those a plan is made of."""
    assert parsed({**said(1, NOON), **wrong}) is None


def test_times_are_read_to_the_nanosecond_with_their_offset() -> None:
    """As Go writes them."""
    one = parsed({**said(1, NOON), "time": "2026-03-29T02:30:00.123456789+02:00"})
    assert one is not None
    assert one.snapshot.order % 10**9 == 123456789
    assert (one.snapshot.at.hour, one.snapshot.at.utcoffset()) == (2, timedelta(hours=2))


class Gauges:
    """What a service shows."""

    def __init__(self, job: Job, state: Path) -> None:
        self._of: dict[str, Callable[[], float]] = {}
        said = Spec.model_validate(spec()).model_copy(update={"backups": {job.name: job.backup}})
        show(said, lambda: state, self, NOON.timestamp)  # type: ignore[arg-type]

    def gauge(self, signal: Signal, value: Callable[[], float], **labels: str) -> None:
        self._of[signal.name] = value

    def short(self) -> bool:
        """Whether history is missing, as the alert sees it."""
        due = self._of[BACKUP_HISTORY_DUE.name]()
        return due > 0 and self._of[BACKUP_HISTORY.name]() / due < 0.9


def nightly(state: Path, daily: int) -> Job:
    """A backup whose retention holds so many days."""
    backup = Spec.model_validate(spec(retention={"daily": daily, "within": "24h"})).backups["orders"]
    after = NOON + timedelta(days=400)
    made = Job("orders", backup, backup.retention, "shop", state, state, lambda event, **facts: None)
    return replace(made, now=after.timestamp)


def test_a_longer_retention_is_due_from_when_it_was_said(tmp_path: Path) -> None:
    """What the shorter one has let go was deleted by nobody; what is deleted later is missed."""
    known, snapshots, missed = (
        Evidence({"1": Copy(first=NOON.timestamp(), success=1)}),
        list[Taken](),
        list[int](),
    )
    month, season = nightly(tmp_path, 30), nightly(tmp_path, 90)
    for day in range(200):
        at, job = NOON + timedelta(days=day), month if day < 100 else season
        assert job.keep is not None
        missed += [day] if Gauges(job, tmp_path).short() else []
        snapshots.insert(0, taken(day, at))
        holds = kept([one.snapshot for one in snapshots], job.keep, int(at.timestamp() * 1e9), oldest=False)
        snapshots = [one for one in snapshots if one.id in holds]
        job.take_stock(known, "1", snapshots)
        write(tmp_path, "shop.orders", known)
        missed += [day] if Gauges(job, tmp_path).short() else []
    assert missed == []
    season.take_stock(known, "1", snapshots[:60])
    write(tmp_path, "shop.orders", known)
    assert Gauges(season, tmp_path).short()
