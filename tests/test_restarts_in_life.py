"""Processes that are killed and started anew, by turns and together, once and again: what fires then, and what must
not."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.shop.firing import firing, samples
from mahavishnu.contract import contract
from mahavishnu.load import load
from mahavishnu.runtime.process import Usage, started
from mahavishnu.runtime.service import Service, start
from mahavishnu.testing import VirtualClock
from tests.judges import judge
from tests.monitoring import texts
from tests.runtime.asgi_client import spec_of

OURS = {"ShopDown", "ShopReplicaDown", "ShopFlapping", "ShopRestarting"}
Life = Callable[["Replicas", int], None]


class Replicas:
    """So many replicas by their addresses, each with the process that is there: what a scrape a minute sees of them."""

    def __init__(self, size: int) -> None:
        self.clock = VirtualClock()
        self.running = {number: self.process() for number in range(size)}
        self.dead = set[int]()
        self.series: dict[str, list[float | None]] = {}
        self.minutes = 0

    def process(self) -> Service:
        """One that has just been started."""
        service = start(spec_of(), self.clock, lambda: Usage(0, 0), io.StringIO())
        service.process_state.began = self.clock.now() / 10**9
        return service

    def restart(self, *numbers: int) -> None:
        """They do not answer this minute, and in the next one another process does."""
        self.dead.update(numbers)

    def scrape(self) -> None:
        """Prometheus comes by, and the dead are replaced."""
        for number, one in self.running.items():
            dead = number in self.dead
            shown = {} if dead else samples(one.metrics.expose()[0].decode(), "shop")
            kept = {name: value for name, value in shown.items() if name.startswith("process_start_time")}
            for name, value in {'up{job="shop",instance="app"}': float(not dead), **kept}.items():
                own = self.series.setdefault(name.replace('"app"', f'"{number}"'), [])
                own.extend([None] * (self.minutes - len(own)))
                own.append(value)
        self.minutes += 1
        self.clock.advance("1m")
        self.running |= {number: self.process() for number in self.dead}
        self.dead.clear()

    def fired(self, life: Life, minutes: int, folder: Path) -> list[set[str]]:
        """What fires in each minute of such a life, and an hour afterwards."""
        for minute in range(minutes + 60):
            if minute < minutes:
                life(self, minute)
            self.scrape()
        rules = folder / "rules.yml"
        rules.write_text(texts(contract(spec_of()))["prometheus/rules.yml"])
        padded = {name: [*one, *[None] * (self.minutes - len(one))] for name, one in self.series.items()}
        return [{*names} & OURS for names in firing(judge("promtool"), rules, padded, range(self.minutes))]


def deployed_in_place(them: Replicas, minute: int) -> None:
    """One after the other is stopped and started with another version, at the address it has."""
    if 5 <= minute < 5 + len(them.running):
        them.restart(minute - 5)


def deployed_anew(them: Replicas, minute: int) -> None:
    """One after the other comes with another version, at an address of its own, and an old one goes."""
    if 5 <= minute < 11:
        them.running[minute + 100] = them.process()
        del them.running[next(iter(them.running))]


def scaled_out(them: Replicas, minute: int) -> None:
    """Six more come at once."""
    if minute == 5:
        them.running |= {number: them.process() for number in range(6, 12)}


def restarted_at_once(them: Replicas, minute: int) -> None:
    """The only server is started anew, as Compose does it, twice within half an hour."""
    if minute in (5, 25):
        them.restart(*them.running)


def begun_with_prometheus(them: Replicas, minute: int) -> None:
    """They start after Prometheus, which has no more history, and are deployed once soon afterwards."""
    if minute in (0, 7):
        them.restart(*them.running)


@pytest.mark.judge
@pytest.mark.parametrize(
    "life", [deployed_in_place, deployed_anew, scaled_out, restarted_at_once, begun_with_prometheus]
)
def test_who_deploys_is_told_of_nothing(life: Life, tmp_path: Path) -> None:
    """Neither with six replicas nor with one."""
    for size in (6, 1):
        assert {name for names in Replicas(size).fired(life, 30, tmp_path) for name in names} == set()


def one_dies(them: Replicas, minute: int) -> None:
    """One of them lives for five minutes each time."""
    if minute % 6 == 5:
        them.restart(0)


def all_die(them: Replicas, minute: int) -> None:
    """All of them are killed in the same minute, and there again in the next."""
    if minute % 3 == 2:
        them.restart(*them.running)


def gone_once(them: Replicas, minute: int) -> None:
    """All of them are away for ten minutes, once."""
    if 10 <= minute < 20:
        them.restart(*them.running)


@pytest.mark.judge
@pytest.mark.parametrize(
    ("life", "wanted"),
    [
        (one_dies, {"ShopRestarting"}),
        (all_die, {"ShopRestarting", "ShopFlapping"}),
        (gone_once, {"ShopDown", "ShopReplicaDown"}),
    ],
)
def test_who_dies_again_and_again_is_told_of_until_it_ends(
    life: Life, wanted: set[str], tmp_path: Path
) -> None:
    """An outage that is told of while it lasts is not told of again when it is over."""
    fired = Replicas(3).fired(life, 40, tmp_path)
    assert {name for names in fired for name in names} == wanted
    assert fired[-1] == set()


ASKED = "from mahavishnu.runtime.process import started; print(started(of_several={}))"


@pytest.mark.parametrize("of_several", [False, True])
def test_a_process_knows_when_it_was_started(of_several: bool) -> None:
    """To the second, as the kernel does; one of several that has no parent like that says its own."""
    before = time.time()
    said = subprocess.run(
        [sys.executable, "-c", ASKED.format(of_several)], capture_output=True, text=True, check=True
    )
    assert before - 2 < float(said.stdout) < time.time() + 1


def test_what_a_process_shows_is_when_it_was_started() -> None:
    """Under the name that Prometheus' own client libraries use."""
    text = start(spec_of(), VirtualClock()).metrics.expose()[0].decode()
    (began,) = re.findall(r"^process_start_time_seconds (\S+)", text, re.MULTILINE)
    assert float(began) == started(of_several=False)


def test_a_reload_is_no_restart(tmp_path: Path) -> None:
    """What takes over is of the same process."""
    file = tmp_path / "mahavishnu.yaml"
    file.write_text('mahavishnu: 1\nservice: {name: shop, app: "shop:app"}\n')
    service = start(load(file), VirtualClock())
    service.process_state.began = 7.0
    after = service.after(load(file))
    after.take_over(service)
    assert "\nprocess_start_time_seconds 7.0\n" in after.metrics.expose()[0].decode()
