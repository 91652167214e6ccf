"""The folders of a project that are its own: none that is hidden, no venv, no packages of others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_OTHERS = frozenset({"node_modules", "site-packages", "__pycache__"})
_VENV = "pyvenv.cfg"


def own(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each of them, from the folder down, with the names of its files in order."""
    for here, folders, files in os.walk(folder):
        inner = (one for one in folders if not one.startswith(".") and one not in _OTHERS)
        folders[:] = sorted(one for one in inner if not Path(here, one, _VENV).is_file())
        yield Path(here), sorted(files)
