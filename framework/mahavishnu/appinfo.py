"""What an app says of itself, imported in a process of its own: its routes, and what it calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as File
from typing import Any, NamedTuple, TypeVar

from mahavishnu import codes
from mahavishnu.errors import Problem
from mahavishnu.spec import Service

Routes = tuple[tuple[str, frozenset[str] | None], ...]
Told = TypeVar("Told")
_SECONDS = 20


class Seen(NamedTuple):
    """What an app has and names: its routes, dependencies, and tools with a limit."""

    routes: Routes
    dependencies: tuple[str, ...]
    tools: tuple[str, ...]


def routes(service: Service, spec: File, env: str | None = None) -> Routes | Problem:
    """The routes of `service.app`: path templates with their methods (None: all); or why nobody can know.

    It is imported as it would start in the environment `env` of the spec, but for what contradicts itself there.
    """
    return _looked("routing.routes", _routes, service, spec, env)


def unwritten(service: Service, spec: File) -> Seen | Problem:
    """The same and more of an app whose spec, which would be that file, is still to be written."""
    return _looked("unwritten", _seen, service, spec, None)


def _looked(
    module: str, read: Callable[[Any], Told], service: Service, spec: File, env: str | None
) -> Told | Problem:
    """What this module of the runtime says of the app, read from JSON; or why nobody can know."""
    folder = spec.resolve().parent
    path = os.pathsep.join(filter(None, [str(folder / service.app_dir), os.environ.get("PYTHONPATH")]))
    reserved = {"MAHAVISHNU_SPEC": str(spec.resolve()), "MAHAVISHNU_ENV": env, "MAHAVISHNU_DISABLE": "1"}
    said = {**os.environ, "PYTHONPATH": path, **reserved}
    environment = {name: value for name, value in said.items() if value is not None}
    command = [sys.executable, "-m", f"mahavishnu.runtime.{module}", service.app]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
            timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _fault(service, f"importing it took longer than {_SECONDS} seconds")
    if done.returncode != 0:
        return _fault(service, _last_line(done.stderr) or f"it ended with exit code {done.returncode}")
    try:
        return read(json.loads(_last_line(done.stdout)))  # an app may print whatever it likes
    except (ValueError, TypeError, KeyError):
        return _fault(service, "it ended before its routes were known")


def _routes(said: Any) -> Routes:
    return tuple((str(path), frozenset(methods) if methods else None) for path, methods in said)


def _seen(said: Any) -> Seen:
    return Seen(_routes(said["routes"]), tuple(sorted(said["dependencies"])), tuple(sorted(said["tools"])))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _fault(service: Service, reason: str) -> Problem:
    what = f"the app `{service.app}` cannot be looked at: {reason[:300]}"
    return Problem(codes.NO_APP.id, ("service", "app"), what, codes.NO_APP.help)
