"""The JSON Schema that editors use: valid itself, and of one mind with the loader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.errors import SpecError
from mahavishnu.load import load
from mahavishnu.loading.nodes import plain
from mahavishnu.loading.schema import schema, text
from mahavishnu.loading.yaml_tree import read
from tests.strategies import specs
from tests.test_refusals import CASES, written

Draft202012Validator: Any = import_module("jsonschema").Draft202012Validator  # it has no types
ROOT = Path(__file__).parents[2]
# What a schema cannot say: references, sums, what is doubled, what only the rest of the file decides.
BEYOND = {"MV011", "MV012", "MV008", "MV013", "MV014", "MV109", "MV113", "MV122", "MV401"}

# To JSON Schema 1.0 is a whole number, and a pattern cannot count: zero, above 100, a network's prefix; and a
# limit's match is the same whatever it limits.
MISSED = """\
mahavishnu: «1.0»
service: {name: shop, app: shop.main:app, port: «8000.0»}
service: {name: shop, app: shop.main:app, port: «8e3»}
service: {name: shop, app: shop.main:app, traffic: «0/second»}
service: {name: shop, app: shop.main:app, trusted_proxies: [«10.0.0.1/8»]}
service: {name: shop, app: shop.main:app, trusted_proxies: [«10.0.0/8»]}
limits: {a: {rate: «0/minute»}}
limits: {a: {rate: «300/0s»}}
limits: {a: {rate: 300/minute, burst: «1.0»}}
limits: {a: {rate: 300/minute, per: «[]»}}
limits: {a: {concurrency: 4, match: «{tool: "x*"}»}}
limits: {a: {timeout: 5s, match: «{tool: "x*"}»}}
limits: {a: {body: «0B»}}
limits: {a: {timeout: «0s»}}
dependencies: {a: {retry: {attempts: «3.0»}}}
dependencies: {a: {retry: {budget: «120%»}}}
dependencies: {a: {retry: {budget: «0%»}}}
slos: {a: {objective: «101%»}}
backups: {a: {source: {sqlite: a}, to: «[]», password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: «"0 0 30 2 *"», rpo: 25h}}
backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: «"0 25 * * *"», rpo: 25h}}
retention: {backups: {within: «0d»}}
"""


SAYS = Draft202012Validator(schema())


def faults(data: Any) -> list[str]:
    """What the schema says against some data."""
    return [error.message for error in SAYS.iter_errors(data)]


def data(path: Path) -> Any:
    """What stands in a file."""
    tree = read(path.read_bytes(), "f.yaml").tree
    assert tree is not None
    return plain(tree)


def test_it_is_valid_itself() -> None:
    """By the metaschema of 2020-12, which it names."""
    Draft202012Validator.check_schema(schema())

    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert text("mahavishnu 1").endswith("}\n")


@pytest.mark.parametrize(
    "path", [ROOT / "tests/specs/minimal.yaml", ROOT / "mahavishnu.yaml"], ids=["minimal", "shop"]
)
def test_it_accepts_what_the_loader_accepts(path: Path) -> None:
    """The smallest spec, and the one that has every section."""
    load(path)

    assert faults(data(path)) == []


@pytest.mark.parametrize(
    "section",
    [
        "deploy: {image: my--app}",
        "deploy: {image: 'my__x/y:V1'}",
        f"deploy: {{image: 'registry:5000/shop@sha256:{'a' * 64}'}}",
        "deploy: {targets: {kubernetes: {host: shop.xn--p1ai}}}",
        "store: 'redis://user:${KEY}@10.0.0.7:6380/3?socket_timeout=0.05'",
        "store: 'redis://[fd00::7]'",
        "security: {cors: {origins: ['http://[::1]:8080', 'https://shop.example.com:8443', 'http://localhost']}}",
        "alerts: {thresholds: {full: {when: '  memory>90%', severity: P3}}}",
    ],
)
def test_a_value_is_accepted_in_every_form_it_can_have(section: str, tmp_path: Path) -> None:
    """By the loader, and by the schema of editors."""
    path = written(section, tmp_path)
    load(path)

    assert faults(data(path)) == []


def test_it_refuses_the_words_that_are_not_carried_out() -> None:
    """The full spec has 22 of them."""
    assert faults(data(ROOT / "tests/specs/full.yaml"))


def test_it_refuses_most_of_what_the_loader_refuses(tmp_path: Path) -> None:
    """Of the table of bad values, all that a schema can say; an editor shows them while they are typed."""
    missed: list[str] = []
    for code, row in CASES:
        path = written(row, tmp_path)
        with pytest.raises(SpecError):
            load(path)
        if code not in BEYOND and not row.startswith("environments") and not faults(data(path)):
            missed.append(row)

    assert missed == MISSED.splitlines()


def described(node: dict[str, Any], path: str = "") -> list[str]:
    """The keys without a description."""
    shown = {"description", "$ref"}  # what a reference leads to is described itself
    bare = [f"{path}.{name}" for name, one in node.get("properties", {}).items() if not shown & set(one)]
    for name, one in node.get("$defs", {}).items():
        bare += described(one, name) + ([] if "description" in one else [name])
    return bare


def test_every_key_is_described() -> None:
    """What an editor shows beside it."""
    assert described(schema()) == []


def test_no_value_may_be_empty() -> None:
    """The loader refuses nulls, so the schema offers none."""
    assert '"null"' not in text("mahavishnu 1")
    assert ": null" not in text("mahavishnu 1")


@settings(max_examples=25)
@given(specs())
def test_schema_and_loader_accept_the_same_random_specs(made: dict[str, Any]) -> None:
    """Whatever holds, through the text of a file, holds for both; JSON is YAML."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "mahavishnu.yaml")
        path.write_text(json.dumps(made), encoding="utf-8")

        assert load(path).findings == ()
        assert faults(made) == []


@pytest.mark.proof
@settings(max_examples=25)
@given(specs(), st.data())
def test_neither_accepts_a_key_that_is_misspelled(made: dict[str, Any], data: st.DataObject) -> None:
    """Anywhere in a spec: nothing is accepted and ignored."""
    made = deepcopy(made)  # parts of it are shared with every other random spec
    homes = [one for one in mappings(made) if one]
    home = data.draw(st.sampled_from(homes))
    home["no_such_word"] = home.pop(next(iter(home)))
    with TemporaryDirectory() as folder:
        path = Path(folder, "mahavishnu.yaml")
        path.write_text(json.dumps(made), encoding="utf-8")

        with pytest.raises(SpecError):
            load(path)
        assert faults(made)


def mappings(node: Any, names: bool = False) -> Iterator[dict[str, Any]]:
    """Every mapping whose keys are words of the format; those of names are passed through."""
    if isinstance(node, dict):
        entries = cast("dict[str, Any]", node)
        if not names:
            yield entries
        for key, inner in entries.items():
            if key != "environments":
                named = not names and key in (
                    "limits",
                    "dependencies",
                    "slos",
                    "channels",
                    "thresholds",
                    "backups",
                )
                yield from mappings(inner, named)
