"""MV214: a forwarding header that the proxy does not write."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV214",
    "`forwarded` is read, and no proxy writes it",
    "A header that the proxy neither writes nor removes comes from the client: whoever sends it chooses his address. "
    "The common ingress controllers write X-Forwarded-For, and pass `Forwarded` on as it came.",
    "service: {trusted_proxies: [10.0.0.0/8], forwarded: forwarded}\n"
    "deploy: {targets: {kubernetes: {host: shop.example.com, ingress_class: nginx}}}",
    "Read `x-forwarded-for`, unless your proxies write RFC 7239.",
)
_PATH: Path = ("service", "forwarded")
# Whose own configuration, unless it is changed, writes X-Forwarded-For and lets `Forwarded` pass.
_NOT_WRITTEN = frozenset({"alb", "azure-application-gateway", "cilium", "contour", "gce", "gce-internal", "haproxy",
                          "istio", "kong", "nginx", "traefik"})  # fmt: skip


def check(facts: Facts) -> Iterator[Problem]:
    """What is to be read, against what the ingress controller writes."""
    service, kubernetes = facts.spec.service, facts.spec.deploy.targets.kubernetes
    if service.forwarded != "forwarded":
        return
    if not service.trusted_proxies:
        what = "`forwarded` is read from trusted proxies only, and there are none"
        yield warning(CODE, _PATH, what, "list their networks in `service.trusted_proxies`, or remove it")
    elif kubernetes and kubernetes.host and kubernetes.ingress_class in _NOT_WRITTEN:
        what = (
            f"the ingress controller `{kubernetes.ingress_class}` writes X-Forwarded-For and passes `Forwarded` on: "
            "any client may choose its address"
        )
        yield error(CODE, _PATH, what, "write `forwarded: x-forwarded-for`")
