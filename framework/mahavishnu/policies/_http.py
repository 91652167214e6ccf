"""What policies that judge HTTP traffic share: the share of failures, and the buckets of durations."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from mahavishnu.promql import Expr, Number, total
from mahavishnu.series import HTTP_DURATION
from mahavishnu.signals import Signal
from mahavishnu.units import Duration

FAILED = "5.."


def error_ratio(window: Duration) -> Expr:
    """The share of requests answered with 5xx: 0 where none ever was, nothing at all without traffic."""
    requests = total(HTTP_DURATION.count_rate(window))
    return errors(window).or_(Number(Decimal(0)) * requests) / (requests > 0)


def errors(window: Duration) -> Expr:
    """Requests a second that are answered with 5xx: nothing at all where none ever was."""
    return total(HTTP_DURATION.count_rate(window, http_response_status_code_re=FAILED))


def with_buckets(*bounds: Decimal) -> Signal:
    """The histogram of HTTP durations with further bucket boundaries, in seconds."""
    return replace(HTTP_DURATION, buckets=tuple(sorted({*HTTP_DURATION.buckets, *bounds})))
