"""A shop whose database is backed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backup.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """With two hundred orders in it."""
    made = World(tmp_path, monkeypatch)
    made.fill(200)
    return made
