"""What a command costs as a whole process, against an interpreter that does nothing, and the imports it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.goals import Report, at_most
from benchmarks.harness import table

_ROOT = Path(__file__).parents[1]
_NOTHING = "python -c pass"
_IMPORTS = "import of the spec's own packages"
_COLD = "generate, of nothing but the spec"
_CHANGED = "generate, one word of the spec changed"
_UNCHANGED = "generate, nothing changed"
_NAIVE = "generate, of nothing but the spec, naively"
_HELP = "--help"
_PACKAGES = "pydantic_settings, jinja2, ruamel.yaml, starlette.applications, prometheus_client, structlog"
# Everything is imported, a reader keeps comments that nobody writes back, and no template is kept translated.
_NAIVELY = f"""
import {_PACKAGES}, rich.console, typer, ruamel.yaml, sys
ruamel.yaml.YAML().load(open("mahavishnu.yaml"))
sys.argv = ["mahavishnu", "generate"]
from mahavishnu.cli import main
main()
"""


def report(rounds: int) -> Report:
    """The table; raises AssertionError when a command does not do what it is measured for."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "service"
        home.mkdir()
        shutil.copy(_ROOT / "mahavishnu.yaml", home)
        _rounds(home, 1)  # modules are compiled once, as when a package is installed
        took = _rounds(home, max(3, rounds))
    medians = {name: median(times) for name, times in took.items()}
    nothing, imports = medians[_NOTHING], medians[_IMPORTS]
    rows = [
        (name, f"{one * 1000:.0f} ms", f"{one / nothing:.2f} x", f"{one / imports:.2f} x")
        for name, one in medians.items()
    ]
    text = "### A command\n\nWhole processes, on the shop's spec:\n\n" + table(
        ("process", "time", "of an interpreter", "of the imports"), rows
    )
    return Report(
        text,
        (
            at_most(
                "a cold `generate`", medians[_COLD] / imports, 1, "the import of the spec's own packages"
            ),
            at_most("`generate` of an unchanged spec", medians[_UNCHANGED] / nothing, 2, f"`{_NOTHING}`"),
            at_most("`--help`", medians[_HELP] / nothing, 2.5, f"`{_NOTHING}`"),
        ),
    )


def _rounds(home: Path, rounds: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    spec = home / "mahavishnu.yaml"
    text = spec.read_text()
    for number in range(rounds):
        shutil.rmtree(home / "deploy", ignore_errors=True)
        _timed(took, home, _NOTHING, "-c", "pass")
        _timed(took, home, _IMPORTS, "-c", f"import {_PACKAGES}")
        _timed(took, home, _NAIVE, "-c", _NAIVELY, says="files: ", caches=f"none-{number}")
        shutil.rmtree(home / "deploy")
        _timed(took, home, _COLD, "-m", "mahavishnu", "generate", says="files: ")
        _timed(took, home, _UNCHANGED, "-m", "mahavishnu", "generate", says="all as the spec says")
        spec.write_text(text.replace("payments-team", f"team-{number}"))
        _timed(took, home, _CHANGED, "-m", "mahavishnu", "generate", says=" unchanged ")
        spec.write_text(text)
        _timed(took, home, _HELP, "-m", "mahavishnu", "--help", says="amtool.")
    return took


def _timed(
    took: dict[str, list[float]], home: Path, name: str, *words: str, says: str = "", caches: str = "caches"
) -> None:
    plain = {name: said for name, said in os.environ.items() if not name.startswith("PYTHON")}
    kept = {"XDG_CACHE_HOME": f"{home.parent}/{caches}", "PYTHONPYCACHEPREFIX": f"{home.parent}/modules"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=home, env=plain | kept, capture_output=True, text=True, check=True
    )
    took.setdefault(name, []).append(time.perf_counter() - began)
    assert says in done.stdout, done.stdout
