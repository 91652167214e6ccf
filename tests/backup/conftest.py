"""A shop whose database is backed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mahavishnu.backup import beginning
from tests.backup.world import RESTICS, World


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else makes a repository here: a first run in this process does not wait for whoever may."""

    def pause(_: float) -> None: ...

    monkeypatch.setattr(beginning, "pause", pause)


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> World:
    """With two hundred orders in it, and the restic that the test is of."""
    find = RESTICS[getattr(request, "param", "restic")]
    made = World(tmp_path, monkeypatch, restic=find("restic"))
    made.fill(200)
    return made
