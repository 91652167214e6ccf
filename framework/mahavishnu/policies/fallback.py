"""What stands in for a dependency that fails: a fixed value, the last good answer, or a dead letter."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticKnownError

from mahavishnu.events import CALL_FAILED
from mahavishnu.ground.unfit import unfit
from mahavishnu.policy import Policy, camel
from mahavishnu.promql import total
from mahavishnu.series import DEPENDENCY_CALLS, DEPENDENCY_FALLBACKS
from mahavishnu.settings import Count, OneOf
from mahavishnu.signals import WINDOW, Alert, Feed, Severity
from mahavishnu.units import Duration, Size

_DEGRADED_RATIO = Decimal("0.05")
_WORDS: dict[str, dict[str, Any]] = {
    "dead_letter": {"dead_letter": True},
    "stale_cache": {"stale_cache": "1h"},
}


class Fallback(Policy):
    """What stands in for a call that may be repeated, once all its attempts have failed or were refused."""

    def alerts(self, name: str) -> tuple[Alert, ...]:
        fallbacks = DEPENDENCY_FALLBACKS.closed(dependency=name, fallback=self.keyword)
        calls = DEPENDENCY_CALLS.closed(dependency=name)
        degraded = total(fallbacks.rate(WINDOW, dependency=name, outcome="served"))
        answered = total(calls.rate(WINDOW, dependency=name, outcome="success"))
        return (
            Alert(
                name=f"Dependency{camel(name)}Degraded",
                severity=Severity.P3,
                expr=degraded / (degraded + answered) > _DEGRADED_RATIO,
                bad=degraded,
                hold=Duration.parse("10m"),
                summary=f"$value of what {name} is asked for is answered by its fallback ({self.keyword}).",
                unit="ratio",
                meaning=f"More than 5% of the calls to {name} that got an answer got a degraded one.",
                impact=self.impact,
                action=f"Find out why {name} fails: `{CALL_FAILED}` in the log of the service has the `reason`. See "
                "also its breaker, its failures by outcome, and its own log.",
                path=("dependencies", name, "fallback"),
                proof=(
                    Feed(
                        fallbacks.select(dependency=name, fallback=self.keyword, outcome="served"),
                        healthy=0,
                        faulty=300,
                    ),
                    Feed(calls.select(dependency=name, outcome="success"), healthy=600, faulty=300),
                ),
            ),
        )

    @property
    def impact(self) -> str:
        """What users notice of it."""
        raise NotImplementedError


def _json(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        what = "`static` takes what JSON can say: text, numbers, lists, mappings"
        raise unfit(what, "write it so, or use code: `@function.fallback`") from None
    return value


class Static(Fallback):
    """A fixed value in place of an answer."""

    keyword: ClassVar[str] = "static"

    static: Annotated[
        Any,
        AfterValidator(_json),
        Field(json_schema_extra={"type": ["string", "number", "boolean", "array", "object"]}),
    ]
    """What a decorated function returns, and what an httpx response holds as JSON."""

    @property
    def impact(self) -> str:
        return "Users get a fixed answer; every such response is marked."


class StaleCache(Fallback):
    """The last good answer to the same question: the same arguments, or the same request."""

    keyword: ClassVar[str] = "stale_cache"

    stale_cache: Duration
    """How old an answer may be that is still given."""
    entries: Count = 1000
    """How many answers are kept; the one that was used least lately goes first."""
    size: Size = Size.parse("16Mi")
    """How many bytes they may take together; responses that are still being read take as many again at the most."""

    @property
    def impact(self) -> str:
        return f"Users get answers up to {self.stale_cache} old; every such response is marked."


class DeadLetter(Fallback):
    """The call is kept and made again later; who calls is told so by the error Parked."""

    keyword: ClassVar[str] = "dead_letter"

    dead_letter: Literal[True]
    """The call becomes a dead letter, as `dead_letters` says; a POST only with the extension `idempotent`."""

    @property
    def impact(self) -> str:
        return "Nothing is lost: the calls are kept and made again. Until then their effect is missing."


def _worded(value: object) -> object:
    """`dead_letter` and `stale_cache` are words; what they stand for is a mapping."""
    if isinstance(value, str):
        if value not in _WORDS:
            raise PydanticKnownError("literal_error", {"expected": "'dead_letter' or 'stale_cache'"})
        return _WORDS[value]
    return value


_Word = Literal["dead_letter", "stale_cache"]
_Choice = OneOf(Static, StaleCache, DeadLetter)
AnyFallback = Annotated[
    _Word | Fallback,
    _Choice,
    BeforeValidator(_worded, json_schema_input_type=_Word | Annotated[Fallback, _Choice]),
    Field(examples=["dead_letter", "stale_cache"]),
]
