"""MV609: environments that one Prometheus would take for one service."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._environments import deployed
from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.targets import Kubernetes

CODE = Code(
    "MV609",
    "environments that one Prometheus would take for one service",
    "The service's name is its job in Prometheus, and all that the rules select. One Prometheus that watches two "
    "environments of the same name, in two namespaces of a cluster, refuses the second scrape configuration, or adds "
    "up the objectives of both, and takes the spec of the one for a drift of the other.",
    "deploy: {targets: {kubernetes: {namespace: shop}}}\n"
    "environments: {staging: {deploy: {targets: {kubernetes: {namespace: shop-staging}}}}}",
    "Give each environment a name of its own, `environments: {staging: {service: {name: shop_staging}}}`, unless each "
    "has a Prometheus of its own.",
)


_DEFAULT: str = Kubernetes.model_fields["namespace"].default


def check(facts: Facts) -> Iterator[Problem]:
    """Every environment against the spec itself and the environments before it; of one alone nothing is said."""
    first: dict[str, str] = {}
    for world in deployed(facts.spec):
        target = world.at("deploy", "targets", "kubernetes")
        if target is None:
            continue
        service, namespace = world.at("service", "name"), target.get("namespace", _DEFAULT)
        if first.setdefault(service, namespace) != namespace:
            what = (
                f"`{service}` in namespace `{namespace}` and `{service}` in `{first[service]}` are one to a "
                "Prometheus that watches both"
            )
            name = f"environments.{world.name}.service.name"
            help = f"set `{name}: {service}_{world.name}`, unless each has its own Prometheus"
            path = ("environments", str(world.name), "deploy", "targets", "kubernetes", "namespace")
            yield warning(CODE, path, what, help)
