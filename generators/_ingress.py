"""What an ingress controller must be told, so that it finds the service and ends nothing that the service lets live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit
from mahavishnu.spec import Spec
from mahavishnu.targets import Kubernetes

from ._service import KEEP_ALIVE, seconds

# What ingress-nginx takes at the most, in bytes, and how many seconds it, or Amazon's load balancer, waits for a word
# where nobody says so.
_BODY, _SILENCE = 2**20, 60
# It has a word for bodies of any size, and none for a pause of any length.
_ANY_BODY, _LONG = 0, 3600
# The longest pause that Amazon's may be told.
_LONGEST = 4000
# What is left over when the service has had its own time, in seconds.
_MARGIN = 5
# Longer than each keeps a connection on which nothing is asked: Envoy for an hour, Google for ten minutes, whatever it
# is told, Traefik for a minute and a half. Nginx, Kong and Amazon do for a minute; of others it is not known.
_KEPT: Mapping[str, int] = {"contour": 3660, "gce": 620, "gce-internal": 620, "istio": 3660, "traefik": 95}
L = TypeVar("L", bound=Limit)


def told(spec: Spec, ingress_class: str) -> dict[str, str]:
    """The annotations of the Ingress; the limits of other controllers are in their own configuration, or unknown."""
    match ingress_class:
        case "nginx":
            return dict(_of_nginx(spec))
        case "alb":
            return {f"alb.ingress.kubernetes.io/{name}": value for name, value in _of_amazon(spec)}
        case "gce" | "gce-internal":
            return {"kubernetes.io/ingress.class": ingress_class}
        case _:
            return {}


def kept_alive(spec: Spec, target: Kubernetes) -> int:
    """For how many seconds the server keeps a connection, so that it never is the first to close one."""
    if target.host is None:
        return KEEP_ALIVE
    if target.ingress_class == "alb":
        return _pause_of_amazon(spec) + _MARGIN
    return _KEPT.get(target.ingress_class, KEEP_ALIVE)


def _of_amazon(spec: Spec) -> Iterator[tuple[str, str]]:
    """By itself it is private, wants a port of the nodes, asks `/` how the service is, and listens without TLS."""
    yield "scheme", "internet-facing"
    yield "target-type", "ip"
    yield "healthcheck-path", "/readyz"
    yield "listen-ports", '[{"HTTP": 80}, {"HTTPS": 443}]'
    yield "ssl-redirect", "443"
    if (pause := _pause_of_amazon(spec)) > _SILENCE:
        yield "load-balancer-attributes", f"idle_timeout.timeout_seconds={pause}"


def _pause_of_amazon(spec: Spec) -> int:
    return min(max(_longest_silence(spec), _SILENCE), _LONGEST)


def _of_nginx(spec: Spec) -> Iterator[tuple[str, str]]:
    prefix = "nginx.ingress.kubernetes.io"
    body, silence = _largest_body(spec), _longest_silence(spec)
    if body == _ANY_BODY or body > _BODY:
        yield f"{prefix}/proxy-body-size", str(body)
    if silence > _SILENCE:
        yield f"{prefix}/proxy-read-timeout", str(silence)


def _largest_body(spec: Spec) -> int:
    bodies = _held(spec, Body)
    return max(int(one.body) for one in bodies) if _hold_all(bodies) else _ANY_BODY


def _longest_silence(spec: Spec) -> int:
    """Before the first part of a response, and between two of them: without an `idle` a stream may pause for ever."""
    timeouts = _held(spec, Timeout)
    silent = [length for one in timeouts for length in (one.timeout, one.idle) if length]
    longest = max(map(seconds, silent), default=0) + _MARGIN
    ends = _hold_all(timeouts) and all(one.idle for one in timeouts)
    return longest if ends else max(longest, _LONG)


def _held(spec: Spec, kind: type[L]) -> list[L]:
    """Those that are enforced; one that observes takes nothing from the others."""
    return [one for one in spec.limits.values() if isinstance(one, kind) and one.mode == "enforce"]


def _hold_all(limits: list[L]) -> bool:
    """Whether each request is held to one of them."""
    return any(one.match is None for one in limits)
