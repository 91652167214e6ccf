"""YAML with places: what is read, where it stands, and what is refused at the door."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.loading.nodes import Mapping, Node, find, merge, plain, scalars, where
from mahavishnu.loading.plain_scalars import resolve
from mahavishnu.loading.yaml_tree import read
from tests.figures import cheapest


def tree(text: str) -> Mapping:
    """The tree of a text that can be read."""
    reading = read(text.encode(), "f.yaml")
    assert reading.findings == ()
    assert isinstance(reading.tree, Mapping)
    return reading.tree


def value(text: str) -> Any:
    """What a plain scalar becomes."""
    return plain(tree(f"a: {text}"))["a"]


def shown(node: Node, text: str, *path: str | int, on_key: bool = False) -> str:
    """The characters that a caret would stand under."""
    place = where("f.yaml", find(node, path, on_key), tuple(text.splitlines()))
    assert place is not None
    return place.text[place.column - 1 :][: place.width]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("nULL", "nULL"),
        ("true", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"),
        ("off", "off"), ("y", "y"),
        ("12", 12), ("-12", -12), ("+12", 12), ("022", 22), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11"),
        ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("2027-01-31", "2027-01-31"),
        ("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), ("1.", 1.0),
        (".inf", float("inf")), ("-.INF", float("-inf")),
        ("inf", "inf"), ("nan", "nan"), ('"12"', "12"), ("'true'", "true"), ("99.9%", "99.9%"), ("=", "="),
    ],
)  # fmt: skip
def test_a_plain_scalar_is_what_yaml_1_2_says(text: str, expected: Any) -> None:
    """The core schema: no yes and no, no octal by a leading zero, no base sixty, no dates."""
    found = value(text)

    assert (type(found), found) == (type(expected), expected)


def test_not_a_number_is_read_as_one() -> None:
    """`.nan` is a float that equals nothing."""
    found = value(".nan")

    assert isinstance(found, float)
    assert math.isnan(found)


@given(st.text(max_size=30))
def test_resolving_any_text_gives_a_value_or_says_that_it_is_too_long(text: str) -> None:
    """Nothing else is raised, whatever stands there."""
    with suppress(ValueError):
        assert resolve(text) is None or isinstance(resolve(text), str | int | float)


TEXT = """\
mahavishnu: 1
limits:
  per_client: {rate: 300/minute, brust: 50}
  other:
    rate: 5/minute
    per: [client, ip]
empty:
folded: >
  two
  lines
"""


@pytest.mark.parametrize(
    ("path", "on_key", "expected"),
    [
        (("mahavishnu",), False, "1"),
        (("limits",), False, "limits"),
        (("limits", "per_client"), False, "{rate: 300/minute, brust: 50}"),
        (("limits", "per_client"), True, "per_client"),
        (("limits", "per_client", "brust"), True, "brust"),
        (("limits", "per_client", "rate"), False, "300/minute"),
        (("limits", "other", "rate"), False, "5/minute"),
        (("limits", "other", "per", 1), False, "ip"),
        (("limits", "other", "missing"), False, "other"),
        (("empty",), False, "empty"),
        ((), False, "mahavishnu"),
        (("missing",), False, "mahavishnu"),
    ],
)
def test_every_key_and_value_knows_its_place(
    path: tuple[str | int, ...], on_key: bool, expected: str
) -> None:
    """What has no line of its own, or is missing, is shown by the key above it."""
    assert shown(tree(TEXT), TEXT, *path, on_key=on_key) == expected


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
def test_places_are_the_same_with_every_line_break_and_a_byte_order_mark(break_: str) -> None:
    """What an editor adds to a file moves nothing."""
    reading = read(b"\xef\xbb\xbf" + TEXT.replace("\n", break_).encode(), "f.yaml")

    assert isinstance(reading.tree, Mapping)
    assert find(reading.tree, ("limits", "per_client", "rate")) == find(
        tree(TEXT), ("limits", "per_client", "rate")
    )


@pytest.mark.parametrize(
    ("code", "line", "column", "text"),
    [
        ("MV002", 1, 1, "#" * (2**20 + 1)),
        ("MV003", 1, 4, b"a: \x00"),
        ("MV003", 2, 4, b"a: b\nc: \xff"),
        ("MV003", 1, 1, "a: 1".encode("utf-16")),
        ("MV003", 1, 5, "a: b\u2028c"),
        ("MV003", 1, 2, "a\ufeff: b"),
        ("MV004", 1, 9, "a: {b: c"),
        ("MV004", 2, 1, "a:\n\t- b"),
        ("MV004", 1, 5, "a: b: c"),
        ("MV004", 1, 4, "a: @b"),
        ("MV004", 3, 1, "a: |\n%x\n"),
        ("MV005", 1, 65, "[" * 2000),
        ("MV005", 1, 129, "- " * 2000),
        ("MV006", 50000, 3, "- a\n" * 60000),
        ("MV007", 1, 8, "a: &a [*a]"),
        ("MV007", 1, 4, "a: *b"),
        ("MV008", 1, 4, "a: !!python/object/apply:os.system [ls]"),
        ("MV008", 1, 4, "a: !x y"),
        ("MV008", 1, 4, "a: !!str y"),
        ("MV008", 2, 5, "a: 1\nb: [!" + "x" * 1000 + " y]"),
        ("MV009", 1, 1, "%YAML 1.1\n---\na: no"),
        ("MV009", 2, 1, "# x\n%TAG ! tag:x\n---\na: b"),
        ("MV010", 2, 1, "a: b\n---\nc: d"),
        ("MV011", 1, 8, "{a: b, a: c}"),
        ("MV012", 1, 2, "{1: b}"),
        ("MV012", 1, 2, "{true: b}"),
        ("MV012", 1, 2, "{null: b}"),
        ("MV012", 1, 3, "{: b}"),
        ("MV012", 1, 2, "{[a]: b}"),
        ("MV012", 1, 4, "{? {a: b} : c}"),
        ("MV013", 1, 2, r'{"a\u202eb": c}'),
        ("MV013", 1, 2, r'{"a\u200bb": c}'),
        ("MV013", 1, 5, r'{a: "\0"}'),
        ("MV013", 1, 5, r'{a: "\e[31m"}'),
        ("MV013", 1, 5, r'{a: "\uD800"}'),
        ("MV014", 1, 4, "a: " + "9" * 20),
        ("MV014", 1, 4, "a: " + "9" * 5000),
        ("MV014", 1, 4, "a: 0x" + "f" * 5000),
    ],
)  # fmt: skip
def test_what_is_refused_at_the_door(code: str, line: int, column: int, text: str | bytes) -> None:
    """One finding, with the place at which reading stopped or what it had to leave out."""
    reading = read(text if isinstance(text, bytes) else text.encode(), "f.yaml")

    assert [finding.code for finding in reading.findings] == [code]
    place = reading.findings[0].where
    assert place is not None
    assert (place.line, place.column) == (line, column)


@pytest.fixture(scope="module")
def harmless() -> float:
    """Seconds that a list of 128 KiB takes."""
    (took,) = cheapest(lambda: read(b"- one\n" * (2**17 // 6), "f.yaml"), rounds=1)
    return took


@pytest.mark.proof
@pytest.mark.parametrize(
    "text",
    [
        "[" * 2**20,
        "{" * 2**20,
        "- " * 2**19,
        ": " * 2**19,
        "? " * 2**19,
        "&a " * 2**18,
        "'" * 2**20,
        "a: |" + "\n" * 2**19,
    ],
    ids=["brackets", "braces", "dashes", "colons", "questions", "anchors", "quotes", "empty lines"],
)
def test_a_hostile_mebibyte_is_refused_or_read_in_good_time(text: str, harmless: float) -> None:
    """No input stops the reader for long; the unguarded loader takes seconds for 2,000 brackets."""
    (took,) = cheapest(lambda: read(text.encode(), "f.yaml"), rounds=1)

    assert took / harmless < 5


def test_aliases_stand_for_values_but_not_for_floods() -> None:
    """A value may be used again; nine levels of nine may not, and are stopped before they are expanded."""
    assert plain(tree("a: &x {b: 1}\nc: *x\n")) == {"a": {"b": 1}, "c": {"b": 1}}

    levels = "".join(f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 9)}]\n" for n in range(9))
    reading = read(f"l0: &l0 [x, x, x, x, x, x, x, x, x]\n{levels}".encode(), "f.yaml")

    assert [finding.code for finding in reading.findings] == ["MV007"]


def test_a_small_file_that_aliases_make_ten_times_larger_is_refused() -> None:
    """The bound holds below the largest number of values, too."""
    text = "a: &a [" + ", ".join("x" * 100) + "]\nb: [" + ", ".join(["*a"] * 12) + "]\n"

    reading = read(text.encode(), "f.yaml")

    assert [finding.code for finding in reading.findings] == ["MV007"]


def test_several_faults_that_do_not_stop_reading_are_found_together() -> None:
    """All of one run: a tag, a doubled key, a key that is no text."""
    reading = read(b"a: !!str b\na: c\n1: d\n", "f.yaml")

    assert [finding.code for finding in reading.findings] == ["MV008", "MV011", "MV012"]


def test_json_is_yaml_also_beyond_the_first_plane() -> None:
    """JSON may write one character as a pair of escapes; half a pair is refused, above."""
    assert plain(tree(json.dumps({"a": "\U0001f600 and \U00010000"}))) == {"a": "\U0001f600 and \U00010000"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.sampled_from(["a", "b c", "x: y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def node(data: Any) -> Node:
    """A tree of this data: JSON is YAML."""
    made = read(json.dumps(data).encode(), "f.yaml").tree
    assert made is not None
    return made


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if type(patch) is not dict:
        return patch
    result: dict[str, Any] = {**target} if type(target) is dict else {}
    for name, value in cast("dict[str, Any]", patch).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(JSON, JSON)
def test_merging_is_the_json_merge_patch_of_the_standard(target: Any, patch: Any) -> None:
    """The tree's merge and the standard's own pseudocode agree."""
    assert plain(merge(node(target), node(patch))) == merged(target, patch)


def test_a_merged_value_stands_where_it_was_overridden() -> None:
    """A finding about an environment's value points into the environment."""
    base = tree("a: {b: 1, c: 2}\nenv: {a: {c: 3}}")
    patch = base.entries["env"].node

    found = merge(base, patch)

    assert find(found, ("a", "b")).line == 1
    assert find(found, ("a", "c")).line == 2


def test_all_values_are_listed_with_their_paths() -> None:
    """In the order of the file, lists by index."""
    paths = [path for path, _ in scalars(tree("a: {b: 1}\nc: [2, {d: 3}]"))]

    assert paths == [("a", "b"), ("c", 0), ("c", 1, "d")]
