"""The alert that spans are lost: a real collector refuses them, and takes them again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from examples.shop.firing import firing
from mahavishnu.compile import compile
from mahavishnu.contract import contract
from mahavishnu.load import load
from tests.judges import judge
from tests.otlp_receiver import Collector, collector
from tests.shop_driver import Shop
from tests.test_alerts_are_real import ROOT


class Traced(Shop):
    """A shop whose spans are sent once in each virtual minute, whatever the time is for the thread that sends them."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(file, monkeypatch)
        self.clock.runs = True  # else nobody is sent any

    async def scrape(self) -> None:
        """Once all that waits was sent, or given up."""
        tracing = self.hardening.service.tracing
        assert tracing is not None
        self.hardening.service.process_state.ended.settle()
        await tracing.flush()
        tracing.start(lambda: self.hardening.service, "shop-1")
        await super().scrape()


async def played(shop: Traced, receiver: Collector) -> list[int]:
    """Good times, a collector that refuses everything, good times again; the last minute of each."""

    async def refused(shop: Shop) -> None:
        receiver.status = 400
        await shop.scrape()

    before, during = await shop.run(8), await shop.run(20, refused)
    receiver.status = 200
    return [before, during, await shop.run(20)]


@pytest.mark.judge
def test_fires_and_clears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else does: no request is touched."""
    promtool = judge("promtool")
    file, rules = tmp_path / "mahavishnu.yaml", tmp_path / "rules.yml"
    with collector() as receiver:
        traced = f"observability:\n  traces: {{otlp: '{receiver.url}'}}\n"
        file.write_text((ROOT / "mahavishnu.yaml").read_text().replace("observability:\n", traced))
        made = contract(load(file).spec)
        rules.write_text(next(one.text for one in compile(made) if one.path == "prometheus/rules.yml"))
        shop = Traced(file, monkeypatch)
        minutes = asyncio.run(played(shop, receiver))
    assert len(receiver.spans()) > 100
    before, during, after = firing(promtool, rules, shop.series, minutes)
    assert before == frozenset()
    assert during == {"ShopSpansLost"}
    assert after == frozenset()
