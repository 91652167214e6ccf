"""YAML text -> a tree of values that know their place in it; the only door to ruamel, with guards."""

# One pass over the events of ruamel's pure parser, so that hostile input is refused before it is expanded.
# Plain scalars are resolved here, by YAML 1.2's core schema: nothing depends on a directive or on a resolver.

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mahavishnu.errors import Finding, Level, Path, Where
from mahavishnu.files.merges import unmerged
from mahavishnu.ground import codes
from mahavishnu.ground.codes import Code

_UNBROKEN = re.compile(r"[^\s,\[\]{}]{500,}")
_UNTAGGED = "remove it; quote the value where it is text"
LARGEST, DEEPEST, MOST, EXPANSION, DIGITS = 2**20, 64, 50_000, 10, 19

# What YAML 1.2 does not let stand in a file, and the line breaks that only some readers see.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
# Characters that hide: controls, changes of direction, byte order marks, halves; in keys also joiners.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_HIDDEN_IN_KEY = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

_SURROGATE = re.compile("[\ud800-\udfff]")

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)

# ruamel's scanner fails in many ways on broken input; all of them mean the same.
_BUGS = (AssertionError, AttributeError, TypeError)
_UNREADABLE = (YAMLError, ValueError, LookupError, RecursionError, *_BUGS)
_ADVICE = (
    ("mapping values are not allowed", "quote a text that contains `: `, and look at the indentation"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("expected <block end>", "look at the indentation: this line does not fit the lines above"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("cannot start any token", "quote a text that begins with such a character"),
    ("scanning an alias", 'put a text that begins with `*` in quotes, like `"*"`'),
    ("scanning an anchor", 'put a text that begins with `&` in quotes, like `"&"`'),
)

_NUMBER_SIGN = "put a text that begins with `#` in quotes"
HIDING = f"` #` begins a comment: {_NUMBER_SIGN}"
_BRACKETED = 'put a text with `{` or `[` in it in quotes, like `"/orders/{id}"`'
_NOT_ALIASED = "write the value out, or put it in quotes where it is a text that begins with `*`"
_LONGEST = (
    1000  # no line of a person's is longer, and what is looked for in it may take with its length squared
)
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|' r"'[^']*'")
_IN_PLACE = re.compile(r"\s*:\s+#(?=\S)")
"""Behind a key: what looks like its value, and is a comment."""
_BEGINS = re.compile(r"(?<=\s)#")
_WORD = re.compile(r"[^\s,\"'{}\[\]]+|[{\[][^\s,\"'{}\[\]]*[}\]]")
"""A piece of a text without spaces: one without brackets, or one in a pair of them."""
_PLAIN = re.compile(r"[\w./][\w./:%@+*=<>~ -]*")
"""What needs no quotes wherever it stands, unless it holds `: ` or ends like that."""

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


class _Stopped(Exception):
    """Reading cannot go on; `finding` says why."""

    def __init__(self, code: Code, mark: Mark, what: str, help: str = "") -> None:
        super().__init__(what)
        self.code, self.mark, self.what, self.help = code, mark, what, help


def read(data: bytes, file: str) -> Reading:
    """Read one document from the bytes of a file; never raises, whatever the bytes are."""
    lines: tuple[str, ...] = ()
    reader = _Reader()
    tree: Node | None = None
    try:
        text = _decoded(data)
        lines = reader.lines = tuple(re.split(r"\r\n|\r|\n", text))
        _no_conflict(data, lines)
        _no_directives(lines)
        _no_long_tags(lines)
        tree = reader.document(text)
    except _Stopped as end:
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
        broken = _broken(fault)
        raise ValueError(f"line {broken.mark.line}: {broken.what}") from None
    except _UNREADABLE as fault:
        raise ValueError(f"this is not YAML ({type(fault).__name__})") from None


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


def _no_conflict(data: bytes, lines: tuple[str, ...]) -> None:
    """Whatever a reader of YAML says of the marks of a merge, it is not what is wrong."""
    if found := unmerged(data):
        what = f"a merge left its marks in this file, here `{short(found.mark)}`"
        help = "keep what holds of both sides, and remove the lines of `<<<<<<<`, `=======` and `>>>>>>>`"
        raise _Stopped(codes.SYNTAX, Mark(found.line, 1, len(lines[found.line - 1])), what, help)


def _no_long_tags(lines: tuple[str, ...]) -> None:
    """Ruamel spells out each tag, which takes with its length squared, before anybody can refuse it."""
    for number, line in enumerate(lines, 1):
        for word in _UNBROKEN.finditer(line):
            if (place := word[0].find("!")) >= 0:
                mark = Mark(number, word.start() + place + 1, 1)
                raise _Stopped(codes.TAG, mark, f"`{short(word[0][place:])}` is a tag", _UNTAGGED)


def _no_directives(lines: tuple[str, ...]) -> None:
    for number, line in enumerate(lines, 1):
        if line.startswith("%"):
            raise _Stopped(
                codes.DIRECTIVE, Mark(number, 1, len(line.rstrip())), f"`{short(line.split()[0])}` is a directive",
                "remove the line",
            )  # fmt: skip
        if line.strip() and not line.lstrip().startswith("#"):
            return


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
            raise _Stopped(codes.ALIAS, Mark(1, 1), what, codes.ALIAS.help)
        return tree

    def _events(self, text: str) -> Iterator[_Event]:
        parser: Any = YAML(typ="safe", pure=True)
        try:
            for raw in parser.parse(text):
                yield _Event.of(raw)
        except MarkedYAMLError as fault:
            raise _broken(fault, self.lines) from None
        except _UNREADABLE as fault:
            raise _Stopped(codes.SYNTAX, Mark(1, 1), f"this is not YAML ({type(fault).__name__})") from None

    def _one_document(self, event: _Event, number: int) -> None:
        if event.directive:
            raise _Stopped(codes.DIRECTIVE, event.mark, "the file has a directive", codes.DIRECTIVE.help)
        if number > 1:
            raise _Stopped(codes.DOCUMENTS, event.mark, "a second document begins here", codes.DOCUMENTS.help)

    def _node(self, event: _Event, events: Iterator[_Event], depth: int) -> _Made:
        if event.kind == "Alias":
            return self._alias(event, depth)
        self._count(event.mark, 1, depth)
        self.nodes += 1
        if event.tag:
            self._fault(codes.TAG, event.mark, f"`{short(event.tag)}` is a tag", _UNTAGGED)
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
            raise _Stopped(codes.ALIAS, event.mark, what, "write the value out" if inside else _NOT_ALIASED)
        self._count(event.mark, made.size, depth + made.height - 1)
        return made

    def _count(self, mark: Mark, more: int, depth: int) -> None:
        self.expanded += more
        if depth > DEEPEST:
            raise _Stopped(codes.TOO_DEEP, mark, f"nested deeper than {DEEPEST} levels")
        if self.expanded > MOST:
            aliased = self.expanded > EXPANSION * self.nodes
            raise _Stopped(codes.ALIAS if aliased else codes.TOO_MANY, mark, f"more than {MOST:,} values")

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


def _broken(fault: Any, lines: tuple[str, ...] = ()) -> _Stopped:
    """What the parser complains of, where the mistake is, which may be long before."""
    began, mark = _mark(fault.context_mark), _mark(fault.problem_mark or fault.context_mark)
    said = ", ".join(str(part) for part in (fault.context, fault.problem) if part)
    if "quoted scalar" in said and "end of stream" in said:
        return _Stopped(
            codes.SYNTAX, began, "this is not YAML: a quote that is never closed", "close the quote"
        )
    if "flow" in said and (comment := _hiding_comment(lines, began, mark)):
        what = "this is not YAML: ` #` begins a comment, which hides a bracket"
        return _Stopped(codes.SYNTAX, comment, what, _NUMBER_SIGN)
    if word := _bracketed(lines, mark):
        what = "this is not YAML: a text with a bracket in it stands without quotes"
        return _Stopped(codes.SYNTAX, word, what, _BRACKETED)
    if "\\t" in said:
        indents = not "".join(lines[mark.line - 1 : mark.line])[: mark.column - 1].strip()
        what = "a tab stands here; a spec is read with spaces only"
        return _Stopped(
            codes.SYNTAX, mark, what, "indent with spaces" if indents else "write a space in its place"
        )
    advice = next((help for words, help in _ADVICE if words in said), "")
    opened = "".join(lines[began.line - 1 : began.line])[began.column - 1 : began.column]
    if "expected ',' or" in said and opened in ("{", "["):
        advice = f"the `{opened}` of line {began.line} is not closed, or a comma is missing"
    return _Stopped(codes.SYNTAX, mark, f"this is not YAML: {said}", advice)


def _mark(place: Any) -> Mark:
    return Mark(place.line + 1, place.column + 1) if place else Mark(1, 1)


def _hiding_comment(lines: tuple[str, ...], began: Mark, end: Mark) -> Mark | None:
    """The last comment before the end that looks like a value, and holds a bracket which therefore closes nothing."""
    first = began.line if began.line < end.line else 1
    for number in range(min(end.line, len(lines)), first - 1, -1):
        bare = _QUOTED.sub(lambda quoted: "q" * len(quoted[0]), lines[number - 1][:_LONGEST])
        found = _BEGINS.search(bare)
        comment = bare[found.end() :] if found else ""
        if found and comment[:1].strip() and ("}" in comment or "]" in comment):
            return Mark(number, found.start() + 1)
    return None


def _bracketed(lines: tuple[str, ...], mark: Mark) -> Mark | None:
    """The text like `/orders/{id}` within which a bracket, or what comes after one, stopped the parser."""
    line, at = "".join(lines[mark.line - 1 : mark.line])[:_LONGEST], mark.column - 1
    pieces: list[re.Match[str]] = []
    for piece in _WORD.finditer(line):
        if pieces and pieces[-1].end() != piece.start():
            if pieces[0].start() < at < pieces[-1].end():
                break
            pieces = []
        pieces.append(piece)
    inside = pieces and pieces[0].start() < at < pieces[-1].end()
    bracketed = [piece[0][0] in "{[" for piece in pieces]
    if not inside or not any(bracketed) or all(bracketed):
        return None
    start = pieces[0].start()
    return Mark(mark.line, start + 1, pieces[-1].end() - start)


def _joined(text: str) -> str:
    """The text with pairs of surrogates joined, as JSON writes what lies beyond U+FFFF."""
    if _SURROGATE.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def _until(mark: Mark, end: _Event) -> Mark:
    """The mark of a collection, once its end is known."""
    line, column = end.end
    return replace(mark, width=max(1, column - mark.column if line == mark.line else 1), last=line)
