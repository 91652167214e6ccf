"""MV609: environments that one Prometheus would take for one service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.spec import Spec
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


class _Place(NamedTuple):
    """Where a service runs in Kubernetes, and how it is named there."""

    service: str
    namespace: str


def check(facts: Facts) -> Iterator[Problem]:
    """Every environment against the spec itself and the environments before it; of one alone nothing is said."""
    spec = facts.spec
    if spec.environment is not None:
        return
    own = _place(spec, {})
    first = {own.service: own.namespace} if own else {}
    for name, patch in spec.environments.items():
        place = _place(spec, patch)
        if place and first.setdefault(place.service, place.namespace) != place.namespace:
            service, namespace = place
            what = (
                f"`{service}` in namespace `{namespace}` and `{service}` in `{first[service]}` are one to a "
                "Prometheus that watches both"
            )
            help = f"set `environments.{name}.service.name: {service}_{name}`, unless each has its own Prometheus"
            path = ("environments", name, "deploy", "targets", "kubernetes", "namespace")
            yield warning(CODE, path, what, help)


def _place(spec: Spec, patch: Mapping[str, Any]) -> _Place | None:
    said = spec.model_dump(include={"service": {"name"}, "deploy": {"targets": {"kubernetes"}}})
    merged = _merged(said, patch)
    target = _below(merged, "deploy", "targets", "kubernetes")
    if target is None:
        return None
    namespace: str = Kubernetes.model_fields["namespace"].default
    return _Place(merged["service"]["name"], target.get("namespace", namespace))


def _below(value: Any, *path: str) -> Any:
    for key in path:
        value = None if value is None else value.get(key)
    return value


def _merged(value: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """As RFC 7396 says."""
    made: dict[str, Any] = {**value} if isinstance(value, Mapping) else {}
    for key, one in patch.items():
        made[key] = (
            _merged(made.get(key), cast("Mapping[str, Any]", one)) if isinstance(one, Mapping) else one
        )
    return {key: one for key, one in made.items() if one is not None}
