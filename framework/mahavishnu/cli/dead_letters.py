"""`mahavishnu dead-letters`: the calls that are kept to be made again, seen and decided upon by a person."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Optional, cast
from urllib.parse import parse_qsl, urlsplit

import typer

from mahavishnu.cli import _output
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground import variables
from mahavishnu.load import accept
from mahavishnu.runtime.dead_letters.letters import REQUEST, Letter, Letters, Standing
from mahavishnu.runtime.dead_letters.queue import letters_of
from mahavishnu.runtime.telemetry.redaction import Redactor
from mahavishnu.spec import Spec

_FEWEST = 8
"""So much of an id is enough to delete what it names."""


class Action(StrEnum):
    """What is done with them."""

    LIST = "list"
    SHOW = "show"
    REDRIVE = "redrive"
    DROP = "drop"


class Format(StrEnum):
    """How letters are written."""

    TEXT = "text"
    JSON = "json"


def dead_letters(  # noqa: PLR0913, PLR0917 - one for each option
    action: Annotated[Action, typer.Argument(help="list, show, redrive or drop.")],
    ids: Annotated[
        Optional[list[str]], typer.Argument(help="Letters by their ids, or by how these begin.")
    ] = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    form: Annotated[Format, typer.Option("--format", help="How letters are written.")] = Format.TEXT,
    dependency: Annotated[Optional[str], typer.Option(help="Those of one dependency alone.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that there are, with redrive and drop.")] = False,
    payload: Annotated[
        bool, typer.Option(help="Show what was to be done as it is: it may hold secrets.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many are listed at the most.")] = 100,
) -> None:
    """See the calls that are kept; let them try anew, or give them up.

    `redrive` makes letters due at once, quarantined ones too, with all their attempts before them; the service's
    own process makes the calls. `drop` deletes letters for good, and wants eight characters of an id. Fields that
    the log never shows are hidden in `show`.
    """
    loaded = accept(spec_path(spec), env or variables.environment(), runtime=True)
    letters = _opened(loaded.spec)
    try:
        with letters.together():
            meant = (
                letters.some(limit, dependency)
                if action is Action.LIST
                else _named(letters, action, ids or [], dependency, every=every)
            )
            count = _decided(letters, action, meant)
            there = _count(letters, dependency) if action is Action.LIST else 0
    finally:
        letters.close()
    # Not before: whoever reads it may take his time, and calls that fail meanwhile must be kept.
    if action is Action.LIST:
        _list(meant, form)
        if len(meant) < there:
            print(f"{len(meant)} of {there}; --limit shows more", file=sys.stderr)
    elif action is Action.SHOW:
        _show(meant, form, loaded.spec, whole=payload)
    else:
        _say(action, len(meant), count, form)


def _opened(spec: Spec) -> Letters:
    file = spec.dead_letters.file
    if file is not None and not Path(file).exists():  # else a spec before may have kept what is there
        if not spec.parking:
            raise MahavishnuError("no dependency of this spec has `fallback: dead_letter`")
        raise MahavishnuError(
            f"{file} is not there: run this where the service runs, from its working directory"
        )
    return letters_of(spec, lambda: time.time_ns() // 10**6)


def _named(
    letters: Letters, action: Action, ids: Sequence[str], dependency: str | None, *, every: bool
) -> list[Letter]:
    """The letters that are meant; raises MahavishnuError for an id that none or several have."""
    if action is Action.SHOW and (every or not ids):
        raise MahavishnuError("name letters by their ids")
    if every == bool(ids):
        raise MahavishnuError("name letters by their ids, or all of them with --all")
    known = letters.some(2**31, dependency)
    return list(known) if every else [_one(known, name, action) for name in ids]


def _count(letters: Letters, dependency: str | None) -> int:
    """How many there are, of one dependency or of all."""
    stats = letters.stats()
    of = stats.of.values() if dependency is None else [stats.of.get(dependency, Standing())]
    return sum(one.waiting + one.quarantined for one in of)


def _one(known: Sequence[Letter], name: str, action: Action) -> Letter:
    """The one that is called so, or begins so; none is deleted by what a slip of the hand leaves of an id."""
    if not name:
        raise MahavishnuError("an id is empty")
    found = [one for one in known if one.id == name] or [one for one in known if one.id.startswith(name)]
    if action is Action.DROP and len(name) < _FEWEST and [one.id for one in found] != [name]:
        said = f"`{_output.printable(name)}` has {len(name)}"
        raise MahavishnuError(f"drop wants at least {_FEWEST} characters of an id, and {said}")
    if len(found) != 1:
        count = f"{len(found)} dead letters begin" if found else "no dead letter begins"
        raise MahavishnuError(f"{count} with `{_output.printable(name)}`")
    return found[0]


def _list(letters: Sequence[Letter], form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps([_facts(one) for one in letters], indent=2))
        return
    rows = [
        ("ID", "DEPENDENCY", "OPERATION", "SINCE", "ATTEMPTS", "STATE", "LAST ERROR"),
        *map(_row, letters),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(6)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
        print("  ".join(cells).rstrip())


def _row(one: Letter) -> tuple[str, ...]:
    told = (
        one.id[:12],
        one.dependency,
        one.operation,
        _time(one.created),
        str(one.attempts),
        _state(one),
        one.error,
    )
    return tuple(map(_output.printable, told))


def _show(letters: Sequence[Letter], form: Format, spec: Spec, *, whole: bool) -> None:
    hide = Redactor(spec.observability.logs.redact)
    shown = [{**_facts(one), "payload": _payload(one, None if whole else hide)} for one in letters]
    if form is Format.JSON:
        print(json.dumps(shown, indent=2))
        return
    for one in shown:
        for name, value in one.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"{name:<12}{_output.printable(text)}")
        print()


def _decided(letters: Letters, action: Action, meant: Sequence[Letter]) -> int:
    """How many of them it was done to."""
    ids = [one.id for one in meant]
    if action is Action.REDRIVE:
        return letters.redrive(ids)
    return letters.drop(ids) if action is Action.DROP else 0


def _say(action: Action, asked: int, count: int, form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps({"asked": asked, "done": count}))
        return
    what, else_ = ("due now", "being worked on") if action is Action.REDRIVE else ("dropped", "gone already")
    print(f"{count} of {asked} {what}" + (f", the others are {else_}" if count < asked else ""))


def _payload(one: Letter, hide: Redactor | None) -> Any:
    """What was to be done: as it is, or without what the log never shows."""
    try:
        said = json.loads(one.payload)
        if hide is None:
            return said
        return hide(None, "", {"said": _fields(said) if one.operation == REQUEST else said})["said"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        unreadable = f"[{one.size} bytes that cannot be read]"
        return one.payload.decode(errors="backslashreplace") if hide is None else unreadable


def _fields(said: Any) -> dict[str, Any]:
    """A request with its query and its body in fields, which are hidden by their names."""
    url, body = urlsplit(str(said["url"])), base64.b64decode(said["body"])
    place = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
    query = parse_qsl(url.query, keep_blank_values=True)
    return {**said, "url": place, "query": query, "headers": said["headers"], "body": _body(body)}


def _body(body: bytes) -> Any:
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    return cast("Any", said) if isinstance(said, dict | list) else f"[{len(body)} bytes]" if body else ""


def _facts(one: Letter) -> dict[str, Any]:
    return {
        "id": one.id,
        "dependency": one.dependency,
        "operation": one.operation,
        "key": one.key,
        "request": one.request,
        "created": _time(one.created),
        "due": _time(one.due),
        "attempts": one.attempts,
        "state": _state(one),
        "error": one.error,
        "size": one.size,
    }


def _state(one: Letter) -> str:
    if one.quarantined:
        return "quarantined"
    return "leased" if one.token and one.due > time.time() * 1000 else "waiting"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
