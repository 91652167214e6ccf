"""`generate` of what has not changed since it was generated: told by hashes, and nothing is compiled."""

# A record names all that a run read and wrote. What people write, and what was written for them, is known by its hash;
# modules, ours and those of others, by their time and size. It lies among the caches of the user, and may be lost.

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from mahavishnu import __version__
from mahavishnu.ground.caches import caches

ASKED: ContextVar[Sequence[str]] = ContextVar("asked", default=())
"""The words of a process of its own; none where nothing is to be remembered."""
_CONTENT, _STAMP = "content", "stamp"


class Said(NamedTuple):
    """What a run has printed."""

    out: str
    err: str


def told(words: Sequence[str]) -> Said | None:
    """What was said when these words were last asked for here; None unless all is as it was then."""
    if words[:1] != ["generate"]:
        return None
    try:
        with open(_record(words), encoding="utf-8") as file:
            out, err, lines = file.read().split("\0")
        same = all(line == _line(*line.split(" ", 2)[::2]) for line in lines.splitlines())
        return Said(out, err) if same else None
    except (OSError, ValueError, TypeError):
        return None


def seen(paths: Iterable[str]) -> list[str]:
    """Files and folders as they are now, also those that are not there: a line for each."""
    return [_line(_CONTENT, path) for path in paths]


def remember(said: Said, rests_on: Iterable[str]) -> None:
    """Keep what was said, with what it rests on as it was `seen`: before it was read, and after it was written."""
    lines = [*rests_on, *_code()]
    path = _record(ASKED.get())
    if any(len(line.splitlines()) > 1 for line in lines):
        return
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            file.write("\0".join((*said, "\n".join(lines))))
        os.replace(file.name, path)
    except OSError:
        return  # without it the next run only takes longer


def _record(words: Sequence[str]) -> str:
    """The file for what is asked, from where, and in what environment."""
    variables = sorted(one for one in os.environ.items() if one[0].startswith("MAHAVISHNU_"))
    terminal = (
        sys.stderr.isatty(),
        os.environ.get("NO_COLOR"),
        os.environ.get("TERM"),
    )  # colours are part of it
    asked = repr((__version__, sys.version, sys.path, os.getcwd(), variables, terminal, [*words]))
    return f"{caches()}/generated/{_digest(asked.encode())}"


def _line(kind: str, path: str) -> str:
    """A path as it is now; raises OSError for a module that is not there."""
    if kind == _CONTENT:
        return f"{kind} {'link/' if os.path.islink(path) else ''}{_content(path)} {path}"
    now = os.stat(path)
    return f"{kind} {now.st_mtime_ns}/{now.st_size} {path}"


def _content(path: str) -> str:
    if not os.path.lexists(path):
        return "-"
    try:
        if os.path.isdir(path):
            return _digest(repr(sorted(os.listdir(path))).encode())
        with open(path, "rb") as file:
            return _digest(file.read())
    except OSError:
        return "?"


def _code() -> Iterator[str]:
    """Every module that this run has loaded, our templates, and the folders where another one could come to be.

    These are ours, and those of packages, which may bring generators.
    """
    from importlib.resources import files

    loaded = {name: path for name, one in [*sys.modules.items()] if (path := getattr(one, "__file__", None))}
    ours = {os.path.dirname(path) for name, path in loaded.items() if name.startswith("mahavishnu.")}
    every = os.walk(str(files("mahavishnu.templates")))
    templates = {
        path for folder, _, names in every for path in (folder, *(f"{folder}/{one}" for one in names))
    }
    packages = {path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")}
    for path in sorted({*loaded.values()} | ours | templates | packages):
        if os.path.exists(path):
            yield _line(_STAMP, path)


def _digest(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()
