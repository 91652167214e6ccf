"""Nothing a template writes can be read as anything but the value it was given."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mahavishnu.units import Cpu, Duration, Percent, Rate, Size
from tests.hostile import HOSTILE
from tests.reading import READERS, read_11, read_12

_render: Any = import_module("mahavishnu.generators._render")


texts = st.text(st.characters(codec="utf-8"))
# YAML knows no key of more than 1,024 characters on one line, and an escaped one takes up to ten of them.
keys = st.text(st.characters(codec="utf-8"), max_size=100)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(HOSTILE), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def template(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a template of one's own and fill it in."""

    def fill(name: str, text: str, **values: object) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        with _render.overriding(tmp_path):
            return str(_render.render(name, **values))

    return fill


def test_there_are_sixty_four_of_them() -> None:
    """The number that the README promises."""
    assert len(set(HOSTILE)) == 64


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_string_stays_one_string(text: str, read: Callable[[str], Any]) -> None:
    """As a value, as a key, in a list and in a mapping, under both versions of YAML."""
    written = _render.yaml_scalar(text)
    flow = f"{{a: {written}, {written}: [{written}]}}"
    document = f"key: {written}\n{written}: 1\nlist:\n  - {written}\nflow: {flow}\n"
    expected: dict[str, Any] = {"key": text, text: 1, "list": [text], "flow": {"a": text, text: [text]}}
    assert read(document) == expected
    assert read(f"a: {written} # {written}\nb: 1\n") == {"a": text, "b": 1}


def test_an_unquoted_writer_would_not_survive() -> None:
    """The readers and the strings can tell: written bare, more than half come back as something else."""

    def survives(text: str) -> bool:
        try:
            return bool(read_11(f"a: {text}\n") == read_12(f"a: {text}\n") == {"a": text})
        except Exception:  # noqa: BLE001 (whatever a reader throws)
            return False

    assert sum(map(survives, HOSTILE)) < 32


@given(values)
@example([Decimal("0.00001")])
def test_any_value_reads_back_under_both(value: Any) -> None:
    """Whatever is written, both versions of YAML read the same value again."""
    written = _render.yaml_scalar({"a": value})
    assert written.isascii()
    assert "\n" not in written
    if "Decimal" not in repr(value):
        assert read_11(written) == read_12(written) == {"a": value}
    else:
        assert read_11(written) == read_12(written) == {"a": [float(value[0])]}


lines = st.lists(st.text(st.sampled_from("a:#-' \t\"é|{"), max_size=4)).map("\n".join)


@given(lines | texts | lines.map("{}\n".format), st.integers(1, 6))
@example("a: |\n  b\n\n  c\n", 4)
def test_a_block_carries_its_text(text: str, depth: int) -> None:
    """Text of several lines comes back to the character, as a literal block or else quoted."""
    document = f"a:\n  b: {_render.yaml_scalar(_render.Block(text, 2 + depth))}\n  c: 1\n"
    assert read_11(document) == read_12(document) == {"a": {"b": text, "c": 1}}


def test_a_block_is_readable_where_it_can_be() -> None:
    """What is plain text stands as it is, indented."""
    assert _render.yaml_scalar(_render.Block("a: b\n\n  c\n", 4)) == "|\n    a: b\n\n      c"


@given(st.dictionaries(keys, values))
def test_a_document_reads_back(document: dict[str, Any]) -> None:
    """A whole document made of values is those values."""
    written = _render.yaml_document(document)
    assert (read_11(written) or {}) == (read_12(written) or {}) == document


@given(values)
def test_any_value_reads_back_as_json(value: Any) -> None:
    """JSON files have their own quoting."""
    assert json.loads(_render.json_value(value)) == value


@given(texts)
def test_a_shell_word_stays_one_word(text: str) -> None:
    """In a Dockerfile a word is one word, or it is refused because its line would end."""
    if not text.isprintable():
        with pytest.raises(ValueError, match="cannot carry"):
            _render.docker_word(text)
        return
    assert shlex.split(_render.docker_word(text)) == [text]
    assert json.loads(_render.docker_word([text, "x"])) == [text, "x"]


@pytest.mark.parametrize(
    "text", ["", "a b", "a\nb", "a;b", "..", "a/b", "a#b", "a%b", "$a", "-a", "a=b", "a{", "é"]
)
def test_what_settings_cannot_carry(text: str) -> None:
    """They have no way to quote it."""
    with pytest.raises(ValueError, match="settings cannot carry"):
        _render.bare_word(text)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("shop", "shop"),
        ("app.kubernetes.io/name", "app.kubernetes.io/name"),
        ("/metrics", "/metrics"),
        (Duration.parse("90m"), "1h30m"),
        (Size.parse("512Mi"), "512Mi"),
        (Cpu.parse("500m"), "500m"),
        (Percent.parse("99.9%"), "'99.9%'"),
        (Rate.parse("5/minute"), "'5/minute'"),
        (True, "true"),
        (8000, "8000"),
        (None, "null"),
        (Decimal("1E+2"), "100"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_plain_things_look_plain(value: object, written: str) -> None:
    """What needs no quotes gets none."""
    assert _render.yaml_scalar(value) == written


@pytest.mark.parametrize("value", [1.5, float("nan"), Decimal("NaN"), object(), b"x", "\ud800", {1, 2}])
def test_what_cannot_be_written_is_refused(value: object) -> None:
    """A float, a set or half a character is a mistake of the generator, not a line of a file."""
    with pytest.raises(ValueError, match=r"cannot write|no text"):
        _render.yaml_scalar(value)


class _Record(NamedTuple):
    name: str
    number: int


@pytest.mark.parametrize("write", ["yaml_scalar", "json_value", "markdown", "docker_word", "shell_word"])
def test_a_record_is_no_list(write: str) -> None:
    """What has fields of its own is refused, and not written as a list of them."""
    with pytest.raises(ValueError, match="cannot write"):
        getattr(_render, write)(_Record("text", 1))


@pytest.mark.parametrize("name", ["x.yml.j2", "x.yaml.j2", "x.json.j2"])
@pytest.mark.parametrize(
    "expression", ["x", "x | safe", "x ~ ''", "'a: ' ~ x", "[x][0]", "{'a': x}.a", "x | string"]
)
def test_no_expression_gets_past_the_quoting(template: Any, name: str, expression: str) -> None:
    """Filters and operators of the template language change the value, never whether it is quoted."""
    text = template(name, '{"key": {{ ' + expression + " }}}", x="a: [b\n")
    assert set(read_11(text)) == {"key"}
    assert read_11(text)["key"].endswith("a: [b\n")


def test_an_attribute_of_markup_gets_past_neither(template: Any) -> None:
    """A value that calls itself safe is quoted like any other."""

    class Markup(str):
        __slots__ = ()

        def __html__(self) -> str:
            return str(self)

    assert read_11(template("x.yml.j2", "key: {{ x }}", x=Markup("a: b"))) == {"key": "a: b"}


def test_a_value_that_is_missing_is_an_error(template: Any) -> None:
    """An empty place would be a valid file with another meaning."""
    with pytest.raises(jinja2.UndefinedError, match="'x' is undefined"):
        template("x.yml.j2", "key: {{ x }}")


def test_a_language_without_quoting_is_refused(template: Any) -> None:
    """A file whose quoting is not known is not rendered at all."""
    with pytest.raises(ValueError, match="no quoting is known"):
        template("x.lua.j2", "{{ x }}", x=1)


def test_an_override_goes_first_and_ours_remain(tmp_path: Path) -> None:
    """One template may be replaced without copying the others."""
    ours = min(our_templates())
    before = _render._own_text(ours)
    (tmp_path / ours).parent.mkdir(parents=True)
    (tmp_path / ours).write_text("mine: {{ mine }}\n", encoding="utf-8")
    with _render.overriding(tmp_path):
        assert _render.render(ours, mine="no") == "mine: 'no'\n"
    assert _render._own_text(ours) == before
    with pytest.raises(jinja2.UndefinedError):
        _render.render(ours)


def our_templates() -> list[str]:
    root = Path(str(files("mahavishnu.templates")))
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.j2"))


def misplaced(text: str) -> list[str]:
    """Lines where an expression is glued to other text: the quotes it writes would end up inside a word."""
    found: list[str] = []
    for line in text.splitlines():
        bare = line
        while (start := bare.find("{{")) >= 0:
            end = bare.index("}}", start) + 2
            before, after = bare[:start], bare[end:]
            if (before and before[-1] not in " [{") or (after and after[0] not in ":,;]} "):
                found.append(line)
                break
            bare = before + "x" * (end - start) + after
    return found


# A page's text is in the sentence, and settings know no quotes: what would need them there is refused.
@pytest.mark.parametrize("name", [one for one in our_templates() if not one.endswith((".md.j2", ".conf.j2"))])
def test_every_expression_stands_alone(name: str) -> None:
    """`{{ }}` is a whole word of its file, never a part of one, and no template switches the quoting off."""
    text = _render._own_text(name)
    assert misplaced(text) == []
    assert not [word for word in ("{% macro", "{% call", "{% filter", "{% autoescape") if word in text]


def test_a_glued_expression_is_found() -> None:
    """The rule above can fail."""
    assert misplaced("a: b-{{ x }}") == ["a: b-{{ x }}"]
    assert misplaced("a: '{{ x }}'") == ["a: '{{ x }}'"]
    assert misplaced("a: {{ x }}b") == ["a: {{ x }}b"]
    assert misplaced("a: {{ x }}\n- [{{ y }}, {{ z }}]\n{{ k }}: {{ v }}") == []
