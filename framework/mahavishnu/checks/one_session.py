"""MV418: sessions of MCP that live in one process, where several answer."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing
from mahavishnu.spec import Spec

CODE = Code(
    "MV418",
    "sessions of MCP that other processes do not know",
    "A session lives in the memory of the process in which it began. Another worker or replica answers 404, and "
    "clients say `Session terminated`: with two processes half of all calls. No objective sees it, for a 404 is no "
    "failure of the service.",
    "service: {workers: 2}, and `app = mcp.http_app()`",
    "Make the app without sessions, by `stateless_http=True`, or run one worker in one replica. Several replicas of "
    "one worker do where a gateway sends each session, by its header `Mcp-Session-Id`, to the replica that began it. A "
    "Service of Kubernetes does not: it chooses a replica for each connection, and `sessionAffinity: ClientIP` keeps "
    "all that come through one proxy on one replica.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Where it serves them, as soon as more than one process may run."""
    paths, spec = facts.app.sessions if facts.app else (), facts.spec
    if not paths or spec.processes <= 1:
        return
    what = f"the sessions of {listing(paths)} live in one process, and {spec.processes} may run: the others answer 404"
    help = f"make the app without sessions, by `stateless_http=True`, or set {_one(spec)}"
    if spec.service.workers > 1:
        yield warning(CODE, ("service", "workers"), what, help)
    else:
        gateway = "; or let a gateway send each `Mcp-Session-Id` to one replica, which a Service of Kubernetes does not"
        yield warning(CODE, ("deploy", "replicas", "max"), what, help + gateway)


def _one(spec: Spec) -> str:
    """What to set for there to be one process."""
    workers = ["`service.workers: 1`"] if spec.service.workers > 1 else []
    return " and ".join([*workers, *(["`deploy.replicas.max: 1`"] if spec.deploy.replicas.max > 1 else [])])
