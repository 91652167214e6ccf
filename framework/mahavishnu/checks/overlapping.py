"""MV212: a trusted network that another one holds already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV212",
    "a trusted network inside another",
    "One of the two says nothing. Often the wider one is a slip of the pen, and trusts more than was meant.",
    "service: {trusted_proxies: [10.0.0.0/8, 10.1.0.0/16]}",
    "Remove the wider one if only the narrower is the proxies', else the narrower.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every network that lies in one of the others, or repeats one before it."""
    listed: dict[int, Any] = facts.spec.service.networks()
    for place, one in listed.items():
        others = [
            other
            for at, other in listed.items()
            if other.version == one.version and one.subnet_of(other) and (other != one or at < place)
        ]
        if others:
            what = f"`{one}` lies in `{others[0]}`, which is trusted too"
            help = "remove one of them: the wider, if only the narrower is your proxies'"
            yield warning(CODE, ("service", "trusted_proxies", place), what, help)
