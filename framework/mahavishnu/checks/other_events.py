"""MV506: an objective whose bad events are of another kind than all of its events."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.contract import shown
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.signals import AgreementError

CODE = Code(
    "MV506",
    "bad events that are no part of all events",
    "What is counted in `query.bad` is to be a part of what is counted in `query.total`: only then is their quotient a "
    "share. Where one counts requests and the other calls, it may be far below 1 when all is lost, so that the fast "
    "alerts are never raised, or above 1.",
    "slos: {pay: {objective: 99%, query: {total: 'mahavishnu_dependency_calls_total', "
    "bad: 'mahavishnu_limit_decisions_total{outcome=\"refused\"}'}}}",
    "Let both count the same, best the same series: `bad` with more labels than `total`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every objective on a query; one that cannot be read is told of elsewhere."""
    asked = [(name, slo) for name, slo in facts.spec.slos.items() if slo.query is not None]
    for name, slo in asked:
        try:
            units = slo.reading(name, shown(facts.spec).signals).units(name)
        except AgreementError:
            continue
        if units is not None and units[0] is not units[1]:
            every, failed = units
            what = f"slo `{name}` counts {every}, and {failed} as the bad ones among them"
            yield warning(CODE, ("slos", name, "query", "bad"), what, CODE.help)
