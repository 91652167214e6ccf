"""YAML text -> a tree of values that know their place in it; the only door to ruamel, with guards."""

# One pass over the events of ruamel's pure parser, so that hostile input is refused before it is expanded.
# Plain scalars are resolved by YAML 1.2's core schema: nothing depends on a directive or on a resolver.

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mahavishnu.errors import Finding, Level
from mahavishnu.ground import codes
from mahavishnu.ground.codes import Code
from mahavishnu.ground.short import short
from mahavishnu.loading.broken import broken
from mahavishnu.loading.guards import LARGEST, UNTAGGED, decoded, guarded
from mahavishnu.loading.nodes import Entry, Mapping, Mark, Node, Scalar, Sequence, where
from mahavishnu.loading.plain_scalars import DIGITS, resolve
from mahavishnu.loading.stopped import Stopped

DEEPEST, MOST, EXPANSION = 64, 50_000, 10

# Characters that hide: controls, changes of direction, byte order marks, halves; in keys also joiners.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_HIDDEN_IN_KEY = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")

# ruamel's scanner fails in many ways on broken input; all of them mean the same.
_BUGS = (AssertionError, AttributeError, TypeError)
_UNREADABLE = (YAMLError, ValueError, LookupError, RecursionError, *_BUGS)

_NOT_ALIASED = "write the value out, or put it in quotes where it is a text that begins with `*`"
_IN_PLACE = re.compile(r"\s*:\s+#(?=\S)")
"""Behind a key: what looks like its value, and is a comment."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a text: the tree (None when it could not be read to its end), the findings, the lines."""

    tree: Node | None
    findings: tuple[Finding, ...]
    lines: tuple[str, ...]


class _Event(NamedTuple):
    """What matters of one event of ruamel's; `kind` is `Scalar`, `SequenceStart`, `Alias` …"""

    kind: str
    mark: Mark
    end: tuple[int, int]
    text: str
    quoted: bool
    anchor: str
    tag: str
    directive: bool

    @classmethod
    def of(cls, raw: Any) -> _Event:
        """Read off ruamel's own, whose types say nothing."""
        start, end = raw.start_mark, raw.end_mark
        width = end.column - start.column if start.line == end.line else 1
        return cls(
            kind=type(raw).__name__.removesuffix("Event"),
            mark=Mark(start.line + 1, start.column + 1, width, end.line + 1),
            end=(end.line + 1, end.column + 1),
            text=str(getattr(raw, "value", None) or ""),
            quoted=getattr(raw, "style", None) is not None,
            anchor=str(getattr(raw, "anchor", None) or ""),
            tag=str(getattr(raw, "tag", None) or ""),
            directive=bool(getattr(raw, "version", None) or getattr(raw, "tags", None)),
        )


def read(data: bytes, file: str) -> Reading:
    """Read one document from the bytes of a file; never raises, whatever the bytes are."""
    lines: tuple[str, ...] = ()
    reader = _Reader()
    tree: Node | None = None
    try:
        text = decoded(data)
        lines = reader.lines = tuple(re.split(r"\r\n|\r|\n", text))
        guarded(data, lines)
        tree = reader.document(text)
    except Stopped as end:
        lines = lines or tuple(data[:LARGEST].decode("utf-8", "replace").splitlines())
        reader.faults.append((end.code, end.mark, end.what, end.help))
    findings = tuple(
        Finding(Level.ERROR, code.id, what, where(file, mark, lines), help)
        for code, mark, what, help in reader.faults
    )
    return Reading(tree, findings, lines)


def documents(text: str) -> tuple[Any, ...]:
    """Every document of a text that this machine has made, as Python data; raises ValueError where it is not YAML."""
    parser: Any = YAML(typ="safe", pure=True)
    try:
        return tuple(parser.load_all(text))
    except MarkedYAMLError as fault:
        found = broken(fault)
        raise ValueError(f"line {found.mark.line}: {found.what}") from None
    except _UNREADABLE as fault:
        raise ValueError(f"this is not YAML ({type(fault).__name__})") from None


class _Reader:
    """Builds the tree, event by event, and counts as it goes."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ()
        self.faults: list[tuple[Code, Mark, str, str]] = []
        self.nodes = 0
        self.expanded = 0
        self.anchors: dict[str, _Made | None] = {}

    def document(self, text: str) -> Node | None:
        """The tree of the one document of a text; None when there is none."""
        events = self._events(text)
        tree: Node | None = None
        documents = 0
        for event in events:
            if event.kind == "DocumentStart":
                documents += 1
                self._one_document(event, documents)
            elif event.kind in ("Scalar", "Alias", "SequenceStart", "MappingStart"):
                tree = self._node(event, events, 1).node
        if self.expanded > EXPANSION * self.nodes:
            what = f"aliases make {self.expanded:,} values out of {self.nodes:,}"
            raise Stopped(codes.ALIAS, Mark(1, 1), what, codes.ALIAS.help)
        return tree

    def _events(self, text: str) -> Iterator[_Event]:
        parser: Any = YAML(typ="safe", pure=True)
        try:
            for raw in parser.parse(text):
                yield _Event.of(raw)
        except MarkedYAMLError as fault:
            raise broken(fault, self.lines) from None
        except _UNREADABLE as fault:
            raise Stopped(codes.SYNTAX, Mark(1, 1), f"this is not YAML ({type(fault).__name__})") from None

    def _one_document(self, event: _Event, number: int) -> None:
        if event.directive:
            raise Stopped(codes.DIRECTIVE, event.mark, "the file has a directive", codes.DIRECTIVE.help)
        if number > 1:
            raise Stopped(codes.DOCUMENTS, event.mark, "a second document begins here", codes.DOCUMENTS.help)

    def _node(self, event: _Event, events: Iterator[_Event], depth: int) -> _Made:
        if event.kind == "Alias":
            return self._alias(event, depth)
        self._count(event.mark, 1, depth)
        self.nodes += 1
        if event.tag:
            self._fault(codes.TAG, event.mark, f"`{short(event.tag)}` is a tag", UNTAGGED)
        if event.anchor:
            self.anchors[event.anchor] = None
        made = self._content(event, events, depth)
        if event.anchor:
            self.anchors[event.anchor] = made
        return made

    def _content(self, event: _Event, events: Iterator[_Event], depth: int) -> _Made:
        if event.kind == "SequenceStart":
            return self._sequence(event.mark, events, depth)
        if event.kind == "MappingStart":
            return self._mapping(event.mark, events, depth)
        return _Made(self._scalar(event), 1, 1)

    def _sequence(self, mark: Mark, events: Iterator[_Event], depth: int) -> _Made:
        items: list[Node] = []
        size = height = 0
        for event in events:
            if event.kind == "SequenceEnd":
                mark = _until(mark, event)
                break
            item = self._node(event, events, depth + 1)
            items.append(item.node)
            size, height = size + item.size, max(height, item.height)
        return _Made(Sequence(mark, tuple(items)), size + 1, height + 1)

    def _mapping(self, mark: Mark, events: Iterator[_Event], depth: int) -> _Made:
        entries: dict[str, Entry] = {}
        size = height = 0
        for event in events:
            if event.kind == "MappingEnd":
                mark = _until(mark, event)
                break
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            size, height = size + key.size + value.size, max(height, value.height)
            self._put(entries, key.node, event.mark, self._looked_at(value.node, event.end))
        return _Made(Mapping(mark, entries), size + 1, height + 1)

    def _looked_at(self, node: Node, end: tuple[int, int]) -> Node:
        """The value of the key that ends there; of an empty one, whether a comment stands in its place."""
        if not isinstance(node, Scalar) or node.value is not None or node.text:
            return node
        line, column = end
        rest = "".join(self.lines[line - 1 : line])[column - 1 :]
        return replace(node, hidden=_IN_PLACE.match(rest) is not None)

    def _put(self, entries: dict[str, Entry], key: Node, mark: Mark, node: Node) -> None:
        if not isinstance(key, Scalar) or not isinstance(key.value, str):
            text = f"`{short(key.text)}`" if isinstance(key, Scalar) and key.text else "an empty key"
            shown = text if isinstance(key, Scalar) else "a list or mapping"
            help = "use a name that begins with a letter"
            self._fault(codes.KEY_KIND, mark, f"{shown} is not text, and keys are text", help)
        elif key.value in entries:
            first = entries[key.value].mark.line
            what = f"the key `{short(key.value)}` is said twice, first in line {first}"
            self._fault(codes.DUPLICATE, mark, what, "remove one of them")
        elif bad := _HIDDEN_IN_KEY.search(key.value):
            if not _HIDDEN.search(key.value):  # else it has been found already, as in every text
                self._hidden(mark, bad[0])
        else:
            entries[key.value] = Entry(mark, node)

    def _scalar(self, event: _Event) -> Scalar:
        mark, text = event.mark, _joined(event.text)
        if bad := _HIDDEN.search(text):
            self._hidden(mark, bad[0])
            text = _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)  # half a character cannot be shown
        if event.quoted:
            return Scalar(mark, text, text)
        try:
            return Scalar(mark, resolve(text), text)
        except ValueError:
            self._fault(codes.TOO_LONG, mark, f"a number of {len(text):,} digits; at most {DIGITS} are read")
            return Scalar(mark, 0, text)

    def _alias(self, event: _Event, depth: int) -> _Made:
        made = self.anchors.get(event.anchor)
        if made is None:
            inside = event.anchor in self.anchors
            fault = "stands inside its own anchor" if inside else "has no anchor before it"
            what = f"alias `*{short(event.anchor)}` {fault}"
            raise Stopped(codes.ALIAS, event.mark, what, "write the value out" if inside else _NOT_ALIASED)
        self._count(event.mark, made.size, depth + made.height - 1)
        return made

    def _count(self, mark: Mark, more: int, depth: int) -> None:
        self.expanded += more
        if depth > DEEPEST:
            raise Stopped(codes.TOO_DEEP, mark, f"nested deeper than {DEEPEST} levels")
        if self.expanded > MOST:
            aliased = self.expanded > EXPANSION * self.nodes
            raise Stopped(codes.ALIAS if aliased else codes.TOO_MANY, mark, f"more than {MOST:,} values")

    def _hidden(self, mark: Mark, character: str) -> None:
        what = f"the hidden character U+{ord(character):04X} stands in this text"
        self._fault(codes.HIDDEN, mark, what, "remove it")

    def _fault(self, code: Code, mark: Mark, what: str, help: str = "") -> None:
        self.faults.append((code, mark, what, help))


class _Made(NamedTuple):
    """A node, how many nodes it is when its aliases are expanded, and how high it is."""

    node: Node
    size: int
    height: int


def _joined(text: str) -> str:
    """The text with pairs of surrogates joined, as JSON writes what lies beyond U+FFFF."""
    if _SURROGATE.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def _until(mark: Mark, end: _Event) -> Mark:
    """The mark of a collection, once its end is known."""
    line, column = end.end
    return replace(mark, width=max(1, column - mark.column if line == mark.line else 1), last=line)
