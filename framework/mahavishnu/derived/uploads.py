"""What forms bring with them, and the room it takes in a container's /tmp, where Starlette keeps it meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from mahavishnu.policies.body import Body
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.spec import Spec
from mahavishnu.units import Size

LEAST = Size.parse("64Mi")
"""The room that there is in any case, in bytes."""
_BESIDE = Size.parse("32Mi")
_FEW = 8  # so many come at once where nothing says how many of them may


class Uploads(NamedTuple):
    """The bodies that take the most: the limit that lets them in, bytes of each, how many at once."""

    limit: str
    size: Size
    at_once: int

    @property
    def room(self) -> int:
        """What they take, and what else lies beside them, in bytes."""
        return int(_BESIDE) + self.size * self.at_once


def room(spec: Spec) -> int:
    """The bytes that a replica should have in /tmp."""
    most = largest(spec)
    return max(int(LEAST), most.room if most else 0)


def largest(spec: Spec) -> Uploads | None:
    """What takes the most of those that are let in; None where no size is enforced.

    One for some requests takes the place of one for all, also where it lets in more.
    """
    bodies = {
        name: one for name, one in spec.limits.items() if isinstance(one, Body) and one.mode == "enforce"
    }
    found = (Uploads(name, one.body, _at_once(spec, one)) for name, one in bodies.items())
    return max(found, key=lambda one: one.room, default=None)


def _at_once(spec: Spec, body: Body) -> int:
    """The places that the very same requests share, or a few of those that all do."""
    limits = (one for one in spec.limits.values() if isinstance(one, Concurrency) and one.mode == "enforce")
    places = [one for one in limits if one.max is not None or not one.adaptive]
    own = [one.most for one in places if one.match is not None and one.match == body.match]
    every = [one.most for one in places if one.match is None]
    said = spec.service.workers * min((*own, *every), default=_FEW)
    return said if own else min(said, _FEW)
