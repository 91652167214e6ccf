"""What alerts and findings say of the log is what the runtime writes there: neither types the other's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import chain

import pytest

from mahavishnu import events
from mahavishnu.contract import contract
from mahavishnu.load import load
from tests.test_layers import ROOT, sources

NAMES = {name: value for name, value in vars(events).items() if name.isupper()}
WRITERS = {"debug", "info", "warning", "error", "exception", "_tell", "_note"}
PROGRAMS = ("mahavishnu ", "kubectl ")
FACTS = {"reason", "error"}
"""What the lines have that texts name."""
OTHERS = {"died"}
"""Lines of the server's own."""


def quotes(text: str) -> list[str]:
    """What stands in it as code."""
    return re.findall("`([^`]+)`", text)


def constants(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The strings among the nodes."""
    return (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def rooms(*names: str) -> dict[str, ast.Module]:
    """The modules of these rooms."""
    return {name: ast.parse(text) for name, text in sources().items() if name.partition(".")[0] in names}


def written(tree: ast.AST) -> Iterator[ast.expr]:
    """What the calls that write a line of the log begin with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITERS:
            yield from node.args[:1]


def typed(tree: ast.AST, words: set[str]) -> set[str]:
    """Those of the words that a text quotes letter by letter."""
    return words & set(chain.from_iterable(quotes(text) for text in constants(ast.walk(tree))))


def unwritten(text: str) -> list[str]:
    """What the sentences of a text that are about the log quote, and no line of it is or has."""
    about = (one for one in re.split(r"(?<=[.;:])\s", text) if re.search(r"\blog\b", one))
    quoted = chain.from_iterable(map(quotes, about))
    known = FACTS | OTHERS | set(NAMES.values())
    return [
        one
        for one in quoted
        if one not in known and not one.startswith(PROGRAMS) and re.fullmatch("[a-z ]+", one)
    ]


LINES = set(chain.from_iterable(constants(written(tree)) for tree in rooms("runtime", "asgi").values()))


@pytest.mark.parametrize("name", NAMES)
def test_a_line_is_written_by_the_runtime_and_pointed_to(name: str) -> None:
    for some in (rooms("runtime"), rooms("alerts", "policies", "checks")):
        assert any(name == getattr(node, "id", None) for tree in some.values() for node in ast.walk(tree))


def test_no_text_types_the_name_of_a_line() -> None:
    assert len(LINES) > 20
    words = LINES | set(NAMES.values())
    found = {name: typed(tree, words) for name, tree in rooms("alerts", "policies", "checks").items()}
    assert {name: some for name, some in found.items() if some} == {}


def test_what_alerts_say_of_the_log_is_in_it() -> None:
    alerts = contract(load(ROOT / "mahavishnu.yaml").spec).alerts
    texts = {one.name: f"{one.summary} {one.meaning} {one.impact} {one.action}" for one in alerts}
    assert {name: found for name, text in texts.items() if (found := unwritten(text))} == {}


def test_a_planted_word_is_found() -> None:
    assert typed(ast.parse("action = 'Look for `store lost`.'"), {"store lost"}) == {"store lost"}
    assert unwritten("Look into the log for `stored lost`. See `burst`.") == ["stored lost"]
