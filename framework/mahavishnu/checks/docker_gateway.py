"""MV213: clients that Docker itself makes look like a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV213",
    "a published port whose clients may arrive from a trusted network",
    "Docker hands on connections to a published port from the gateway of its own network where it cannot do so "
    "by routes: over IPv6, rootless, from the host. If that network is trusted, those clients choose their "
    "address.",
    "service: {trusted_proxies: [172.16.0.0/12]}\ndeploy: {targets: {compose: {}}}",
    "Publish the port to the host alone and let the proxy there serve it, or trust only the proxy's own address.",
)
# What Docker takes the networks of its bridges from, unless it is told otherwise.
_POOLS = (ip_network("172.17.0.0/16"), ip_network("172.18.0.0/15"), ip_network("172.20.0.0/14"),
          ip_network("172.24.0.0/13"), ip_network("192.168.0.0/16"))  # fmt: skip


def check(facts: Facts) -> Iterator[Problem]:
    """A port for everybody, and trusted networks among Docker's own."""
    compose = facts.spec.deploy.targets.compose
    if compose is None or compose.publish != "all":
        return
    for place, net in facts.spec.service.networks().items():
        if any(net.version == 4 and net.overlaps(pool) for pool in _POOLS):
            what = (
                f"`{net}` is trusted, and Docker's gateway may be in it: who is handed on by it is believed"
            )
            help = "set `deploy.targets.compose.publish: host`, or trust only the proxy's own address"
            yield warning(CODE, ("service", "trusted_proxies", place), what, help)
