"""What the tests of alerts are derived by: counters that add up exactly, and bounds found in few questions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

_promtool: Any = import_module("mahavishnu.generators._promtool")
_thresholds: Any = import_module("mahavishnu.generators._thresholds")
_PARTS = st.builds(
    _promtool.Level,
    st.fractions(Fraction(1, 10**5), 10**6, max_denominator=10**5),
    st.integers(min_value=2, max_value=2000),
    st.booleans(),
)


@given(st.lists(_PARTS, min_size=1, max_size=5), st.sampled_from([1, 10]))
def test_each_part_of_a_counter_begins_where_the_one_before_has_arrived(
    levels: list[Any], minutes: int
) -> None:
    """To twelve digits, by the numbers as they are written; or a hair later, where promtool has come further.

    Also where it has grown unseen meanwhile.
    """
    last: Fraction | None = None
    for part, (level, samples, seen) in zip(_promtool._counted(levels, minutes), levels, strict=True):
        growth = Fraction(_promtool.decimal(level * minutes))
        exact = Fraction(0) if last is None else last + growth
        last = exact + growth * (samples - 1)
        if not seen:
            assert part == f"_x{samples}"
            continue
        begins, _, moves = part.partition("+")
        grows, _, times = moves.partition("x")
        assert Fraction(grows) == growth
        assert int(times) == samples - 1
        assert abs(Fraction(begins) - exact) <= exact / 10**11
        assert Decimal(begins) >= _promtool.decimal(exact)


@pytest.mark.parametrize("first", [1, 2, 49_999, 50_000, 99_999, 100_000])
def test_a_good_guess_of_a_bound_is_proved_by_two_questions(first: int) -> None:
    """Whether it is the last step at which an alert is silent, or the first one at which it fires."""
    asked: list[Fraction] = []

    def fires(depth: Fraction) -> bool:
        asked.append(depth)
        return depth >= Fraction(first, 100_000)

    for guess in (first - 1, first):
        asked.clear()
        assert _thresholds._crossed(fires, guess) == (first - 1, first)
        assert len(asked) <= 2
    assert _thresholds._crossed(fires, 7) == (first - 1, first)
