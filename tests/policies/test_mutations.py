"""The tests of breaker, throttle, retry and limiter notice when one thing in them is changed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.figures import FULL, figure
from tests.tools.mutate import ROOT, SUBJECTS, changes

SAMPLE = 1


def test_a_change_is_one_change() -> None:
    """Each tree differs from the first in one place, and only in the parts that are asked for."""
    text = "def f(a):\n    if a < 1 and a:\n        a += 2\n    return a\n\n\ndef g():\n    return 1\n"
    found = {words: ast.unparse(tree) for words, tree in changes(ast.parse(text), ("f",))}
    assert len(set(found.values())) == len(found)
    assert all(one.endswith("def g():\n    return 1") for one in found.values())
    assert found["2: a < 1 -> LtE"].startswith("def f(a):\n    if a <= 1 and a:")
    assert found["3: a += 2 -> Sub"].count("a -= 2") == 1
    assert found["2: without `a += 2`"].count("pass") == 1
    assert sorted(words.split(": ")[0] for words in found) == ["2", "2", "2", "2", "2", "3", "3", "4"]


@pytest.mark.proof
def test_changes_are_noticed() -> None:
    """Of every kind of change, at least 95 of 100; of the sample that is drawn by default, all but one."""
    how_many = () if FULL else ("--sample", str(SAMPLE))
    noticed = made = 0
    for subject in SUBJECTS:
        run = subprocess.run(
            [sys.executable, "-m", "tests.tools.mutate", subject, *how_many],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = re.search(r"(\d+) of (\d+) changes noticed", run.stdout)
        assert found, run.stdout + run.stderr
        noticed, made = noticed + int(found[1]), made + int(found[2])
    figure("breaker, throttle, retry, limiter: changes noticed by their tests", "95%", f"{noticed} of {made}")
    assert noticed >= 0.95 * made - bool(how_many)
