"""Outside judges: where they are, and what happens where they are not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Fetched ones first, so that a figure does not depend on what else a machine has installed.
FOLDERS = (
    ROOT / ".tools/bin",  # tests/tools/fetch, tests/tools/containers.py
    Path(sys.executable).parent,  # those that come as Python packages, by requirements/dev.txt
    ROOT / ".tools/judges/bin",  # make judges
    Path("/usr/lib/systemd"),  # where a machine's own journald is, or
    Path("/lib/systemd"),  # was
)
NEWER = ROOT / ".tools/newer"  # what a later Debian has of the same; nobody finds it who does not ask for it
Test = TypeVar("Test", bound=Callable[..., object])
HOW = {
    "checkov": "make judges",
    "chromium": "make judges, as root",
    "podman": "make containers, as root",
    "podman-compose": "make containers, as root",
}


def find(name: str) -> Path | None:
    """The program's path: a fetched one if there is one, else the machine's own."""
    path = os.pathsep.join(map(str, FOLDERS)) + os.pathsep + os.environ.get("PATH", os.defpath)
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def judge(name: str) -> Path:
    """The program's path. Without it the test is skipped at home and fails in CI: no judge, no verdict."""
    found = find(name)
    if found is None:
        _missing(name, HOW.get(name, "make tools"))
    return found


def newer(name: str) -> Path:
    """A later release of a judge; without it as without any."""
    found = NEWER / name
    if not found.exists():
        _missing(f"newer {name}", "make tools")
    return found


def of_both(test: Test) -> Test:
    """Judged as the others; and, as a proof, by what a later Debian has of the judges."""
    kinds = ["stable", pytest.param("newer", marks=pytest.mark.proof)]
    asked: Test = pytest.mark.parametrize("judges", kinds, indirect=True)(test)
    judged: Test = pytest.mark.usefixtures("judges")(asked)
    return judged


def _missing(name: str, how: str) -> NoReturn:
    reason = f"NO JUDGE: `{name}` is not here, so this proves nothing. Get it: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
