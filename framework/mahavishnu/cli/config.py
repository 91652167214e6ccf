"""`mahavishnu config`: the settings in force, and where each comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, cast

import typer

from mahavishnu.cli import _output
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.errors import Level, Path
from mahavishnu.ground import variables
from mahavishnu.load import Loaded, load
from mahavishnu.loading.hiding import without_queries
from mahavishnu.loading.nodes import Scalar, at
from mahavishnu.loading.secrecy import SECRET_FILE
from mahavishnu.loading.shape import dotted

DEFAULT = "default"
Row = tuple[Path, Any, str]
"""The path of a setting, its value, and where that was said."""
_PLAIN = re.compile(r"(?!(null|true|false|yes|no|on|off|y|n)$)[a-z][a-z0-9_]*", re.IGNORECASE)
"""Keys that mean the same in YAML 1.1 and 1.2 without quotes."""


class Format(StrEnum):
    """How settings are written."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def config(
    spec: SpecOption = None,
    env: EnvOption = None,
    form: Annotated[Format, typer.Option("--format", help="How settings are written.")] = Format.TEXT,
    defaults: Annotated[bool, typer.Option(help="Show the values that nobody wrote, too.")] = True,
    origin: Annotated[bool, typer.Option(help="Show where each value was said.")] = True,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Try a value on top of all, like `limits.login.rate=5/minute`; may be repeated."
        ),
    ] = None,
) -> None:
    """Show every setting in force on this machine, and where it was said.

    Weakest first: defaults, the file, its environment, the secrets directory, .env, variables MAHAVISHNU_…, --set.
    A variable that matches no setting is an error here. As YAML, without defaults, it is a spec that says the same.
    """
    overrides = dict(map(_override, over or ()))
    environment = env or variables.environment()
    loaded = load(spec_path(spec), environment, runtime=True, overrides=overrides)
    rows = [row for row in settings(loaded) if defaults or row[2] != DEFAULT]
    print({Format.TEXT: _text, Format.JSON: _json, Format.YAML: _yaml}[form](rows, origin), end="")
    findings = tuple(replace(finding, severity=Level.ERROR) for finding in loaded.findings)
    _output.report(findings)
    raise typer.Exit(_output.verdict(findings))


def _override(said: str) -> tuple[str, str]:
    place, equals, value = said.partition("=")
    if not equals:
        raise typer.BadParameter("write it like `limits.login.rate=5/minute`", param_hint="--set")
    return place, value


def settings(loaded: Loaded) -> Iterator[Row]:
    """Path, value and origin of every setting; what a secret file holds, and secrets in URLs, are not shown."""
    origins = loaded.origins
    data = loaded.spec.model_dump(mode="json", by_alias=True, exclude={"environments"}, exclude_none=True)
    for path, value in _leaves(data):
        origin = origins.get(path) or _of_parts(path, origins) or _of_word(path, loaded) or DEFAULT
        yield path, "********" if SECRET_FILE in origin else _hidden(value), origin


def _hidden(value: Any) -> Any:
    """The value, or each of a list, without what might be a secret in a URL."""
    if isinstance(value, list):
        return [_hidden(one) for one in cast("Iterable[Any]", value)]
    return without_queries(value) if isinstance(value, str) else value


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _leaves(inner, (*path, key))
    elif path:
        yield path, value


def _of_parts(path: Path, origins: dict[Path, str]) -> str:
    """Where the first part of a list was said; the list has no value of its own."""
    return next((origin for at, origin in origins.items() if at[: len(path)] == path), "")


def _of_word(path: Path, loaded: Loaded) -> str:
    """Where a mapping of one key was said as a word, like `fallback: dead_letter`."""
    said = at(loaded.tree, path[:-1])
    return loaded.origins[path[:-1]] if isinstance(said, Scalar) and said.text == path[-1] else ""


def _text(rows: list[Row], origin: bool) -> str:
    cells = [(dotted(path), _shown(value), said if origin else "") for path, value, said in rows]
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:2]]
    lines = (f"{path:<{widths[0]}}  {value:<{widths[1]}}  {said}" for path, value, said in cells)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _shown(value: Any) -> str:
    return _output.printable(value) if isinstance(value, str) else json.dumps(value)


def _json(rows: list[Row], origin: bool) -> str:
    found = {
        dotted(path): {"value": value, "origin": said} if origin else value for path, value, said in rows
    }
    return json.dumps(found, indent=2) + "\n"


def _yaml(rows: list[Row], origin: bool) -> str:
    """A mapping in a mapping, as the spec itself is written; every value is JSON, which YAML reads as it is."""
    lines: list[str] = []
    before: Path = ()
    for path, value, said in rows:
        for depth, step in enumerate(path[:-1]):
            if path[: depth + 1] != before[: depth + 1]:
                lines.append(f"{'  ' * depth}{_key(step)}:")
        note = f"  # {_output.printable(said)}" if origin else ""
        lines.append(f"{'  ' * (len(path) - 1)}{_key(path[-1])}: {json.dumps(value)}{note}")
        before = path[:-1]
    return "".join(f"{line}\n" for line in lines)


def _key(key: str | int) -> str:
    return key if isinstance(key, str) and _PLAIN.fullmatch(key) else json.dumps(key)
