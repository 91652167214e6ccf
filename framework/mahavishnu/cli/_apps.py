"""Which apps the code of a project defines, and from where they are imported; told without running any of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from mahavishnu.cli._folders import own

SRC = "src"
_DEEPEST = 6
_NEAR = 2
"""Folders so deep are looked at together; those below only where nothing was found above them."""
_KINDS = frozenset({"FastAPI", "Starlette"})
_MAKERS = _KINDS | {"create_app", "http_app", "streamable_http_app", "sse_app"}
_TYPES = _KINDS | {"ASGIApp", "StarletteWithLifespan"}
_MOUNTS = frozenset({"mount", "Mount", "Host"})
_TESTS = re.compile(r"(^|_)(conf)?tests?(_|$)")
_FROM_SRC = re.compile(rf"^\s*(from|import)\s+{SRC}\b", re.MULTILINE)


class AppPlace(NamedTuple):
    """An app, or a factory of one, as `module:attribute`, and the folder that the module is found in."""

    target: str
    folder: str

    def __str__(self) -> str:
        return self.target if self.folder == "." else f"{self.target} in {self.folder}"


def apps(folder: str | None) -> list[AppPlace]:
    """Those in the modules nearest to here, or to the folder that modules are found in: apps, else factories."""
    files = sorted(_modules(Path(folder or ".")), key=_depth)
    for _, those in groupby(files, key=_depth):
        sources = [_Source(path, folder) for path in those]
        found = [app for one in sources for app in one.apps] or [
            app for one in sources for app in one.factories
        ]
        if found:
            return found
    return []


def home(target: str) -> str:
    """The folder that the module of an app is found in: `src`, where it is there and not here."""
    top = target.partition(":")[0].partition(".")[0]
    here, there = (any(Path(folder, f"{top}{end}").exists() for end in ("", ".py")) for folder in (".", SRC))
    return SRC if there and not here else "."


def _modules(folder: Path) -> Iterator[Path]:
    """Every module that can be imported by its name, but for tests."""
    for here, names in own(folder):
        parts = here.relative_to(folder).parts
        if len(parts) >= _DEEPEST or not all(map(_imported, parts)):
            continue
        yield from (here / name for name in names if name.endswith(".py") and _imported(name[:-3]))


def _imported(name: str) -> bool:
    return name.isidentifier() and not _TESTS.search(name)


def _depth(path: Path) -> int:
    return max(_NEAR, len(path.parts) - path.parts.count(SRC))


class _Source:
    """A module that has been read, but not run."""

    def __init__(self, path: Path, folder: str | None) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        root = Path(folder) if folder is not None else _root(path, text)
        parts = path.relative_to(root).with_suffix("").parts
        self._module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self._folder = root.as_posix()
        self._body = _parsed(text)

    @property
    def apps(self) -> list[AppPlace]:
        """What is assigned an app, and is mounted in no other."""
        makers = {*_MAKERS, *self._factories()}
        mounted = {name for statement in self._body for name in _mounted(statement)}
        return [self._app(name) for name in _assigned(self._body, makers) if name not in mounted]

    @property
    def factories(self) -> list[AppPlace]:
        """Functions that make an app of nothing."""
        return [self._app(name) for name in self._factories()]

    def _factories(self) -> list[str]:
        defined = (one for one in self._body if isinstance(one, ast.FunctionDef))
        return [one.name for one in defined if _needs_nothing(one.args) and _makes(one)]

    def _app(self, name: str) -> AppPlace:
        return AppPlace(f"{self._module}:{name}", self._folder)


def _parsed(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return []


def _root(path: Path, text: str) -> Path:
    """The folder from which a module is imported: above its outermost package, else `src`, or here."""
    folder = path.parent
    if (folder / "__init__.py").is_file():
        while (folder / "__init__.py").is_file() and folder != Path():
            folder = folder.parent
        return folder
    return Path(SRC) if path.parts[0] == SRC and not _FROM_SRC.search(text) else Path()


def _assigned(body: Iterable[ast.stmt], makers: Iterable[str]) -> list[str]:
    """The names that are assigned what a maker returns."""
    made = (
        (one.targets if isinstance(one, ast.Assign) else [one.target], one.value)
        for one in body
        if isinstance(one, ast.Assign | ast.AnnAssign)
    )
    targets = (target for targets, value in made if _called(value) in makers for target in targets)
    return list(dict.fromkeys(target.id for target in targets if isinstance(target, ast.Name)))


def _called(value: ast.expr | None) -> str:
    """The last name of what is called."""
    return _last(value.func) if isinstance(value, ast.Call) else ""


def _last(value: ast.expr | None) -> str:
    if isinstance(value, ast.Constant):  # an annotation in quotes
        return str(value.value).rpartition(".")[2]
    return value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")


def _mounted(statement: ast.stmt) -> Iterator[str]:
    """The names that are handed to what mounts one app in another."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and _called(node) in _MOUNTS:
            given = (*node.args, *(one.value for one in node.keywords))
            yield from (one.id for one in given if isinstance(one, ast.Name))


def _needs_nothing(args: ast.arguments) -> bool:
    every = len(args.posonlyargs) + len(args.args)
    return every == len(args.defaults) and all(one is not None for one in args.kw_defaults)


def _makes(function: ast.FunctionDef) -> bool:
    """Whether what a function returns is an app: by its name or annotation, or by what it returns."""
    if function.name == "create_app" or _last(function.returns) in _TYPES:
        return True
    inside = [*_own_statements(function.body)]
    made = _assigned(inside, _MAKERS)
    returned = [one.value for one in inside if isinstance(one, ast.Return)]
    return any(_called(one) in _MAKERS or (isinstance(one, ast.Name) and one.id in made) for one in returned)


def _own_statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a function and its blocks, none of the functions within it."""
    for one in body:
        yield one
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _own_statements(
                part for part in ast.iter_child_nodes(one) if isinstance(part, ast.stmt)
            )
