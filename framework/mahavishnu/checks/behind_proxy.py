"""MV210: clients that come through a proxy nobody believes."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.checks._google import WANTED
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.addresses import Network
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV210",
    "all clients share the address of the proxy before them",
    "Whoever comes through a proxy arrives from its address. Unless the proxy is believed, everybody is one client: "
    "the first busy minute refuses them all.",
    "limits: {per_client: {rate: 300/minute}}\ndeploy: {targets: {kubernetes: {host: shop.example.com}}}",
    "List the networks of the proxies in `service.trusted_proxies`; in a cluster that is the network of its pods. "
    "A container is never reached from loopback: Docker hands on what comes to 127.0.0.1 from its own network.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """A target with a proxy before it, limits that count addresses, and no network of a proxy that is believed."""
    names = list(facts.counted_by_address())
    nets = facts.spec.service.networks().values()
    if not names or any(not _of_one_host(one) for one in nets):
        return
    useless = ": from the networks that are listed there no container is reached" if nets else ""
    limits = f"limit{'s' if len(names) > 1 else ''} {', '.join(f'`{name}`' for name in names)}"
    for path, who, like in _proxied(facts):
        what = f"{who}, which nobody believes, so to {limits} all clients are one"
        yield error(CODE, path, what, f"add its network to `service.trusted_proxies`, like {like}{useless}")


def _of_one_host(net: Network) -> bool:
    """Whether all of a network is what a host says to itself, or to its cable: never to a container."""
    return net.is_loopback or net.is_link_local


def _proxied(facts: Facts) -> Iterator[tuple[Path, str, str]]:
    targets = facts.spec.deploy.targets
    if targets.kubernetes and targets.kubernetes.host:
        path = ("deploy", "targets", "kubernetes", "host")
        like = WANTED.get(targets.kubernetes.ingress_class, "`10.0.0.0/8`")
        yield path, f"`{targets.kubernetes.host}` is served by an ingress controller", like
    if targets.compose and targets.compose.publish == "host":
        path = ("deploy", "targets", "compose", "publish")
        yield path, "the port is for a proxy on the host", "`172.16.0.0/12`, from where Docker hands it on"
