"""Which deadlines come before the timeout of what their requests may call."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu.derived.hangs import unseen_hangs
from tests.runtime.asgi_client import spec_of

SHORT = {"timeout": "500ms", "match": {"path": "/search"}}
BREAKER = {"min_calls": 5}


def said(limit: dict[str, Any], **dependencies: Any) -> list[str]:
    """Of these dependencies, where other requests have ten seconds."""
    limits = {"all": {"timeout": "10s"}, "short": limit}
    return [*unseen_hangs(spec_of(limits=limits, dependencies=dependencies))]


def test_a_deadline_that_comes_first_is_told() -> None:
    """In one sentence for all that it is shorter than: what is kept to answer in is no time for a call."""
    found = said(
        SHORT,
        a={"timeout": "1s", "breaker": BREAKER},
        b={"timeout": "490ms", "breaker": BREAKER},
        c={"timeout": "489ms", "breaker": BREAKER},
    )
    (line,) = found
    assert line.startswith(
        "where requests of limit `short` call `a` (timeout 1s) or `b` (timeout 490ms), no breaker"
    )
    assert line.endswith(" sees a call that hangs: they end after 500ms")


@pytest.mark.parametrize(
    "dependency",
    [{"timeout": "1s"}, {"timeout": "1s", "breaker": {"mode": "closed"}}, {"breaker": BREAKER}],
)
def test_what_has_no_breaker_or_no_time_of_its_own_is_not_told(dependency: dict[str, Any]) -> None:
    """No breaker would see it anyhow."""
    assert said(SHORT, a=dependency) == []


def test_a_deadline_that_ends_nobody_is_not_told() -> None:
    """It is only observed."""
    assert said({**SHORT, "mode": "observe"}, a={"timeout": "1s", "breaker": BREAKER}) == []
