"""Values that know their place in a text, in a tree: found by their path, walked through, merged."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from typing import Any

from mahavishnu.errors import Path, Where

Value = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a key or value stands: 1-based line and column, its width there, its last line; 0: in no file.

    `origin` says which layer it comes from, when that is not the file's main part.
    """

    line: int
    column: int
    width: int = 1
    last: int = 0
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `text` as it was written, without quotes; `hidden`: a comment begins where it should be."""

    mark: Mark
    value: Value
    text: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair of a mapping: where its key stands, and its value."""

    mark: Mark
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and their values, in the order of the file."""

    mark: Mark
    entries: Dict[str, Entry] = field(default_factory=dict[str, Entry])


Node = Scalar | Sequence | Mapping


def where(file: str, mark: Mark, lines: tuple[str, ...]) -> Where | None:
    """The place of a mark, with the text of its line; None for a value that stands in no file."""
    if mark.line < 1:
        return None
    text = lines[mark.line - 1] if mark.line <= len(lines) else ""
    return Where(file, mark.line, mark.column, max(1, mark.width), text)


def plain(node: Node) -> Any:
    """The tree as Python data."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(entry.node) for key, entry in node.entries.items()}


def merge(node: Node, patch: Node) -> Node:
    """JSON merge patch (RFC 7396): mappings merge, null removes, the rest replaces; places follow."""
    if not isinstance(patch, Mapping):
        return patch
    entries = dict(node.entries) if isinstance(node, Mapping) else {}
    for key, entry in patch.entries.items():
        if isinstance(entry.node, Scalar) and entry.node.value is None:
            entries.pop(key, None)
        else:
            under = entries[key].node if key in entries else Mapping(entry.node.mark)
            entries[key] = Entry(entry.mark, merge(under, entry.node))
    return Mapping(node.mark if isinstance(node, Mapping) else patch.mark, entries)


def entries_of(node: Node | None) -> Dict[str, Entry]:
    """The entries of a mapping; none of anything else."""
    return node.entries if isinstance(node, Mapping) else {}


def at(node: Node, path: Path) -> Node | None:
    """The value at a path, or None where there is none."""
    for step in path:
        if isinstance(node, Mapping) and step in node.entries:
            node = node.entries[str(step)].node
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node


def find(node: Node, path: Path, on_key: bool = False) -> Mark:
    """Where a path's value stands, or its key when asked for, or when the value has no line of its own.

    Of a path that is not there, the place of its longest part that is.
    """
    key = top = node.mark
    for step in path:
        if isinstance(node, Mapping) and step in node.entries:
            entry = node.entries[str(step)]
            key, node = entry.mark, entry.node
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            key = node.mark
        else:
            return _beginning(node) if key is top else key
    # A block below its key, and an empty value, are shown by the key.
    visible = node.mark.width > 0 if isinstance(node, Scalar) else node.mark.line == key.line
    if key is top:
        return _beginning(node)
    return node.mark if visible and not on_key else key


def _beginning(node: Node) -> Mark:
    """The first key of a mapping: the place of what is missing from it."""
    return (
        next((entry.mark for entry in node.entries.values()), node.mark)
        if isinstance(node, Mapping)
        else node.mark
    )


def scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Every single value with its path, in the order of the file."""
    if isinstance(node, Scalar):
        yield path, node
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from scalars(item, (*path, index))
    else:
        for key, entry in node.entries.items():
            yield from scalars(entry.node, (*path, key))


def marked(node: Node, origin: str) -> Node:
    """The same tree, every value of which says where it comes from."""
    mark = replace(node.mark, origin=origin)
    if isinstance(node, Scalar):
        return replace(node, mark=mark)
    if isinstance(node, Sequence):
        return Sequence(mark, tuple(marked(item, origin) for item in node.items))
    return Mapping(
        mark,
        {
            key: Entry(replace(entry.mark, origin=origin), marked(entry.node, origin))
            for key, entry in node.entries.items()
        },
    )
