"""MV606: series that everybody reads."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV606",
    "a published port that shows the series to everybody",
    "Whoever reaches the process itself, and not through a proxy, is told its series: routes, limits, what it calls, "
    "and how much of it all. On Compose that is whoever reaches the port.",
    "deploy: {targets: {compose: {}}}",
    "Publish the port to the host alone, and let a proxy there serve it; or say that everybody is meant.",
)
_PATH: Path = ("deploy", "targets", "compose", "publish")


def check(facts: Facts) -> Iterator[Problem]:
    """A port for everybody of which nobody has said so."""
    compose, shown = facts.spec.deploy.targets.compose, facts.spec.observability.metrics.path
    if compose is not None and "publish" not in compose.model_fields_set:
        what = f"the port is published to everybody, and whoever reaches it reads all series at `{shown}`"
        help = "set `publish: host`, and let a proxy on the host serve the port; or `publish: all`, if that is meant"
        yield warning(CODE, _PATH, what, help)
