"""MV223: an address that leads a container back to itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.checks._loopback import HIDDEN, shown, unshared
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.addresses import leads_back
from mahavishnu.ground.codes import Code
from mahavishnu.notify import Email, Webhook
from mahavishnu.spec import Spec
from mahavishnu.targets import Compose

CODE = Code(
    "MV223",
    "an address that leads a container back to itself",
    "On the author's machine `localhost` reaches all that runs there. In a container or a pod it reaches that one "
    "alone, and what is generated starts nothing else in it: every connection is refused.",
    "dependencies: {pay: {url: http://localhost:9000}}\ndeploy: {targets: {compose: {}}}",
    "Write a name or an address by which containers reach it: of a service in the cluster or the Compose project, or "
    "`host.docker.internal` where your Docker has that for the host. What only your own machine reaches belongs under "
    "`environments`, with `deploy: {targets: null}`.",
)
_REACHED = "write a name or an address by which containers reach it"
_SIDECAR = f"{_REACHED}; where a sidecar of yours is meant, leave `url` out and name it in the code"
_SERVER = f"name what it reaches, like `redis://redis:6379`; {HIDDEN}"


class Asked(NamedTuple):
    """An address, who asks it, and what to do where it is the wrong one."""

    path: Path
    url: str
    help: str
    who: str = "the service"


def check(facts: Facts) -> Iterator[Problem]:
    """Every address that is asked from a container."""
    compose = facts.spec.deploy.targets.compose
    inside = "pod" if compose is None else "container"
    for one in (*_of_any(facts.spec), *(_of_compose(facts.spec, compose) if compose else ())):
        if leads_back(one.url):
            what = f"{shown(one.url)} leads {one.who} to its own {inside}, in which it is alone"
            yield warning(CODE, one.path, what, one.help)


def _of_any(spec: Spec) -> Iterator[Asked]:
    """What the service asks from wherever it is put."""
    if not spec.deploy.targets.any:
        return
    if not unshared(spec):
        yield Asked(("store",), spec.store, _SERVER)
    if spec.parking:
        yield Asked(("dead_letters", "store"), spec.dead_letters.store, _SERVER)
    for name, one in spec.dependencies.items():
        yield Asked(("dependencies", name, "url"), one.url or "", _SIDECAR)


def _of_compose(spec: Spec, target: Compose) -> Iterator[Asked]:
    """What is asked in vain there alone: in a cluster a collector may be injected, and Alertmanager is one's own."""
    shown = spec.observability
    yield Asked(("observability", "metrics", "otlp"), shown.metrics.otlp or "", _REACHED)
    yield Asked(("observability", "traces", "otlp"), (shown.traces and shown.traces.otlp) or "", _REACHED)
    for name, one in spec.channels.items() if target.monitoring else ():
        if isinstance(one, Webhook):
            yield Asked(("channels", name, "webhook"), one.webhook, _REACHED, "Alertmanager")
        elif isinstance(one, Email):
            yield Asked(("channels", name, "smtp"), f"smtp://{one.smtp}", _REACHED, "Alertmanager")
