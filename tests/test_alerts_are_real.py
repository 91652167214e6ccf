"""Every alert of the shop is made to fire by driving the real app, and to clear again; promtool is the judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.shop.firing import firing
from mahavishnu.compile import compile
from mahavishnu.contract import Contract, contract
from mahavishnu.loading import nodes, yaml_tree
from mahavishnu.runtime.dead_letters.letters import Bounds, LettersUnreachable
from mahavishnu.spec import Spec
from tests.judges import judge
from tests.narrowed import narrowed
from tests.shop_driver import MINUTE, Fault, Shop

ROOT = Path(__file__).parents[1]
SHORT, LONG = 40, 365  # minutes to clear: beyond the longest window of a threshold, of the slowest SLO tier


async def stopped(shop: Shop) -> None:
    shop.up = False
    await shop.scrape()
    shop.up = True


async def coming_and_going(shop: Shop) -> None:
    """Nobody answers in every other minute."""
    shop.up = shop.minutes % 2 == 0
    await shop.scrape()
    shop.up = True


async def restarted(shop: Shop) -> None:
    """Another process is there each minute."""
    lasting = shop.hardening.service.process_state
    lasting.began += 60
    await shop.scrape()


async def crowd(shop: Shop) -> None:
    """One client asks far more often than it may, and guesses passwords; all of them together too."""
    await shop.finish([shop.ask("GET", "/products", client=7) for _ in range(150)])
    await shop.finish([shop.ask("POST", "/login", client=8) for _ in range(12)])
    await shop.finish([shop.ask("GET", "/products") for _ in range(60)])
    await shop.scrape()


async def at_the_limit(shop: Shop) -> None:
    """One client asks just as much as it may, and so do all of them together; nobody is refused."""
    await shop.finish([shop.ask("GET", "/products", client=9) for _ in range(50)])
    for _ in range(15):
        shop.clock.advance(10**9)
        await shop.finish([shop.ask("GET", "/products", client=9) for _ in range(5)])
    shop.clock.advance(2 * 10**9)
    await shop.finish([shop.ask("GET", "/products", client=10 + one % 2) for one in range(100)])
    for _ in range(15):
        shop.clock.advance(50 * 10**6)
        await shop.finish([shop.ask("GET", "/products") for _ in range(5)])
    await shop.scrape()


async def invented(shop: Shop) -> None:
    """More clients at once than a process remembers."""
    shop.store.cap = 20
    await shop.finish([shop.ask("GET", "/products") for _ in range(40)])
    shop.store.cap = 100_000
    await shop.scrape()


async def long_reports(shop: Shop) -> None:
    """More reports than places and queue; the scrape comes while they run."""
    shop.building = 2 * 10**9
    begun = shop.begin([shop.ask("GET", "/reports") for _ in range(12)])
    await shop.clock.settle()
    await shop.scrape()
    await shop.end(begun)
    shop.building = 0


async def hanging(shop: Shop) -> None:
    """Reports hang beyond the deadline, searches look for everything, bodies are too large."""
    shop.building = 60 * 10**9
    begun: list[Awaitable[int]] = [shop.ask("GET", "/reports"), shop.ask("GET", "/search")]
    await shop.finish([*begun, *(shop.ask("POST", "/login", content=b"x" * 70_000) for _ in range(4))])
    shop.building = 0
    await shop.scrape()


async def payment_down(shop: Shop) -> None:
    shop.payment.failing = 5
    for _ in range(3):
        await shop.finish([shop.ask("POST", "/orders") for _ in range(20)])
    await shop.hardening.life.redriver.look()
    await shop.scrape()
    shop.payment.failing = 0
    # Somebody gives up what would take hours to be made again.
    shop.dead_letters.writer.ask(lambda letters: letters.drop([one.id for one in letters.some(10**5)[150:]]))


@contextmanager
def room_for(letters: int, shop: Shop) -> Generator[None]:
    """There is room for so many orders that cannot be paid."""
    bounds, shop.dead_letters.bounds = shop.dead_letters.bounds, Bounds(letters, 10**6, displace=False)
    yield
    shop.dead_letters.bounds = bounds


async def orders_lost(shop: Shop) -> None:
    """The payment service is down, and there is no room for the orders that cannot be paid."""
    with room_for(20, shop):
        await payment_down(shop)


async def cards_declined(shop: Shop) -> None:
    """Orders that were kept turn out to be wrong; somebody gives them up later."""
    shop.payment.failing = 5
    await shop.finish([shop.ask("POST", "/orders") for _ in range(2)])
    shop.payment.failing, shop.payment.status = 0, 402
    shop.clock.advance(2 * MINUTE)
    await shop.redrive()
    await shop.hardening.life.redriver.look()
    await shop.scrape()
    shop.payment.status = 200
    shop.dead_letters.writer.ask(lambda letters: letters.drop([one.id for one in letters.some(100)]))
    await shop.hardening.life.redriver.look()


async def orders_stuck(shop: Shop) -> None:
    """An order waits for more than ten minutes, and its payment fails once more then."""
    shop.payment.failing = 5
    await shop.finish([shop.ask("POST", "/orders")])
    shop.clock.advance(12 * MINUTE)
    await shop.redrive()
    await shop.scrape()
    shop.payment.failing = 0
    shop.clock.advance(12 * MINUTE)
    await shop.redrive()


async def letters_gone(shop: Shop) -> None:
    """The disk or the server of the dead letters does not answer, and is well again after the scrape."""
    letters: Any = shop.dead_letters.writer.letters
    letters.together = letters_unreachable
    await shop.redrive()
    await shop.scrape()
    del letters.together
    await shop.redrive()


def letters_unreachable() -> Any:
    raise LettersUnreachable("the dead letters in x: disk I/O error")


async def payment_shaky(shop: Shop) -> None:
    """Two calls of five fail: too few for the breaker, too many for the retry budget."""
    shop.payment.failing = 2
    for _ in range(10):
        await shop.finish([shop.ask("POST", "/orders") for _ in range(4)])
    await shop.scrape()
    shop.payment.failing = 0


async def payment_refusing(shop: Shop) -> None:
    """The payment service answers 429: it is there, and has no time for the shop."""
    shop.payment.failing, shop.payment.failure = 5, 429
    for _ in range(3):
        await shop.finish([shop.ask("POST", "/orders") for _ in range(20)])
    await shop.scrape()
    shop.payment.failing, shop.payment.failure = 0, 503


async def payment_crowded(shop: Shop) -> None:
    """More orders at once than the bulkhead has places, each a moment longer than the rest would wait."""
    shop.payment.delay = 120 * 10**6
    begun = shop.begin([shop.ask("POST", "/orders") for _ in range(50)])
    await shop.clock.settle()
    await shop.scrape()
    await shop.end(begun)
    shop.payment.delay = 0


async def slow(shop: Shop) -> None:
    """Most requests take two seconds."""
    shop.building = 2 * 10**9
    for _ in range(20):
        await shop.finish([shop.ask("GET", "/reports") for _ in range(4)])
    shop.building = 0
    await shop.scrape()


async def hungry(shop: Shop) -> None:
    """The process takes nearly all the memory and all the processor time that the spec gives it."""
    shop.usage = shop.usage._replace(memory=500e6, cpu=shop.usage.cpu + 30)
    await shop.scrape()
    shop.usage = shop.usage._replace(memory=100e6)


async def blocked(shop: Shop) -> None:
    """Some handler computes for 500 ms at a time, for most of the minute."""
    for _ in range(80):
        shop.clock.stall("500ms")
        shop.clock.advance("100ms")
    await shop.scrape()


async def spec_broken(shop: Shop) -> None:
    """Somebody saves half a spec, and mends it after the scrape."""
    await edited(shop, "limits: {")


async def spec_other(shop: Shop) -> None:
    """A replica has been given another spec than the rules."""
    await edited(shop, shop.file.read_text().replace("500ms", "600ms"))


async def edited(shop: Shop, text: str) -> None:
    good = shop.file.read_text()
    await shop.edit(text)
    await shop.scrape()
    await shop.edit(good)


async def a_little(shop: Shop) -> None:
    """Two reports of a minute are slow, and now and then an order fails: too much for so short a history."""
    shop.building = 2 * 10**9
    await shop.finish([shop.ask("GET", "/reports") for _ in range(2)])
    shop.building = 0
    if shop.minutes % 10 == 0:
        shop.payment.failing = 5
        with room_for(0, shop):
            await shop.finish([shop.ask("POST", "/orders")])
        shop.payment.failing = 0
    await shop.scrape()


async def nobody(shop: Shop) -> None:
    """Not a single customer from the next minute on."""
    shop.closed = True
    await shop.scrape()


def burns(slo: str) -> list[str]:
    return [f"ShopSlo{slo}BurnP{tier}" for tier in (1, 2, 3, 4)]


CASES: dict[str, tuple[Fault, int, list[str]]] = {
    "stopped": (stopped, SHORT, ["ShopDown", "ShopReplicaDown"]),
    "coming_and_going": (coming_and_going, SHORT, ["ShopFlapping"]),
    "restarted": (restarted, SHORT, ["ShopRestarting"]),
    "crowd": (
        crowd,
        SHORT,
        [
            "ShopLimitPerClientRefusing",
            "ShopLimitLoginRefusing",
            "ShopLimitCeilingRefusing",
            "ShopThresholdThrottling",
        ],
    ),
    "at_the_limit": (
        at_the_limit,
        SHORT,
        ["ShopLimitPerClientNearlyExhausted", "ShopLimitCeilingNearlyExhausted"],
    ),
    "invented": (invented, SHORT, ["ShopLimitStoreFull"]),
    "long_reports": (long_reports, SHORT, ["ShopLimitReportsSaturated", "ShopLimitReportsQueueFull"]),
    "hanging": (
        hanging,
        SHORT,
        ["ShopLimitRequestTimingOut", "ShopLimitSearchTimingOut", "ShopLimitUploadsTooLarge"],
    ),
    "payment_down": (
        payment_down,
        LONG,
        [
            "ShopDependencyPaymentBreakerOpen",
            "ShopDependencyPaymentBreakerRestless",
            "ShopDependencyPaymentDegraded",
            "ShopThresholdUnpaid",
        ],
    ),
    "payment_refusing": (payment_refusing, SHORT, ["ShopDependencyPaymentThrottled"]),
    "a_little": (
        a_little,
        LONG,
        [f"ShopSlo{slo}BudgetExhausted" for slo in ("Availability", "Latency", "Checkout")],
    ),
    "nobody": (nobody, SHORT, [f"ShopSlo{slo}NoData" for slo in ("Availability", "Latency", "Checkout")]),
    "orders_lost": (
        orders_lost,
        LONG,
        ["ShopDeadLettersLost", "ShopDeadLettersNearlyFull", *burns("Availability"), *burns("Checkout")],
    ),
    "cards_declined": (cards_declined, SHORT, ["ShopDeadLettersQuarantined"]),
    "orders_stuck": (orders_stuck, SHORT, ["ShopDeadLettersStuck"]),
    "letters_gone": (letters_gone, SHORT, ["ShopDeadLettersUnreachable"]),
    "payment_shaky": (
        payment_shaky,
        SHORT,
        ["ShopDependencyPaymentRetryBudgetExhausted", "ShopDependencyPaymentFailing"],
    ),
    "payment_crowded": (
        payment_crowded,
        SHORT,
        ["ShopDependencyPaymentBulkheadSaturated", "ShopDependencyPaymentBulkheadRefusing"],
    ),
    "slow": (slow, LONG, burns("Latency")),
    "blocked": (blocked, SHORT, ["ShopEventLoopLagging"]),
    "hungry": (hungry, SHORT, ["ShopThresholdMemory", "ShopThresholdCpu"]),
    "spec_broken": (spec_broken, SHORT, ["ShopSpecReloadFailed"]),
    "spec_other": (spec_other, SHORT, ["ShopSpecDrift"]),
}


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    """The shop's own spec, but for a ceiling that a test can reach, and letters whose attempts take minutes."""
    tree = yaml_tree.read((ROOT / "mahavishnu.yaml").read_bytes(), "mahavishnu.yaml").tree
    assert isinstance(tree, nodes.Mapping)
    said: dict[str, Any] = nodes.plain(tree)
    said["limits"]["ceiling"]["rate"] = "100/second"
    said["dead_letters"]["redrive"] = {"attempts": 3, "base": "1m", "max": "2m"}
    return said


@pytest.fixture(scope="module")
def made(said: dict[str, Any]) -> Contract:
    """What follows from it."""
    return contract(Spec.model_validate(said))


@pytest.fixture
def rules(made: Contract, tmp_path: Path) -> Path:
    """The rules as they are generated."""
    path = tmp_path / "rules.yml"
    path.write_text(next(one.text for one in compile(made) if one.path == "prometheus/rules.yml"))
    return path


LONGEST = (
    "orders_lost", "slow", "payment_down", "nobody", "a_little", "at_the_limit", "spec_other", "crowd", "spec_broken",
    "payment_crowded", "payment_refusing", "payment_shaky",
)  # fmt: skip
"""These take seconds: they are among the proofs."""


@pytest.mark.judge
@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=pytest.mark.proof) if one in LONGEST else one for one in CASES]
)
def test_fires_and_clears(
    case: str, said: dict[str, Any], rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent while all is well, firing while the fault is there, silent again after it has gone.

    In one case all rules are asked: in the others the good minutes are the same.
    """
    fault, to_clear, wanted = CASES[case]
    promtool = judge("promtool")
    file = tmp_path / "mahavishnu.yaml"
    file.write_text(json.dumps(said))
    if fault is not blocked:
        # Hours in which the loop is looked at ten times a second would be half of what a test takes.
        monkeypatch.setattr("mahavishnu.runtime.lag.PERIOD", 1_000_000_000)
    shop = Shop(file, monkeypatch)
    bad = LONG + 20 if fault is nobody else 40 if fault is hanging else 30
    minutes = asyncio.run(phases(shop, fault, bad, to_clear))
    asked = (rules, shop.series) if fault is restarted else narrowed(rules, wanted, shop.series)
    before, during, after = firing(promtool, *asked, minutes)
    assert before == frozenset()
    assert set(wanted) <= during
    assert not set(wanted) & after


async def phases(shop: Shop, fault: Fault, bad: int, to_clear: int) -> list[int]:
    """Twenty good minutes, some bad ones, and as many good ones as it takes; the last minute of each."""
    return [await shop.run(20), await shop.run(bad, fault), await shop.run(to_clear)]


def test_every_alert_has_a_case(made: Contract) -> None:
    """No alert ships that is not driven above."""
    driven = [one for _, _, names in CASES.values() for one in names]
    elsewhere = {
        alert.name for alert in made.alerts if alert.path[0] == "backups"
    }  # tests/backup/test_alerts.py
    assert sorted([*driven, *elsewhere]) == sorted(one.name for one in made.alerts)
