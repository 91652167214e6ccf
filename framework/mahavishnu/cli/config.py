"""`mahavishnu config`: the settings in force, and where each comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, cast

import typer

from mahavishnu.cli import _output
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.errors import Level, Path
from mahavishnu.load import Loaded, load
from mahavishnu.loading.faults import SECRET_FILE
from mahavishnu.loading.shape import dotted

DEFAULT = "default"


class Format(StrEnum):
    """How settings are written."""

    TEXT = "text"
    JSON = "json"


def config(
    spec: SpecOption = None,
    env: EnvOption = None,
    form: Annotated[Format, typer.Option("--format", help="How settings are written.")] = Format.TEXT,
    defaults: Annotated[bool, typer.Option(help="Show the values that nobody wrote, too.")] = True,
) -> None:
    """Show every setting in force on this machine, and where it was said.

    Weakest first: defaults, the file, its environment, the secrets directory, .env, variables MAHAVISHNU_….
    A variable that matches no setting is an error here.
    """
    loaded = load(spec_path(spec), env or os.environ.get("MAHAVISHNU_ENV"), runtime=True)
    rows = [row for row in settings(loaded) if defaults or row[2] != DEFAULT]
    print(_text(rows) if form is Format.TEXT else _json(rows), end="")
    findings = tuple(replace(finding, severity=Level.ERROR) for finding in loaded.findings)
    _output.report(findings)
    raise typer.Exit(_output.verdict(findings))


def settings(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """Path, value and origin of every setting; what a secret file holds is not shown."""
    origins = loaded.origins
    data = loaded.spec.model_dump(mode="json", by_alias=True, exclude={"environments"}, exclude_none=True)
    for path, value in _leaves(data):
        origin = origins.get(path) or _of_parts(path, origins) or DEFAULT
        yield dotted(path), "********" if SECRET_FILE in origin else value, origin


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _leaves(inner, (*path, key))
    elif path:
        yield path, value


def _of_parts(path: Path, origins: dict[Path, str]) -> str:
    """Where the first part of a list was said; the list has no value of its own."""
    return next((origin for at, origin in origins.items() if at[: len(path)] == path), "")


def _text(rows: list[tuple[str, Any, str]]) -> str:
    cells = [(path, _shown(value), origin) for path, value, origin in rows]
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:2]]
    return "".join(f"{path:<{widths[0]}}  {value:<{widths[1]}}  {origin}\n" for path, value, origin in cells)


def _shown(value: Any) -> str:
    return _output.printable(value) if isinstance(value, str) else json.dumps(value)


def _json(rows: list[tuple[str, Any, str]]) -> str:
    return (
        json.dumps({path: {"value": value, "origin": origin} for path, value, origin in rows}, indent=2)
        + "\n"
    )
