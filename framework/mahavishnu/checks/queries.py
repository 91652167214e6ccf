"""MV504: a query of the spec's own that cannot be read, asks for what is not there, or can never be answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mahavishnu.checks._facts import Facts, Routes, error
from mahavishnu.contract import Contract, doubts, shown
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.queried import Queried
from mahavishnu.policies.slo import Slo
from mahavishnu.queries.written import QueryError
from mahavishnu.series import HTTP_DURATION, UNMATCHED

CODE = Code(
    "MV504",
    "a query that cannot hold",
    "A query of your own is looked at like ours: every series, label and value in it must be one that this service "
    "shows, a rate must be that of a counter, an age the time since a point in time, and an alert must be seen to fire "
    "and to clear in its test.",
    'alerts: {thresholds: {busy: {query: "rate(mahavishnu_limit_decisons_total[5m]) > 3", severity: P3}}}',
    "Ask for what `/metrics` of the service shows. Queries are read by promql-parser: "
    "`pip install 'mahavishnu[promql]'`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every query of an objective or a threshold."""
    bare = _with_routes(shown(facts.spec), facts.routes)
    for path, name, policy in facts.spec.policies():
        asks = isinstance(policy, Queried) or (isinstance(policy, Slo) and policy.query is not None)
        if not asks:
            continue
        for fault in doubts(name, policy, bare):
            help = fault.help if isinstance(fault, QueryError) else QueryError.help
            yield error(CODE, (*path, "query"), str(fault), help)
            break


def _with_routes(bare: Contract, routes: Routes | None) -> Contract:
    """The same series; of requests only on the app's own routes, where those are known."""
    if routes is None:
        return bare
    templates = sorted({template for template, _ in routes})
    requests = bare.signals[HTTP_DURATION.name].closed(http_route=(*templates, UNMATCHED))
    return replace(bare, signals={**bare.signals, requests.name: requests})
