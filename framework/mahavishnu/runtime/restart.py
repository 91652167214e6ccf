"""What of a spec cannot change while the process runs."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import RESTART
from mahavishnu.loading.shape import dotted
from mahavishnu.spec import Spec

_SERVICE = ("name", "app", "app_dir", "port", "workers", "head_timeout")


def needed(old: Spec, new: Spec) -> Iterator[Problem]:
    """A problem for each change that only a restart can bring: what was handed on when the process started."""
    for key in _SERVICE:
        if getattr(old.service, key) != getattr(new.service, key):
            yield _problem(("service", key))
    if old.environment != new.environment:
        yield _problem(("environment",))
    if old.observability.metrics.otlp != new.observability.metrics.otlp:
        yield _problem(("observability", "metrics", "otlp"))
    if _collector(old) != _collector(new):
        yield _problem(("observability", "traces", "otlp"))
    if old.store != new.store:
        yield _problem(("store",))
    if old.dead_letters.store != new.dead_letters.store:
        yield _problem(("dead_letters", "store"))
    for name, dependency in new.dependencies.items():
        if name in old.dependencies and old.dependencies[name].url != dependency.url:
            yield _problem(("dependencies", name, "url"))


def _collector(spec: Spec) -> str | None:
    traces = spec.observability.traces
    return None if traces is None else traces.otlp


def _problem(path: Path) -> Problem:
    return Problem(RESTART.id, path, f"`{dotted(path)}` cannot change while the process runs", RESTART.help)
