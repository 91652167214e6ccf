"""The only door to Jinja: whatever a template writes passes the quoting of the file's language first."""

from __future__ import annotations

import json
import os
import re
import shlex
import textwrap
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

import jinja2
from jinja2.meta import find_referenced_templates

from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.caches import caches
from mahavishnu.ground.words import meant
from mahavishnu.units import Quantity

# Plain to a reader of YAML 1.1 and of 1.2 alike: a word that looks like nothing but a word …
_WORD = re.compile(r"/?[A-Za-z][A-Za-z0-9_./-]*")
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
# … or a number that its unit keeps from being one (somebody reads `1e5`, `0x1F`, `1:30`, `1_0` as numbers).
_AMOUNT = re.compile(r"([1-9][0-9]{0,11}(ms|s|m|h|d|w|y|Ki|Mi|Gi|kB|MB|GB|B))+")
_PRINTABLE = re.compile(r"[ -~]*")
# Lines that a literal block carries as they are: no blanks at its beginning, its end, or the end of a line.
_LINES = re.compile(r"(?!\n* )(([ -~]*[!-~])?\n(?!\n*$))*[ -~]*[!-~]\n")

# What marks up within a line of Markdown: code, emphasis, links, HTML, tables, mathematics, entities.
_MARKUP = re.compile(r"[\\`*\[\]<>|&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What makes a line a heading, a list or a rule: only at its beginning.
_LEAD = re.compile(r"^(\d*)((?<=\d)[.)](?=\s|$)|(?<!\d)[#+=-])")

_overrides: ContextVar[Path | None] = ContextVar("overrides", default=None)


@contextmanager
def overriding(folder: Path | None) -> Generator[None]:
    """While this runs, a template in the folder goes before ours of the same name."""
    token = _overrides.set(folder)
    try:
        yield
    finally:
        _overrides.reset(token)


@contextmanager
def blaming(folder: Path | None) -> Generator[None]:
    """A fault in a template of the folder is the user's, who is told where it is: MahavishnuError."""
    try:
        yield
    except Exception as fault:
        if folder is not None and (place := _place(fault, folder)):
            raise MahavishnuError(f"the template {place} cannot be filled in: {fault}") from fault
        raise


def refuse_strays(folder: Path) -> None:
    """Raise MahavishnuError for files of the folder that nobody would read: no name of ours, and included by none.

    Hidden ones are nobody's templates.
    """
    own = {name: folder / name for name in _below(folder) if not re.search(r"(^|/)\.", name)}
    ours = _below(Path(str(_own_folder())), "*.j2")
    if strays := sorted({*own} - {*ours}):
        strays = sorted({*strays} - _included(own.values()))
    if strays:
        told = (f"`{own[one]}` replaces no template of ours: {meant(one, ours)}" for one in strays)
        raise MahavishnuError("; ".join(told))


def _below(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob(pattern) if one.is_file())


def _included(paths: Iterable[Path]) -> set[str | None]:
    """The names of the templates that these include, import or extend."""
    parse = jinja2.Environment().parse  # noqa: S701 - nothing is rendered by it
    read = ((path.read_text(encoding="utf-8"), str(path)) for path in paths)
    return {name for text, file in read for name in find_referenced_templates(parse(text, filename=file))}


def _place(fault: Exception, folder: Path) -> str:
    """The file below the folder, and its line, in which something went wrong; empty where it was elsewhere."""
    import traceback

    if isinstance(fault, UnicodeDecodeError):
        return f"in `{folder}` that is no UTF-8"
    if isinstance(fault, jinja2.TemplateSyntaxError):
        lines: list[tuple[str, int | None]] = [(fault.filename or "", fault.lineno)]
    else:
        lines = [(one.filename, one.lineno) for one in traceback.extract_tb(fault.__traceback__)]
    own = [f"`{file}`, line {line}," for file, line in lines if Path(file).is_relative_to(folder)]
    return own[-1] if own else ""


def render(template: str, **values: object) -> str:
    """Fill in a template, named by its path below templates/ (`prometheus/rules.yml.j2`).

    Raises jinja2.UndefinedError for a value that is not given, ValueError for one that no quoting can carry.
    """
    return _environment(_language(template), _overrides.get()).get_template(template).render(values)


def yaml_scalar(value: object) -> str:
    """One value as YAML that reads the same under 1.1 and 1.2; lists and mappings become flow style."""
    return str(value) if isinstance(value, Block) else _written(value, yaml_text)


@lru_cache(maxsize=4096)
def yaml_text(text: str) -> str:
    """Text as a YAML scalar on one line: bare when nothing could read it as anything else, else quoted."""
    if _AMOUNT.fullmatch(text) or (_WORD.fullmatch(text) and text.lower() not in _RESERVED):
        return text
    if _PRINTABLE.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_yaml_escaped, text)) + '"'


def yaml_document(value: Mapping[str, object]) -> str:
    """A whole document: sections and what they name on lines of their own, what is deeper in flow style."""
    lines: list[str] = []
    for section, content in value.items():
        whole: object = content
        named: Mapping[str, object] = {}
        if isinstance(content, Mapping):
            named = cast("Mapping[str, object]", content)
        lines.append(f"{yaml_text(section)}:" + ("" if named else f" {yaml_scalar(whole)}"))
        lines += [f"  {yaml_text(key)}: {yaml_scalar(one)}" for key, one in named.items()]
    return "\n".join(lines) + "\n"


class Block(NamedTuple):
    """Text of several lines for a template: written as a literal block, `depth` spaces in."""

    text: str
    depth: int

    def __str__(self) -> str:
        if not _LINES.fullmatch(self.text):
            return yaml_text(self.text)
        return "|\n" + textwrap.indent(self.text, " " * self.depth).removesuffix("\n")


def json_value(value: object) -> str:
    """One value as JSON in ASCII."""
    return _written(value, json.dumps)


class Code(NamedTuple):
    """Text that a page shows as it is: lines of a block of their own, or some words within a sentence."""

    text: str
    inline: bool = False

    def __str__(self) -> str:
        if not self.inline:
            return _indented(self.text)
        text = _visible(self.text)
        ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        # One blank at both ends is taken away by the reader.
        space = " " if "`" in (text[:1], text[-1:]) or (text[:1] == text[-1:] == " " and text.strip()) else ""
        return f"{ticks}{space}{text}{space}{ticks}"


@lru_cache(maxsize=1024)
def _indented(text: str) -> str:
    return "\n".join(f"    {_visible(line)}" for line in text.split("\n"))


class Link(NamedTuple):
    """Words of a page that lead somewhere."""

    text: str
    url: str

    def __str__(self) -> str:
        return f"[{_markdown_text(self.text)}](<{_markdown_text(self.url)}>)"


class Mark(NamedTuple):
    """A line of a page that readers do not see."""

    text: str

    def __str__(self) -> str:
        return self.text


_MARKED = (Code, Link, Mark)


def markdown(value: object) -> str:
    """Text that a reader of Markdown (CommonMark, GitHub's) shows as it is, on one line; code, links and marks."""
    return str(value) if isinstance(value, _MARKED) else _written(value, _markdown_text)


@lru_cache(maxsize=1024)
def _markdown_text(text: str) -> str:
    escaped = _MARKUP.sub(r"\\\g<0>", _visible(text).strip())
    return _LEAD.sub(r"\1\\\2", escaped)


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def docker_word(value: object) -> str:
    """Text as one shell word of a Dockerfile line, a list as the exec form of an instruction.

    Raises ValueError for line breaks: an instruction ends with its line, whatever the quotes say.
    """
    if type(value) in _LISTS:
        return json.dumps([str(one) for one in cast("Sequence[object]", value)])
    word = _written(value, str)
    if not word.isprintable():
        raise ValueError(f"a Dockerfile cannot carry {word!r}")
    return shlex.quote(word)


def shell_word(value: object) -> str:
    """Text as one word of a shell, a list as that many words; raises ValueError for what cannot be seen."""
    if type(value) in _LISTS:
        return " ".join(map(shell_word, cast("Sequence[object]", value)))
    word = _written(value, str)
    if not word.isprintable():
        raise ValueError(f"a shell script cannot carry {word!r}")
    return shlex.quote(word)


def bare_word(value: object) -> str:
    """Text that is one word to every reader of settings, and needs no quotes; raises ValueError for any other."""
    word = _written(value, str)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", word):
        raise ValueError(f"settings cannot carry {word!r}")
    return word


class Pattern(NamedTuple):
    """A line of an ignore file, which its reader takes as it is."""

    text: str

    def __str__(self) -> str:
        return self.text


def ignored_path(value: object) -> str:
    """A path as a pattern that fits no other; raises ValueError for one that no line of an ignore file can be."""
    if isinstance(value, Pattern):
        return str(value)
    text = _written(value, str)
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"an ignore file cannot carry {text!r}")
    return re.sub(r"[\\*?\[\]!#]", r"\\\g<0>", text)


_TEXTS = (str, Quantity)
_LISTS = (list, tuple)  # and none of their kinds: a record is no list


def _written(value: object, text: Callable[[str], str]) -> str:
    if isinstance(value, _TEXTS):
        return text(str(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return "{" + ", ".join(f"{text(str(key))}: {_written(one, text)}" for key, one in pairs) + "}"
    if type(value) in _LISTS:
        return "[" + ", ".join(_written(one, text) for one in cast("Sequence[object]", value)) + "]"
    str(value)  # says which name it was, when a template asks for a value that it was not given
    raise ValueError(f"a template cannot write {value!r}: neither text, number, list nor mapping")


def _yaml_escaped(char: str) -> str:
    if char in '\\"':
        return "\\" + char
    if " " <= char <= "~":
        return char
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"half a surrogate pair (U+{code:04X}) is no text")
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


_LANGUAGES: Mapping[str, Callable[[Any], str]] = {
    ".yml": yaml_scalar,
    ".yaml": yaml_scalar,
    ".json": json_value,
    ".conf": bare_word,
    ".md": markdown,
    ".sh": shell_word,
    "Dockerfile": docker_word,
    ".dockerignore": ignored_path,
}


def _language(template: str) -> str:
    name = PurePosixPath(template.removesuffix(".j2"))
    language = name.suffix or name.name
    if language not in _LANGUAGES:
        raise ValueError(f"no quoting is known for `{template}`: {', '.join(_LANGUAGES)} are")
    return language


@cache
def _environment(language: str, overrides: Path | None) -> jinja2.Environment:
    ours = jinja2.FunctionLoader(_own_text)
    loader = jinja2.ChoiceLoader([jinja2.FileSystemLoader(overrides), ours]) if overrides else ours
    return jinja2.Environment(  # noqa: S701  HTML's escaping is no help here: `finalize` quotes
        loader=loader,
        bytecode_cache=_translated(),
        finalize=_LANGUAGES[language],
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _translated() -> jinja2.BytecodeCache | None:
    """Where templates lie as Python's own code, by the hash of their text; nowhere where nothing can be written."""
    try:
        folder = Path(caches()) / "templates"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return jinja2.FileSystemBytecodeCache(str(folder)) if os.access(folder, os.W_OK) else None
    except OSError:
        return None


def _own_text(template: str) -> str | None:
    file = _own_folder().joinpath(*template.split("/"))
    return file.read_text(encoding="utf-8") if file.is_file() else None


@cache
def _own_folder() -> Traversable:
    return files("mahavishnu.templates")
