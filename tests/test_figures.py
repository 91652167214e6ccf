"""The table of figures says what was measured."""

from __future__ import annotations

from tests.figures import Figure, table


def test_the_table_is_aligned() -> None:
    """One row per figure under a heading, each column as wide as its widest cell."""
    shown = table([Figure("extra admissions", "0", "0"), Figure("x", "under 5 ms", "1.2 ms")]).splitlines()
    assert shown[0].split() == ["figure", "goal", "measured"]
    assert shown[1].index("0") == shown[2].index("under") == shown[0].index("goal")
