"""What an app says of itself, imported in a process of its own: its routes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path as File

from mahavishnu import codes
from mahavishnu.errors import Problem
from mahavishnu.spec import Service

Routes = tuple[tuple[str, frozenset[str] | None], ...]
_SECONDS = 20


def routes(service: Service, spec: File, env: str | None = None) -> Routes | Problem:
    """The routes of `service.app`: path templates with their methods (None: all); or why nobody can know.

    It is imported as it would start in the environment `env` of the spec, but for what contradicts itself there.
    """
    folder = spec.resolve().parent
    path = os.pathsep.join(filter(None, [str(folder / service.app_dir), os.environ.get("PYTHONPATH")]))
    reserved = {"MAHAVISHNU_SPEC": str(spec.resolve()), "MAHAVISHNU_ENV": env, "MAHAVISHNU_DISABLE": "1"}
    said = {**os.environ, "PYTHONPATH": path, **reserved}
    environment = {name: value for name, value in said.items() if value is not None}
    command = [sys.executable, "-m", "mahavishnu.runtime.routing.routes", service.app]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
            timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _fault(service, f"importing it took longer than {_SECONDS} seconds")
    if done.returncode != 0:
        return _fault(service, _last_line(done.stderr) or f"it ended with exit code {done.returncode}")
    told = _read(done.stdout)
    return _fault(service, "it ended before its routes were known") if told is None else told


def _read(output: str) -> Routes | None:
    """The routes from the last line; an app may print whatever it likes before. None: they are not there."""
    try:
        said = json.loads(_last_line(output))
        return tuple((str(path), frozenset(methods) if methods else None) for path, methods in said)
    except (ValueError, TypeError):
        return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _fault(service: Service, reason: str) -> Problem:
    what = f"the app `{service.app}` cannot be looked at: {reason[:300]}"
    return Problem(codes.NO_APP.id, ("service", "app"), what, codes.NO_APP.help)
