"""Workers that answer as one: nothing is lost, counted twice or taken back, whoever dies, at whatever moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.alerts.workers import WORKER_FAULTS
from mahavishnu.runtime.multiprocess import double_buffer
from mahavishnu.runtime.multiprocess.double_buffer import MOST
from mahavishnu.runtime.multiprocess.held import Held
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.multiprocess.workers import PERIOD, Workers
from mahavishnu.runtime.telemetry.cells import Exemplar
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.runtime.telemetry.shown import Shown
from mahavishnu.runtime.telemetry.snapshot import Snapshot, encoded
from mahavishnu.signals import Across, AgreementError, Kind, Label, Signal

CALLS = Signal("calls_total", Kind.COUNTER, "Calls.", (Label("to"),))
TIMES = Signal("times_seconds", Kind.HISTOGRAM, "Times.", buckets=(1, 2))  # type: ignore[arg-type]
RUNNING = Signal("running", Kind.GAUGE, "Now.", across=Across.SUM)
FULLEST = Signal("fullest_ratio", Kind.GAUGE, "Most.", across=Across.MAX)
GOOD = Signal("good", Kind.GAUGE, "All.", across=Across.MIN)
HASH = Signal("info", Kind.GAUGE, "Which.", (Label("hash"),), across=Across.MAX)
SIGNALS = {one.name: one for one in (CALLS, TIMES, RUNNING, FULLEST, GOOD, HASH, WORKER_FAULTS)}


class Worker:
    """A worker as a process is one: cells of its own, and a descriptor of its own on the folder."""

    def __init__(self, house: House) -> None:
        self.metrics = Metrics(SIGNALS)
        self.faults = Counter[str]()
        self.reasons: list[str] = []
        self.folder = PrivateFolder(house.path)
        self.workers = Workers(
            self.folder,
            lambda: house.now,
            self._unwritten,
            lambda: self.faults.update(unread=1),
            self.reasons.append,
        )
        self.metrics.cells.together = self.workers.shown
        self.alone = True

    def count(self, amount: int = 1, to: str = "a") -> None:
        """Count something, as a request does."""
        self.metrics.counter(CALLS, to=to).inc(amount)
        self.metrics.histogram(TIMES).observe(1.5)

    def _unwritten(self) -> None:
        self.faults["unwritten"] += 1
        self.metrics.counter(WORKER_FAULTS, fault="unwritten").inc()

    def say(self) -> None:
        """What the timer does every second."""
        self.workers.say(self.metrics.snapshot())

    def asked(self) -> Shown:
        """What a scrape of this worker shows."""
        return self.metrics.shown()

    def calls(self) -> float:
        """The sum of all calls, as this worker shows it."""
        return sum(self.asked().counters.get("calls_total", {}).values())

    def kill(self) -> None:
        """End as with kill -9: the kernel closes what is open, and nothing else happens."""
        self.workers.alive.let_go()
        self.folder.close()


class House:
    """The folder in which they meet, and the time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0

    def workers(self, count: int) -> list[Worker]:
        """So many new workers."""
        return [Worker(self) for _ in range(count)]

    def files(self) -> list[str]:
        """What lies in the folder."""
        return sorted(one.name for one in self.path.iterdir())


@pytest.fixture
def house(tmp_path: Path) -> House:
    """An empty folder."""
    return House(tmp_path / "met")


def test_whoever_is_asked_answers_for_all(house: House) -> None:
    """Counters and histograms are added up, label values that only one has seen included."""
    one, two, three = house.workers(3)
    one.count(1)
    two.count(10)
    three.count(100, to="b")
    for each in (one, two, three):
        each.say()
    for each in (one, two, three):
        shown = each.asked()
        assert shown.counters == {"calls_total": {("a",): 11, ("b",): 100}}
        cell = shown.histograms["times_seconds"][()]
        assert (cell.counts, cell.sum) == ([0, 3, 0], 4.5)


def test_whoever_is_asked_shows_the_newest_exemplars(house: House) -> None:
    """Of those who live, one for each bucket."""
    one, two = house.workers(2)
    older, newer = Exemplar(1.4, "a" * 32, "b" * 16, 1), Exemplar(1.6, "c" * 32, "d" * 16, 2)
    other = Exemplar(0.5, "e" * 32, "f" * 16, 1)
    for worker, seen in ((one, (newer, other)), (two, (older,))):
        worker.count()
        for each in seen:
            worker.metrics.histogram(TIMES).exemplify(each)
        worker.say()
    for worker in (one, two):
        assert worker.asked().histograms["times_seconds"][()].exemplars == {0: other, 1: newer}
    one.kill()
    two.workers.settle()
    assert two.asked().histograms["times_seconds"][()].exemplars == {1: older}


def test_no_more_than_the_newest_exemplars_are_told(house: House) -> None:
    """So that they never keep the counts from being told."""
    (one,) = house.workers(1)
    spread = replace(CALLS, name="spread_seconds", kind=Kind.HISTOGRAM, buckets=(Decimal(1),))
    metrics = Metrics({spread.name: spread})
    for number in range(3000):
        cell = metrics.histogram(spread, to=f"/{number}")
        cell.exemplify(Exemplar(0.5, "a" * 32, "b" * 16, number))
    told = metrics.snapshot()
    assert {at for *_, at in told.exemplars} == {*range(1000, 3000)}
    one.workers.say(told)
    assert one.faults == {}


def test_each_gauge_has_its_own_rule(house: House) -> None:
    """In flight is a sum, the fullest is the fullest, good is only what all find good, and both hashes show."""
    for worker, (running, fullest, good, hash) in zip(
        workers := house.workers(2), [(3, 0.2, 1, "old"), (4, 0.9, 0, "new")], strict=True
    ):
        worker.metrics.gauge(RUNNING, partial(float, running))
        worker.metrics.gauge(FULLEST, partial(float, fullest))
        worker.metrics.gauge(GOOD, partial(float, good))
        worker.metrics.gauge(HASH, lambda: 1, hash=hash)
        worker.say()
    for worker in workers:
        assert worker.asked().gauges == {
            "running": {(): 7},
            "fullest_ratio": {(): 0.9},
            "good": {(): 0},
            "info": {("old",): 1, ("new",): 1},
        }


def test_a_gauge_without_a_rule_is_refused() -> None:
    """No sum is made up."""
    bare = Signal("bare", Kind.GAUGE, "No rule.")
    with pytest.raises(AgreementError, match="across"):
        Metrics({"bare": bare}).gauge(bare, lambda: 1)


def test_where_it_is_registered_a_gauge_may_have_another_rule(house: House) -> None:
    """As for a breaker, which is closed only where all are, and open where one is."""
    for value, worker in enumerate(workers := house.workers(2)):
        own = Signal("fullest_ratio", Kind.GAUGE, "Most.", across=Across.MIN)
        worker.metrics.gauge(own, partial(float, value))
        worker.say()
    assert workers[1].asked().gauges == {"fullest_ratio": {(): 0}}


def test_what_was_shown_is_never_taken_back(house: House) -> None:
    """A scrape of one worker, then one of another, which has heard nothing since: it shows no less."""
    one, two = house.workers(2)
    two.say()
    one.count(5)
    assert one.calls() == 5  # not said by its timer yet
    assert two.calls() == 5


def test_the_dead_keep_what_they_have_counted(house: House) -> None:
    """Their counters stay, their gauges go, and of their files nothing but the past is left."""
    one, two = house.workers(2)
    for each in (one, two):
        each.metrics.gauge(RUNNING, lambda: 1)
        each.count(7)
        each.say()
    assert one.asked().gauges == {"running": {(): 2}}
    two.kill()
    for _ in range(3):
        assert one.calls() == 14
        assert one.asked().gauges == {"running": {(): 1}}
    assert house.files() == sorted([one.workers.name, "past"])


def test_the_dead_are_known_without_their_pid(house: House) -> None:
    """All of these have the same pid, which lives: what tells is the file that each holds."""
    one, two, three = house.workers(3)
    two.count(2)
    two.say()
    two.kill()
    assert one.calls() == three.calls() == 2
    assert {name.partition("-")[0] for name in house.files() if name[0].isdigit()} == {str(os.getpid())}


def test_a_worker_that_hangs_shows_no_gauges(house: House) -> None:
    """Its counters are as it has said them last; what runs in it now nobody knows."""
    one, two = house.workers(2)
    for each in (one, two):
        each.metrics.gauge(RUNNING, lambda: 1)
        each.count()
        each.say()
    house.now += 10 * PERIOD
    shown = one.asked()
    assert shown.gauges == {"running": {(): 1}}
    assert shown.counters == {"calls_total": {("a",): 2}}
    two.say()
    assert one.asked().gauges == {"running": {(): 2}}


def test_what_is_at_work_for_weeks_is_not_removed_as_old(house: House) -> None:
    """By whichever time a cleaner judges: the past is hardly ever written, nor the file of who leads."""
    one, two, dead = house.workers(3)
    dead.say()
    dead.kill()
    since = one.workers.leads("push")
    assert two.calls() == 0
    lasting = [house.path / name for name in (one.workers.name, two.workers.name, "past", "push.lock")]
    assert {file.name for file in lasting} == {*house.files()}
    for file in lasting:
        os.utime(file, (0, 0))
    one.say()
    two.say()
    assert all(min(file.stat().st_atime, file.stat().st_mtime) > 1e9 for file in lasting)
    assert one.workers.leads("push") == since
    one.workers.follow("push")
    assert two.workers.leads("push") == since


def test_whose_file_was_removed_is_not_dead(house: House) -> None:
    """Nobody adds to the past what a worker counts that still writes: all show all of it, whoever is asked."""
    workers = one, two, dead = house.workers(3)
    for each in workers:
        each.count(5)
        each.say()
    dead.kill()
    assert two.calls() == 15
    (house.path / one.workers.name).unlink()
    two.workers.settle()
    one.count(5)
    for _ in range(3):
        for each in (one, two):
            each.say()
            each.workers.settle()
    assert [each.calls() for each in (one, two, one)] == [20, 20, 20]
    one.kill()
    assert two.calls() == 20


def test_of_all_who_live_the_files_are_removed_again_and_again(house: House) -> None:
    """As by a cleaner that judges by what none of them can touch: no total grows by itself."""
    workers = house.workers(3)
    for each in workers:
        each.count(5)
        each.say()
    for number in range(6):
        for name in house.files()[number % 2 :: 2]:
            (house.path / name).unlink()
        for each in workers:
            each.say()
            each.workers.settle()
        assert [each.calls() for each in workers] == [15, 15, 15]


def test_the_past_is_written_again_by_who_knows_it(house: House) -> None:
    """Where somebody has removed it, though nobody ends; a worker that comes later knows it, too."""
    one, two, dead = house.workers(3)
    dead.count(7)
    dead.say()
    dead.kill()
    one.workers.settle()
    two.workers.settle()
    (house.path / "past").unlink()
    two.workers.settle()
    assert [each.calls() for each in (one, two, *house.workers(1))] == [7, 7, 7]


def test_who_finds_the_folder_gone_meets_the_others_in_a_new_one(house: House) -> None:
    """With all that they and the dead have counted; one of them leads, not two."""
    one, two, dead = house.workers(3)
    for each in (one, two, dead):
        each.count(5)
        each.say()
    dead.kill()
    assert one.workers.leads("push")
    assert [one.calls(), two.calls()] == [15, 15]
    shutil.rmtree(house.path)
    for each in (two, one):
        each.count(5)
        each.say()
        each.workers.settle()
    assert [one.calls(), two.calls(), one.calls()] == [25, 25, 25]
    assert [bool(each.workers.leads("push")) for each in (two, one)] == [True, False]


def test_many_generations_leave_no_more_than_one(house: House) -> None:
    """Two hundred workers come, count and are killed: the folder does not grow, and no count is lost."""
    (one,) = house.workers(1)
    sizes = list[int]()
    for _ in range(200):
        (other,) = house.workers(1)
        other.count()
        other.say()
        other.kill()
        assert one.calls() == len(sizes) + 1
        sizes.append(sum(file.stat().st_blocks for file in house.path.iterdir()))
    assert max(sizes) == max(sizes[:3])
    assert len(house.files()) == 2


class Interrupted(Exception):
    """The process has ended here."""


class Mortal(PrivateFolder):
    """A folder whose process is killed at the n-th change it makes."""

    left = -1

    def _change(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted

    def write(self, held: Held, word: bytes) -> None:
        self._change()
        super().write(held, word)

    def remove(self, name: str) -> None:
        self._change()
        super().remove(name)


@pytest.mark.parametrize("step", range(1, 9))
def test_who_dies_while_he_buries_another_loses_nothing(house: House, step: int) -> None:
    """Killed at each step of adding two dead workers to the past: the sum is right before, after and ever after."""
    one, two, three, last = house.workers(4)
    for each in (one, two, three):
        each.count(5)
        each.say()
    two.kill()
    three.kill()
    one.folder.__class__ = Mortal
    one.folder.left = step  # type: ignore[attr-defined]
    with suppress(Interrupted):
        one.workers.settle()
    one.folder.left = -1  # type: ignore[attr-defined]
    one.kill()
    assert last.calls() == 15
    assert last.calls() == 15
    (new,) = house.workers(1)
    assert new.calls() == 15
    assert house.files() == sorted([last.workers.name, new.workers.name, "past"])


def test_a_reader_is_not_misled_by_what_happens_while_he_reads(house: House) -> None:
    """At each file that one worker reads, another one buries a dead one: no answer is more or less than there is."""
    one, two, *others = house.workers(8)
    for number, each in enumerate((one, two, *others)):
        each.count(10**number)
        each.say()
    whole = sum(10**number for number in range(8))
    read = one.folder.read

    def and_then(name: str) -> list[bytes]:
        found = read(name)
        if others:
            others.pop().kill()
            two.workers.settle()
        return found

    one.folder.read = and_then  # type: ignore[method-assign]
    for _ in range(12):
        assert one.calls() == whole
    assert others == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda said: said[: len(said) // 4],
    "a bit off": lambda said: said.replace(b"calls_total", b"calls_votal"),
    "older": lambda said: said.replace(b"series 1", b"series 0", 1),
    "no text": lambda _: bytes(range(256)),
    "json of somebody": lambda _: _written(b'{"hello": 1}'),
    "of another shape": lambda _: _sealed([1, 2, 3]),
    "with a text for a number": lambda _: _sealed([[["calls_total", ["a"], "7"]], [], [], 0, []]),
    "with too few buckets": lambda _: _sealed([[], [["times_seconds", [], [1, 2], [1], 1]], [], 0, []]),
    "too large": lambda _: b"x" * (MOST + 1),
}


def _sealed(content: Any) -> bytes:
    """Content of any shape, with the right digest."""
    text = json.dumps(content).encode()
    digest = blake2b(text, digest_size=16).hexdigest().encode()
    return _written(b"\n".join((b"mahavishnu series 1", digest, text)))


def _written(word: bytes) -> bytes:
    """A file in which that was said."""
    with TemporaryFile() as file:
        double_buffer.write(file.fileno(), word)
        return file.read()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_cannot_be_read_is_counted_and_ignored(house: House, damage: Callable[[bytes], bytes]) -> None:
    """Of a worker unknown so far nothing is shown; of one that was heard before, what it said then."""
    one, two, three = house.workers(3)
    for each in (two, three):
        each.count(4)
        each.say()
    assert three.calls() == 8
    file = house.path / two.workers.name
    file.write_bytes(damage(file.read_bytes()))
    for _ in range(3):
        assert one.calls() == 4
        assert three.calls() == 8
    assert one.faults["unread"] == three.faults["unread"]
    assert one.faults["unread"]
    two.say()
    assert one.calls() == 8


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_past_stops_nobody(house: House, damage: Callable[[bytes], bytes]) -> None:
    """Who has read it remembers it; the next one who dies is added to what is known."""
    one, two = house.workers(2)
    two.count(4)
    two.say()
    two.kill()
    assert one.calls() == 4
    past = house.path / "past"
    past.write_bytes(damage(past.read_bytes()))
    assert one.calls() == 4
    (other,) = house.workers(1)
    other.count(2)
    other.say()
    other.kill()
    assert one.calls() == 6
    assert house.workers(1)[0].calls() == 6


def _link(file: Path) -> None:
    target = file.parent.parent / "elsewhere"
    target.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(target)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("swap", [_link, _pipe, _folder])
def test_what_is_no_file_is_not_opened(house: House, swap: Callable[[Path], None]) -> None:
    """A link is not followed, a pipe not waited for."""
    one, two = house.workers(2)
    two.count(4)
    two.say()
    swap(house.path / two.workers.name)
    assert one.calls() == 0
    assert one.faults["unread"]


def test_names_of_nobody_are_left_alone(house: House) -> None:
    """What else lies there is neither read nor removed."""
    (one,) = house.workers(1)
    strange = ["notes.txt", "x", "12-abc", ".lock", "1-" + "g" * 16]
    for name in strange:
        (house.path / name).write_text("?")
    assert one.calls() == 0
    assert not one.faults
    assert {*strange} <= {*house.files()}


def failing(*_: Any, **__: Any) -> Any:
    raise OSError(24, "Too many open files")


def test_without_a_descriptor_left_nothing_is_taken_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be opened a worker says what it counts all the same, and shows what it has heard before."""
    one, two, three = house.workers(3)
    for each in (one, two, three):
        each.count(3)
        each.say()
    three.kill()
    assert one.calls() == 9
    one.count(3)
    with monkeypatch.context() as patch:
        patch.setattr("os.open", failing)
        patch.setattr("os.listdir", failing)
        assert one.calls() == 12
        assert one.calls() == 12
    assert one.calls() == two.calls() == 12


PWRITE = os.pwrite


def _full(file: int, word: bytes, at: int) -> int:
    """What a disk writes that is full: over what was written, and not a block more."""
    room = os.lseek(file, at, os.SEEK_HOLE) - at if at < os.fstat(file).st_size else 0
    if room <= 0:
        raise OSError(28, "No space left on device")
    return PWRITE(file, word[:room], at)


def _some(count: int, file: int, word: bytes, at: int) -> int:
    """What is written by who ends in the middle."""
    return PWRITE(file, word[:count], at)


def test_on_a_full_disk_all_show_what_is_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for what each of them says, also for larger numbers and for what is new, if it is not too much."""
    one, two = house.workers(2)
    for _ in range(2):
        for each in (one, two):
            each.count(3)
            each.say()
    monkeypatch.setattr("os.pwrite", _full)
    for _ in range(100):
        for each in (one, two):
            each.count(10**6)
            each.count(to="b")
            each.say()
    total = 12 + 2 * 100 * (10**6 + 1)
    assert [each.calls() for each in (one, two, one)] == [total] * 3
    assert not one.faults


def test_where_nothing_can_be_said_all_show_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be said is not shown by its own worker either: else the sum would go up and down.

    But for that nothing can be said, which is shown at once.
    """
    one, two = house.workers(2)
    for each in (one, two):
        each.count(3)
        each.say()
    with monkeypatch.context() as patch:
        patch.setattr(PrivateFolder, "write", failing)
        for each in (one, two):
            each.count(100)
        assert [each.calls() for each in (one, two, one)] == [6, 6, 6]
        assert one.faults["unwritten"] == 2
        assert one.asked().counters["mahavishnu_worker_series_faults_total"] == {("unwritten",): 2}
        assert len(one.reasons) == 1
    assert [one.calls(), two.calls(), one.calls()] == [106, 206, 206]


def test_who_was_never_able_to_say_anything_shows_himself(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nobody who could have heard it."""
    (one,) = house.workers(1)
    one.count(3)
    monkeypatch.setattr(PrivateFolder, "write", failing)
    assert one.calls() == 3


def test_one_leads_and_then_another(house: House) -> None:
    """Until it ends; all of them count since the same moment."""
    one, two = house.workers(2)
    since = one.workers.leads("push")
    assert since is not None
    assert one.workers.leads("push") == since
    assert two.workers.leads("push") is None
    one.workers.follow("push")
    assert two.workers.leads("push") == since
    assert one.workers.leads("push") is None
    two.workers.leave()
    assert one.workers.leads("push") == since


class Model:
    """What must come of it: what each worker has said last, and no answer lower than the one before."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.alive = house.workers(3)
        self.counted = Counter[Worker]()
        self.said = dict[Worker, int]()
        self.shown = 0.0

    def step(self, what: str, number: int) -> None:
        """One thing happens to one of them."""
        if self.alive:
            getattr(self, what)(self.alive[number % len(self.alive)], number)

    def start(self, _: Worker, number: int) -> None:
        self.alive += self.house.workers(number // 4)

    def count(self, one: Worker, number: int) -> None:
        one.count(1 + number)
        self.counted[one] += 1 + number

    def say(self, one: Worker, _: int) -> None:
        one.say()
        self.said[one] = self.counted[one]

    def ask(self, one: Worker, _: int) -> None:
        self.said[one] = self.counted[one]
        before, self.shown = self.shown, one.calls()
        assert before <= self.shown == sum(self.said.values())

    def settle(self, one: Worker, _: int) -> None:
        one.workers.settle()

    def kill(self, one: Worker, _: int) -> None:
        self.alive.remove(one)
        one.kill()

    def interrupt(self, one: Worker, number: int) -> None:
        """Killed while it buries others."""
        one.folder.__class__ = Mortal
        one.folder.left = 1 + number  # type: ignore[attr-defined]
        with suppress(Interrupted):
            one.workers.settle()
        one.folder.left = -1  # type: ignore[attr-defined]
        self.kill(one, number)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["count", "say", "ask", "kill", "start", "settle", "interrupt"]), st.integers(0, 7)
    ),
    max_size=60,
)


@settings(max_examples=100)
@given(STEPS)
def test_whatever_happens_the_sum_is_that_of_what_was_said(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Against a model, whoever is killed at whatever moment."""
    model = Model(House(tmp_path_factory.mktemp("model") / "met"))
    for what, number in steps:
        model.step(what, number)
    for one in model.alive:
        one.kill()


# --- the folder -------------------------------------------------------------------------------------


def test_the_folder_is_ours_alone(tmp_path: Path) -> None:
    """Whatever the umask says."""
    before = os.umask(0)
    try:
        folder = PrivateFolder(tmp_path / "met")
        folder.appear("file")
        folder.hold("other")
    finally:
        os.umask(before)
    assert (tmp_path / "met").stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in (tmp_path / "met").iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o750, 0o777])
def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path, mode: int) -> None:
    (tmp_path / "met").mkdir()
    (tmp_path / "met").chmod(mode)
    with pytest.raises(PermissionError):
        PrivateFolder(tmp_path / "met")


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "met").mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError):
        PrivateFolder(tmp_path / "met")


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    """Nor is what is put in its place once it is open."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "met").symlink_to("elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        PrivateFolder(tmp_path / "met")
    (tmp_path / "met").unlink()
    folder = PrivateFolder(tmp_path / "met")
    (tmp_path / "met").rename(tmp_path / "moved")
    (tmp_path / "met").symlink_to("elsewhere")
    folder.write(folder.appear("file"), b"x")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert folder.read("file") == [b"x"]


def test_a_link_in_the_place_of_a_new_file_is_not_written_through(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path / "met")
    (tmp_path / "target").write_text("mine")
    for name in ("me.new", "past"):
        (tmp_path / "met" / name).symlink_to(tmp_path / "target")
    folder.write(folder.appear("me"), b"x")
    with pytest.raises(OSError, match="symbolic"):
        folder.hold("past")
    assert (tmp_path / "target").read_text() == "mine"


def test_the_last_word_is_whole_whatever_interrupts_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after any number of bytes, or without room for them: the one before it is there, and then the next."""
    with TemporaryFile() as place:
        file = place.fileno()
        assert double_buffer.read(file) == []
        for number in range(40):
            double_buffer.write(file, b"%d" % number * 3000)
            with monkeypatch.context() as patch:
                patch.setattr("os.pwrite", partial(_some, 7 * number))
                with pytest.raises(OSError, match="No space left"):
                    double_buffer.write(file, b"y" * 9000)
            assert double_buffer.read(file)[0] == b"%d" % number * 3000
        with pytest.raises(ValueError, match="more than"):
            double_buffer.write(file, b"x" * (MOST + 1))
        assert double_buffer.read(file)[0] == b"39" * 3000


def test_who_is_overtaken_while_reading_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two words, each longer than the one before, take both halves from a reader who knows only their lengths."""
    pread = os.pread
    said = [b"%d" % number * 1000 * (number + 1) for number in range(8)]
    with TemporaryFile() as place:
        file = place.fileno()
        rest = iter(said)
        for _ in range(2):
            double_buffer.write(file, next(rest))

        def overtaken(*at: int) -> bytes:
            with monkeypatch.context() as patch:
                patch.setattr("os.pread", pread)
                for word in (next(rest, None), next(rest, None)) if at[1] > 1000 else ():
                    if word:
                        double_buffer.write(file, word)
            return pread(*at)

        monkeypatch.setattr("os.pread", overtaken)
        assert double_buffer.read(file) == said[:-3:-1]


def test_a_first_word_that_is_being_written_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is one that was never ended: nothing is said yet. What is no head of ours is a fault."""
    with TemporaryFile() as place:
        file = place.fileno()
        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", partial(_some, 500))
            with pytest.raises(OSError, match="No space left"):
                double_buffer.write(file, b"y" * 9000)
        assert os.fstat(file).st_size
        assert double_buffer.read(file) == []
        os.pwrite(file, b"\xff" * 24, 0)
        with pytest.raises(ValueError, match="nothing that was written here"):
            double_buffer.read(file)


def test_what_is_held_is_held_until_it_is_closed(tmp_path: Path) -> None:
    """By one, seen by all, from the moment it appears."""
    one, two = PrivateFolder(tmp_path / "met"), PrivateFolder(tmp_path / "met")
    held = one.appear("me")
    assert two.held("me")
    assert two.hold("me") is None
    held.let_go()
    assert two.held("me") is False
    assert two.hold("me") is not None
    assert one.held("nobody") is None


_ORPHAN = """
import os, signal, sys, time
from pathlib import Path
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
folder = PrivateFolder(Path(sys.argv[1]))
folder.appear("me"), folder.hold("push.lock")
if os.fork():
    time.sleep(60)
print(os.getpid(), flush=True)
os.kill(os.getppid(), signal.SIGKILL)
sys.stdin.read()
"""


def test_what_a_process_has_forked_holds_nothing_for_it(tmp_path: Path) -> None:
    """A pool of processes outlives a worker that is killed: the next one leads all the same, and buries the dead."""
    folder = tmp_path / "met"
    with subprocess.Popen(
        [sys.executable, "-c", _ORPHAN, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        orphan = int(worker.stdout.readline())
        worker.wait()
        mine = PrivateFolder(folder)
        os.kill(orphan, 0)  # it is there
        assert not mine.held("me")
        assert mine.hold("push.lock") is not None


def descriptors() -> int:
    """How many this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


def test_no_descriptor_is_left_open(house: House) -> None:
    """However often it is said, asked and buried."""
    (one,) = house.workers(1)
    one.calls()
    before = descriptors()
    for number in range(50):
        (other,) = house.workers(1)
        other.count()
        other.say()
        other.kill()
        assert one.calls() == number + 1
    assert descriptors() == before


def _rows(chance: random.Random, count: int) -> Iterator[tuple[str, tuple[str, ...], float]]:
    for number in range(count):
        yield "calls_total", (f"/{number}",), chance.random()


def test_a_snapshot_is_bounded(house: House) -> None:
    """One that is too large is not written, and that is counted."""
    (one,) = house.workers(1)
    chance = random.Random(0)
    one.workers.say(Snapshot([*_rows(chance, 300_000)], [], []))
    assert one.faults["unwritten"] == 1
    assert len(encoded(Snapshot([*_rows(chance, 1000)], [], []))) < MOST
