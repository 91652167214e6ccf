"""Forty attacks on a rate limit: none gets one request more out of ours, and each could."""

from __future__ import annotations

import asyncio

import pytest

from tests.bypass.arena import App, Outcome, Protect, Site, fight
from tests.bypass.attacks import ATTACKS, NAMES, Attack, Weakness
from tests.bypass.hardened import hardened
from tests.bypass.naive import naive
from tests.figures import FULL, figure

_FLOOD = 3_000
_CAP = 2_000
each = pytest.mark.parametrize("attack", ATTACKS, ids=[one.name for one in ATTACKS])


def small() -> tuple[Site, App]:
    """Ours, with room for fewer clients than a small flood has."""
    site, app = hardened()
    app.service.store.cap = _CAP  # type: ignore[attr-defined]  # what the arena calls an App is a Hardening here
    return site, app


def fought(attack: Attack, protect: Protect, flood: int = _FLOOD) -> Outcome:
    """How an attack ends."""
    return asyncio.run(fight(attack, protect, flood))


def test_there_are_forty() -> None:
    """Forty attacks, each with a name of its own."""
    assert len(ATTACKS) == len(NAMES) == 40


@each
def test_nothing_gets_around_ours(attack: Attack) -> None:
    """What is allowed is admitted, and no more; nothing breaks, and no other client is hurt."""
    assert fought(attack, small) == Outcome(attack.allowed, 0, 0, bystander=True)


@each
def test_each_attack_is_able_to_hurt(attack: Attack) -> None:
    """A limiter that is sound but for the one weakness it is made for admits more."""
    assert fought(attack, lambda: naive(attack.weakness)).extra > 0


@each
def test_a_sound_limiter_withstands(attack: Attack) -> None:
    """What an attack is allowed is what a limiter without that weakness admits: the attack is fair."""
    assert fought(attack, lambda: naive(Weakness())).extra == 0


@pytest.mark.proof
def test_the_battery_at_full_length() -> None:
    """All forty with the real bound on clients, the flood being larger than that."""
    flood = 110_000 if FULL else 20_000
    outcomes = [fought(one, hardened, flood) for one in ATTACKS]
    extra = sum(one.extra > 0 for one in outcomes)
    figure(
        f"bypass battery, a flood of {flood:,}: attacks with extra admissions", "0 of 40", f"{extra} of 40"
    )
    assert outcomes == [Outcome(one.allowed, 0, 0, bystander=True) for one in ATTACKS]
