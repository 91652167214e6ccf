"""`mahavishnu config`: every setting with its origin, in three forms."""

from __future__ import annotations

import json
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from mahavishnu import cli
from mahavishnu.load import load

SHOP = Path(__file__).parents[2] / "mahavishnu.yaml"
SPEC = """\
mahavishnu: 1
service: {name: shop, app: "shop.main:app"}
limits: {yes: {rate: 300/minute, per: [ip, "header:x-a"]}}
dependencies: {bank: {fallback: {static: {"a.b: #": [1, "ü\\n"]}}}}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec in the working folder; a variable lies on top of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAHAVISHNU_LIMITS__YES__RATE", "7/minute")
    path = tmp_path / "mahavishnu.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints."""
    assert cli.run(["config", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("spec")
def test_each_value_has_its_origin_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    """The file's line, or the variable that lies on top of it, or the default."""
    variable = "environment variable MAHAVISHNU_LIMITS__YES__RATE"
    text = shown(capsys)
    settings = json.loads(shown(capsys, "--format", "json"))
    yaml = shown(capsys, "--format", "yaml")

    assert [line.split(None, 2) for line in text.splitlines() if ".rate" in line] == [
        ["limits.yes.rate", "7/minute", variable]
    ]
    assert settings["limits.yes.rate"] == {"value": "7/minute", "origin": variable}
    assert f'    rate: "7/minute"  # {variable}\n' in yaml
    assert "  port: 8000  # default\n" in yaml
    assert '  name: "shop"  # mahavishnu.yaml:2\n' in yaml


@pytest.mark.usefixtures("spec")
def test_origins_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Then two machines that agree print the same."""
    assert "variable" not in shown(capsys, "--no-origin")
    assert "# " not in shown(capsys, "--no-origin", "--format", "yaml").replace("a.b: #", "")
    assert json.loads(shown(capsys, "--no-origin", "--format", "json"))["limits.yes.rate"] == "7/minute"
    assert shown(capsys, "--origin") == shown(capsys)


@pytest.mark.usefixtures("spec")
def test_the_command_line_is_the_strongest(capsys: pytest.CaptureFixture[str]) -> None:
    """What it sets wins against the variable; what it sets nowhere is told, and what it does not set is no option."""
    settings = json.loads(shown(capsys, "--set", "limits.yes.rate=9/minute", "--format", "json"))
    assert settings["limits.yes.rate"] == {"value": "9/minute", "origin": "override limits.yes.rate"}

    assert cli.run(["config", "--set", "limits.yes.rat=9/minute"]) == 1
    assert "override limits.yes.rat matches no setting" in capsys.readouterr().err
    assert cli.run(["config", "--set", "limits.yes.rate"]) == 2
    assert "write it like `limits.login.rate=5/minute`" in capsys.readouterr().err


def dumped(path: Path, runtime: bool = False) -> dict[str, object]:
    """What a spec says, defaults included."""
    return load(path, runtime=runtime).spec.model_dump(exclude={"environments"})


def test_as_yaml_it_is_the_same_spec(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever keys and texts stand in it."""
    merged = spec.with_name("merged.yaml")
    merged.write_text(shown(capsys, "--format", "yaml", "--no-defaults"), encoding="utf-8")

    assert dumped(merged) == dumped(spec, runtime=True)


def test_a_large_spec_as_yaml_is_the_same_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With every section and an environment on top."""
    merged = tmp_path / "mahavishnu.yaml"
    yaml = shown(capsys, "--spec", str(SHOP), "--format", "yaml", "--no-defaults")
    merged.write_text(yaml, encoding="utf-8")

    assert dumped(merged) == dumped(SHOP)


def test_secrets_in_urls_are_hidden_as_check_hides_them(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a query says of keys, and what is secret of a webhook; `${NAME}` stays, and so does PromQL."""
    shows = {
        "channels": {
            "room": {"webhook": "https://hooks.slack.com/services/T0/B0/CANARY"},
            "hook": {"webhook": "https://example.com/a?b=c&token=CANARY"},
        },
        "dependencies": {"pay": {"url": "https://api.example.com/v1?api_key=CANARY"}},
        "store": "redis://:${KEY}@redis:6379?socket_timeout=0.5",
        "alerts": {"thresholds": {"a": {"query": 'up{token="a"} > 1', "severity": "P2"}}},
    }
    head = {"mahavishnu": 1, "service": {"name": "shop", "app": "a:b"}, "secrets": ["KEY"]}
    spec.write_text(json.dumps({**head, **shows, "limits": {"yes": {"rate": "5/minute"}}}), encoding="utf-8")

    for form in ("text", "json", "yaml"):
        said = shown(capsys, "--format", form)
        assert "CANARY" not in said
        assert "https://example.com/a?b=c&token=******" in said
        assert "redis://:${KEY}@redis:6379?socket_timeout=0.5" in said
        assert 'up{token="a"} > 1' in said.replace("\\", "")


def test_a_letter_that_stdout_cannot_show_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is on stderr; what ends there has said everything else."""
    (tmp_path / "mahavishnu.yaml").write_text(
        "mahavishnu: 1\nservice: {name: shop, app: shop:app, owner: Zoë}\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mahavishnu", "config"])
    printed = BytesIO()
    monkeypatch.setattr("sys.stdout", TextIOWrapper(printed, encoding="ascii"))
    monkeypatch.setattr("gc.set_threshold", abs)
    monkeypatch.setattr("gc.freeze", lambda: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, b"Zo\\xeb" in printed.getvalue()) == (0, True)
