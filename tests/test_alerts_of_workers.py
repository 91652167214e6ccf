"""The shop's alerts with two workers: whoever is scraped, they fire and clear; one tells of a worker that is gone."""

from __future__ import annotations

import asyncio
import io
import itertools
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import examples.shop.main as shop
from examples.shop.firing import firing
from mahavishnu.asgi import Hardening
from mahavishnu.compile import compile
from mahavishnu.contract import contract
from mahavishnu.load import accept, load
from tests.judges import judge
from tests.runtime.asgi_client import App
from tests.shop_driver import Fault, Shop
from tests.test_alerts_are_real import ROOT, crowd

PACE = 15 * 10**9  # ninety minutes, told once a second, would take a minute


class Worker:
    """One of the processes that serve the shop."""

    def __init__(self, of: Shop) -> None:
        app = shop.create_app(spec=of.file, clock=of.clock, process=lambda: of.usage, log_to=io.StringIO())
        stack: Any = app.build_middleware_stack()
        app.middleware_stack = stack
        while not isinstance(stack, Hardening):
            stack = stack.app
        self.hardening = stack
        app.state.payment = shop.payment.httpx_async_client(transport=of.payment)
        self.app: App = app

    def kill(self) -> None:
        """End as with kill -9: without a last word."""
        telling: Any = self.hardening.life.publisher
        telling._timer.stop()
        telling.workers.alive.let_go()
        telling.workers = None


class Shops(Shop):
    """Two workers take requests and scrapes by turns; each minute without a fault, what has died is started anew."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(file, monkeypatch)
        self.workers = [Worker(self), Worker(self)]
        self.turns = itertools.count()

    async def everyday(self) -> None:
        while len(self.workers) < 2:
            self.workers.append(Worker(self))
        self.next()
        await super().everyday()

    async def ask(self, method: str, path: str, client: int | None = None, content: bytes = b"{}") -> int:
        self.next()
        return await super().ask(method, path, client, content)

    async def scrape(self) -> None:
        self.next()
        await super().scrape()

    def next(self) -> None:
        """The next request is another worker's."""
        self.app = self.workers[next(self.turns) % len(self.workers)].app


async def one_gone(shops: Shop) -> None:
    """One of them ends as soon as it is started."""
    assert isinstance(shops, Shops)
    shops.workers.pop().kill()
    await shops.scrape()


async def one_dies(shops: Shop) -> None:
    """One of them is killed, and another one is there before anybody looks."""
    assert isinstance(shops, Shops)
    shops.workers.pop(0).kill()
    shops.workers.append(Worker(shops))
    await shops.scrape()


CASES: dict[str, tuple[Fault, set[str]]] = {
    "crowd": (crowd, {"ShopLimitPerClientRefusing", "ShopLimitLoginRefusing", "ShopThresholdThrottling"}),
    "one gone": (one_gone, {"ShopWorkersMissing", "ShopWorkersDying"}),
    "one dies": (one_dies, {"ShopWorkersDying"}),
}


@pytest.mark.proof
@pytest.mark.judge
@pytest.mark.parametrize("case", CASES)
def test_fires_and_clears(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else does: no sum goes down when a worker dies, so no rate jumps."""
    promtool = judge("promtool")
    fault, wanted = CASES[case]
    monkeypatch.setattr("mahavishnu.runtime.multiprocess.publisher.PERIOD", PACE)
    monkeypatch.setattr(
        "mahavishnu.runtime.multiprocess.publisher.place", Mock(return_value=tmp_path / "met")
    )
    monkeypatch.setattr(
        "mahavishnu.asgi.accept", cache(accept)
    )  # all of them read one file, which stays as it is
    file, rules = tmp_path / "mahavishnu.yaml", tmp_path / "rules.yml"
    file.write_text((ROOT / "mahavishnu.yaml").read_text().replace("service:\n", "service:\n  workers: 2\n"))
    made = contract(load(file).spec)
    rules.write_text(next(one.text for one in compile(made) if one.path == "prometheus/rules.yml"))

    async def phases(shops: Shops) -> list[int]:
        return [await shops.run(8), await shops.run(22, fault), await shops.run(35)]

    shops = Shops(file, monkeypatch)
    minutes = asyncio.run(phases(shops))
    before, during, after = firing(promtool, rules, shops.series, minutes)
    assert before == frozenset()
    assert wanted <= during
    assert after == frozenset()
    if fault is not crowd:
        assert during == wanted
