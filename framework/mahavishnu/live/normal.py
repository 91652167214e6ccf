"""A query in a form that does not depend on who wrote it down."""

from __future__ import annotations

import re

_STRING = r'"(?:[^"\\]|\\.)*"'
_MATCHERS = re.compile(rf'{_STRING}|\{{((?:{_STRING}|[^{{}}"])*)\}}')
_MATCHER = re.compile(rf'(?:{_STRING}|[^,"])+')
_NUMBER = re.compile(r"(?<![\w.\"])[0-9][0-9.]*(?:e[+-]?[0-9]+)?(?![\w.\"])")


def normal(query: str) -> str:
    """A query in a form that does not depend on who wrote it down: blanks, order of matchers, forms of numbers."""
    numbers = _NUMBER.sub(lambda match: repr(float(match[0])), _MATCHERS.sub(_ordered, query))
    return re.sub(r"\s+", "", numbers)


def _ordered(found: re.Match[str]) -> str:
    """Matchers in order; a string outside of any is left as it is."""
    if found[1] is None:
        return found[0]
    return "{" + ",".join(sorted(one.strip() for one in _MATCHER.findall(found[1]))) + "}"
