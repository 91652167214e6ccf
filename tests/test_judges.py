"""A judge counts only if it is there, and if its absence is heard."""

from __future__ import annotations

import subprocess

import pytest

from tests.judges import ROOT, judge


def test_a_judge_that_is_there_can_be_run() -> None:
    done = subprocess.run([judge("yamllint"), "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("yamllint ")


def test_a_missing_judge_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="NO JUDGE: `no-such-tool`"):
        judge("no-such-tool")


def test_a_missing_judge_is_a_skip_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make tools"):
        judge("no-such-tool")


@pytest.mark.judge
@pytest.mark.parametrize("script", ["tests/tools/fetch", ".ci/run"])
def test_the_shell_of_this_repository_is_clean(script: str) -> None:
    done = subprocess.run([judge("shellcheck"), ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
