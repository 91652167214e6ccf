"""No module keeps a private name that it does not use: no linter looks for those."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.test_layers import sources


def bound(statement: ast.stmt) -> Iterator[str]:
    """The private names that a statement of a module binds."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            names = [statement.name]
        case ast.Assign() | ast.AnnAssign():
            names = [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and _stored(node)]
        case _:
            names = []
    return (name for name in names if name.startswith("_") and not name.startswith("__"))


def _stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def unused(text: str) -> list[str]:
    """The private names of a module that stand in its code once: where they are bound."""
    tree = ast.parse(text)
    used = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not _stored(node))
    return [name for statement in tree.body for name in bound(statement) if not used[name]]


def test_no_private_name_of_a_module_is_dead() -> None:
    assert {module: names for module, text in sources().items() if (names := unused(text))} == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("_DEAD = 1", ["_DEAD"]),
        ("_DEAD: int = 1", ["_DEAD"]),
        ("_A, _B = 1, 2\nprint(_A)", ["_B"]),
        ("def _dead(): ...", ["_dead"]),
        ("class _Dead: ...", ["_Dead"]),
        ("_USED = 1\nprint(_USED)", []),
        ("__all__ = ()\nPUBLIC = 1", []),
    ],
)
def test_a_planted_dead_name_is_found(text: str, names: list[str]) -> None:
    assert unused(text) == names
