"""Each alternative of a pattern is found, however it is written, and together they mean what the pattern means."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.queries.patterns import alternatives


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a", ["a"]),
        ("a|b", ["a", "b"]),
        ("(a|b)", ["a", "b"]),
        ("(?:a|b)", ["a", "b"]),
        ("(?P<n>a|b)", ["a", "b"]),
        ("((a|b)|c)", ["a", "b", "c"]),
        ("per_(client|key)", ["per_client", "per_key"]),
        ("a(b|c)d(e|f)", ["abd(e|f)", "acd(e|f)", "a(b|c)de", "a(b|c)df"]),
        ("(?i)a|B", ["(?i)a", "(?i)B"]),
        ("(?i:a|b)c", ["(?i:a)c", "(?i:b)c"]),
        (r"\(a\|b|c", [r"\(a\|b", "c"]),
        ("[|()]x|y", ["[|()]x", "y"]),
        ("[]|]|y", ["[]|]", "y"]),
        # What may be left out, or stands there again, is no choice of one.
        ("(a|b)?c", ["(a|b)?c"]),
        ("(a|b){2}", ["(a|b){2}"]),
        ("/o(|/.*)", ["/o(|/.*)"]),
        ("a|", ["a"]),
        ("", [""]),
        ("|", ["|"]),
        ("(?=a|b)c", ["(?=a|b)c"]),
    ],
)
def test_each_alternative_is_found(pattern: str, found: list[str]) -> None:
    """In groups, too, and in those that are not caught."""
    assert [*alternatives(pattern)] == found


_GROUPED = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "a?"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: f"({'|'.join(some)})"),
        inner.map(lambda one: f"(?:{one})*"),
    ),
    max_leaves=8,
)


@given(st.lists(_GROUPED, min_size=1, max_size=3).map("|".join), st.text("abc", max_size=5))
def test_together_they_mean_the_same(pattern: str, text: str) -> None:
    """What the pattern fits fits one of them, and the other way round; each is a pattern."""
    assert any(re.fullmatch(one, text) for one in alternatives(pattern)) is bool(re.fullmatch(pattern, text))


def test_deep_ones_are_found_in_time() -> None:
    """As deep as a query is long."""
    assert len(alternatives("(" * 120 + "a" + "|b)" * 120)) == 121
