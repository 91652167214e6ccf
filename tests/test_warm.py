"""What a warm Python runs is what a cold one would have run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm

MODULE = """
import os, sys
print(__name__, sys.argv[1:], os.getcwd(), os.environ.get("SAID"))
print("and an error", file=sys.stderr)
if "late" in sys.argv: import time; time.sleep(60)
sys.exit(3)
"""


def test_it_says_what_a_cold_one_says(tmp_path: Path) -> None:
    """Arguments, folder, environment, both streams and the exit code."""
    (tmp_path / "said_and_done.py").write_text(MODULE)
    command = [sys.executable, "-m", "said_and_done", "a", "b"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "SAID": "so"}
    cold = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    for _ in range(2):
        done = warm.run(command, cwd=tmp_path, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (3, cold.stdout, cold.stderr)
    assert "__main__ ['a', 'b']" in cold.stdout


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """As `subprocess.run` has it."""
    (tmp_path / "said_and_done.py").write_text(MODULE)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run([sys.executable, "-m", "said_and_done", "late"], cwd=tmp_path, env=env, timeout=0.5)
