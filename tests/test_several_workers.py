"""uvicorn with several workers, for real: under load, killed at any moment, restarted, and scraped all the while."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from mahavishnu.derived import at_rest
from tests.crew import APP, COUNT, Crew, Load, crew
from tests.figures import FULL, figure
from tests.otlp_receiver import collector

ROOT = Path(__file__).parents[1]
START, DEATHS = "process_start_time_seconds{}", "mahavishnu_worker_deaths_total{}"
SETTLED = 1.5  # who is not kept from it has told by then what was counted


def _answered(load: Load) -> int:
    return sum(load.answers.values())


def _told(server: Crew, moment: float) -> bool:
    """Whether every worker has told what it counted until then; on a busy machine that takes longer than a second."""
    said = {
        int(one.name.split("-")[0]): one.stat().st_mtime
        for place in server.meeting()
        for one in place.glob("*-*")
    }
    return all(said.get(pid, 0) > moment for pid in server.pids())


def _descriptors(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def _proportional(pid: int) -> int:
    """Bytes of a process; what it shares with n others counts an n-th, as it does for all that a container holds."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def _below(pid: int) -> set[int]:
    """The process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid}.union(*(_below(int(child)) for child in children))


def _memory(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


MOUNTED = f"""{APP}
from mahavishnu.runtime.multiprocess import publisher
from starlette.routing import Mount
publisher.PERIOD = 10**11  # who is not asked tells nothing but his last word
app = Starlette(routes=[Mount("/", app)])
"""


@pytest.mark.proof
@pytest.mark.parametrize("app", [APP, MOUNTED], ids=["the app", "mounted, without lifespan"])
def test_two_workers_are_scraped_as_one(tmp_path: Path, app: str) -> None:
    """What both have answered is what either shows; one that ends in good order loses nothing, and is replaced."""
    with crew(tmp_path, workers=2, app=app) as server:
        for _ in range(30):
            server.get()
        server.until(lambda: server.total(COUNT) == 30)
        shown = server.samples()
        assert shown["mahavishnu_limit_quota{limit=few}"] == 100
        assert shown["process_resident_memory_bytes{}"] > 2 * 20e6
        first = min(server.pids())
        for _ in range(30):
            server.get()
        os.kill(first, signal.SIGTERM)
        server.until(lambda: first not in server.pids() and server.total("mahavishnu_workers") == 2)
        assert server.total(COUNT) == 60
        after = server.samples()
        assert after[START] == shown[START]
        assert after[DEATHS] == 0
        os.kill(min(server.pids()), signal.SIGKILL)
        server.until(lambda: server.samples()[DEATHS] == 1)
        assert server.samples()[START] == shown[START]
        assert "Traceback" not in server.log


@pytest.mark.proof
@pytest.mark.parametrize("workers", [2, 4])
def test_a_replica_needs_no_more_memory_at_rest_than_is_said(workers: int, tmp_path: Path) -> None:
    """Nor much less: what the deployment asks for would be wasted."""
    with crew(tmp_path, workers=workers) as server:
        for _ in range(10 * workers):
            server.get()
        needed = sum(map(_proportional, _below(server.server.pid)))
    said = at_rest.memory(workers)
    measured = f"{needed / 2**20:.0f} MiB"
    figure(f"memory of a small app in {workers} workers at rest", f"<= {said / 2**20:.0f} MiB", measured)
    assert said / 2 < needed <= said


_HASTY = """
from mahavishnu.runtime.multiprocess import crowd
crowd.FIRST = crowd.AGAIN = 10**8
"""


def test_more_workers_than_the_spec_says_are_found_out(tmp_path: Path) -> None:
    """uvicorn with three where two are said: the third says so; those that are said do not."""
    with crew(tmp_path, workers=2, app=APP + _HASTY, started=3) as server:
        server.until(lambda: "more workers" in server.log)
        assert server.log.count('"more workers"') == 1
        assert "service.workers is 2" in server.log


def _busy(load: Load) -> bool:
    return _answered(load) > 100


def _replaced(server: Crew, victim: int) -> bool:
    return victim not in server.pids() and server.total("mahavishnu_workers") == 2


def _scraped(server: Crew, load: Load, count: int) -> tuple[list[float], int, float]:
    """So many scrapes, a third of the way in a worker is killed: what they said, its pid, and when that was."""
    seen, victim, at = list[float](), 0, 0.0
    for number in range(count):
        seen.append(server.total(COUNT))
        if number == count // 3:
            victim, at = load.answers.most_common(1)[0][0], time.monotonic()
            os.kill(victim, signal.SIGKILL)
        time.sleep(0.02)
    return seen, victim, at


@pytest.mark.proof
@pytest.mark.alone
def test_a_worker_killed_under_load(tmp_path: Path) -> None:
    """kill -9: no scrape says less than the one before, what is missing is what that worker did in its last second."""
    with crew(tmp_path, workers=4) as server:
        with server.busy() as load:
            server.until(lambda: _answered(load) > 500)
            seen, victim, at = _scraped(server, load, 200)
            server.until(lambda: server.total("mahavishnu_workers") == 4)
            shown = server.samples()
        server.until(partial(_told, server, time.time()))
        counted, answered = server.total(COUNT), _answered(load)
        last = sum(moment > at - SETTLED for moment in load.times[victim])
        less = sum(after < before for before, after in pairwise(seen))
        figure("200 scrapes of 4 workers under load, one killed: less than before", 0, less)
        figure(
            "requests missing after kill -9 of a worker",
            f"at most its last second's ({last})",
            f"{answered - counted:.0f} of {answered:,}",
        )
        assert less == 0
        assert -len(load.answers) * 8 <= answered - counted <= last
        assert shown["mahavishnu_worker_series_faults_total{fault=unread}"] == 0
        assert shown["mahavishnu_worker_series_faults_total{fault=unwritten}"] == 0


@pytest.mark.proof
@pytest.mark.alone
def test_workers_killed_one_after_the_other(tmp_path: Path) -> None:
    """Each after it has told what it did: nothing is missing; the folder, memory and open files stay as they are."""
    generations = 40 if FULL else 4
    with crew(tmp_path, workers=2) as server:
        survivor, sizes, files, memory = max(server.pids()), list[int](), list[int](), list[float]()
        answered = 0
        for _ in range(generations):
            with server.busy(clients=2) as load:
                server.until(partial(_busy, load))
            answered += _answered(load)
            server.until(partial(_told, server, time.time()))
            (victim,) = server.pids() - {survivor}
            os.kill(victim, signal.SIGKILL)
            server.until(partial(_replaced, server, victim))
            assert server.total(COUNT) == answered
            (place,) = server.meeting()
            sizes.append(sum(512 * file.stat().st_blocks for file in place.iterdir()))
            files.append(_descriptors(survivor))
            memory.append(_memory(survivor))
    figure(f"requests missing after {generations} workers were killed at rest", 0, f"0 of {answered:,}")
    figure(
        "their folder, last / first (a file of two halves has one at first)",
        "≤ 2",
        f"{sizes[-1] / sizes[0]:.2f}",
    )
    assert sizes[-1] <= 2 * sizes[0]
    assert files[-1] <= files[0] + 2  # the connection of a scrape
    assert memory[-1] < memory[0] + 5


@pytest.mark.proof
@pytest.mark.alone
def test_sighup_to_the_parent_brings_a_changed_spec_to_all(tmp_path: Path) -> None:
    """uvicorn replaces its workers, one by one; without it each takes the changed file by itself. No count is lost."""
    with crew(tmp_path, workers=2) as server:
        pids, old = server.pids(), _hashes(server)
        for _ in range(40):
            server.get()
        file = tmp_path / "mahavishnu.yaml"
        file.write_text(file.read_text().replace("concurrency: 50", "concurrency: 60"))
        server.until(lambda: not _hashes(server) & old and len(_hashes(server)) == 1)
        assert server.pids() == pids
        assert server.samples()["mahavishnu_limit_quota{limit=few}"] == 120
        server.server.send_signal(signal.SIGHUP)
        server.until(lambda: not server.pids() & pids and server.total("mahavishnu_workers") == 2)
        assert server.total(COUNT) == 40


def _hashes(server: Crew) -> set[str]:
    return {name for name in server.samples() if name.startswith("mahavishnu_spec_info")}


@pytest.mark.proof
@pytest.mark.alone
def test_a_worker_that_hangs_is_missed(tmp_path: Path) -> None:
    """Stopped by SIGSTOP it neither answers nor tells; the others say how many are left, and lose no count."""
    with crew(tmp_path, workers=3) as server:
        for _ in range(30):
            server.get()
        server.until(partial(_told, server, time.time()))
        victim = min(server.pids())
        os.kill(server.server.pid, signal.SIGSTOP)  # uvicorn's parent would replace it
        os.kill(victim, signal.SIGSTOP)
        try:
            server.until(lambda: server.total("mahavishnu_workers") == 2)
            assert server.total(COUNT) == 30
        finally:
            os.kill(victim, signal.SIGCONT)
            os.kill(server.server.pid, signal.SIGCONT)
        server.until(lambda: server.total("mahavishnu_workers") == 3)


@pytest.mark.proof
@pytest.mark.alone
def test_all_that_was_answered_is_pushed(tmp_path: Path) -> None:
    """By one of four workers, also after that one was killed; the last push, at the end, has everything."""
    with collector() as receiver:
        more = f"observability: {{metrics: {{otlp: '{receiver.url}', every: 1s}}}}"
        with crew(tmp_path, workers=4, more=more) as server:
            for _ in range(50):
                server.get()
            server.until(lambda: bool(receiver.pushed) and _pushed(receiver.samples()) == 50)
            leader = next(
                pid for pid in server.pids() if any("push.lock" in str(one.readlink()) for one in _fds(pid))
            )
            os.kill(leader, signal.SIGKILL)
            server.until(lambda: leader not in server.pids() and server.total("mahavishnu_workers") == 4)
            count = len(receiver.pushed)
            for _ in range(50):
                server.get()
            server.until(lambda: len(receiver.pushed) > count and _pushed(receiver.samples()) == 100)
            for _ in range(7):
                server.get()
        pushed = _pushed(receiver.samples())
        figure(
            "requests pushed by OTLP, the pusher of 4 workers killed meanwhile", "all of 107", f"{pushed:.0f}"
        )
        assert pushed == 107
        assert len({str(receiver.resource(push)) for push in range(len(receiver.pushed))}) == 1


def _pushed(samples: dict[str, float]) -> float:
    return sum(value for name, value in samples.items() if name.startswith(COUNT))


def _fds(pid: int) -> list[Path]:
    return [one for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]


# --- beside prometheus_client's multiprocess mode -------------------------------------------------------

THEIRS = """
import os, signal, sys
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess
calls = Counter("calls_total", "Calls.")
running = Gauge("running", "Now.", multiprocess_mode="livesum")
if sys.argv[1] == "worker":
    calls.inc()
    running.inc()
    os.kill(os.getpid(), signal.SIGKILL)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
OURS = """
import os, signal, sys
from tests.runtime.multiprocess.test_workers import RUNNING, House, Path, Worker
worker = Worker(House(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
if sys.argv[1] == "worker":
    worker.count()
    worker.metrics.gauge(RUNNING, lambda: 1)
    worker.say()
    os.kill(os.getpid(), signal.SIGKILL)
print(worker.metrics.expose()[0].decode())
"""
COST = """
import time
from prometheus_client import Counter, Histogram
from mahavishnu.runtime.telemetry.cells import CounterCell, HistogramCell
calls, times = Counter("calls_total", "Calls."), Histogram("times_seconds", "Times.")
cell, cells = CounterCell(), HistogramCell((.005, .01, .025, .05, .075, .1, .25, .5, .75, 1.0, 2.5, 5.0, 7.5, 10.0))
for call in (calls.inc, cell.inc, lambda: times.observe(1), lambda: cells.observe(1)):
    best = 1e9
    for _ in range(20):
        began = time.process_time_ns()
        for _ in range(2000):
            call()
        best = min(best, (time.process_time_ns() - began) / 2000)
    print(best)
"""
KILLED = 8


def _said(code: str, folder: Path, *words: str) -> str:
    folder.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", code, *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.stderr == ""
    return ended.stdout


def _after_deaths(code: str, folder: Path) -> tuple[float, float, int]:
    """Of killed workers: what is counted, what is said to run, and how many files they have left."""
    for _ in range(KILLED):
        _said(code, folder, "worker")
    shown = _said(code, folder, "ask")
    values = [
        sum(float(line.split()[-1]) for line in shown.splitlines() if line.startswith(name))
        for name in ("calls_total", "running ")
    ]
    return values[0], values[1], len([*folder.iterdir()])


@pytest.mark.proof
def test_what_the_incumbent_does_with_the_dead(tmp_path: Path) -> None:
    """prometheus_client's multiprocess mode, where nobody marks the dead, as nobody can after kill -9 under uvicorn."""
    theirs, ours = _after_deaths(THEIRS, tmp_path / "theirs"), _after_deaths(OURS, tmp_path / "ours")
    figure(
        f"calls counted by {KILLED} killed workers: prometheus_client, ours",
        KILLED,
        f"{theirs[0]:.0f}, {ours[0]:.0f}",
    )
    figure(
        f"requests that {KILLED} killed workers still serve: the same", 0, f"{theirs[1]:.0f}, {ours[1]:.0f}"
    )
    figure(f"files after {KILLED} killed workers: the same", "≤ 4", f"{theirs[2]}, {ours[2]}")
    assert theirs[0] == ours[0] == KILLED
    assert (theirs[1], ours[1]) == (KILLED, 0)
    assert theirs[2] >= KILLED
    assert ours[2] <= 4


@pytest.mark.proof
def test_what_a_count_costs_beside_the_incumbent(tmp_path: Path) -> None:
    """There each is written to a file that is mapped into memory; here it is an addition."""
    theirs, ours, their_times, our_times = map(float, _said(COST, tmp_path / "cost").split())
    figure("a count: prometheus_client with several processes / ours", "> 5", f"{theirs / ours:.0f}")
    figure("an observation: the same", "> 3", f"{their_times / our_times:.0f}")
    assert theirs > 5 * ours
    assert their_times > 3 * our_times
