"""MV604: a port of one host that two programs want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV604",
    "a port that what runs beside the service has already",
    "On Compose every program publishes its port on the one host: with `monitoring`, Prometheus has 9090, "
    "Alertmanager 9093 and Grafana 3000. The second that wants one of them does not start.",
    "service: {port: 3000}\ndeploy: {targets: {compose: {monitoring: true}}}",
    "Give the service another port, or set `deploy.targets.compose.monitoring: false`.",
)
TAKEN: Mapping[int, str] = {9090: "Prometheus", 9093: "Alertmanager", 3000: "Grafana"}


def check(facts: Facts) -> Iterator[Problem]:
    """The service's port against those of the programs beside it."""
    compose, port = facts.spec.deploy.targets.compose, facts.spec.service.port
    if compose is not None and compose.monitoring and port in TAKEN:
        what = f"the service listens on {port}, and so does {TAKEN[port]} beside it"
        yield error(CODE, ("service", "port"), what, f"take another port, like {port + 1}")
