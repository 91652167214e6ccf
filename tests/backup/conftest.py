"""A shop whose database is backed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backup.world import RESTICS, World


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """With two hundred orders in it, and the restic that the test is of."""
    find = RESTICS[getattr(request, "param", "restic")]
    made = World(tmp_path, monkeypatch, restic=find("restic"))
    made.fill(200)
    return made
