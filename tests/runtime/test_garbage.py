"""The garbage collector does not stop a service to look through all that it has loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.figures import figure

APP = """
import gc, json, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from mahavishnu.asgi import Hardening
from mahavishnu.testing import VirtualClock

loaded = [[number] for number in range(100_000)]  # an app's own models
hardened = Hardening(Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok"))]), "mahavishnu.yaml" {clock})
app = Starlette(routes=[Mount("/", hardened)])

def full_collection():
    took = []
    for _ in range(5):
        began = time.perf_counter()
        gc.collect()
        took.append(time.perf_counter() - began)
    return min(took)

before, during, spared = full_collection(), [], [gc.get_freeze_count()]
for _ in range(2):
    with TestClient({app}, base_url="http://127.0.0.1") as client:
        client.get("/")
        during.append(full_collection())
        spared.append(gc.get_freeze_count())
print(json.dumps([before, max(during), spared]))
"""


def measured(folder: Path, app: str, clock: str = "") -> tuple[float, float, list[int]]:
    """Seconds of a full collection before and while it serves; what is spared before, then, and in a second start."""
    (folder / "mahavishnu.yaml").write_text("mahavishnu: 1\nservice: {name: shop, app: shop:app}\n")
    code = APP.replace("{app}", app).replace("{clock}", clock)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    found: Any = json.loads(done.stdout.splitlines()[-1])
    return tuple(found)


@pytest.mark.parametrize("app", ["hardened", "app"], ids=["the app", "mounted, without lifespan"])
def test_a_full_collection_stops_a_service_only_for_what_has_come_since(app: str, tmp_path: Path) -> None:
    """Once for a process: what a second start finds may be of a first one that has ended."""
    before, during, (few, spared, again) = measured(tmp_path, app)
    figure("a full collection while it serves / of all that is loaded", "< 0.2", f"{during / before:.3f}")
    assert few < 1000  # Python's own
    assert spared > 150_000
    assert again <= spared
    assert during < 0.2 * before


def test_where_time_is_virtual_the_collector_is_the_tests_own(tmp_path: Path) -> None:
    """A process that tests many apps would keep all of them."""
    _, _, spared = measured(tmp_path, "hardened", ", clock=VirtualClock()")
    assert spared[1:] == spared[:1] * 2
