"""MV504: a query of the spec's own that cannot be read, asks for what is not there, or can never be answered."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.codes import Code
from mahavishnu.contract import doubts, shown
from mahavishnu.errors import Problem
from mahavishnu.policies.queried import Queried
from mahavishnu.policies.slo import Slo
from mahavishnu.queries.written import ParserMissing

CODE = Code(
    "MV504",
    "a query that cannot hold",
    "A query of your own is looked at like ours: every series, label and value in it must be one that this service "
    "shows, a rate must be that of a counter, and an alert must be seen to fire and to clear in its test.",
    'alerts: {thresholds: {busy: {query: "rate(mahavishnu_limit_decisons_total[5m]) > 3", severity: P3}}}',
    "Ask for what `/metrics` of the service shows. Queries are read by promql-parser: "
    "`pip install 'mahavishnu[promql]'`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every query of an objective or a threshold."""
    bare = shown(facts.spec)
    for path, name, policy in facts.spec.policies():
        asks = isinstance(policy, Queried) or (isinstance(policy, Slo) and policy.query is not None)
        if not asks:
            continue
        for fault in doubts(name, policy, bare):
            help = (
                CODE.help
                if isinstance(fault, ParserMissing)
                else "ask for what `/metrics` of the service shows"
            )
            yield error(CODE, (*path, "query"), str(fault), help)
            break
