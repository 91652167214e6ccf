"""What policies that judge HTTP traffic share: headers of its time, the share of failures, buckets."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints

from mahavishnu.promql import Expr, Number, total
from mahavishnu.series import HTTP_DURATION
from mahavishnu.settings import listed
from mahavishnu.signals import Signal
from mahavishnu.units import Duration

FAILED = "5.."


BudgetHeader = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]+-)*timeout(-ms)?$", max_length=64),
    Field(examples=["grpc-timeout", "x-request-timeout-ms", "request-timeout"]),
]
"""A header that says how much time is left; its name tells its form, see `runtime.budget`."""
BudgetHeaders = Annotated[
    tuple[BudgetHeader, ...],
    Field(min_length=1, max_length=4),
    BeforeValidator(listed, json_schema_input_type=BudgetHeader | list[BudgetHeader]),
]


def error_ratio(window: Duration) -> Expr:
    """The share of requests answered with 5xx: 0 where none ever was, nothing at all without traffic."""
    requests = total(HTTP_DURATION.count_rate(window))
    failed = total(HTTP_DURATION.count_rate(window, http_response_status_code_re=FAILED))
    return failed.or_(Number(Decimal(0)) * requests) / (requests > 0)


def with_buckets(*bounds: Decimal) -> Signal:
    """The histogram of HTTP durations with further bucket boundaries, in seconds."""
    return replace(HTTP_DURATION, buckets=tuple(sorted({*HTTP_DURATION.buckets, *bounds})))
