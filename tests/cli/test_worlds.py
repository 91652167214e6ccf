"""Whole small worlds, one text file each: commands, files, and everything that is then printed.

`UPDATE_WORLDS=1 pytest tests/cli` writes what is printed into the files; read the diff before you keep it.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from mahavishnu.cli import run
from mahavishnu.inspection import appinfo
from tests import warm

WORLDS = Path(__file__).parent / "worlds"
_SECTION = re.compile(r"^-- (.+) --\n", re.MULTILINE)
_PRINTED = ("stdout", "stderr", "exit")


def parts(text: str) -> dict[str, str]:
    """The sections of a world by name; the commands before the first are called `$`."""
    pieces = _SECTION.split(text)
    return {"$": pieces[0], **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def played(
    world: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What the commands of a world print, in the folder that has been prepared, and the last exit code."""
    code = 0
    for line in world["$"].splitlines():
        words = shlex.split(line.removeprefix("$ "))
        while "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        assert words.pop(0) == "mahavishnu"
        code = run(words)
    out, err = capsys.readouterr()
    return dict(zip(_PRINTED, (out, err, f"{code}\n"), strict=True))


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """Apps are looked at by a Python that has loaded the package."""
    monkeypatch.setattr(appinfo, "ran", warm.ran)


@pytest.mark.parametrize("path", sorted(WORLDS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_world_is_as_it_was_written_down(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output, standard error and the exit code, to the letter."""
    world = parts(path.read_text(encoding="utf-8"))
    home = tmp_path / "shop"
    for name, text in world.items():
        if name not in ("$", *_PRINTED):
            target = home / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    home.mkdir(exist_ok=True)
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "80")

    printed = played(world, capsys, monkeypatch)

    if os.environ.get("UPDATE_WORLDS"):
        kept = {name: text for name, text in world.items() if name not in ("$", *_PRINTED)}
        sections = {**kept, **printed}
        text = world["$"] + "".join(f"-- {name} --\n{content}" for name, content in sections.items())
        path.write_text(text, encoding="utf-8")
        return
    assert printed == {name: world.get(name, "") for name in _PRINTED}


def test_there_are_worlds() -> None:
    """An empty folder would prove nothing."""
    assert len(list(WORLDS.glob("*.txt"))) >= 15
