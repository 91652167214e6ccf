"""Conditions: what may be said, what each refusal says, and what each becomes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from mahavishnu.policies.threshold import Condition, Threshold
from mahavishnu.units import Duration
from tests.monitoring import MINIMAL, made, texts
from tests.strategies import specs


def threshold(when: object, **said: Any) -> Threshold:
    return Threshold.model_validate({"when": when, "severity": "P2", **said})


def refusal(when: object, **said: Any) -> tuple[str, dict[str, Any]]:
    """The type and the context of the only error."""
    with pytest.raises(ValidationError) as caught:
        threshold(when, **said)
    (error,) = caught.value.errors()
    return error["type"], error.get("ctx", {})


@pytest.mark.parametrize(
    ("text", "section", "name", "aspect"),
    [
        ("memory > 90%", None, None, "memory"),
        ("memory >= 400Mi", None, None, "memory"),
        ("latency.p95 > 800ms", None, None, "p95"),
        ("limits.per_client.refused > 5%", "limits", "per_client", "refused"),
        ("limits.reports.utilisation < 10%", "limits", "reports", "utilisation"),
        ("dependencies.stripe.slow > 20%", "dependencies", "stripe", "slow"),
        ("queue.reports > 10", "limits", "reports", "queue"),
    ],
)
def test_a_condition_says_what_it_refers_to(
    text: str, section: str | None, name: str | None, aspect: str
) -> None:
    """So that a check can ask whether it is there; and it prints as it was written."""
    when = threshold(text).when
    assert (when.section, when.name, when.aspect, str(when)) == (section, name, aspect, text)


@pytest.mark.parametrize(
    ("text", "what", "help"),
    [
        ("memory>90", "`90` is not a percentage", "`memory > 90%`"),
        ("memry > 90%", "`memry` is nothing that can be measured", "did you mean `memory`?"),
        ("limits.a.refusd > 5%", "`limits.a.refusd` is nothing", "did you mean `limits.a.refused`?"),
        ("latency.p95 > 2", "`2` is not a duration", "`latency.p95 > 2s`"),
        ("cpu > 400Mi", "`400Mi` is not a percentage", "cpu > "),
        ("queue.a > 5%", "`5%` is not a count", "queue.a > "),
        ("memory > 100%", "never true", "memory > 90%"),
        ("cpu <= 100%", "always true", "cpu > "),
        ("queue.a >= 0", "always true", "queue.a > "),
        ("queue.a < 0", "never true", "queue.a > "),
        ("memory < 90%", "`memory < 90%` is true whenever all is well", "write it like `memory > 90%`, or"),
        ("limits.a.utilisation <= 70%", "whenever all is well", "`limits.a.utilisation > 70%`, or"),
        ("limits.a.refused < 1%", "whenever all is well", "`limits.a.refused > 1%`, or"),
        ("latency.p99 < 500ms", "whenever all is well", "`latency.p99 > 500ms`, or as a `query`"),
        ("queue.a <= 5", "whenever all is well", "`queue.a > 5`, or"),
        ("backups.a.age < 1d6h", "whenever all is well", "`backups.a.age > 1d6h`, or"),
        ("memory > 150%", "out of range", "memory > 90%"),
        ("error_rate > 120%", "out of range", "error_rate > 5%"),
        ("latency.p99 > 0s", "out of range", "latency.p99 > "),
        ("cpu > 85 %", "is not a condition", "cpu > 85%"),
        ("memory", "is not a condition", "memory > "),
        (90, "`90` is not a condition", "memory > 90%"),
        (None, "an empty value is not a condition", "memory > 90%"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_write(text: object, what: str, help: str) -> None:
    """Never pydantic's words; and what the help proposes is accepted."""
    kind, context = refusal(text)
    assert kind == "policy"
    assert what in context["what"]
    assert help in context["help"]
    for proposed in re.findall(r"write it like `([^`]*)`", context["help"]):
        assert str(threshold(proposed).when) == proposed


def test_an_alert_does_not_wait_longer_than_a_week() -> None:
    """Its proof would not end, and nobody would be told in time."""
    assert refusal("memory > 90%", **{"for": "8d"})[0] == "policy"
    assert threshold("memory > 90%", **{"for": "7d"}).hold == Duration.parse("7d")


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    """Every example, and nothing that is plainly wrong."""
    schema: dict[str, Any] = TypeAdapter(Condition).json_schema()
    examples: list[str] = schema["examples"]
    assert all(re.search(schema["pattern"], example) for example in examples)
    assert [str(threshold(example).when) for example in examples] == examples
    assert re.search(schema["pattern"], "  memory>90% ")
    assert not any(
        re.search(schema["pattern"], wrong) for wrong in ("memry > 9%", "queue.A > 1", "memory 90%")
    )


@pytest.mark.proof
@given(specs())
def test_every_random_condition_is_in_the_schema(spec: dict[str, Any]) -> None:
    """The pattern an editor checks is no stricter than the parser."""
    pattern = TypeAdapter(Condition).json_schema()["pattern"]
    for one in spec["alerts"].get("thresholds", {}).values():
        assert re.search(pattern, one["when"])
        assert str(threshold(one["when"]).when) == one["when"]


def test_the_bound_of_a_latency_and_one_above_it_become_buckets() -> None:
    """A quantile in the last bucket could not be told from its boundary, and the alert could never fire."""
    spec = {**MINIMAL, "alerts": {"thresholds": {"slow": {"when": "latency.p99 > 25s", "severity": "P3"}}}}
    buckets = made(spec).signals["http_server_request_duration_seconds"].buckets
    assert {25, 50} <= set(buckets)


@pytest.mark.parametrize(
    ("when", "bad"),
    [
        ("error_rate > 5%", True),
        ("latency.p95 > 800ms", True),
        ("cpu > 85%", False),
        ("memory > 90%", False),
    ],
)
def test_a_share_of_requests_waits_for_more_than_a_handful(when: str, bad: bool) -> None:
    """And what is used of what there is does not."""
    (alert,) = threshold(when).alerts("a")
    assert (alert.bad is not None) is bad


@pytest.mark.parametrize("when", ["error_rate > 0.001%", "latency.p99 > 800ms"])
def test_however_small_a_share_is_its_proof_has_more_than_a_handful(when: str) -> None:
    """Else their number would decide, and the generated tests would not notice another share."""
    of = made({**MINIMAL, "alerts": {"thresholds": {"a": {"when": when, "severity": "P3"}}}})
    assert "ShopThresholdA" in texts(of)["prometheus/rules.slow.test.yml"]
