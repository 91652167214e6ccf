"""Later and earlier versions are told apart as package managers do."""

from __future__ import annotations

import itertools

import pytest

from mahavishnu.files.versions import later

ORDERED = (
    "0.0.9",
    "0.1.0.dev3",
    "0.1.0a1",
    "0.1.0a2",
    "0.1.0b1",
    "0.1.0rc1",
    "0.1.0",
    "0.1.0.post1",
    "0.9",
    "0.10.0",
    "1",
)


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(ORDERED, 2)])
def test_they_are_ordered(one: str, other: str) -> None:
    """By numbers, and not by letters; what comes before a release is earlier than it."""
    assert later(other, one)
    assert not later(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("0.1", "0.1.0"), ("1.0", "1.0+local"), ("", "1"), ("1", "soon"), ("x", "")]
)
def test_neither_is_later(one: str, other: str) -> None:
    """Than itself, said otherwise; nor is anything than what is no version."""
    assert not later(one, other)
    assert not later(other, one)
