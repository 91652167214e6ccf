"""What a calendar policy keeps: against another way of saying it, at the edges of the calendar, and as promised."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mahavishnu.ground.cron import Schedule
from mahavishnu.snapshots.retention import Keep, Snapshot, guaranteed, kept, most, words
from mahavishnu.units import Duration
from tests.figures import figure

SETS = 10_000
COUNTS = ("last", "daily", "weekly", "monthly", "yearly")
FAR = 2**62


def snapshot(number: int, at: datetime) -> Snapshot:
    return Snapshot(f"{number:064x}", at, int(at.timestamp()) * 10**9 + at.microsecond * 1000)


def drawn(chance: random.Random) -> list[Snapshot]:
    """Snapshots with gaps, bursts, equal times, other time zones, leap days, New Years and the future."""
    at = datetime(chance.randint(1999, 2035), chance.choice((1, 2, 12)), 28, 23, 30, tzinfo=UTC)
    found: list[Snapshot] = []
    for number in range(chance.randint(1, 60)):
        at += chance.choice((timedelta(0), timedelta(minutes=7), timedelta(hours=9), timedelta(days=1),
                             timedelta(days=1), timedelta(days=chance.randint(2, 400))))  # fmt: skip
        zone = timezone(timedelta(minutes=chance.choice((0, 0, -720, 345, 840))))
        found.append(snapshot(number, at.astimezone(zone)))
    chance.shuffle(found)
    return found


def policy(chance: random.Random) -> Keep:
    counts = {name: chance.randint(1, 15) for name in COUNTS if chance.random() < 0.5}
    return Keep.model_validate({**counts, "within": chance.choice(("1h", "48h", "7d", "60d"))})


def reference(snapshots: Sequence[Snapshot], keep: Keep, now: int, *, oldest: bool) -> set[str]:
    """The same, said as sets: the first snapshot of each of the newest n periods, in ISO and calendar strings."""
    ordered = sorted(snapshots, key=lambda one: one.order, reverse=True)
    forms = {"daily": "%Y%m%d", "weekly": "%G%V", "monthly": "%Y%m", "yearly": "%Y"}
    wanted = {one.id for one in ordered[: keep.last or 0]}
    if oldest and keep.last and len(ordered) < keep.last:
        wanted.add(ordered[-1].id)
    for name, form in forms.items():
        runs: list[tuple[str, str]] = []  # the period and its newest, wherever the period changes
        for one in ordered:
            period = one.at.strftime(form)
            if not runs or runs[-1][0] != period:
                runs.append((period, one.id))
        count = getattr(keep, name) or 0
        wanted |= {name_of for _, name_of in runs[:count]}
        if oldest and count > len(runs):
            wanted.add(ordered[-1].id)
    past = [one.order for one in ordered if one.order < now]
    return wanted | {one.id for one in ordered if not past or one.order > past[0] - int(keep.within)}


@pytest.mark.parametrize("oldest", [False, True])
def test_random_sets_against_the_reference(oldest: bool) -> None:
    """Five hundred of each kind; ten thousand in the proof."""
    assert differences(random.Random(1 + oldest), 500, oldest=oldest) == []


def differences(chance: random.Random, sets: int, *, oldest: bool) -> list[object]:
    found: list[object] = []
    for _ in range(sets):
        snapshots, keep = drawn(chance), policy(chance)
        now = chance.choice((FAR, chance.choice(snapshots).order))
        mine = {*kept(snapshots, keep, now, oldest=oldest)}
        # Of equal times in one period either may be kept: compare how many of each time.
        times = {one.id: one.order for one in snapshots}
        theirs = reference(snapshots, keep, now, oldest=oldest)
        if sorted(times[one] for one in mine) != sorted(times[one] for one in theirs):
            found.append((snapshots, keep))
    return found


@pytest.mark.proof
def test_many_random_sets_against_the_reference() -> None:
    """Two independent ways of saying the policy say the same."""
    wrong = [
        *differences(random.Random(3), SETS // 2, oldest=False),
        *differences(random.Random(4), SETS // 2, oldest=True),
    ]
    figure("random snapshot sets on which policy and reference differ", f"0 of {SETS:,}", len(wrong))
    assert wrong == []


def test_it_is_idempotent_and_grows_with_every_count() -> None:
    """What is kept is kept again; a larger count, or a longer time, never keeps fewer."""
    chance = random.Random(5)
    for _ in range(300):
        snapshots, keep = drawn(chance), policy(chance)
        once = {*kept(snapshots, keep, FAR, oldest=False)}
        left = [one for one in snapshots if one.id in once]
        assert {*kept(left, keep, FAR, oldest=False)} == once
        assert once
        name = chance.choice(COUNTS)
        more = keep.model_copy(update={name: (getattr(keep, name) or 0) + chance.randint(1, 5)})
        assert once <= {*kept(snapshots, more, FAR, oldest=False)}
        longer = keep.model_copy(update={"within": Duration(keep.within * 2)})
        assert once <= {*kept(snapshots, longer, FAR, oldest=False)}


def days(*dates: str) -> list[Snapshot]:
    return [
        snapshot(number, datetime.fromisoformat(date).replace(tzinfo=UTC))
        for number, date in enumerate(dates)
    ]


def numbers(snapshots: Sequence[Snapshot], said: dict[str, object], **how: bool) -> list[int]:
    keep = Keep.model_validate({"within": "1h", **said})
    return sorted(int(one, 16) for one in kept(snapshots, keep, FAR, oldest=how.get("oldest", False)))


@pytest.mark.parametrize(
    ("dates", "said", "left"),
    [
        (("2024-02-28", "2024-02-29", "2024-03-01"), {"daily": 2}, [1, 2]),
        (("2020-12-31", "2021-01-03", "2021-01-04"), {"weekly": 2}, [1, 2]),  # week 53 ends on 3 January
        (("2024-12-29", "2024-12-30", "2025-01-05"), {"weekly": 2}, [0, 2]),  # week 1 begins on 30 December
        (("2023-12-31", "2024-12-30", "2025-01-05"), {"yearly": 2}, [1, 2]),
        (
            ("2020-01-01", "2024-05-05", "2024-05-06"),
            {"monthly": 2},
            [0, 2],
        ),  # months without any do not count
        (
            ("2024-05-06", "2024-05-06", "2024-05-06"),
            {"last": 2},
            [0, 1, 2],
        ),  # equal times: all of them are within
        (("2024-05-01", "2024-05-06"), {"last": 1}, [1]),
    ],
)
def test_the_edges_of_the_calendar(dates: tuple[str, ...], said: dict[str, object], left: list[int]) -> None:
    """Leap days, ISO weeks at New Year, gaps, and equal times."""
    assert numbers(days(*dates), said) == left


def test_the_day_is_that_of_the_snapshots_own_offset() -> None:
    """One minute in UTC may lie on two days; a change to summer time does not make another day."""
    east, west = (datetime(2026, 3, 29, 0, 30, tzinfo=timezone(timedelta(hours=hours))) for hours in (2, 1))
    assert numbers([snapshot(0, east), snapshot(1, west)], {"daily": 5}) == [1]
    utc = [snapshot(0, east), snapshot(1, east.astimezone(UTC) + timedelta(minutes=1))]
    assert numbers(utc, {"daily": 5}) == [0, 1]


def test_newer_versions_keep_the_oldest_while_a_count_lasts() -> None:
    """restic since 0.16; the versions before do not."""
    dates = days("2024-05-01", "2024-05-02", "2024-05-20")
    assert numbers(dates, {"monthly": 3}) == [2]
    assert numbers(dates, {"monthly": 3}, oldest=True) == [0, 2]


def test_the_future_is_kept_and_nothing_counts_back_from_it() -> None:
    """A snapshot that lies ahead of the clock takes a slot, and does not push the others out of `within`."""
    dates = days("2026-01-01", "2026-01-02", "2036-01-01")
    now = datetime(2026, 1, 3, tzinfo=UTC).timestamp() * 10**9
    assert len(kept(dates, Keep.model_validate({"within": "7d"}), int(now), oldest=False)) == 3
    assert len(kept(dates, Keep.model_validate({"within": "7d"}), FAR, oldest=False)) == 1


# --- what is promised before there is anything --------------------------------------------------------


def lived(keep: Keep, schedule: Schedule, years: int, prune_from: int) -> tuple[int, int]:
    """Run backups for years and prune after each: the shortest reach (ns) and the most snapshots, once settled."""
    at, held, reach, count = datetime(2023, 3, 1, tzinfo=UTC), list[Snapshot](), FAR, 0
    end = at + timedelta(days=366 * years)
    number = 0
    while (at := schedule.after(at)) < end:
        number += 1
        held.append(snapshot(number, at))
        left = kept(held, keep, FAR, oldest=False)
        held = [one for one in held if one.id in left]
        if number > prune_from:
            reach = min(reach, held[-1].order - held[0].order)
            count = max(count, len(held))
    return reach, count


@pytest.mark.parametrize(
    ("said", "schedule", "settled"),
    [
        ({"daily": 30, "weekly": 12, "monthly": 6}, "0 2 * * *", 250),
        ({"daily": 7}, "0 2 * * *", 30),
        ({"weekly": 8, "monthly": 3}, "0 2 * * 1", 40),
        ({"daily": 10, "monthly": 4}, "0 2 * * 3,6", 60),
        ({"last": 5}, "0 */12 * * *", 40),
        ({"daily": 3, "yearly": 2}, "0 2 * * *", 800),
        ({"within": "20d"}, "0 2 * * *", 60),
    ],
)
def test_the_promise_is_reached_and_never_broken(
    said: dict[str, object], schedule: str, settled: int
) -> None:
    """A simulated life holds what `check` prints: not one day less, not one snapshot more."""
    keep, when = Keep.model_validate(said), Schedule.parse(schedule)
    years = 4 if "yearly" in said else 2
    reach, count = lived(keep, when, years, settled)
    assert reach >= guaranteed(keep, when)
    assert count <= most(keep, when)


def test_thirty_twelve_six_is_not_half_a_year() -> None:
    """The numbers that are printed, reached to the day in a simulated life."""
    keep, when = Keep.model_validate({"daily": 30, "weekly": 12, "monthly": 6}), Schedule.parse("0 2 * * *")
    reach, count = lived(keep, when, 2, 250)
    assert (str(guaranteed(keep, when)), most(keep, when)) == ("121d", 42)
    assert (reach, count) == (guaranteed(keep, when), 42)


def test_two_hundred_dailies_never_end_empty() -> None:
    """The failure of a system before this one: 200 of 200 were removed."""
    keep = Keep.model_validate({"daily": 30, "weekly": 12, "monthly": 6})
    dates = [snapshot(day, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)) for day in range(200)]
    left = kept(dates, keep, FAR, oldest=False)
    assert 39 <= len(left) <= 42
    assert dates[-1].id in left


def test_garbage_in_every_period_pushes_nothing_out_of_the_floor() -> None:
    """Somebody who may write adds a snapshot later on each day: of the last week nothing goes."""
    keep = Keep.model_validate({"daily": 30, "weekly": 12, "monthly": 6})
    start = datetime(2026, 1, 1, 2, tzinfo=UTC)
    good = [snapshot(day, start + timedelta(days=day)) for day in range(60)]
    bad = [snapshot(1000 + day, start + timedelta(days=day, hours=20)) for day in range(60)]
    left = kept([*good, *bad], keep, FAR, oldest=False)
    assert [one for one in good[-7:] if one.id not in left] == []


def test_the_words_for_restic_say_the_same() -> None:
    """Hours, since `m` is a month to it; never -1, which 0.14 takes for nothing."""
    keep = Keep.model_validate({"last": 3, "daily": 30, "within": "14d"})
    assert words(keep) == ["--keep-last", "3", "--keep-daily", "30", "--keep-within", "336h"]
