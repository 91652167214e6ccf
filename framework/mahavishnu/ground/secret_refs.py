"""`${NAME}` in a value of the spec: a secret, whose value stands there only while the service runs."""

from __future__ import annotations

import re
from collections.abc import Callable

REFERENCE = r"\$\{[A-Z][A-Z0-9_]*\}"
"""One of them, as a pattern."""
_REFERENCE = re.compile(REFERENCE)


def name_of(reference: str) -> str:
    """The name of the secret in `${NAME}`."""
    return reference[2:-1]


def stands_for_all(text: str) -> bool:
    """Whether the whole text is a secret, and nothing of it is known."""
    return bool(_REFERENCE.fullmatch(text))


def names_in(text: str) -> tuple[str, ...]:
    """The names of the secrets that stand in a text."""
    return tuple(map(name_of, _REFERENCE.findall(text)))


def replaced(text: str, value: Callable[[str], str]) -> str:
    """The text with what `value` says of a name in place of each secret."""
    return _REFERENCE.sub(lambda found: value(name_of(found[0])), text)
