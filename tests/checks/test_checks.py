"""Every cross-check speaks where it should, at the very token, and is silent beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checks.worlds import BASE, WORLDS

from mahavishnu import checks
from mahavishnu.errors import Finding
from mahavishnu.load import Loaded, load

ROUTES: checks.Routes = (
    ("/login", frozenset({"POST"})),
    ("/orders/{id}", frozenset({"GET", "HEAD"})),
    ("/products", frozenset({"GET", "HEAD"})),
    ("/static/*", None),
)
CASES = [(name, *world) for name, worlds in WORLDS.items() for world in worlds]
CODES = {one.CODE.id: one.__name__.rpartition(".")[2] for one in checks.ALL}  # type: ignore[attr-defined]


def loaded(text: str, folder: Path) -> Loaded:
    """The base spec with these sections in the place of its own."""
    sections = {line.split(":")[0] for line in text.splitlines()}
    kept = [line for name, line in BASE.items() if name not in sections]
    path = folder / "mahavishnu.yaml"
    path.write_text("\n".join([*kept, text, ""]), encoding="utf-8")
    return load(path)


def found(name: str, one: Loaded) -> list[Finding]:
    """What the check of this name says; the others say what they like."""
    return [finding for finding in one.crossed(_relevant(one)) if CODES[finding.code] == name]


def _relevant(one: Loaded) -> checks.Routes:
    return ROUTES if "DELETE" not in one.text or "static" in one.text else ROUTES[:3]


@pytest.mark.parametrize(
    ("name", "text", "level", "says", "helps"),
    [(name, bad, level, says, helps) for name, bad, _, level, says, helps in CASES],
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(CASES)],
)
def test_it_speaks(name: str, text: str, level: str, says: str, helps: str, tmp_path: Path) -> None:
    """Once, with its level, what is wrong and what to do, under the token."""
    one = loaded(text.replace("«", "").replace("»", ""), tmp_path)

    findings = found(name, one)

    assert [finding.level for finding in findings] == [level]
    assert says in findings[0].what
    assert helps in findings[0].help
    where = findings[0].where
    assert where is not None
    token = where.text[where.column - 1 :][: where.width]
    assert token == text.split("«")[1].split("»")[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, good) for name, _, good, *_ in CASES],
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(CASES)],
)
def test_its_neighbour_is_silent(name: str, text: str, tmp_path: Path) -> None:
    """The nearest spec that is right says nothing."""
    assert found(name, loaded(text, tmp_path)) == []


def test_every_check_is_in_the_table_and_has_worlds() -> None:
    """A file in the folder that nobody runs would be a check that never fails."""
    folder = Path(checks.__file__).parent
    files = {path.stem for path in folder.glob("[!_]*.py")}

    assert files == set(CODES.values()) == set(WORLDS)


def test_codes_are_unique_and_complete() -> None:
    """Each says what, why, an example and the fix, and no two share an id with each other or the loader."""
    from mahavishnu.codes import LOADER

    known = [*LOADER, *(one.CODE for one in checks.ALL)]

    assert len({code.id for code in known}) == len(known)
    assert all(code.title and code.why and code.example and code.fix for code in known)


def test_without_routes_nobody_judges_them(tmp_path: Path) -> None:
    """What was not looked at is not called wrong."""
    one = loaded("limits: {a: {rate: 5/minute, match: {path: /nowhere}}}", tmp_path)

    assert [finding.code for finding in one.crossed()] == []
    assert [finding.code for finding in one.crossed(ROUTES)] == ["MV404"]


def test_a_bug_of_the_contract_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a condition that has been found to name nothing excuses a contract that cannot be made."""
    from mahavishnu.signals import AgreementError

    def broken(facts: checks.Facts) -> None:
        raise AgreementError("no such series")

    monkeypatch.setattr(checks.Facts, "contract", broken)
    one = loaded("limits: {a: {rate: 5/minute}}", tmp_path)

    with pytest.raises(AgreementError):
        one.crossed()
