"""Kubernetes objects as those see them who judge them together: their pods, and who chooses whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Object = Mapping[str, Any]
Objects = Sequence[Object]


class Pod(NamedTuple):
    """The pod that an object makes."""

    owner: Object
    labels: Object
    spec: Object


def of(objects: Objects, kind: str) -> list[Object]:
    """The objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def pods(objects: Objects) -> Iterator[Pod]:
    """The pods of everything that makes pods."""
    for one in objects:
        if template := _template(one):
            yield Pod(one, template["metadata"].get("labels", {}), template["spec"])


def _template(one: Object) -> Object | None:
    spec = one.get("spec", {})
    found: Object | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return found


def containers(pod: Pod) -> list[Object]:
    """All of them, those too that run before the others."""
    return [*pod.spec.get("initContainers", []), *pod.spec["containers"]]


def secured(container: Object, pod: Pod) -> Object:
    """The security context that holds: the container's own word goes before its pod's."""
    return {**pod.spec.get("securityContext", {}), **container.get("securityContext", {})}


def together(one: Object, other: Object) -> bool:
    """Whether two objects live in the same namespace."""
    return bool(one["metadata"]["namespace"] == other["metadata"]["namespace"])


def chosen(selector: Object, labels: Object) -> bool:
    """Whether a selector takes what has these labels; of selectors only `matchLabels` is known, others take none."""
    return {*selector} <= {"matchLabels"} and selector.get("matchLabels", {}).items() <= labels.items()


def served(service: Object, pod: Pod) -> bool:
    """Whether a Service leads to a pod."""
    selector = service["spec"].get("selector", {})
    return together(service, pod.owner) and bool(selector) and selector.items() <= pod.labels.items()


def is_served(pod: Pod, objects: Objects) -> bool:
    """Whether any Service leads to it."""
    return any(served(service, pod) for service in of(objects, "Service"))


def scalers(one: Object, objects: Objects) -> list[Object]:
    """Who decides how many pods an object has."""
    name = (one["apiVersion"], one["kind"], one["metadata"]["name"])
    found = [scaler for scaler in of(objects, "HorizontalPodAutoscaler") if together(scaler, one)]
    return [scaler for scaler in found if target(scaler) == name]


def target(scaler: Object) -> tuple[str, str, str]:
    """What an autoscaler scales."""
    reference = scaler["spec"]["scaleTargetRef"]
    return reference["apiVersion"], reference["kind"], reference["name"]


def least(one: Object, objects: Objects) -> int:
    """How many replicas there are at the least; one, where nobody says it."""
    said = [scaler["spec"].get("minReplicas", 1) for scaler in scalers(one, objects)]
    return int(one["spec"].get("replicas", min(said, default=1)))


def is_zero(quantity: object) -> bool:
    """Whether a quantity like `500m` or `0Mi` is nothing, or is not said."""
    number = re.match(r"[\d.]+", str(quantity))
    return number is None or float(number[0]) == 0
