"""What a selector finds is what it selects, whichever of its conditions leads there."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mahavishnu.promql import Matcher, Selector
from mahavishnu.queries.lookup import Lookup
from mahavishnu.signals import Kind, Label, Signal

NAMES, VALUES = ("a", "b", "c"), ("x", "y", "z")
SERIES = st.tuples(
    st.sampled_from(("one", "other")), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES))
)
MATCHERS = st.builds(
    Matcher,
    st.sampled_from(NAMES),
    st.sampled_from(("=", "!=", "=~", "!~")),
    st.sampled_from((*VALUES, "", "x|y", ".+")),
)
ONE = Signal("one", Kind.GAUGE, "", tuple(map(Label, NAMES)))


@example([("one", {"b": "x"})], [Matcher("a", "=", ""), Matcher("b", "=", "x")])
@given(st.lists(SERIES), st.lists(MATCHERS, max_size=3))
def test_what_is_found_is_what_a_search_of_all_finds(
    series: list[tuple[str, dict[str, str]]], matchers: list[Matcher]
) -> None:
    selector = Selector(ONE, matchers=tuple(matchers))
    found = Lookup((name, tuple(labels.items()), place) for place, (name, labels) in enumerate(series))
    wanted = [
        place
        for place, (name, labels) in enumerate(series)
        if name == "one" and all(one.holds(labels.get(one.label, "")) for one in matchers)
    ]
    assert found.selected(selector) == wanted
