"""MV708: an age of logs that nothing carries out."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.derived.forgetting import LEAST_LOKI, keepers
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV708",
    "an age of logs that nothing carries out",
    "Docker and the nodes of Kubernetes cut the files of a container by their size alone: the lines of a quiet service "
    "stay for years. Only what keeps the log can forget by age.",
    "retention: {logs: 30d}\ndeploy: {targets: {compose: {}}}",
    "Without a word, files do. Say what keeps the log, `observability: {logs: {kept_in: [journald, loki]}}`: journald "
    "where Compose runs, Loki, Elasticsearch or OpenSearch where a collector ships the lines of pods. Its file is then "
    "generated in `logs/`.",
)
_STORES = frozenset({"loki", "elasticsearch", "opensearch"})
_REACHED = {"compose": _STORES | {"journald"}, "kubernetes": _STORES}
_PLACE = ("observability", "logs", "kept_in")


def check(facts: Facts) -> Iterator[Problem]:
    """The places that keep the log against the age, and against each target."""
    limit, kept = facts.spec.retention.logs, facts.spec.observability.logs.kept_in
    if limit is None:
        if kept:
            what = f"{kept[0]} keeps the log, and nothing says how long"
            yield warning(CODE, _PLACE, what, "add `retention: {logs: 30d}`, or remove this")
    else:
        yield from _unreached(facts)
        if "loki" in kept and limit < LEAST_LOKI:
            what = f"in Loki a line lives a day, the least of its manual, and up to 5h until it is gone: not {limit}"
            yield error(
                CODE, ("retention", "logs"), what, f"set it to `{LEAST_LOKI}` or more, or keep it elsewhere"
            )


def _unreached(facts: Facts) -> Iterator[Problem]:
    """The targets whose lines reach none of the places."""
    kept = keepers(facts.spec)
    for target, places in _REACHED.items():
        if getattr(facts.spec.deploy.targets, target) is not None and places.isdisjoint(kept):
            what = f"what is logged on {target.capitalize()} is cut by size alone: it is not kept in {', '.join(kept)}"
            names = ", ".join(f"`{one}`" for one in sorted(places))
            yield warning(
                CODE, ("deploy", "targets", target), what, f"add one of {names} to `{'.'.join(_PLACE)}`"
            )
