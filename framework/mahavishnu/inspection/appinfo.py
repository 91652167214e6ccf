"""What an app says of itself, imported in a process of its own: its routes, its middlewares, and what it calls."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import Any

from mahavishnu.checks import App
from mahavishnu.errors import Problem
from mahavishnu.ground import codes, variables
from mahavishnu.inspection import ends
from mahavishnu.inspection.children import Child, Ran, ran
from mahavishnu.spec import Service

_SECONDS = 20
_IN_THE_SPEC = "`service.app` or `service.app_dir`"
_WITHOUT = "; `check --no-app` does without it"

Asked = tuple[Service, File, str | None]
"""Whose app, the file of the spec, and the environment of it."""


def look(service: Service, spec: File, env: str | None = None) -> App | Problem:
    """What the app `service.app` has and names: path templates with their methods (None: all), where Hardening stands,
    what has a limit or a guard; or why nobody can know.

    It is imported as it would start in the environment `env` of the spec, but for what contradicts itself there.
    """
    return looks([(service, spec, env)])[0]


def looks(asked: Sequence[Asked]) -> list[App | Problem]:
    """The same of several at once, in the order asked for."""
    children = [_child([service.app], service, spec, env) for service, spec, env in asked]
    said = zip(asked, ran(children, _SECONDS), strict=True)
    seen = [_understood(service, done, _IN_THE_SPEC) for (service, _, _), done in said]
    return [replace(one, help=f"{one.help}{_WITHOUT}") if isinstance(one, Problem) else one for one in seen]


def unwritten(service: Service, spec: File) -> App | Problem:
    """The same of an app whose spec, which would be that file, is still to be written."""
    (done,) = ran([_child(["--unwritten", service.app], service, spec, None)], _SECONDS)
    return _understood(service, done, "--app or --app-dir")


def _child(words: Iterable[str], service: Service, spec: File, env: str | None) -> Child:
    """Who imports the app, as it would start there, and says what it sees as JSON."""
    folder = spec.resolve().parent
    path = os.pathsep.join(filter(None, [str(folder / service.app_dir), os.environ.get("PYTHONPATH")]))
    reserved = {variables.SPEC: str(spec.resolve()), variables.ENVIRONMENT: env, variables.DISABLE: "1"}
    said = {**os.environ, "PYTHONPATH": path, **reserved}
    environment = {name: value for name, value in said.items() if value is not None}
    return Child([sys.executable, "-m", "mahavishnu.inspection.look", *words], folder, environment)


def _understood(service: Service, done: Ran | None, named: str) -> App | Problem:
    """What is said of the app, or why nobody can know; `named` is where its name was said."""
    if done is None:
        return _fault(service, f"importing it took longer than {_SECONDS} seconds", ends.MAIN)
    if code := done.returncode:
        reason = _last_line(done.stderr) or f"it ended with exit code {code}"
        return _fault(service, reason, ends.help_for(code, named))
    try:
        return _seen(json.loads(_last_line(done.stdout)))  # an app may print whatever it likes
    except (ValueError, TypeError, KeyError, AttributeError):
        return _fault(service, "it ended before its routes were known", ends.MAIN)


def _seen(said: Any) -> App:
    routes = tuple(
        (str(path), frozenset(methods) if methods else None) for path, methods in said.pop("routes")
    )
    where, adds = said.pop("where"), bool(said.pop("adds"))
    plain = tuple((str(tool), str(name)) for tool, name in said.pop("plain"))
    hardened = tuple((str(path), str(spec), bool(inside)) for path, spec, inside in said.pop("hardened"))
    names = {key: tuple(map(str, some)) for key, some in said.items()}
    return App(routes, where, **names, plain=plain, hardened=hardened, adds=adds)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _fault(service: Service, reason: str, help: str) -> Problem:
    what = f"the app `{service.app}` cannot be looked at: {reason[:300]}"
    return Problem(codes.NO_APP.id, ("service", "app"), what, help)
