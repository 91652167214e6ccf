"""What a template of the user's own may not change: what is asked, which was resolved, and what comes of the answer."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mahavishnu.agreement import alerting
from mahavishnu.artifact import Artifact
from mahavishnu.files.merges import unmerged
from mahavishnu.loading import yaml_tree

_ASKS = "expr"
_FILE = "let the template write every `expr` that ours writes, and no other"
_PAGE = "ask what a rule or a panel asks"
_IN_A_COMMAND = re.compile(
    r"""--data-urlencode ((?=['"]?query=)(?:'[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"])+)"""  # one word of a shell
)
_IN_A_BLOCK = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Asked(NamedTuple):
    """A query, and the name of the rule that it makes, if it makes one."""

    expr: str
    rule: str = ""

    def __str__(self) -> str:
        return f"`{self.expr}`" + (f" for `{self.rule}`" if self.rule else "")


def faults(own: Iterable[Artifact], ours: Iterable[Artifact]) -> Iterator[str]:
    """Where files ask something else than they would by our templates, let other alerts come of it, or cannot be read.

    A page may leave queries out, which people read, and ask any that was resolved for some file.
    """
    plain = {one.path: one for one in ours}
    resolved = {Asked(query.expr.render()) for one in plain.values() for query in one.queries}
    for one in own:
        if one.text != plain[one.path].text:
            if found := unmerged(one.text.encode()):
                yield f"`{one.path}` has `{found.mark}` in line {found.line}: a merge left its marks in your template"
                continue
            try:
                mine, wanted = _read(one), _read(plain[one.path])
            except ValueError as fault:
                yield f"`{one.path}` cannot be read, as your template makes it: {fault}"
                continue
            if one.path.endswith(".md"):
                yield from _more(one.path, {*mine} - {*wanted} - resolved, _PAGE)
            else:
                yield from _of_a_file(one.path, mine, wanted)


def _of_a_file(path: str, own: Any, ours: Any) -> Iterator[str]:
    mine, wanted = {*_exprs(own)}, {*_exprs(ours)}
    yield from _more(path, mine - wanted, _FILE)
    yield from _less(path, wanted - mine)
    yield from alerting.faults(path, own, ours)


def _more(path: str, asked: set[Asked], way_out: str) -> Iterator[str]:
    for one in sorted(asked)[:1]:
        yield f"`{path}` asks {one}, which your template says and nothing has resolved: {way_out}"


def _less(path: str, wanted: set[Asked]) -> Iterator[str]:
    for one in sorted(wanted)[:1]:
        rest = f" and {len(wanted) - 1} more" if wanted - {one} else ""
        yield f"`{path}` does not ask {one}{rest}, which your template leaves out: {_FILE}"


def _read(file: Artifact) -> Any:
    """The tree of a file, or what a page asks; nothing where no query can stand."""
    if file.path.endswith(".md"):
        return [*map(Asked, _shown(file.text))]
    if file.path.endswith(".json"):
        return json.loads(file.text)
    return [*yaml_tree.documents(file.text)] if file.path.endswith((".yml", ".yaml")) else []


def _shown(page: str) -> Iterator[str]:
    """The queries that a page tells its readers to ask: in commands, as ours does, and in blocks of PromQL."""
    for word in _IN_A_COMMAND.findall(page):
        yield "".join(shlex.split(word)).removeprefix("query=")
    yield from map(str.strip, _IN_A_BLOCK.findall(page))


def _exprs(node: Any) -> Iterator[Asked]:
    """Whatever stands under `expr`, however deep, with the name of the rule beside it."""
    for one in alerting.mappings(node):
        asked = one.get(_ASKS)
        if _ASKS in one and not isinstance(asked, dict | list):
            yield Asked(str(asked).strip(), str(one.get("alert") or one.get("record") or ""))
