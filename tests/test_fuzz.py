"""Thousands of broken specs through the command line: no traceback, a place for every error."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from mahavishnu.cli import run
from mahavishnu.errors import Problem
from mahavishnu.loading import faults, translations
from tests.figures import FULL, cheapest, figure

ROOT = Path(__file__).parents[1]
SEEDS = [ROOT / "tests/specs/minimal.yaml", ROOT / "tests/specs/full.yaml", ROOT / "mahavishnu.yaml"]
ROUNDS = 100_000 if FULL else 200
HOSTILE = (
    "null", "~", "true", "no", "-1", "0", "1e309", ".nan", "1" * 30, '""', "[]", "{}", "[[]]", "{a: {b: c}}",
    "!!str x", "&a x", "*a", "*b", "|", ">-", "'", '"', '"\\0"', '"\\uD800"', '"\\u202e"', "${X}", "${", "§",
    "漢字", "%", "@", "`", "- a", "? b", ": c", "#",
    "---", "...", "\t", "\r", "\x00", "\x85", "\u2028", "\ufeff",
    "999999999999s",
    "0%", "100%", "1/0s", "9" * 9 + "/second", "limits.x.refused > 5%", "<<", "a" * 300, "../..", "{{ x }}",
)  # fmt: skip
Mutation = Callable[[random.Random, str], str]


def splice(rng: random.Random, text: str) -> str:
    """Put something hostile anywhere, over some of what was there."""
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(HOSTILE) + text[at + rng.choice((0, 0, 1, 5, 30)) :]


def swap_value(rng: random.Random, text: str) -> str:
    """Put something hostile, or another value of the file, in the place of a value."""
    words = text.split(" ")
    spots = [index for index, word in enumerate(words) if word.strip("{}[],\n")]
    index = rng.choice(spots)
    other = rng.choice([*HOSTILE, *(words[rng.choice(spots)].strip("{}[],\n") for _ in range(20))])
    words[index] = words[index].replace(words[index].strip("{}[],\n"), other)
    return " ".join(words)


def drop_lines(rng: random.Random, text: str) -> str:
    """Lose a few lines."""
    lines = text.splitlines(keepends=True)
    start = rng.randrange(len(lines))
    return "".join(lines[:start] + lines[start + rng.randrange(1, 6) :])


def move_line(rng: random.Random, text: str) -> str:
    """Say a line again elsewhere, with another indentation."""
    lines = text.splitlines(keepends=True)
    line = " " * rng.randrange(5) + rng.choice(lines).lstrip()
    lines.insert(rng.randrange(len(lines) + 1), line)
    return "".join(lines)


def misspell(rng: random.Random, text: str) -> str:
    """Two neighbours change places."""
    at = rng.randrange(1, len(text) - 1)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def nest(rng: random.Random, text: str) -> str:
    """Something very deep, or very many times."""
    return text + rng.choice(
        ["x: " + "[" * 70, "x: " + "{a: " * 70, "- " * 70, "x: [" + "a, " * 200 + "]", "\nx: 1" * 9]
    )


MUTATIONS: tuple[Mutation, ...] = (splice, swap_value, swap_value, drop_lines, move_line, misspell, nest)


def broken(rng: random.Random) -> bytes:
    """A spec with one to four mutations, or one time in ten bytes of no meaning."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    text = rng.choice(SEEDS).read_text(encoding="utf-8")
    for _ in range(rng.randrange(1, 5)):
        text = rng.choice(MUTATIONS)(rng, text) or "x"
    return text.encode("utf-8", "surrogatepass")


def judged(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, object]]]:
    """The exit code of `check`, and its findings."""
    code = run(["check", "--no-app", "--format", "json", "--spec", str(path)])
    out, err = capsys.readouterr()
    assert err == "", path.read_bytes()
    findings: list[dict[str, object]] = json.loads(out)
    return code, findings


@pytest.mark.proof
def test_thousands_of_broken_specs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded, in process, through the entry point: what fails can be made to fail again by its number."""
    path = tmp_path / "mahavishnu.yaml"
    strange: list[str] = []

    def unforeseen(error: translations.Error) -> Problem:
        strange.append(error.kind)
        return Problem("MV108", error.path, error.kind)

    monkeypatch.setattr(translations, "unforeseen", unforeseen)
    times: list[float] = []
    errors = 0
    for number in range(ROUNDS):
        path.write_bytes(broken(random.Random(number)))
        begun = time.process_time()
        code, findings = judged(path, capsys)
        times.append(time.process_time() - begun)
        bad = [one for one in findings if one["severity"] == "error"]
        errors += len(bad)
        assert code == (1 if bad else 0), number
        assert all(one["line"] and one["column"] and one["code"] for one in bad), (number, bad)
        assert not any("Input should" in str(one["what"]) for one in bad), (number, bad)

    assert strange == []
    p99 = sorted(times)[len(times) * 99 // 100]
    figure(
        "broken specs checked",
        f"{ROUNDS:,} without a traceback",
        f"{len(times):,}; {errors:,} errors, all with a place",
    )
    whole = cast("Any", YAML())  # which knows no types
    read = sorted(cheapest(*[lambda: whole.load(SEEDS[1])] * 30, rounds=1))[15]
    figure(
        f"processor time to judge one, 99th percentile ({p99 * 1000:.0f} ms) / ruamel.yaml reads a whole one",
        "< 15",
        f"{p99 / read:.1f}",
    )
    assert p99 / read < 15


_M = 2**20  # bytes are read at most
HEAVY: dict[str, str] = {
    "open brackets": "x: " + "[" * _M,
    "open braces": "x: " + "{a: " * _M,
    "dashes": "x:\n" + "- " * _M,
    "questions": "? " * _M,
    "aliases of aliases": "".join(
        f"{a}: &{a} [{', '.join([b] * 9)}]\n"
        for a, b in zip("abcdef", ("1", "*a", "*b", "*c", "*d", "*e"), strict=True)
    ),
    "aliases": "a: &a {x: 1}\n" + "".join(f"b{number}: {{<<: *a}}\n" for number in range(40_000)),
    "a tag": "x: !" + "a" * _M,
    "tags": "x: [" + f"!{'a' * 450} 1, " * 2_200,
    "a directive": "%" + "a" * _M,
    "colons": "x: " + ":" * _M,
    "slashes": "x: '" + "://" * _M,
    "logins": "x: '" + ":a@" * _M,
    "half a login": "x: '" + ":a" * _M,
    "words of secrets": "x: '" + "token" * _M,
    "secrets": "x: '" + "token: a " * _M,
    "letters": "x: " + "a" * (_M - 900) + "\n  b: [",
    "letters and digits": "x: " + "a1" * (_M // 2 - 900) + "\n  b: [",
    "a long text": 'x: "' + "\\n" * _M,
    "blanks": "x: token" + " " * _M,
    "unknown keys": "".join(f"k{number}: 1\n" for number in range(90_000)),
    "wrong limits": "limits: {" + ", ".join(f"k{number}: {{rate: 1/x}}" for number in range(12_000)) + "}",
    "written secrets": "secrets: [" + ", ".join(f"x-{number}" for number in range(49_000)) + "]",
    "references": "store: '" + "${A}" * _M,
    "a rate": "limits: {a: {rate: '" + "1" * 900_000 + "/hour'}}",
    "a path": "limits: {a: {rate: 1/hour, match: {path: '" + "*" * 900_000 + "'}}}",
    "a condition": "alerts: {thresholds: {a: {when: '" + "a" * 900_000 + " > 1'}}}",
    "a schedule": "backups: {a: {schedule: '" + "*," * 400_000 + " * * * *'}}",
    "a network": "service: {trusted_proxies: ['" + "1." * 400_000 + "']}",
    "an image": "deploy: {image: '" + "a/" * 400_000 + "'}",
    "a schedule of numbers": "backups: {a: {schedule: '" + ",".join(["1-59"] * 150_000) + " * * * *'}}",
}
"""Files of up to 1 MiB that are made to take long, or much room, in whatever looks at them."""
_HEAD = "mahavishnu: 1\nservice: {name: shop, app: 'shop:app'}\n"
_MEASURED = """
import re, sys, time
from mahavishnu.cli import run
code = run(["check", "--no-app", "--spec", sys.argv[1]])
most = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())  # rusage has the parent's
print("used", code, time.process_time(), int(most[1]) // 1024)
"""


def weighed(path: Path, text: str) -> tuple[int, float, int]:
    """Exit code of `check` in a process of its own, its processor time in seconds, and its memory in MiB."""
    path.write_text((_HEAD + text)[:_M], encoding="utf-8")
    command = [sys.executable, "-c", _MEASURED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert max(map(len, done.stderr.splitlines())) < 2_000, "a finding that nobody reads"
    code, seconds, memory = done.stdout.splitlines()[-1].split()[1:]
    return int(code), float(seconds), int(memory)


@pytest.mark.proof
def test_no_file_is_heavy(tmp_path: Path) -> None:
    """Whatever a megabyte holds, it is refused in time and room that grow with it alone; by default the worst."""
    chosen = [*HEAVY] if FULL else ["written secrets", "wrong limits", "aliases"]
    found = {name: weighed(tmp_path / "mahavishnu.yaml", HEAVY[name]) for name in chosen}
    slowest = max(found, key=lambda name: found[name][1])
    largest = max(found, key=lambda name: found[name][2])
    (read,) = cheapest(lambda: cast("Any", YAML(pure=True)).load(HEAVY["written secrets"]), rounds=1)
    figure(
        f"processor time for the worst of {len(found)} files of 1 MiB ({slowest}, {found[slowest][1]:.1f} s)"
        " / ruamel.yaml reads 1 MiB",
        "< 5",
        f"{found[slowest][1] / read:.1f}",
    )
    figure(f"memory for the worst of them ({largest})", "< 256 MiB", f"{found[largest][2]} MiB")
    assert {code for code, _, _ in found.values()} == {1}
    assert found[slowest][1] / read < 5
    assert found[largest][2] < 256


@pytest.mark.parametrize("number", range(60))
def test_a_few_of_them_on_every_run(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, small enough for every day."""
    path = tmp_path / "mahavishnu.yaml"
    path.write_bytes(broken(random.Random(1_000_000 + number)))

    code, findings = judged(path, capsys)

    assert code == int(any(one["severity"] == "error" for one in findings))
    assert all(one["line"] for one in findings if one["severity"] == "error")


def test_a_crash_would_be_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof above can fail: a fault in the translation is neither 0 nor 1."""

    def crash(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(faults, "judge", crash)
    path = tmp_path / "mahavishnu.yaml"
    path.write_bytes(SEEDS[0].read_bytes())

    with pytest.raises(AssertionError):
        judged(path, capsys)
