"""Apps are looked at by a Python that is warm."""

from __future__ import annotations

import pytest

from mahavishnu.inspection import appinfo
from tests import warm


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(appinfo, "ran", warm.ran)
