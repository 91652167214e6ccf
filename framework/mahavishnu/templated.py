"""What a template of the user's own may not change: the queries of a file, which are those that were resolved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

from mahavishnu.artifact import Artifact
from mahavishnu.loading import yaml_tree

_ASKS = "expr"
_WAY_OUT = "let the template write every `expr` that ours writes, and no other"


def faults(own: Iterable[Artifact], ours: Iterable[Artifact]) -> Iterator[str]:
    """Where files ask something else than they would by our templates, or cannot be read; pages are read by people."""
    plain = {one.path: one.text for one in ours}
    for one in own:
        if one.text != plain[one.path] and one.path.endswith((".yml", ".yaml", ".json")):
            try:
                yield from _differences(
                    one.path, _asked(one.path, one.text), _asked(one.path, plain[one.path])
                )
            except ValueError as fault:
                yield f"`{one.path}` cannot be read, as your template makes it: {fault}"


def _differences(path: str, asked: set[str], wanted: set[str]) -> Iterator[str]:
    if more := sorted(asked - wanted):
        yield f"`{path}` asks `{more[0]}`, which your template says and nothing has resolved: {_WAY_OUT}"
    if less := sorted(wanted - asked):
        rest = f" and {len(less) - 1} more" if less[1:] else ""
        yield f"`{path}` does not ask `{less[0]}`{rest}, which your template leaves out: {_WAY_OUT}"


def _asked(path: str, text: str) -> set[str]:
    return set(_exprs([json.loads(text)] if path.endswith(".json") else yaml_tree.documents(text)))


def _exprs(node: Any) -> Iterator[str]:
    """Whatever stands under `expr`, however deep."""
    if isinstance(node, dict):
        for key, value in cast("dict[object, Any]", node).items():
            if key == _ASKS and not isinstance(value, dict | list):
                yield str(value).strip()
            else:
                yield from _exprs(value)
    elif isinstance(node, list | tuple):
        for item in cast("Iterable[Any]", node):
            yield from _exprs(item)
