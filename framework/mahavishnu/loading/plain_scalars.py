"""What a text without quotes means by YAML 1.2's core schema, and which text needs quotes to stay one."""

from __future__ import annotations

import json
import re

from mahavishnu.loading.nodes import Value

DIGITS = 19
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_PLAIN = re.compile(r"[\w./][\w./:%@+*=<>~ -]*")
"""What needs no quotes wherever it stands, unless it holds `: ` or ends like that."""


def resolve(text: str) -> Value:
    """The value of a plain scalar by YAML 1.2's core schema; raises ValueError for an endless number."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        if len(text.lstrip("+-").lstrip("0")) > DIGITS:
            raise ValueError(text)
        return int(text, 0) if text[1:2] in ("o", "x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(re.sub(r"\.(?=[iInN])", "", text))
    return text


def in_yaml(text: str) -> str:
    """A text as it is written in a spec: in quotes where it would be another thing without them."""
    plain = _PLAIN.fullmatch(text) and ": " not in text and text[-1] not in ": "
    if plain and isinstance(resolve(text), str):
        return text
    readable = '"' in text and "'" not in text and text.isprintable()
    return f"'{text}'" if readable else json.dumps(text, ensure_ascii=False)
