"""The exposition is what prometheus_client would write, at a fraction of the time in which nobody else is served."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import utils
from prometheus_client.exposition import choose_encoder

from mahavishnu.contract import contract
from mahavishnu.runtime.telemetry.cells import Exemplar
from mahavishnu.runtime.telemetry.exposition import _number  # pyright: ignore[reportPrivateUsage]
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.series import HTTP_DURATION, LIMIT_DECISIONS, METHODS
from tests.figures import cheapest, figure
from tests.hostile import HOSTILE
from tests.runtime.asgi_client import spec_of

ACCEPTS = (
    "",
    "text/plain;version=0.0.4",
    "text/plain; version=1.0.0; escaping=allow-utf-8",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3",
    "application/openmetrics-text; version=1.0.0; escaping=underscores",
    "application/openmetrics-text; version=1.0.0; escaping=dots",
    "text/plain; version=1.0.0; escaping=values",
)
SPEC = spec_of(limits={f"limit_{number}": {"rate": "5/minute"} for number in range(5)})


def counted(routes: int, statuses: int, dice: random.Random) -> Metrics:
    """What an app with so many routes and statuses has to show, under names that break careless writers."""
    metrics = Metrics(contract(SPEC).signals)
    for route in range(routes):
        for status in range(statuses):
            labels = {
                "http_request_method": METHODS[route % 4],
                "http_route": f"/{route}/{HOSTILE[route % 64]}",
                "http_response_status_code": str(200 + status),
            }
            cell = metrics.histogram(HTTP_DURATION, **labels)
            cell.observe(dice.expovariate(9), dice.choice((1, 7, 999_999, 10**6, 123_456_789, 10**17)))
            if dice.random() < 0.3:
                cell.exemplify(Exemplar(dice.random(), f"{dice.getrandbits(128):032x}", "ab" * 8, 1.7e9))
    for number in range(5):
        cells = (
            metrics.counter(LIMIT_DECISIONS, limit=f"limit_{number}", outcome=one) for one in ("allowed",)
        )
        for one in cells:
            one.inc(dice.choice((0, 1, 10**6, 2**53, 1e300)))
    return metrics


def theirs(metrics: Metrics, accept: str) -> bytes:
    """What prometheus_client makes of the same."""
    encode, _ = choose_encoder(accept)
    return encode(metrics._registry)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("accept", ACCEPTS)
def test_it_is_what_prometheus_client_writes(accept: str) -> None:
    """Byte for byte, in each form that can be asked for, with hostile names, large numbers and exemplars."""
    metrics = counted(64, 3, random.Random("exposition"))
    ours, content_type = metrics.expose(accept)
    assert content_type == choose_encoder(accept)[1]
    assert ours.decode().splitlines() == theirs(metrics, accept).decode().splitlines()
    assert len(ours) > 100_000


@given(st.floats() | st.integers(-(2**60), 2**60).map(float))
@example(999_999.0)
@example(1_000_000.0)
@example(1_234_567.25)
@example(1e16)
def test_numbers_are_written_as_go_does(value: float) -> None:
    """Those that are none too."""
    assert _number(value) == cast("Any", utils).floatToGoString(value)


@pytest.mark.proof
def test_a_scrape_holds_nobody_up() -> None:
    """Of an app with forty routes and ten statuses each: against prometheus_client, and a writer that knows all."""
    metrics = counted(40 * 4, 10, random.Random("scrape"))
    accept = ACCEPTS[4]  # Prometheus'
    written = [
        (line, float(place)) for place, line in enumerate(metrics.expose(accept)[0].decode().splitlines())
    ]

    ours, others, bound = cheapest(
        lambda: metrics.expose(accept),
        lambda: theirs(metrics, accept),
        lambda: "".join([f"{line} {value!r}\n" for line, value in written]).encode(),
        rounds=7,
    )
    figure(
        f"a scrape of {metrics.series():,} series: prometheus_client / ours", "> 3", f"{others / ours:.1f}"
    )
    figure("… ours / lines that are there, each with a number", "< 8", f"{ours / bound:.1f}")
    assert others / ours > 3
    assert ours / bound < 8
