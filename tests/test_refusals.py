"""More than two hundred bad values: each is refused, once, with its code, under the right token."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mahavishnu.errors import SpecError
from mahavishnu.load import load
from tests.refusals import BASE, ROWS

CASES = [line.split(" ", 1) for line in ROWS.splitlines() if line]


def written(row: str, folder: Path) -> Path:
    """The base spec with the row's section in it, without marks."""
    section = row.replace("«", "").replace("»", "").split(":")[0]
    lines = [
        text
        for name, text in BASE.items()
        if name != section and not (name == "mahavishnu" and "mahavishnu2" in row)
    ]
    path = folder / "mahavishnu.yaml"
    path.write_text("\n".join([*lines, row.replace("«", "").replace("»", ""), ""]), encoding="utf-8")
    return path


def test_the_table_is_as_long_as_it_says() -> None:
    """Two hundred rows or more, no two alike."""
    assert len({row for _, row in CASES}) == len(CASES) >= 200


@pytest.mark.parametrize(("code", "row"), CASES, ids=[row for _, row in CASES])
def test_a_bad_value_is_refused_once_and_where_it_stands(code: str, row: str, tmp_path: Path) -> None:
    """Exactly one finding: the code of the row, at the marked token, in words of our own."""
    path = written(row, tmp_path)

    with pytest.raises(SpecError) as refused:
        load(path)

    found = refused.value.findings
    assert [one.code for one in found if "mahavishnu2" not in one.what] == [code], [one.what for one in found]
    assert "Input should" not in found[0].what
    if "«" in row:
        where = found[0].where
        assert where is not None
        line = path.read_text(encoding="utf-8").splitlines()[where.line - 1]
        assert line[where.column - 1 :][: where.width] == row.split("«")[1].split("»", maxsplit=1)[0]


NUMBERS = {
    "MV102": r"«[^\[]",
    "MV104": r"\b(port|workers|burst|attempts|min|daily|monitoring): «",
    "MV107": r"«-?[0-9]",
}


@pytest.mark.parametrize(
    "row", [row for code, row in CASES if code in NUMBERS and re.search(NUMBERS[code], row)]
)
def test_the_help_of_a_wrong_number_is_a_right_one(row: str, tmp_path: Path) -> None:
    """What the help quotes is accepted in the place of the token: whoever copies it is done."""
    with pytest.raises(SpecError) as refused:
        load(written(row, tmp_path))
    help = refused.value.findings[0].help
    before, _, after = re.split("[«»]", row)
    right = help.split("`")[1]

    assert load(written(f"{before}{right}{after}", tmp_path)).text


ADVICE = re.compile(
    r"(write|put it in quotes:|did you mean|(?P<any>use one of)|.*, like) `(?P<said>[^`]+)`"
    r"(\?|, (or the whole |`).*| and list .*| or (more|less)| for its defaults, .*)?"
)
"""Help that quotes what may stand in the place of the token, or behind it where that is an empty key."""
PARTS = frozenset({"memry > 90%", "<<", '["${KEY}"]'})
"""Tokens of which the help names only a part, or another place."""


def advised(row: str, help: str) -> str:
    """The row as the help says to write it; nothing where the help says no more than what to think of."""
    said = ADVICE.fullmatch(help)
    before, token, after = re.split("[«»]", row)
    if said is None or token in PARTS or (said["any"] and after.startswith(":")):
        return ""
    empty = after.startswith(": }")
    return f"{before}{token}: {said['said']}{after[2:]}" if empty else f"{before}{said['said']}{after}"


def test_what_the_help_says_to_write_is_accepted(tmp_path: Path) -> None:
    """Whoever types it as it stands there is done, but for the secrets of which it speaks: those he declares."""
    followed = 0
    for row in (row for _, row in CASES if "«" in row):
        with pytest.raises(SpecError) as refused:
            load(written(row, tmp_path))
        if right := advised(row, refused.value.findings[0].help):
            names = ", ".join({"KEY", *re.findall(r"\$\{([A-Z_]+)\}", right)})
            path = written(right, tmp_path)
            path.write_text(path.read_text().replace("secrets: [KEY]", f"secrets: [{names}]"))
            assert load(path).text, row
            followed += 1

    assert followed >= 200


@pytest.mark.parametrize("text", list(BASE.values()))
def test_the_base_of_the_table_holds(text: str, tmp_path: Path) -> None:
    """What the rows are added to is itself accepted, so that each refusal is the row's own."""
    path = tmp_path / "mahavishnu.yaml"
    path.write_text("\n".join(BASE.values()), encoding="utf-8")

    assert text in load(path).text


@pytest.mark.parametrize(
    "row",
    [
        "dependencies: {a: {breaker: {failure_on: [timeout, 503], ignore: [timeout]}}}",
        "dependencies: {a: {breaker: {failure_on: [], slow_call: 1s}}}",
        "dependencies: {a: {retry: {attempts: 1, retry_on: []}}}",
        "dependencies: {a: {retry: {max: 50ms}}}",
        "dependencies: {a: {retry: {base: 2s}}}",
        "dead_letters: {redrive: {max: 30s}}",
        "limits: {a: {concurrency: 4, wait: 5s, critical: [{path: /login}]}}",
        "limits: {a: {concurrency: 4, queue: 0}}",
    ],
)
def test_what_still_does_something_is_not_refused(row: str, tmp_path: Path) -> None:
    """A part that is ignored, a default that gives way, what other words of the policy still want."""
    assert load(written(row, tmp_path)).text
