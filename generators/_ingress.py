"""What an ingress controller must be told, so that it ends nothing that the service lets live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit
from mahavishnu.spec import Spec

from ._service import seconds

# What ingress-nginx takes at the most, in bytes, and how many seconds it waits for a word, where nobody says so.
_BODY, _SILENCE = 2**20, 60
# It has a word for bodies of any size, and none for a pause of any length.
_ANY_BODY, _LONG = 0, 3600
# What is left over when the service has had its own time, in seconds.
_MARGIN = 5
L = TypeVar("L", bound=Limit)


def told(spec: Spec, ingress_class: str) -> dict[str, str]:
    """The annotations of the Ingress; only ingress-nginx has limits of its own that can be told away."""
    return dict(_of_nginx(spec)) if ingress_class == "nginx" else {}


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
    enforced = [one for one in timeouts if one.mode == "enforce"]
    silent = [length for one in enforced for length in (one.timeout, one.idle) if length]
    longest = max(map(seconds, silent), default=0) + _MARGIN
    ends = _hold_all(timeouts) and all(one.idle for one in timeouts)
    return longest if ends else max(longest, _LONG)


def _held(spec: Spec, kind: type[L]) -> list[L]:
    return [one for one in spec.limits.values() if isinstance(one, kind) and one.mode != "off"]


def _hold_all(limits: list[L]) -> bool:
    """Whether each request is held to one of them; one that observes goes before those that are less specific."""
    return any(one.match is None for one in limits) and all(one.mode == "enforce" for one in limits)
