"""`retention.logs` by the real tools, in virtual time: nothing older is left, nothing younger is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mahavishnu.derived.forgetting import life
from mahavishnu.spec import Keeper
from mahavishnu.units import Duration
from tests.figures import figure
from tests.generators.specs import SMALL, generated, merged
from tests.virtual import START, Kept, Rotated, journal

pytestmark = pytest.mark.judge


def config(place: Keeper, limit: str) -> str:
    """What is generated for a place."""
    patch = {"retention": {"logs": limit}, "observability": {"logs": {"kept_in": [place]}}}
    (text,) = generated("logs", merged(SMALL, patch)).values()
    return text


def length(limit: Duration) -> timedelta:
    return timedelta(microseconds=int(limit) // 1000)


def run_of(
    text: str, folder: Path, days: int, every: timedelta, quiet: int
) -> Iterator[tuple[Kept, Kept, Rotated]]:
    """Files, rotated once every so often and up to five minutes late; what is there before and after each run."""
    late = random.Random(7)
    log = Rotated(folder, text)
    end, turn = START + timedelta(days=days), START
    while turn < end:
        log.now = turn + timedelta(seconds=late.randrange(300))
        before = log.kept()
        log.run()
        yield before, log.kept(), log
        for share in (0.2, 0.5, 0.9) if turn < START + timedelta(days=quiet) else ():
            log.now = turn + every * share + timedelta(minutes=2)
            log.write()
        turn += every


def faults(limit: str, text: str, folder: Path, days: int, *, quiet: int = 10**6) -> set[str]:
    """Which of the two promises are broken in a run of so many days."""
    wanted = life("files", Duration.parse(limit))
    every = timedelta(days=1) if "    daily\n" in text else timedelta(hours=1)
    found: set[str] = set()
    for before, after, log in run_of(text, folder, days, every, quiet):
        if before.oldest > length(Duration.parse(limit)):
            found.add("older")
        if {
            one for one in log.written if log.now - one < length(wanted.least) - timedelta(minutes=5)
        } - after.lines:
            found.add("younger")
    return found


@pytest.mark.parametrize(("limit", "days"), [("30d", 62), ("36h", 3), ("1d", 2), ("10d", 15), ("45d12h", 52)])
def test_files_are_removed_in_time_and_not_before(limit: str, days: int, tmp_path: Path) -> None:
    """Day after day, or hour after hour, at the moments before and after each run."""
    assert faults(limit, config("files", limit), tmp_path, days) == set()


@pytest.mark.parametrize(("good", "bad", "seen"), [
    ("rotate 28\n", "rotate 27\n", {"younger"}),
    ("maxage 28\n", "maxage 27\n", {"younger"}),
    ("    rotate 28\n", "    rotate 60\n", set[str]()),  # the age alone holds the limit
])  # fmt: skip
def test_one_off_is_seen(good: str, bad: str, seen: set[str], tmp_path: Path) -> None:
    """What is removed a day too early; where files are not counted, their age alone removes them in time."""
    text = config("files", "30d")
    assert good in text
    assert faults("30d", text.replace(good, bad), tmp_path, 40) == seen


def test_a_limit_without_its_spare_day_is_seen(tmp_path: Path) -> None:
    """30 files of a day, and the one that is written, are 31 days."""
    text = config("files", "30d").replace("rotate 28\n", "rotate 30\n").replace("maxage 28\n", "maxage 30\n")
    assert faults("30d", text, tmp_path, 34) == {"older"}


def test_a_silent_service_is_forgotten_too(tmp_path: Path) -> None:
    """Its last line in time; with `notifempty`, which everybody writes, never."""
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    text = config("files", "30d")
    assert faults("30d", text, tmp_path / "good", 38, quiet=5) == set()
    never = text.replace("    ifempty\n", "    notifempty\n")
    assert faults("30d", never, tmp_path / "bad", 38, quiet=5) == {"older"}


def test_a_flood_is_cut(tmp_path: Path) -> None:
    """By size: as many files as there are days, and none larger than what is written between two runs."""
    text = config("files", "30d").replace("maxsize 512M", "maxsize 4k")
    log = Rotated(tmp_path, text)
    for _ in range(60):
        log.write("x" * 6000)
        log.run()
        log.now += timedelta(minutes=5)
    assert [one.suffix for one in log.rotated()] == [".gz"] * 28
    log.config = text.replace("maxsize 4k", "maxsize 4G")
    assert len(log.kept().lines) == 28


def test_before_the_first_line(tmp_path: Path) -> None:
    """Nothing to rotate is no fault that cron would mail."""
    log = Rotated(tmp_path, config("files", "30d"))
    log.log.unlink()
    log.run()
    assert [*log.logs.iterdir()] == []


def test_after_days_without_a_run(tmp_path: Path) -> None:
    """The first runs remove what was last written so long ago as the file says; no count of files would."""
    log = Rotated(tmp_path, config("files", "30d"))
    assert "last written more than 28d ago" in log.config
    for day in (*range(30), *range(50, 53)):
        log.now = START + timedelta(days=day)
        log.run()
        log.now += timedelta(hours=1)
        log.write()
    log.now = START + timedelta(days=53)
    log.run()
    assert log.kept().oldest < timedelta(days=30)


# --- the journal ------------------------------------------------------------------------------------------


def journal_faults(
    limit: str, text: str, folder: Path, steps: int, a_day: int, *, silent_from: int = 10**6
) -> set[str]:
    """The same of a journal that is written to so many times a day."""
    wanted, every = life("journald", Duration.parse(limit)), timedelta(days=1) / a_day
    moments = [START + timedelta(minutes=30) + every * step for step in range(steps)]
    found: set[str] = set()
    for kept in journal(text, folder, moments, silent_from):
        due = {one for one in moments[:silent_from] if timedelta() <= kept.now - one < length(wanted.least)}
        found |= {"older"} if kept.oldest > length(Duration.parse(limit)) else set()
        found |= {"younger"} if due - kept.lines else set()
    return found


@pytest.mark.proof
@pytest.mark.parametrize(("limit", "steps", "a_day"), [("30d", 90, 2), ("36h", 120, 48)])
def test_the_journal_forgets_in_time_and_not_before(
    limit: str, steps: int, a_day: int, tmp_path: Path
) -> None:
    """At each line that is written."""
    assert journal_faults(limit, config("journald", limit), tmp_path, steps, a_day) == set()


def test_the_journal_forgets_a_silent_service(tmp_path: Path) -> None:
    """Nobody writes but the rest of the host."""
    assert journal_faults("30d", config("journald", "30d"), tmp_path, 42, 1, silent_from=5) == set()


@pytest.mark.proof
@pytest.mark.parametrize(("good", "bad", "seen"), [
    ("MaxRetentionSec=30d", "MaxRetentionSec=31d", "older"),
    ("MaxRetentionSec=30d", "MaxRetentionSec=28d", "younger"),
    ("MaxFileSec=1d", "MaxFileSec=9d", "younger"),
    ("SystemMaxFiles=1000", "SystemMaxFiles=20", "younger"),
])  # fmt: skip
def test_another_number_in_the_journal_is_seen(good: str, bad: str, seen: str, tmp_path: Path) -> None:
    """Each of those that hold the promise, off by little."""
    text = config("journald", "30d")
    assert good in text
    assert journal_faults("30d", text.replace(good, bad), tmp_path, 68, 2) == {seen}


# --- the figures ------------------------------------------------------------------------------------------


@pytest.mark.proof
def test_files_in_sixty_days_of_runs(tmp_path: Path) -> None:
    """By the runs around midnight and noon; between them no file is cut."""
    text, limit = config("files", "30d"), life("files", Duration.parse("30d"))
    log, late = Rotated(tmp_path, text), random.Random(1)
    oldest, lost = timedelta(), timedelta(days=99)
    for step in range(60 * 24 * 12):
        log.now = START + timedelta(minutes=5 * step, seconds=late.randrange(60))
        if step % 12 in (0, 1, 11) and step % 288 in (0, 1, 11, 132, 133, 287):
            oldest = max(oldest, log.kept().oldest)
            log.run()
            gone = {*log.written} - log.kept().lines
            lost = min([lost, *(log.now - one for one in gone)])
            log.written = [*log.kept().lines]
        elif step % 48 == 5:
            log.write()
    figure("retention.logs: 30d in files, oldest line of 60 days", "<= 30 days", str(oldest))
    figure("… youngest line that was removed", f">= {limit.least}", str(lost))
    assert oldest <= timedelta(days=30)
    assert lost >= length(limit.least) - timedelta(minutes=5)


@pytest.mark.proof
def test_the_journal_in_seventy_days(tmp_path: Path) -> None:
    """Four lines a day."""
    every = timedelta(hours=6)
    moments = [START + timedelta(minutes=30) + every * step for step in range(280)]
    kept = list(journal(config("journald", "30d"), tmp_path, moments, 10**6))
    lost = min(
        one.now - line for one in kept for line in moments if line <= one.now and line not in one.lines
    )
    oldest = max(one.oldest for one in kept)
    figure("retention.logs: 30d in a real journal, oldest line of 70 days", "<= 30 days", str(oldest))
    figure("… youngest line that was removed", ">= 29 days", str(lost))
    assert oldest <= timedelta(days=30)
    assert lost >= timedelta(days=29)
