"""Which of two versions of a package is the later one, as PEP 440 orders them."""

from __future__ import annotations

import re

_VERSION = re.compile(
    r"v?(?P<release>\d+(?:\.\d+)*)(?:[-_.]?(?P<phase>dev|a|b|rc|post)[-_.]?(?P<number>\d*))?.*", re.DOTALL
)
_PHASES = ("dev", "a", "b", "rc", "", "post")


def later(version: str, than: str) -> bool:
    """Whether it is; not where one of the two is no version."""
    one, other = _order(version), _order(than)
    return one is not None and other is not None and one > other


def _order(version: str) -> tuple[tuple[int, ...], int, int] | None:
    """What versions are compared by: the release without zeros at its end, then what comes before or after it."""
    found = _VERSION.fullmatch(version)
    if found is None or len(version) > 100:
        return None
    release = [int(part) for part in found["release"].split(".")]
    while release and not release[-1]:
        release.pop()
    return tuple(release), _PHASES.index(found["phase"] or ""), int(found["number"] or 0)
