"""MV303: a replica that is stopped before its last request may end."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV303",
    "less time to shut down than a request may take",
    "A replica that is told to stop first ends what it has begun. When it is killed earlier, "
    "requests that were "
    "within their deadline fail at every deployment.",
    "limits: {report: {timeout: 60s}}\ndeploy: {shutdown: 30s}",
    "Lengthen `deploy.shutdown`, or shorten the deadline.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The grace period against the longest deadline."""
    shutdown = facts.spec.deploy.shutdown
    for name, limit in facts.spec.deadlines.items():
        if limit.timeout > shutdown:
            what = (
                f"limit `{name}` gives a request {limit.timeout}, but a replica is stopped after {shutdown}"
            )
            yield error(
                CODE, ("limits", name, "timeout"), what, f"set `deploy.shutdown` above {limit.timeout}"
            )
