"""MV218: Google's load balancer, of which not every address is believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

from mahavishnu.checks._facts import Facts, error
from mahavishnu.checks._google import WANTED
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.addresses import Network
from mahavishnu.ground.codes import Code
from mahavishnu.targets import GOOGLE

CODE = Code(
    "MV218",
    "all clients share the address of Google's load balancer",
    "Google's load balancer reaches a pod from networks of its own, and writes the client's address into "
    "X-Forwarded-For, then that of its own forwarding rule. Unless it is believed from there and at that address, the "
    "address that counts is one of its own: everybody is one client, and the first busy minute refuses them all.",
    "service: {trusted_proxies: [35.191.0.0/16, 130.211.0.0/22]}\n"
    "limits: {per_client: {rate: 300/minute}}\n"
    "deploy: {targets: {kubernetes: {host: shop.example.com, ingress_class: gce}}}",
    "Reserve an address for the forwarding rule, and list it in `service.trusted_proxies` beside the networks.",
)
_PATH: Path = ("deploy", "targets", "kubernetes", "host")


def check(facts: Facts) -> Iterator[Problem]:
    """An ingress of Google, limits that count addresses, and proxies that are believed, but not all of them."""
    target, names = facts.spec.deploy.targets.kubernetes, list(facts.counted_by_address())
    nets = [*facts.spec.service.networks().values()]
    if not (names and nets and target and target.host and target.ingress_class in WANTED):
        return
    if fault := _fault(nets, public=target.ingress_class == "gce"):
        limits = f"limit{'s' if len(names) > 1 else ''} {', '.join(f'`{name}`' for name in names)}"
        what = f"the load balancer of `{target.ingress_class}` {fault}, so to {limits} all clients are one"
        yield error(CODE, _PATH, what, f"add {WANTED[target.ingress_class]} to `service.trusted_proxies`")


def _fault(nets: Sequence[Network], *, public: bool) -> str:
    """What is missing: where it reaches the pods from, or its own address, which for a public one is public."""
    own = [one for one in nets if not _google(one) and not (public and one.is_private)]
    if not (_reaching(nets) if public else own):
        return "reaches the pods from networks that nobody believes"
    return "" if own else "writes its own address last, which nobody believes"


def _google(net: Network) -> bool:
    return isinstance(net, IPv4Network) and any(net.subnet_of(one) for one in GOOGLE)


def _reaching(nets: Sequence[Network]) -> bool:
    known = [one for one in nets if isinstance(one, IPv4Network)]
    return all(any(one.subnet_of(net) for net in known) for one in GOOGLE)
