"""What a process is told by variables of its own: the switch that turns everything off, and how it may be written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import mahavishnu
from mahavishnu import cli
from mahavishnu.asgi import Hardening
from mahavishnu.ground import variables
from mahavishnu.load import accept
from mahavishnu.runtime.current import current
from mahavishnu.runtime.service import start
from mahavishnu.server import head_timeout
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import site, spec_of

SPEC = "mahavishnu: 1\nservice: {name: shop, app: shop.main:app}\ndependencies: {bank: {timeout: 2s}}\n"
OFF = ["1", "true", "TRUE", "Yes", "on", " on "]
ON = ["0", "false", "No", "OFF", "", "  "]
UNKNOWN = ["2", "disable", "y", "ture"]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec in the working folder, and no variable that says anything else."""
    monkeypatch.chdir(tmp_path)
    for name in variables.RESERVED:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "mahavishnu.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def middleware() -> Hardening:
    """One that says nothing to the terminal."""
    return Hardening(site(), spec_of(), clock=VirtualClock(), log_to=io.StringIO())


@pytest.mark.parametrize(
    ("value", "disabled"), [*((one, True) for one in OFF), *((one, False) for one in (*ON, *UNKNOWN))]
)
def test_the_switch_has_the_usual_spellings(
    monkeypatch: pytest.MonkeyPatch, value: str, disabled: bool
) -> None:
    """And means the same wherever it is asked for."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", value)

    assert variables.disabled() is disabled
    middleware()
    assert (current() is None) is disabled
    assert (head_timeout() is None) is disabled


@pytest.mark.parametrize("value", [*OFF, *ON])
def test_what_is_understood_is_not_remarked_on(
    spec: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Neither at a start, nor by the command line."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", value)

    assert accept(spec, runtime=True).findings == ()
    assert cli.run(["config"]) == 0
    assert cli.run(["check", "--no-app"]) == 0


@pytest.mark.parametrize("value", UNKNOWN)
def test_what_nobody_understands_is_an_error_of_the_command_line(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    """At three in the morning somebody believes that it is off."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", value)

    for words in (["config"], ["check", "--no-app"]):
        assert cli.run(words) == 1
        said = capsys.readouterr().err
        assert f"error[MV105]: MAHAVISHNU_DISABLE is `{value}`" in said
        assert "`1`" in said


@pytest.mark.parametrize("name", [variables.ENVIRONMENT, variables.SPEC, variables.DISABLE])
def test_an_empty_variable_is_an_absent_one(spec: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """So `${NAME}` of a compose file says it where nothing has the name."""
    monkeypatch.setenv(name, "")

    assert (variables.environment(), variables.spec_file(), variables.disabled()) == (None, None, False)
    assert cli.run(["config"]) == 0


def test_a_switch_in_the_file_of_variables_is_an_error_of_config(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At three in the morning somebody believes that it is off."""
    (spec.parent / ".env").write_text("MAHAVISHNU_DISABLE=1\n", encoding="utf-8")

    assert cli.run(["config"]) == 1
    assert "error[MV131]: .env variable MAHAVISHNU_DISABLE is not heeded" in capsys.readouterr().err


def test_it_is_told_beside_the_mistakes_of_a_spec(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever mends the one in a hurry learns of the other."""
    spec.write_text(SPEC + "limit: {}\n", encoding="utf-8")
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "2")

    assert cli.run(["check", "--no-app", "--format", "concise"]) == 1
    assert [line.partition("[")[2][:5] for line in capsys.readouterr().err.splitlines()] == ["MV101", "MV105"]


@pytest.mark.parametrize("found", [True, False])
def test_a_start_warns_of_it_and_goes_on(spec: Path, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    """Whether the spec comes from a file or from code: a service that refuses to start helps nobody."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "2")
    log = io.StringIO()
    source: Any = accept(spec, runtime=True) if found else spec_of()

    start(source, VirtualClock(), log_to=log)

    told = [json.loads(line) for line in log.getvalue().splitlines()]
    warned = [one for one in told if one.get("code") == "MV105"]
    assert [(one["level"], "MAHAVISHNU_DISABLE" in one["what"]) for one in warned] == [("warning", True)]


def test_a_guarded_call_and_a_tool_are_disabled_by_any_spelling(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has no middleware that would know."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "True")

    guard = mahavishnu.dependency("bank").guard()

    assert guard.timeout is None


def test_the_variables_are_named_once() -> None:
    """No other module asks for one of them by its text."""
    house = Path(variables.__file__).parents[1]
    texts = {path: path.read_text(encoding="utf-8") for path in house.rglob("*.py")}
    asking = [
        path.name
        for path, text in texts.items()
        if path.name != "variables.py" and any(f'get("{name}"' in text for name in variables.RESERVED)
    ]
    assert asking == []
