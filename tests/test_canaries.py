"""A thousand secrets in places where none belongs, as people write them by mistake: nobody is shown one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.cli import run
from mahavishnu.loading import secrecy
from mahavishnu.loading.shape import places
from tests.figures import figure

CANARIES = 1000
BASE = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop:app"}, "limits": {"a": {"rate": "5/hour"}}}
PLACES = [*(path for path, place in places() if place.secret), ("backups", "*", "credentials")]
URLS = [("store",), ("dead_letters", "store"), ("dependencies", "*", "url"), ("backups", "*", "to"),
        ("channels", "*", "webhook"), ("channels", "*", "smtp"), ("observability", "metrics", "otlp"),
        ("observability", "traces", "otlp"), ("alerts", "runbooks"), ("alerts", "dashboards")]  # fmt: skip
LOGINS = ("redis://:%s@cache", "https://me:%s@example.com/x?y=z", "me:%s@example.com:25", "sftp:me:%s@example.com:/x",
          "redis:/:%s@cache", "rest:https://me:%s@example.com/x", "s3:https://%s@example.com/x")  # fmt: skip
Way = tuple[Any, ...]


def canary(dice: random.Random) -> str:
    """A secret that is long enough to be found again, in the letters of passwords, hashes, keys and tokens."""
    one, two = (f"{dice.getrandbits(48):012x}" for _ in range(2))
    word = one + dice.choice(("", "", "", "@", "/", "+", "=", "-", "_", "!", ".", "$", "%", "~")) + two
    return word.upper() if dice.random() < 0.3 else word


def halves(word: str) -> tuple[str, str]:
    """What no output may hold: to show one of two is to show too much."""
    return word[:12], word[-12:]


def nested(path: Way, value: Any) -> dict[str, Any]:
    """A spec with this value at this path, and on the same line something else that is wrong."""
    spec: Any = json.loads(json.dumps(BASE))
    here = spec
    for step in path[:-1]:
        here = here.setdefault("a" if step == "*" else step, {})
    here.update({path[-1]: value, "brust": 1})
    return spec  # type: ignore[no-any-return]


def misspelt(word: str, dice: random.Random) -> str:
    """The key as it comes from a hurried hand."""
    at = dice.randrange(1, len(word))
    return word[:at] + word[at + 1 :]


def mistakes(word: str, dice: random.Random) -> Iterator[dict[str, Any]]:
    """Every way to write a secret where its name belongs, or nothing at all."""
    path = dice.choice(PLACES)
    yield nested(path, word)
    yield nested((*path[:-1], misspelt(str(path[-1]), dice)), word)
    yield nested(path, dice.choice([[word], {"value": word}, f"${{{word}", f"x {word}"]))
    yield nested(("environments", "prod", *path), word)
    if len(path) > 1:
        above = path[:-1] if path[-2] != "*" else (*path[:-2], "a")
        yield nested(above, word)
    yield nested(
        ("secrets",), dice.choice([{"TOKEN": word}, [f"TOKEN={word}"], [{"TOKEN": word}], [f"{word}-1"]])
    )
    yield nested(dice.choice(URLS), dice.choice(LOGINS) % word)
    yield nested(("backups", "*", "source", "command"), ["dump", f"--password={word}"])


def broken(word: str, dice: random.Random) -> str:
    """A mistake as the text of a file; one time in four it cannot be read at all, from beside the secret on."""
    text = json.dumps(dice.choice([*mistakes(word, dice)]))
    if dice.random() < 0.75:
        return text
    at = text.index(word) + dice.choice((0, len(word)))
    before, after = text[:at].rpartition('"'), text[at:].partition('"')
    return dice.choice(
        [
            before[0] + '] "' + before[2] + text[at:],
            text[:at] + after[0] + '" x' + after[2],
            text[:at] + after[0],
        ]
    )


def leaks(
    written: Callable[[str, random.Random], str], count: int, path: Path, said: Callable[[], str]
) -> Iterator[str]:
    """The texts of which `check` shows what it should hide, in the words for people or for machines."""
    for number in range(count):
        dice = random.Random(f"canary {number}")
        word = canary(dice)
        text = written(word, dice)
        path.write_text(text, encoding="utf-8")
        code = run(
            ["check", "--no-app", "--spec", str(path), "--format", dice.choice(["full", "json", "sarif"])]
        )
        assert code == 1, text
        shown = said()
        if any(half in shown for half in halves(word)):
            yield f"{text}\n{shown}"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was said since it was asked last."""

    def told() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return told


def test_a_few_of_them_on_every_run(tmp_path: Path, said: Callable[[], str]) -> None:
    """A few on every run."""
    assert [*leaks(broken, 60, tmp_path / "mahavishnu.yaml", said)] == []


@pytest.mark.proof
def test_no_secret_in_a_wrong_place_is_shown(tmp_path: Path, said: Callable[[], str]) -> None:
    """Whatever the mistake is, and whether the file can be read."""
    found = [*leaks(broken, CANARIES, tmp_path / "mahavishnu.yaml", said)]
    figure(
        "secrets written into a wrong place of a spec, and shown by a finding",
        f"0 of {CANARIES:,}",
        len(found),
    )
    assert found == []


def _no(*_: object) -> bool:
    return False


@pytest.mark.parametrize("rule", ["_secret", "without_logins", "without_values", "without_tokens"])
def test_without_any_rule_some_are_shown(
    rule: str, tmp_path: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof above can fail, and no rule is there for nothing."""
    monkeypatch.setattr(secrecy, rule, str if rule.startswith("without") else _no)
    assert any(leaks(broken, 200, tmp_path / "mahavishnu.yaml", said))
