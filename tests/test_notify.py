"""Who is told, when: names of time zones are those of the tz database, spelled as it spells them."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import TZPATH, available_timezones

import pytest

from mahavishnu import notify
from mahavishnu.notify import Quiet

HOURS = {"severity": "P3", "from": "22:00", "to": "07:00"}


def accepted(name: str) -> bool:
    try:
        return Quiet.model_validate(HOURS | {"timezone": name}).timezone == name
    except ValueError:
        return False


def test_every_zone_is_known_without_a_look_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever this machine has them as files."""
    every = available_timezones()
    assert "Europe/London" in every
    if any((Path(root) / "Europe/London").is_file() for root in TZPATH):
        monkeypatch.setattr(notify, "available_timezones", set)
    assert [name for name in every if not accepted(name)] == []


@pytest.mark.parametrize(
    "name",
    ["Europe", "europe/london", "Europe/Lundon", "", "/", "../zoneinfo/UTC", "Europe//London", "Europe/London/",
     "posix/UTC", "right/UTC", "posixrules", "tzdata.zi", "zone.tab", "UTC\0", "/usr/share/zoneinfo/UTC"],
)  # fmt: skip
def test_what_is_no_zone_is_refused(name: str) -> None:
    """Also where a file of that name lies in the database."""
    assert not accepted(name)
