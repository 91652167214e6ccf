"""Whom a NetworkPolicy lets in and out: the pods of a namespace, or addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from mahavishnu.spec import Spec
from mahavishnu.targets import GOOGLE, Kubernetes

Peer = Mapping[str, object]

NEIGHBOURS: Peer = {"podSelector": {}}
"""Every pod of the own namespace."""
ANY_POD: Peer = {"namespaceSelector": {}}
ELSEWHERE: tuple[Peer, ...] = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
)
"""Every address but the link-local ones: there clouds keep their metadata, whose answers are credentials."""
_NODE_LOCAL = ("169.254.20.10", "169.254.25.10", "169.254.169.254")
RESOLVERS: tuple[Peer, ...] = (
    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
    *({"ipBlock": {"cidr": f"{one}/32"}} for one in _NODE_LOCAL),
)
"""Who resolves names: pods of the cluster; NodeLocal DNSCache, as its documentation and as kubespray put it, which is
on the node's own network, where no selector finds it; and Cloud DNS of GKE, at the address of the metadata."""
# Where an ingress controller is when it is installed as its own documentation says, or comes with the cluster.
_CONTROLLERS: Mapping[str, tuple[str, ...]] = {
    "contour": ("projectcontour",),
    "haproxy": ("haproxy-controller", "ingress-controller"),
    "istio": ("istio-system", "istio-ingress"),
    "kong": ("kong",),
    "nginx": ("ingress-nginx",),
    "traefik": ("traefik", "kube-system"),
}
# Those that are no pods, and from where they reach one besides what the spec trusts: Google's also ask how it is.
_GOOGLE = tuple(map(str, GOOGLE))
_BALANCERS: Mapping[str, tuple[str, ...]] = {
    "alb": (),
    "azure-application-gateway": (),
    "gce": _GOOGLE,
    "gce-internal": _GOOGLE,
}


def callers(spec: Spec, target: Kubernetes) -> list[Peer] | None:
    """Who may reach the service's pods; None: everybody, for nobody knows from where its ingress controller does."""
    if target.host is None:
        return [NEIGHBOURS]
    peers = _controller(spec, target)
    return [NEIGHBOURS, *peers] if peers else None


def _controller(spec: Spec, target: Kubernetes) -> list[Peer]:
    name, said = target.ingress_class, target.ingress_namespace
    if said is None and name in _BALANCERS:
        trusted = map(str, spec.service.networks().values())
        return [_block(one) for one in dict.fromkeys((*_BALANCERS[name], *trusted))]
    return [namespace(one) for one in ((said,) if said else _CONTROLLERS.get(name, ()))]


def flows(name: str, port: int) -> Iterator[dict[str, object]]:
    """The peers and ports of a host: pods for a name inside the cluster, else every address but ours.

    A Service's port says nothing of the port its pods listen on, and that is what a policy sees; so inside
    the cluster all ports of the namespace are open. Outside, a policy knows no names, only addresses.
    """
    if literal := _literal(name):
        yield {"peers": [_block(literal)], "ports": tcp(port)}
        return
    labels = name.split(".")
    if pods := _pods(labels):
        yield {"peers": pods, "ports": None}
    if len(labels) > 1 and not _is_service(labels):
        yield {"peers": ELSEWHERE, "ports": tcp(port)}


def _is_service(labels: list[str]) -> bool:
    return "svc" in labels[2:]


def _pods(labels: list[str]) -> list[Peer]:
    """Those that a name may mean: `service`, `service.namespace`, and of a StatefulSet `pod-0` before either."""
    if _is_service(labels):
        return [namespace(labels[labels.index("svc", 2) - 1])]
    numbered = re.search(r"-[0-9]+$", labels[0]) is not None
    near = [NEIGHBOURS] if len(labels) in (1, 1 + numbered) else []
    return [*near, *([namespace(labels[-1])] if len(labels) in (2, 2 + numbered) else [])]


def tcp(*ports: int) -> list[dict[str, object]]:
    """These ports, as a policy writes them."""
    return [{"protocol": "TCP", "port": port} for port in ports]


def namespace(name: str) -> Peer:
    """Every pod of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _block(network: str) -> Peer:
    return {"ipBlock": {"cidr": network}}


def _literal(name: str) -> str | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return f"{address}/{address.max_prefixlen}"
