"""`mahavishnu test`: a pass is a proof, and everything else is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mahavishnu.cli import run
from tests.judges import judge
from tests.monitoring import MINIMAL

SPEC = {**MINIMAL, "limits": {"per_client": {"rate": "100/minute", "scope": "process"}}}
# An objective's burn rates take promtool nearly all of its time, and most of these tests are of something else.
QUICK = {**SPEC, "slos": {}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose files were generated, on a machine that has the tools."""
    tools = {str(judge(name).parent) for name in ("promtool", "amtool")}
    monkeypatch.setenv("PATH", os.pathsep.join([*tools, "/usr/bin", "/bin"]))
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(QUICK), encoding="utf-8")
    assert run(["generate"]) == 0
    return tmp_path


@pytest.fixture
def whole(home: Path) -> Path:
    """The same with an objective."""
    (home / "mahavishnu.yaml").write_text(json.dumps(SPEC), encoding="utf-8")
    assert run(["generate"]) == 0
    return home


@pytest.mark.proof
@pytest.mark.judge
def test_it_says_what_was_proved(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each proof, and where each severity ends."""
    capsys.readouterr()
    assert run(["test"]) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said
    assert "P4 reaches room" in said
    assert said.splitlines()[-1] == "16 alerts seen to fire and to clear, 4 severities routed"


@pytest.mark.judge
def test_from_a_folder_below_it_proves_the_same_files(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `generate` writes them: beside a spec that is found."""
    (home / "src").mkdir()
    monkeypatch.chdir(home / "src")
    assert run(["test"]) == 0
    (home / "deploy/prometheus/rules.yml").unlink()
    capsys.readouterr()
    assert run(["test"]) == 1
    assert capsys.readouterr().err.startswith("../deploy/prometheus/rules.yml: missing\n")


@pytest.mark.proof
@pytest.mark.judge
def test_routes_to_nobody_are_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a channel all proofs pass, and yet nobody would hear of an alert."""
    spec = {key: value for key, value in SPEC.items() if key not in ("channels", "slos")}
    (home / "mahavishnu.yaml").write_text(json.dumps(spec), encoding="utf-8")
    assert run(["generate"]) == 0
    capsys.readouterr()
    assert run(["test"]) == 0
    end = capsys.readouterr().out.splitlines()[-1]
    assert end.endswith("alerts seen to fire and to clear, nobody is told of them: there is no channel")


@pytest.mark.judge
def test_channels_of_the_heartbeat_alone_are_no_way_to_be_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every route would be right, and lead to nobody: that is no pass, and no warning either."""
    spec = {**SPEC, "channels": {"watch": {"webhook": "https://watch.example.com/x"}}}
    spec["alerts"] = {"heartbeat": ["watch"]}
    (home / "mahavishnu.yaml").write_text(json.dumps(spec), encoding="utf-8")
    capsys.readouterr()
    assert run(["test"]) == 1
    said = capsys.readouterr()
    assert "error[MV405]" in said.err + said.out
    assert "passed" not in said.out


@pytest.mark.judge
@pytest.mark.parametrize("tool", ["promtool", "amtool"])
def test_a_missing_tool_is_no_pass(
    tool: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with where to get it; nothing on stdout that looks like a proof."""
    other = {"promtool": "amtool", "amtool": "promtool"}[tool]
    (home / "bin").mkdir()
    (home / "bin" / other).symlink_to(judge(other))
    (home / "bin/sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(home / "bin"))
    capsys.readouterr()
    assert run(["test"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"`{tool}` is not on the PATH" in said.err
    assert "apt-get install" in said.err


@pytest.mark.judge
def test_files_of_another_spec_prove_nothing(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers changed, the files did not: exit 1, with the way out."""
    changed = {**SPEC, "slos": {"availability": {"objective": "99.5%"}}}
    (whole / "mahavishnu.yaml").write_text(json.dumps(changed), encoding="utf-8")
    capsys.readouterr()
    assert run(["test"]) == 1
    said = capsys.readouterr()
    assert "passed" not in said.out
    assert "rules.yml: stale" in said.err
    assert "mahavishnu generate" in said.err


@pytest.mark.judge
def test_a_file_beside_ours_is_no_part_of_the_proof(home: Path) -> None:
    """`generate --check` tells of it; what was generated is proved all the same."""
    (home / "deploy/prometheus/mine.yml").write_text("groups: []\n", encoding="utf-8")
    assert run(["test"]) == 0


@pytest.mark.judge
def test_an_edited_rule_is_caught_before_it_is_tested(whole: Path) -> None:
    """Even one that promtool would accept."""
    path = whole / "deploy/prometheus/rules.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("0.0144", "0.0145"), encoding="utf-8")
    assert run(["test"]) == 1


@pytest.mark.proof
@pytest.mark.judge
def test_a_proof_that_fails_is_shown_with_its_command(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the tool said goes to stderr, the exit code is 1."""
    (home / "bin").mkdir()
    fake = home / "bin/amtool"
    fake.write_text("#!/bin/sh\necho no such route\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    capsys.readouterr()
    assert run(["test"]) == 1
    said = capsys.readouterr()
    assert said.out.count("FAILED") == 6
    assert said.out.count("passed") == 4
    assert "$ amtool config routes test" in said.err
    assert "no such route" in said.err
    assert "6 of the proofs failed" in said.err
