"""Structural non-interference: another string in one place of the spec changes that place of the files only.

Every string of a spec, keys that people choose included, is replaced by hostile ones. The loader refuses
the spec, or every generated file keeps its shape under YAML 1.1 and 1.2, and only leaves that carry the
string differ.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from mahavishnu.artifact import Artifact
from mahavishnu.compile import compile as compiled
from mahavishnu.contract import contract
from mahavishnu.errors import SpecError
from mahavishnu.load import load
from mahavishnu.policy import camel
from mahavishnu.spec import Spec
from tests.figures import FULL, figure
from tests.hostile import HOSTILE
from tests.reading import read

# One of everything that takes a string of one's own; short, since it is generated some thousand times.
BASE: dict[str, Any] = {
    "mahavishnu": 1,
    "service": {
        "name": "shop_api",
        "owner": "the payments team",
        "app": "shop.main:app",
        "app_dir": "src/web",
    },
    "secrets": ["DATABASE_URL", "SLACK_WEBHOOK", "GRAFANA_WORD"],
    "backups": {
        "keeping": {
            "source": {"command": ["dump-all", "--of=it"]},
            "to": ["rest:https://vault.example.com/keeping", "/mnt/keeping"],
            "password": "${DATABASE_URL}",
            "schedule": "17 2 * * *",
            "rpo": "26h",
            "hooks": {"before": ["sync-it"]},
        }
    },
    "limits": {
        "logging_in": {"rate": "5/minute", "scope": "process", "match": {"path": "/log/in", "method": "POST"}}
    },
    "dependencies": {"stripes": {"url": "https://api.stripe.com/v1", "timeout": "2s"}},
    "slos": {"checking_out": {"objective": "99.9%", "window": "30d", "match": {"path": "/check/out"}}},
    "channels": {
        "chatting": {"slack": "${SLACK_WEBHOOK}", "channel": "#shop-talk"},
        "posting": {
            "email": "oncall@example.com",
            "smtp": "smtp.example.com:587",
            "sender": "shop@example.org",
        },
        "hooking": {"webhook": "https://hooks.example.net/a/b"},
    },
    "alerts": {
        "runbooks": "https://runbooks.example.com/shop",
        "dashboards": "https://grafana.example.com/x",
        "thresholds": {"crowding": {"when": "memory > 90%", "for": "10m", "severity": "P2"}},
    },
    "observability": {"metrics": {"path": "/-/numbers"}, "logs": {"redact": ["card_number"]}},
    "security": {"cors": {"origins": ["https://front.example.com"]}},
    "deploy": {
        "image": "ghcr.io/example/shop",
        "targets": {
            "compose": {"grafana_password": "${GRAFANA_WORD}"},
            # A class that is known has a namespace, and with it another policy.
            "kubernetes": {"namespace": "shopping", "host": "shop.example.com", "ingress_class": "corner"},
        },
    },
}
NAMED = ("limits", "dependencies", "slos", "channels", "backups")
Path_ = tuple[str | int, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Every string of a spec with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(cast("Sequence[Any]", value)):
            yield from leaves(inner, (*path, number))


def with_leaf(path: Path_, text: str) -> dict[str, Any]:
    """The base with one string replaced."""
    spec = copy.deepcopy(BASE)
    place: Any = spec
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = text
    return spec


def with_key(section: str, name: str, text: str) -> dict[str, Any]:
    """The base with one name replaced."""
    spec = copy.deepcopy(BASE)
    spec[section] = {text if key == name else key: value for key, value in spec[section].items()}
    return spec


@dataclass(frozen=True)
class Case:
    """One string of the base: where it is, and specs in which another stands for it."""

    where: str
    original: str
    path: Path_
    section: str = ""

    def spec(self, text: str) -> dict[str, Any]:
        return with_key(self.section, self.original, text) if self.section else with_leaf(self.path, text)


CASES = (
    *(Case(".".join(map(str, path)), text, path) for path, text in leaves(BASE)),
    *(Case(f"{section} key", name, (), section) for section in NAMED for name in BASE[section]),
)


def variants(case: Case) -> Iterator[str]:
    """What is put in the place of a string: each hostile one alone, and behind the string itself."""
    for hostile in HOSTILE:
        # What is no URL is a folder, for which containers get a volume: put where a folder was, below.
        if ":" in hostile or ":" not in case.original or ".to." not in case.where:
            yield hostile
        yield case.original + hostile


def accepted(spec: Mapping[str, Any], at: Path) -> Spec | None:
    """The spec as the loader reads it from a file; None when it refuses, by findings and nothing else."""
    at.write_text(json.dumps(spec), encoding="utf-8")
    try:
        return load(at).declared
    except SpecError:
        return None


# --- comparing ------------------------------------------------------------------------------------


def carriers(text: str) -> tuple[str, ...]:
    """How a string may stand in a file: as it is, in a host's, an alert's or a volume's name, in a Compose file."""
    volume = text.removeprefix("/").replace("-", "--").replace("/", "-")
    return (text, text.replace("_", "-"), camel(text), text.replace("$", "$$"), volume)


def strayed(before: object, after: object, original: str, path: str = "") -> Iterator[str]:
    """Where two trees differ in shape, or in a leaf that did not carry the original string."""
    leaf: object = before
    new: object = after
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _mappings(
            cast("Mapping[Any, Any]", before), cast("Mapping[Any, Any]", after), original, path
        )
    elif isinstance(before, list) and isinstance(after, list):
        one, other = cast("Sequence[Any]", before), cast("Sequence[Any]", after)
        if len(one) != len(other):
            yield f"{path}: {len(one)} -> {len(other)} items"
        for number, (first, second) in enumerate(zip(one, other, strict=False)):
            yield from strayed(first, second, original, f"{path}[{number}]")
    elif type(leaf) is not type(new):
        yield f"{path}: {type(leaf).__name__} -> {type(new).__name__}"
    elif leaf != new and not carries(leaf, original) and not digested(leaf):
        yield f"{path}: {leaf!r} -> {new!r}"
    elif path.endswith("mahavishnu.yaml") and isinstance(before, str) and "\n" in before:
        yield from strayed(read(before), read(cast("str", after)), original, f"{path}:")


def digested(leaf: object) -> bool:
    """Whether it is the name of a ConfigMap, which every change of the spec changes."""
    return isinstance(leaf, str) and re.search(r"-spec-[0-9a-f]{10}$", leaf) is not None


def _mappings(before: Mapping[Any, Any], after: Mapping[Any, Any], original: str, path: str) -> Iterator[str]:
    if len(before) != len(after):
        yield f"{path}: keys {[*before]} -> {[*after]}"
    for (key, one), (other_key, other) in zip(before.items(), after.items(), strict=False):
        if key != other_key and not carries(key, original):
            yield f"{path}: key {key!r} -> {other_key!r}"
        yield from strayed(one, other, original, f"{path}.{key}")


def carries(text: object, original: str) -> bool:
    return isinstance(text, str) and any(form in text for form in carriers(original))


def differences(before: Sequence[Artifact], after: Sequence[Artifact], original: str) -> list[str]:
    """Everything that another string changed besides the leaves that carry it."""
    pairs = paired(before, after)
    if len(before) != len(after) or not all(
        one.path == two.path or carries(one.path, original) for one, two in pairs
    ):
        return [f"other files: {[one.path for one in after]}"]
    found: list[str] = []
    for one, other in pairs:
        if one.text == other.text:
            continue
        if reader := READERS.get(Path(one.path).suffix):
            before_, after_ = tree(one.text, reader), reader(other.text)
            found += [f"{one.path}{line}" for line in strayed(before_, after_, original)]
        else:
            found += list(lines(one, other, original))
    return found


def paired(before: Sequence[Artifact], after: Sequence[Artifact]) -> list[tuple[Artifact, Artifact]]:
    """Each file with what became of it: itself, or among those with other names the one in its place."""
    old, new = ({one.path: one for one in some} for some in (before, after))
    renamed = zip(sorted({*old} - {*new}), sorted({*new} - {*old}), strict=False)
    return [*((old[path], new[path]) for path in old if path in new), *((old[a], new[b]) for a, b in renamed)]


def lines(before: Artifact, after: Artifact, original: str) -> Iterator[str]:
    """The same for files that are not YAML: line by line."""
    one, other = before.text.splitlines(), after.text.splitlines()
    if len(one) != len(other):
        yield f"{before.path}: {len(one)} -> {len(other)} lines"
    for first, second in zip(one, other, strict=False):
        if first != second and not carries(first, original):
            yield f"{before.path}: {first!r} -> {second!r}"


READERS: Mapping[str, Callable[[str], Any]] = {".yml": read, ".yaml": read, ".json": json.loads}
_TREES: dict[str, Any] = {}


def tree(text: str, reader: Callable[[str], Any]) -> Any:
    if text not in _TREES:
        _TREES[text] = reader(text)
    return _TREES[text]


def unhashed(spec: Spec) -> tuple[Artifact, ...]:
    """What is generated, but for the hash of the whole spec, which every string of it changes."""
    made = contract(spec)
    return tuple(replace(one, text=one.text.replace(made.hash, "the-hash-of-it")) for one in compiled(made))


@pytest.fixture(scope="module")
def baseline() -> tuple[Artifact, ...]:
    return unhashed(Spec.model_validate(BASE))


@cache
def _tagged() -> tuple[Artifact, ...]:
    """What is generated for an image whose tag is known: nobody is told to bring one."""
    return unhashed(Spec.model_validate(with_leaf(("deploy", "image"), f"{BASE['deploy']['image']}:1")))


def judged(case: Case, text: str, baseline: Sequence[Artifact], at: Path) -> list[str] | None:
    """What the string changed besides its own places; None when the loader refuses it."""
    spec = accepted(case.spec(text), at)
    if spec is None:
        return None
    before = _tagged() if case.where == "deploy.image" and re.search(r"[:@][^/]*$", text) else baseline
    found = differences(before, unhashed(spec), case.original)
    return [f"{case.where} = {text!r}: {one}" for one in found]


# --- the tests ------------------------------------------------------------------------------------


@pytest.mark.proof
def test_one_string_changes_one_place(baseline: tuple[Artifact, ...], tmp_path: Path) -> None:
    """A sample of all pairs of a place and a hostile string."""
    generator = random.Random(20)
    open_cases = [case for case in CASES if case.where in ("service.owner", "channels.chatting.channel")]
    pairs = [(case, text) for case in CASES for text in generator.sample([*variants(case)], 1)]
    pairs += [(case, text) for case in open_cases for text in generator.sample([*variants(case)], 4)]
    taken = [judged(case, text, baseline, tmp_path / "mahavishnu.yaml") for case, text in pairs]
    assert [one for found in taken for one in found or ()] == []
    assert sum(found is not None for found in taken) >= 5
    assert taken.count(None) >= 30


@pytest.mark.proof
def test_every_string_against_every_hostile_one(baseline: tuple[Artifact, ...], tmp_path: Path) -> None:
    """64 generations for each string, and 64 more with the hostile one behind it; each 74th by default."""
    pairs = [(case, text) for case in CASES for text in variants(case)][:: 1 if FULL else 74]
    results = [judged(case, text, baseline, tmp_path / "mahavishnu.yaml") for case, text in pairs]
    strays = [one for found in results for one in found or ()]
    refused = results.count(None)
    figure("hostile strings that changed more than their own place", 0, len(strays))
    figure("… of these refused by the loader, let in", len(pairs), f"{refused} + {len(pairs) - refused}")
    assert strays == []
    assert refused > len(pairs) / 2
    assert len(pairs) - refused > len(pairs) / 20


def test_a_hostile_string_that_got_through_would_be_seen(baseline: tuple[Artifact, ...]) -> None:
    """Pasted instead of quoted, most of the strings that change anything are found by the comparison."""
    owner = BASE["service"]["owner"]
    seen = 0
    for hostile in HOSTILE[::3]:
        pasted = [Artifact(one.path, one.text.replace(f"'{owner}'", hostile)) for one in baseline]
        try:
            seen += differences(baseline, pasted, owner) != []
        except Exception:  # noqa: BLE001  no YAML at all, or two readers that differ
            seen += 1
    assert seen > len(HOSTILE[::3]) // 2
    assert differences(baseline, baseline, owner) == []


@pytest.mark.proof
@pytest.mark.parametrize("name", ["null", "y", "on"])
def test_names_that_yaml_takes_for_something_else(
    name: str, baseline: tuple[Artifact, ...], tmp_path: Path
) -> None:
    """They are valid names, so they must come out as names, wherever a name comes out."""
    for case in CASES:
        if case.section:
            assert judged(case, name, baseline, tmp_path / "mahavishnu.yaml") == []
