"""YAML text -> a tree of values that know their place in it; the only door to ruamel, with guards.

One pass over the events of ruamel's pure parser, so that hostile input is refused before it is expanded. Plain
scalars are resolved here, by YAML 1.2's core schema: nothing depends on a directive or on a resolver's version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from mahavishnu import codes
from mahavishnu.codes import Code
from mahavishnu.errors import Finding, Level, Path, Where

LARGEST, DEEPEST, MOST, EXPANSION, DIGITS = 2**20, 64, 50_000, 10, 19

# What YAML 1.2 does not let stand in a file, and the line breaks that only some readers see.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
# Characters that hide: controls, changes of direction, byte order marks, halves; in keys also joiners.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_HIDDEN_IN_KEY = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)

_ADVICE = (
    ("\\t", "indent with spaces; YAML allows no tabs there"),
    ("mapping values are not allowed", "quote a text that contains `: `, and look at the indentation"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("expected <block end>", "look at the indentation: this line does not fit the lines above"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("found unexpected end of stream", "a quote or a bracket is not closed"),
    ("cannot start any token", "quote a text that begins with such a character"),
)

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
    """A single value; `text` as it was written, without quotes."""

    mark: Mark
    value: Value
    text: str


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a text: the tree (None when it could not be read to its end), the findings, the lines."""

    tree: Node | None
    findings: tuple[Finding, ...]
    lines: tuple[str, ...]


class _Stopped(Exception):  # noqa: N818  it ends the reading, and is always caught
    """Reading cannot go on; `finding` says why."""

    def __init__(self, code: Code, mark: Mark, what: str, help: str = "") -> None:
        super().__init__(what)
        self.code, self.mark, self.what, self.help = code, mark, what, help


def read(data: bytes, file: str) -> Reading:
    """Read one document from the bytes of a file; never raises, whatever the bytes are."""
    text, lines = "", ()
    reader = _Reader()
    tree: Node | None = None
    try:
        text = _decoded(data)
        lines = tuple(re.split(r"\r\n|\r|\n", text))
        _no_directives(lines)
        tree = reader.document(text)
    except _Stopped as end:
        lines = lines or tuple(data[: 4 * LARGEST].decode("utf-8", "replace").splitlines())
        reader.faults.append((end.code, end.mark, end.what, end.help))
    findings = tuple(
        Finding(Level.ERROR, code.id, what, where(file, mark, lines), help)
        for code, mark, what, help in reader.faults
    )
    return Reading(tree, findings, lines)


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


def short(text: str, most: int = 60) -> str:
    """The text, cut where it is too long to be read in a sentence."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _decoded(data: bytes) -> str:
    if len(data) > LARGEST:
        what = f"the file has {len(data):,} bytes; a spec has at most {LARGEST:,}"
        raise _Stopped(codes.TOO_LARGE, Mark(1, 1), what)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        before = data[: fault.start].decode("utf-8", "replace")
        what = f"byte 0x{data[fault.start]:02x} is not UTF-8"
        raise _Stopped(codes.NOT_TEXT, _after(before), what, "save the file as UTF-8") from None
    if bad := _UNPRINTABLE.search(text):
        what = f"the character U+{ord(bad[0]):04X} may not stand in a spec"
        raise _Stopped(codes.NOT_TEXT, _after(text[: bad.start()]), what, "remove it")
    return text


def _after(text: str) -> Mark:
    lines = re.split(r"\r\n|\r|\n", text)
    return Mark(len(lines), len(lines[-1].removeprefix("\ufeff")) + 1)


def _no_directives(lines: tuple[str, ...]) -> None:
    for number, line in enumerate(lines, 1):
        if line.startswith("%"):
            raise _Stopped(
                codes.DIRECTIVE, Mark(number, 1, len(line.rstrip())), f"`{line.split()[0]}` is a directive",
                "remove the line",
            )  # fmt: skip
        if line.strip() and not line.lstrip().startswith("#"):
            return


class _Reader:
    """Builds the tree, event by event, and counts as it goes."""

    def __init__(self) -> None:
        self.faults: list[tuple[Code, Mark, str, str]] = []
        self.nodes = 0
        self.expanded = 0
        self.anchors: dict[str, tuple[Node, int, int] | None] = {}

    def document(self, text: str) -> Node | None:
        events = self._events(text)
        tree: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                self._one_document(event, documents)
            elif isinstance(event, NodeEvent):
                tree, _, _ = self._node(event, events, 1)
        if self.expanded > EXPANSION * self.nodes:
            what = f"aliases make {self.expanded:,} values out of {self.nodes:,}"
            raise _Stopped(codes.ALIAS, Mark(1, 1), what, codes.ALIAS.help)
        return tree

    def _events(self, text: str) -> Iterator[Event]:
        try:
            yield from YAML(typ="safe", pure=True).parse(text)
        except MarkedYAMLError as fault:
            raise self._broken(fault) from None
        except (
            YAMLError,
            ValueError,
            IndexError,
            RecursionError,
            AssertionError,
            AttributeError,
            TypeError,
        ) as fault:
            # ruamel's scanner fails in many ways on broken input; all of them mean the same.
            raise _Stopped(codes.SYNTAX, Mark(1, 1), f"this is not YAML ({type(fault).__name__})") from None

    def _broken(self, fault: MarkedYAMLError) -> _Stopped:
        at = fault.problem_mark or fault.context_mark
        mark = Mark(at.line + 1, at.column + 1) if at else Mark(1, 1)
        said = ", ".join(part for part in (fault.context, fault.problem) if part)
        advice = next((help for words, help in _ADVICE if words in said), "")
        return _Stopped(codes.SYNTAX, mark, f"this is not YAML: {said}", advice)

    def _one_document(self, event: DocumentStartEvent, number: int) -> None:
        mark = _mark(event)
        if event.version or event.tags:
            raise _Stopped(
                codes.DIRECTIVE, mark, "the file has a directive", "remove the line that begins with %"
            )
        if number > 1:
            raise _Stopped(codes.DOCUMENTS, mark, "a second document begins here", codes.DOCUMENTS.help)

    def _node(self, event: Event, events: Iterator[Event], depth: int) -> tuple[Node, int, int]:
        """The node that begins with this event, how many nodes it is when expanded, and how high it is."""
        mark = _mark(event)
        if isinstance(event, AliasEvent):
            return self._alias(event, mark, depth)
        self._count(mark, 1, depth)
        self.nodes += 1
        self._no_tag(event, mark)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self.anchors[anchor] = None
        made = self._content(event, events, mark, depth)
        if anchor:
            self.anchors[anchor] = made
        return made

    def _content(
        self, event: Event, events: Iterator[Event], mark: Mark, depth: int
    ) -> tuple[Node, int, int]:
        if isinstance(event, SequenceStartEvent):
            return self._sequence(events, mark, depth)
        if isinstance(event, MappingStartEvent):
            return self._mapping(events, mark, depth)
        assert isinstance(event, ScalarEvent)
        return self._scalar(event, mark), 1, 1

    def _sequence(self, events: Iterator[Event], mark: Mark, depth: int) -> tuple[Node, int, int]:
        items: list[Node] = []
        size = height = 0
        for event in events:
            if isinstance(event, CollectionEndEvent):
                mark = _until(mark, event)
                break
            item, nodes, levels = self._node(event, events, depth + 1)
            items.append(item)
            size, height = size + nodes, max(height, levels)
        return Sequence(mark, tuple(items)), size + 1, height + 1

    def _mapping(self, events: Iterator[Event], mark: Mark, depth: int) -> tuple[Node, int, int]:
        entries: dict[str, Entry] = {}
        size = height = 0
        for event in events:
            if isinstance(event, CollectionEndEvent):
                mark = _until(mark, event)
                break
            key, more, _ = self._node(event, events, depth + 1)
            place = _mark(event)
            node, nodes, levels = self._node(next(events), events, depth + 1)
            size, height = size + more + nodes, max(height, levels)
            self._put(entries, key, place, node)
        return Mapping(mark, entries), size + 1, height + 1

    def _put(self, entries: dict[str, Entry], key: Node, mark: Mark, node: Node) -> None:
        if not isinstance(key, Scalar) or not isinstance(key.value, str):
            shown = f"`{short(key.text)}`" if isinstance(key, Scalar) and key.text else "an empty key"
            what = (
                f"{shown if isinstance(key, Scalar) else 'a list or mapping'} is not text, and keys are text"
            )
            self._fault(codes.KEY_KIND, mark, what, "use a name that begins with a letter")
        elif key.value in entries:
            first = entries[key.value].mark.line
            what = f"the key `{short(key.value)}` is said twice, first in line {first}"
            self._fault(codes.DUPLICATE, mark, what, "remove one of them")
        elif bad := _HIDDEN_IN_KEY.search(key.value):
            if not _HIDDEN.search(key.value):  # else it has been found already, as in every text
                self._hidden(mark, bad[0])
        else:
            entries[key.value] = Entry(mark, node)

    def _scalar(self, event: ScalarEvent, mark: Mark) -> Scalar:
        text: str = event.value
        if bad := _HIDDEN.search(text):
            self._hidden(mark, bad[0])
        if event.style is not None:
            return Scalar(mark, text, text)
        try:
            return Scalar(mark, resolve(text), text)
        except ValueError:
            self._fault(codes.TOO_LONG, mark, f"a number of {len(text):,} digits; at most {DIGITS} are read")
            return Scalar(mark, 0, text)

    def _alias(self, event: AliasEvent, mark: Mark, depth: int) -> tuple[Node, int, int]:
        name = str(event.anchor)
        target = self.anchors.get(name)
        if target is None:
            fault = "stands inside its own anchor" if name in self.anchors else "has no anchor before it"
            raise _Stopped(codes.ALIAS, mark, f"alias `*{short(name)}` {fault}", "write the value out")
        node, size, height = target
        self._count(mark, size, depth + height - 1)
        return node, size, height

    def _count(self, mark: Mark, more: int, depth: int) -> None:
        self.expanded += more
        if depth > DEEPEST:
            raise _Stopped(codes.TOO_DEEP, mark, f"nested deeper than {DEEPEST} levels")
        if self.expanded > MOST:
            aliased = self.expanded > EXPANSION * self.nodes
            raise _Stopped(codes.ALIAS if aliased else codes.TOO_MANY, mark, f"more than {MOST:,} values")

    def _no_tag(self, event: Event, mark: Mark) -> None:
        tag = getattr(event, "tag", None)
        if tag:
            self._fault(
                codes.TAG,
                mark,
                f"`{short(str(tag))}` is a tag",
                "remove it; quote the value where it is text",
            )

    def _hidden(self, mark: Mark, character: str) -> None:
        self._fault(
            codes.HIDDEN,
            mark,
            f"the hidden character U+{ord(character):04X} stands in this text",
            "remove it",
        )

    def _fault(self, code: Code, mark: Mark, what: str, help: str = "") -> None:
        self.faults.append((code, mark, what, help))


def _mark(event: Event) -> Mark:
    start, end = event.start_mark, event.end_mark
    same = start.line == end.line
    return Mark(start.line + 1, start.column + 1, end.column - start.column if same else 1, end.line + 1)


def _until(mark: Mark, end: Event) -> Mark:
    """The mark of a collection, once its end is known."""
    last = end.end_mark
    width = last.column + 1 - mark.column if last.line + 1 == mark.line else 1
    return replace(mark, width=max(1, width), last=last.line + 1)
