"""What forms bring has room in a container's /tmp, as often as it may come at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mahavishnu.derived import uploads
from mahavishnu.spec import Spec
from tests.monitoring import MINIMAL

MATCH = {"path": "/uploads"}
LARGE: Mapping[str, Any] = {"body": "50Mi", "match": MATCH}


def room(limits: Mapping[str, Any], workers: int = 1) -> int:
    """In MiB."""
    service = {**MINIMAL["service"], "workers": workers}
    return uploads.room(Spec.model_validate({**MINIMAL, "service": service, "limits": limits})) // 2**20


@pytest.mark.parametrize(
    ("limits", "mebibytes"),
    [
        ({}, 64),
        ({"small": {"body": "4Mi"}}, 64),
        ({"large": {"body": "50Mi"}}, 32 + 8 * 50),
        ({"large": {"body": "50Mi", "mode": "observe"}}, 64),
        ({"large": LARGE, "few": {"concurrency": 3, "match": MATCH}}, 32 + 3 * 50),
        ({"large": LARGE, "few": {"concurrency": 3, "match": MATCH, "mode": "observe"}}, 32 + 8 * 50),
        ({"large": LARGE, "few": {"concurrency": 3, "match": {"path": "/search"}}}, 32 + 8 * 50),
        ({"large": LARGE, "few": {"concurrency": "adaptive", "max": 3, "match": MATCH}}, 32 + 3 * 50),
        ({"large": LARGE, "some": {"concurrency": "adaptive", "match": MATCH}}, 32 + 8 * 50),
        ({"large": LARGE, "many": {"concurrency": 20, "match": MATCH}}, 32 + 20 * 50),
        ({"large": LARGE, "many": {"concurrency": 20, "match": MATCH}, "all": {"concurrency": 10}}, 32 + 10 * 50),
        ({"large": {"body": "50Mi"}, "all": {"concurrency": 100}}, 32 + 8 * 50),
        ({"large": {"body": "50Mi"}, "all": {"concurrency": 2}}, 32 + 2 * 50),
        ({"large": LARGE, "all": {"body": "10Mi"}}, 32 + 8 * 50),
        ({"large": LARGE, "larger": {"body": "60Mi", "match": {"path": "/films"}}}, 32 + 8 * 60),
    ],
)  # fmt: skip
def test_the_largest_that_is_let_in_has_room(limits: Mapping[str, Any], mebibytes: int) -> None:
    """As often as places for the very same requests say; without them, a few times."""
    assert room(limits) == mebibytes


def test_each_worker_has_places_of_its_own() -> None:
    """What nobody says is of all of them together."""
    assert room({"large": LARGE, "few": {"concurrency": 3, "match": MATCH}}, workers=2) == 32 + 6 * 50
    assert room({"large": LARGE}, workers=2) == 32 + 8 * 50
