"""What policies that judge HTTP traffic share: matchers of a `Match`, the share of failures, buckets."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints

from mahavishnu.policy import Match
from mahavishnu.promql import Expr, Number, total
from mahavishnu.series import HTTP_DURATION
from mahavishnu.signals import Signal
from mahavishnu.units import Duration

FAILED = "5.."


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


BudgetHeader = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]+-)*timeout(-ms)?$", max_length=64),
    Field(examples=["grpc-timeout", "x-request-timeout-ms", "request-timeout"]),
]
"""A header that says how much time is left; its name tells its form, see `runtime.budget`."""
BudgetHeaders = Annotated[
    tuple[BudgetHeader, ...],
    Field(min_length=1, max_length=4),
    BeforeValidator(_listed, json_schema_input_type=BudgetHeader | list[BudgetHeader]),
]


def matchers(match: Match | None) -> dict[str, str]:
    """The label matchers that select the requests a policy applies to; `GET` covers HEAD."""
    found: dict[str, str] = {}
    if match is not None and match.path is not None:
        key = "http_route_re" if "*" in match.path else "http_route"
        found[key] = ".*".join(map(re.escape, match.path.split("*"))) if "*" in match.path else match.path
    if match is not None and match.method is not None:
        key = "http_request_method_re" if match.method == "GET" else "http_request_method"
        found[key] = "GET|HEAD" if match.method == "GET" else match.method
    return found


def sample(match: Match | None) -> dict[str, str]:
    """The labels of one series that those matchers select, for a proof."""
    path = match.path if match is not None and match.path is not None else "/"
    method = match.method if match is not None and match.method is not None else "GET"
    return {"http_request_method": method, "http_route": path.replace("*", "x")}


def error_ratio(window: Duration, where: dict[str, str]) -> Expr:
    """The share of requests answered with 5xx: 0 where none ever was, nothing at all without traffic."""
    requests = total(HTTP_DURATION.count_rate(window, **where))
    failed = total(HTTP_DURATION.count_rate(window, **where, http_response_status_code_re=FAILED))
    return failed.or_(Number(Decimal(0)) * requests) / (requests > 0)


def with_buckets(*bounds: Decimal) -> Signal:
    """The histogram of HTTP durations with further bucket boundaries, in seconds."""
    return replace(HTTP_DURATION, buckets=tuple(sorted({*HTTP_DURATION.buckets, *bounds})))
