"""The agreement proof can fail: each way in which a query may miss the process, one at a time, is found."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from mahavishnu.agreement.proof import agreement
from mahavishnu.artifact import Artifact, Query
from mahavishnu.compile import CompileError, compile
from mahavishnu.contract import Contract
from mahavishnu.queries.written import QueryError, read
from tests.generators.test_prometheus import EVERYTHING, QUERIED
from tests.monitoring import MINIMAL, artifacts, made, shop, texts
from tests.reading import read as yaml

CONTRACTS = {"everything": made(EVERYTHING), "queried": made(QUERIED), "shop": shop()}
OF = CONTRACTS["everything"]


@pytest.mark.parametrize("of", CONTRACTS.values(), ids=CONTRACTS)
def test_what_is_written_is_what_was_looked_at(of: Contract) -> None:
    """An independent parser reads every query of the file back, to the very tree that was resolved."""
    groups = yaml(texts(of)["prometheus/rules.yml"])["groups"]
    written = [rule["expr"] for group in groups for rule in group["rules"]]
    queries = [query.expr for one in artifacts(of) for query in one.queries]
    assert sorted(written) == sorted(str(one) for one in queries)
    for text in written:
        assert str(read(text, of.signals, of.job)) == text


BROKEN = {
    "series": ('sum(rate(mahavishnu_retry_total{job="my_shop"}[5m])) > 1', "no such series"),
    "part": ('rate(http_server_request_duration_seconds{job="my_shop"}[5m])', "no such series|is no part"),
    "label": ('mahavishnu_limit_quota{job="my_shop",limti="reports"}', "has no label limti"),
    "value": ('mahavishnu_limit_quota{job="my_shop",limit="report"}', "never has the value report"),
    "choice": (
        'rate(mahavishnu_limit_decisions_total{job="my_shop",outcome=~"refused|denied"}[5m])',
        "never has the value denied",
    ),
    "job": ('mahavishnu_limit_quota{job="myshop"}', "the job is my_shop"),
    "nobody's": ("mahavishnu_limit_quota", "every job"),
    "boundary": (
        'rate(http_server_request_duration_seconds_bucket{job="my_shop",le="0.31"}[5m])',
        "no bucket boundary",
    ),
    "rate of a gauge": ('rate(mahavishnu_limit_quota{job="my_shop"}[5m])', "is a gauge"),
    "level of a counter": (
        'max_over_time(mahavishnu_limit_decisions_total{job="my_shop"}[5m])',
        "is a counter",
    ),
    "group": ('sum by (route) (mahavishnu_limit_quota{job="my_shop"})', "has no label route"),
    "quantile without le": (
        'histogram_quantile(0.9, sum(rate(http_server_request_duration_seconds_bucket{job="my_shop"}[5m])))',
        "needs the label le",
    ),
    "quantile of a count": (
        'histogram_quantile(0.9, rate(http_server_request_duration_seconds_count{job="my_shop"}[5m]))',
        "needs every bucket",
    ),
    "quantile beyond 1": (
        (
            "histogram_quantile(95, sum by (le) "
            '(rate(http_server_request_duration_seconds_bucket{job="my_shop"}[5m])))'
        ),
        "is no quantile",
    ),
    "threshold between boundaries": (
        (
            "histogram_quantile(0.9, sum by (le) "
            '(rate(http_server_request_duration_seconds_bucket{job="my_shop"}[5m]))) > 0.81'
        ),
        "0.81 is no bucket boundary",
    ),
    "function": ('sgn(mahavishnu_limit_quota{job="my_shop"})', "no proof knows the function sgn"),
    "other service": (
        'slo:error_budget:remaining_ratio{service="shop",slo="latency"}',
        "the service is my_shop",
    ),
    "other slo": (
        'slo:error_budget:remaining_ratio{service="my_shop",slo="latencies"}',
        "never has the value",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_query_that_misses_is_found_by_name(case: str) -> None:
    """What a checker of syntax accepts, and no alert would ever fire on."""
    text, says = BROKEN[case]
    with pytest.raises(QueryError) as refused:
        read(text, OF.signals, OF.job)
    assert any(one in str(refused.value) for one in says.split("|")), refused.value


def test_a_whole_compilation_refuses_what_does_not_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written: a generator of anybody's that asks for a series of nobody's stops it, with its name."""
    from importlib import import_module

    generators: Any = import_module("mahavishnu.generators")
    limits = read("mahavishnu_limit_quota", OF.signals)
    panel = Artifact("x.json", "{}", (Query("panels", "Quotas", limits),))

    class Wrong:
        @staticmethod
        def generate(contract: Contract) -> tuple[Artifact, ...]:
            return (panel,)

    found = generators.discover()
    monkeypatch.setattr(generators, "discover", lambda: {**found, "wrong": Wrong})
    with pytest.raises(CompileError, match=r"panels Quotas: .*every job"):
        compile(OF)


def test_the_counts_are_those_of_things_and_not_of_queries() -> None:
    """A panel with two queries agrees when both do; what is wrong is told with its name."""
    good = read('mahavishnu_limit_quota{job="my_shop"}', OF.signals, OF.job)
    bad = read("mahavishnu_limit_quota", OF.signals)
    queries = tuple(
        Query("panels", name, expr) for name, expr in (("A", good), ("A", good), ("B", good), ("B", bad))
    )
    found = agreement(OF, [*artifacts(OF), Artifact("x", "", queries)])
    assert found.kinds["panels"] == (1, 2)
    assert found.kinds["alerts"] == (len(OF.alerts), len(OF.alerts))
    assert [one.split(":")[0] for one in found.faults] == ["panels B"]


def test_a_series_that_nothing_asks_for_is_found_unless_it_is_waived() -> None:
    """The other way round: take a waiver away, and the file that asked."""
    of = made(MINIMAL)
    shown, asked, waived = agreement(of, artifacts(of)).series
    assert shown == asked + waived
    bare = {name: replace(one, waived="") for name, one in of.signals.items()}
    idle = agreement(replace(of, signals=bare), artifacts(of)).faults
    assert len(idle) == waived
    assert any("http_server_active_requests is shown, and no rule asks" in one for one in idle)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rate(up", "this is no query"),
        ("up offset 5m", "cannot be proved"),
        ("up[5m:1m]", "a subquery cannot be proved"),
        ("-up", "a sign cannot be proved"),
        ("topk(3, up)", "`topk` cannot be proved"),
        ("sum without (job) (up)", "`without` cannot be proved"),
        ("up and on(job) up", "`on`, `ignoring`"),
        ("up > Inf", "`inf` cannot be proved"),
        ('{job="x"}', "names no series"),
        ("up[5m]", "a range of values"),
        ("rate(mahavishnu_limit_decisions_total[15s])", "`rate` over 15s: Prometheus looks every 15s"),
        ("increase(mahavishnu_limit_decisions_total[119s])", "write 2m or more"),
        ("up % 7", "`%` cannot be proved"),
        ("up ^ 2 > 9", "`^` cannot be proved"),
        ("up atan2 up", "`atan2` cannot be proved"),
        (r'up{job=~"c\\z"}', "cannot be proved"),
        (r'up{job=~"\\pL"}', "cannot be proved"),
        ('up{job=~"(?U)c+"}', "cannot be proved"),
        ('up{job!~"c|(?i)D"}', "cannot be proved"),
        ('up{job=~"[[:alpha:]]+"}', "cannot be proved"),
        ("mahavishnu_limit_decisions_total > 100", "`increase(mahavishnu_limit_decisions_total[5m])`"),
        ("sum by (limit) (mahavishnu_limit_decisions_total) > 5", "all that it has counted"),
        ('http_server_request_duration_seconds_bucket{le="0.5"} > 5', "all that it has counted"),
        ("http_server_request_duration_seconds_sum > 5", "all that it has counted"),
        ("changes(mahavishnu_limit_decisions_total[5m]) > 2", "is a counter"),
        ("mad_over_time(process_start_time_seconds[5m]) > 2", "no proof knows the function mad_over_time"),
    ],
)
def test_what_cannot_be_proved_is_refused_by_name(text: str, says: str) -> None:
    """A test must be derived from it: what the arithmetic does not know is no query of a spec."""
    with pytest.raises(QueryError, match=f"(?i){re.escape(says)}"):
        read(text, OF.signals)


def test_without_the_parser_nothing_is_said_of_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that says how to get it: never a query that nobody has looked at."""
    import sys

    monkeypatch.setitem(sys.modules, "promql_parser", None)
    with pytest.raises(QueryError, match=r"pip install 'mahavishnu\[promql\]'"):
        made(QUERIED)
    assert made(MINIMAL).alerts  # who writes no query needs no parser


def test_numbers_of_a_query_are_exact() -> None:
    """No float leaks into a rule."""
    assert str(read("up > 0.1", OF.signals)) == "up > 0.1"
    assert str(read("up * 1e-7", OF.signals)) == f"up * {Decimal('0.0000001'):f}"
