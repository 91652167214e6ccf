"""MV222: a store that each replica has for itself."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.checks._loopback import HIDDEN, shown, unshared
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV222",
    "a store that each replica has for itself",
    "`localhost`, an address of loopback and a Unix socket lead to the container or pod that asks. There each replica "
    "finds a server of its own, or none, and counts alone: with 12 replicas a client gets twelve times the limit. "
    "Where each has a server, no alert ever tells of it.",
    "store: redis://localhost:6379\nlimits: {per_client: {rate: 300/minute}}\n"
    "deploy: {replicas: {max: 12}, targets: {kubernetes: {}}}",
    "Name a server that all replicas reach. Where a proxy beside each of them leads to one server, give the whole URL "
    "as a secret, `${REDIS_URL}`: what a secret says is not judged.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The store, where several replicas in containers should share it."""
    spec = facts.spec
    if meant := unshared(spec):
        who = f"each of up to {spec.deploy.replicas.max} replicas"
        what = f"{shown(spec.store)} leads {who} to itself: no two share {' and '.join(meant)}"
        help = f"name a server that all of them reach, like `redis://redis:6379`; {HIDDEN}"
        yield error(CODE, ("store",), what, help)
