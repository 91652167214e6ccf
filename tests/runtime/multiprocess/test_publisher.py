"""Hardened apps as workers of one server: they meet, tell each other, and what they tell outlives them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.contract import contract
from mahavishnu.derived.bound import bound
from mahavishnu.runtime.multiprocess.held import Held
from mahavishnu.runtime.multiprocess.meeting import meet, place
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.spec import Spec
from tests.otlp_receiver import Exporting, collector
from tests.runtime.asgi_client import House, harden, site, spec_of
from tests.runtime.multiprocess.test_workers import descriptors, failing
from tests.runtime.telemetry.test_otlp import EVERY, outcomes, pushing, served, tick

ALLOWED = "mahavishnu_limit_decisions_total{limit=few,outcome=allowed}"


def several(**sections: Any) -> Spec:
    """A spec of two workers."""
    service = {"workers": 2, **sections.pop("service", {})}
    few = {"few": {"rate": "3/hour", "scope": "process"}, "slots": {"concurrency": 4}}
    return spec_of(service=service, limits=few, **sections)


@pytest.fixture
def met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which all apps of a test meet, as if they were processes of one parent."""
    monkeypatch.setattr(
        "mahavishnu.runtime.multiprocess.publisher.place", Mock(return_value=tmp_path / "met")
    )
    return tmp_path / "met"


async def test_apps_that_meet_are_scraped_as_one(met: Path) -> None:
    """What is told once a second is what another one shows; places and memory are added up, the limit of it is not."""
    spec = several()
    async with served(harden(site(), spec)) as one, served(harden(site(), spec)) as two:
        for house in (one, two, two):
            await house.call()
        one.clock.advance("1s")
        shown = two.samples()
        assert shown[ALLOWED] == 3
        assert shown["mahavishnu_workers{}"] == 2
        assert shown["mahavishnu_limit_quota{limit=slots}"] == 8
        assert shown["mahavishnu_limit_quota{limit=few}"] == 3
        assert shown["mahavishnu_memory_limit_bytes{}"] == 2**29
        assert shown["mahavishnu_worker_series_faults_total{fault=unread}"] == 0
        assert (await one.call(path="/metrics")).status == 200


async def test_who_ends_in_good_order_loses_nothing(met: Path) -> None:
    """What came after the last second is told when the server says that it ends."""
    spec = several()
    async with served(harden(site(), spec)) as one:
        async with served(harden(site(), spec)) as two:
            await two.call()
            await two.call()
        assert one.samples()[ALLOWED] == 2
        assert one.samples()["mahavishnu_workers{}"] == 1
        # The one that has ended shows itself from now on, and tells nobody.
        two.clock.advance("1m")
        assert two.samples()[ALLOWED] == 2
        assert one.samples()[ALLOWED] == 2


async def test_a_worker_that_ends_again_and_again_is_missed(met: Path) -> None:
    """`mahavishnu_workers` is what WorkersMissing looks at."""
    async with served(harden(site(), several())) as one:
        names = {alert.name for alert in contract(one.app.service.spec).alerts}
        assert "ShopWorkersMissing" in names
        assert one.samples()["mahavishnu_workers{}"] == 1


def _status(number: str) -> Route:
    async def answer(request: Request) -> Response:
        return PlainTextResponse("", int(request.path_params["code"]))

    return Route(number + "/{code}", answer)


async def test_the_bound_is_that_of_all_workers(met: Path) -> None:
    """Two workers with other statuses each, and those that come after them: never more than `check` says."""
    spec, app = several(), site(_status("/a"))

    async def ask(house: House, first: int) -> None:
        for code in range(first, first + 40):
            await house.call(path=f"/a/{code}", client=f"198.51.{first % 256}.{code % 256}")
        house.clock.advance("1s")

    async with served(harden(app, spec)) as one, served(harden(app, spec)) as two:
        await ask(one, 200)
        await ask(two, 400)
        for first in (300, 500, 240):
            async with served(harden(app, spec)) as three:
                await ask(three, first)
        shown = [
            name for name in two.samples() if name.startswith("http_server_request_duration_seconds_count")
        ]
        # A place is kept for 429, which the first never answers; 300 and 500 as classes, and 240 is one of the 200s.
        assert len(shown) == 10 + 11 + 2
        assert two.app.service.metrics.series() < bound(two.app.service.contract).of(1)


async def test_of_two_specs_each_knows_its_own_series(met: Path) -> None:
    """While one worker has taken a changed file and another not yet, both hashes are shown, and no count is lost."""
    old = several()
    new = old.model_copy(update={"limits": {"few": old.limits["few"]}, "store": "memory://"})
    new = new.model_copy(update={"service": new.service.model_copy(update={"owner": "us"})})
    async with served(harden(site(), old)) as one, served(harden(site(), new)) as two:
        await one.call()
        await two.call()
        for house in (one, two):
            house.clock.advance("1s")
        for house in (one, two):
            shown = house.samples()
            hashes = {one.app.service.hash, two.app.service.hash}
            assert {name for name in shown if name.startswith("mahavishnu_spec_info")} == {
                f"mahavishnu_spec_info{{hash={hash}}}" for hash in hashes
            }
            assert shown[ALLOWED] == 2
        assert "mahavishnu_limit_quota{limit=slots}" in one.samples()
        assert "mahavishnu_limit_quota{limit=slots}" not in two.samples()


async def test_a_process_that_was_started_alone_says_so() -> None:
    """`service.workers` is no promise of whoever starts it."""
    async with served(harden(site(), several())) as house:
        await house.call()
        (line,) = [line for line in house.lines if line["event"] == "alone"]
        assert line["help"].startswith("start uvicorn with --workers 2")
        assert house.samples()[ALLOWED] == 1


async def test_without_a_safe_folder_each_shows_itself(met: Path) -> None:
    """And the log says why; nothing is answered with 500."""
    met.mkdir()
    met.chmod(0o755)
    async with served(harden(site(), several())) as house:
        await house.call()
        (line,) = [line for line in house.lines if line["event"] == "workers cannot meet"]
        assert "others may enter" in line["reason"]
        assert (await house.call(path="/metrics")).status == 200


async def test_who_could_not_meet_the_others_meets_them_as_soon_as_he_can(met: Path) -> None:
    """Every second it is tried again, and said once that it could not be."""
    met.mkdir()
    met.chmod(0o755)
    async with served(harden(site(), several())) as one, served(harden(site(), several())) as two:
        await one.call()
        for _ in range(5):
            two.clock.advance("1s")
        assert [line["event"] for line in two.lines].count("workers cannot meet") == 1
        met.chmod(0o700)
        for each in (one, two):
            each.clock.advance("1s")
        assert one.samples()[ALLOWED] == two.samples()[ALLOWED] == 1
        assert one.samples()["mahavishnu_workers{}"] == 2


async def test_who_does_not_meet_the_others_opens_nothing_for_it(
    met: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is tried."""
    monkeypatch.setattr(PrivateFolder, "appear", failing)
    async with served(harden(site(), several())) as house:
        before = descriptors()
        house.clock.advance("1m")
        assert descriptors() == before


async def test_what_cannot_be_told_is_logged_once_and_counted(
    met: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(harden(site(), several())) as house:
        monkeypatch.setattr(PrivateFolder, "write", failing)
        for _ in range(5):
            house.clock.advance("1s")
        assert len([line for line in house.lines if line["event"] == "series not said"]) == 1
        monkeypatch.undo()
        house.clock.advance("1s")
        assert house.samples()["mahavishnu_worker_series_faults_total{fault=unwritten}"] == 5


async def test_who_has_much_to_tell_tells_it_less_often(met: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a fiftieth of the time is spent on it."""
    async with served(harden(site(), several())) as house:
        written = list[int]()
        write = PrivateFolder.write

        def slow(self: PrivateFolder, held: Held, word: bytes) -> None:
            written.append(house.clock.now())
            house.clock.stall("100ms")
            write(self, held, word)

        monkeypatch.setattr(PrivateFolder, "write", slow)
        for _ in range(300):
            house.clock.advance("100ms")
        monkeypatch.undo()
    assert {(after - before) // 10**9 for before, after in pairwise(written[1:])} == {5}


async def test_one_of_them_pushes_for_all(met: Path) -> None:
    """The totals of all, as one instance; another one goes on where it ends, and the last word is that of the last."""
    with collector() as receiver:
        spec = pushing(receiver.url, service={"workers": 2})
        async with served(harden(site(), spec, clock=Exporting())) as two:
            async with served(harden(site(), spec, clock=Exporting())) as one:
                await one.call()
                await two.call()
                one.clock.advance("1s")
                await tick(two)
                assert receiver.samples()[ALLOWED] == 2
                one.clock.advance(EVERY * 10**9)
                assert len(receiver.pushed) == 1
                assert outcomes(one) == outcomes(two) == (1, 0)
            await tick(two)
            await two.call()
        assert len(receiver.pushed) == 3
        assert receiver.samples()[ALLOWED] == 3
        assert receiver.resource(0) == receiver.resource(1) == receiver.resource(2)
        starts = {
            point.start_time_unix_nano
            for push in range(3)
            for metric in receiver.metrics(push)
            for point in metric.sum.data_points
        }
        assert len(starts) == 1


# --- where they meet --------------------------------------------------------------------------------


def test_a_process_without_a_parent_meets_nobody() -> None:
    assert place("shop") is None


def _tell(into: Any) -> None:
    into.send(str(place("shop")))


def test_children_of_one_parent_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Started as uvicorn starts its workers; the name holds the parent's pid, and when that was started."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spawn = multiprocessing.get_context("spawn")
    told = list[str]()
    for _ in range(2):
        out, into = spawn.Pipe(duplex=False)
        child = spawn.Process(target=_tell, args=(into,))
        child.start()
        told.append(out.recv())
        child.join()
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert {*told} == {f"{tmp_path}/mahavishnu-{os.geteuid()}-shop-{os.getpid()}-{started}"}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of one's own."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_what_servers_have_left_is_swept_away(temporary: Path) -> None:
    """Of this service and user; not where a worker lives, nor the folder of a parent that lives."""
    me = f"mahavishnu-{os.geteuid()}-shop"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    left = temporary / f"{me}-{ended.pid}-1"
    reused = temporary / f"{me}-{os.getpid()}-1"  # our pid, but another process had it
    orphans = temporary / f"{me}-{ended.pid}-2"
    kept = [
        temporary / f"{me}-{os.getpid()}-{started}",
        temporary / f"mahavishnu-{os.geteuid()}-shop_two-{ended.pid}-1",
        temporary / f"mahavishnu-{os.geteuid() + 1}-shop-{ended.pid}-1",
        temporary / f"{me}-notes",
    ]
    for folder in (left, reused, *kept):
        PrivateFolder(folder).hold("past").let_go()  # type: ignore[union-attr]
    PrivateFolder(orphans).appear("1-00")
    meet(temporary / f"{me}-1-1", "shop")
    assert {one for one in temporary.iterdir() if one.name != f"{me}-1-1"} == {orphans, *kept}


def test_what_is_put_in_the_place_of_what_is_left_is_not_followed(temporary: Path) -> None:
    """A link with such a name leads to nothing that is removed."""
    target = temporary / "precious"
    target.mkdir(mode=0o700)
    (target / "file").write_text("mine")
    (temporary / f"mahavishnu-{os.geteuid()}-shop-999999999-1").symlink_to(target)
    meet(temporary / f"mahavishnu-{os.geteuid()}-shop-1-1", "shop")
    assert (target / "file").read_text() == "mine"
