"""What a spec promises agrees with itself, and a contract that does not is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from mahavishnu.contract import Contract, agree, contract
from mahavishnu.promql import Matcher, Selector
from mahavishnu.series import HTTP_DURATION, LIMIT_DECISIONS
from mahavishnu.signals import AgreementError, Kind, Signal
from mahavishnu.spec import Spec, spec_hash
from tests.runtime.asgi_client import spec_of

SAID: dict[str, Any] = {
    "mahavishnu": 1,
    "service": {"name": "shop", "app": "shop.main:app"},
    "limits": {"per_client": {"rate": "300/minute"}, "whole": {"concurrency": 4}},
    "slos": {"latency": {"objective": "95%", "under": "1500ms"}},
}


@pytest.fixture
def made() -> Contract:
    return contract(Spec.model_validate(SAID))


def test_labels_are_closed_over_the_spec(made: Contract) -> None:
    """The label of a limit can only be one of the spec's limits."""
    assert made.signals[LIMIT_DECISIONS.name].label("limit").values == ("per_client", "whole")


def test_an_slo_brings_its_boundary(made: Contract) -> None:
    """The threshold of a latency objective is a bucket of the histogram that the runtime fills."""
    assert Decimal("1.5") in made.signals[HTTP_DURATION.name].buckets


def asks(made: Contract, selector: Selector) -> Contract:
    """The contract, with an alert that asks for something else."""
    return replace(made, alerts=(replace(made.alerts[0], expr=selector), *made.alerts[1:]))


@pytest.mark.parametrize(
    "selector",
    [
        Selector(Signal("mahavishnu_limit_decision_total", Kind.COUNTER, "Misspelt.")),
        Selector(LIMIT_DECISIONS, matchers=(Matcher("limit", "=", "per_clent"),)),
        Selector(LIMIT_DECISIONS, matchers=(Matcher("outcome", "=", "denied"),)),
        Selector(LIMIT_DECISIONS, matchers=(Matcher("lmit", "=", "whole"),)),
        Selector(HTTP_DURATION, "_bucket", (Matcher("le", "=", "1.75"),)),
    ],
)
def test_a_broken_reference_is_refused(made: Contract, selector: Selector) -> None:
    """Series, label, value and boundary, each broken once; the unbroken contract passes."""
    agree(made)
    with pytest.raises(AgreementError):
        agree(asks(made, selector))


def test_a_query_is_judged_anew_by_each_contract(made: Contract) -> None:
    """What was found of it once is remembered of that contract, and of that query, alone."""
    other = contract(Spec.model_validate({**SAID, "limits": {"whole": {"concurrency": 4}}}))
    asks_for, alike = (
        Selector(LIMIT_DECISIONS, matchers=(Matcher("job", "=", "shop"), Matcher("limit", "=", name)))
        for name in ("per_client", "whole")
    )
    for _ in range(2):
        assert made.faults(asks_for) == made.faults(alike) == other.faults(alike) == ()
        assert len(other.faults(asks_for)) == 1


def test_what_a_query_rests_on_is_found_for_each_contract(made: Contract) -> None:
    """A recorded series is resolved by the rules of the contract that is asked."""
    burn = next(one for one in made.alerts if "Burn" in one.name)
    bare = replace(made, recordings=())
    for _ in range(2):
        assert made.bases(burn.expr) == tuple(made.recorded.bases(burn.expr)) != ()
        assert bare.bases(burn.expr) == ()


def test_what_is_off_promises_nothing() -> None:
    """A limit that is off shows no series and raises no alert."""
    off = {**SAID, "limits": {"per_client": {"rate": "300/minute", "mode": "off"}}}
    made = contract(Spec.model_validate(off))
    assert not [one for one in made.alerts if "PerClient" in one.name]


@pytest.mark.parametrize(("policy", "word"), [("breaker", "breaker"), ("throttle", "throttl")])
def test_what_is_off_of_a_dependency_promises_nothing(policy: str, word: str) -> None:
    """Whatever the policy itself would say; at work it is both."""

    def of_its_own(mode: str) -> list[list[str]]:
        made = contract(spec_of(dependencies={"stripe": {policy: {"mode": mode}}}))
        raised = [one.name for one in made.alerts]
        return [[name for name in names if word in name.lower()] for names in (made.signals, raised)]

    assert of_its_own("off") == [[], []]
    assert all(of_its_own("enforce"))


def test_the_hash_is_of_what_is_said() -> None:
    """Another number is another hash; another spelling of the same number is not."""
    spelt = {**SAID, "limits": {**SAID["limits"], "per_client": {"rate": "300/m"}}}
    other = {**SAID, "limits": {**SAID["limits"], "per_client": {"rate": "301/minute"}}}
    said, same, different = (spec_hash(Spec.model_validate(one)) for one in (SAID, spelt, other))
    assert said == same != different
