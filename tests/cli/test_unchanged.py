"""`generate` of what has not changed: answered at once, and never when anything is otherwise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mahavishnu import compile as compiler
from mahavishnu.cli import _generation, _unchanged
from tests.generators.specs import LARGE, merged

SPEC = merged(LARGE, {"limits": {"per_client": {"scope": "process"}}})
PROGRAM = """
import sys
from mahavishnu.cli import main
try: main()
finally: print({"typer", "pydantic"} & {*sys.modules} != set())
"""
SAID = _unchanged.Said("as it was", "with a warning\n")
AT_ONCE = "all as the spec says\nFalse\n"


@pytest.fixture
def asked() -> Iterator[None]:
    """This process has been asked to generate."""
    token = _unchanged.ASKED.set(["generate"])
    yield
    _unchanged.ASKED.reset(token)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project that has just been generated, and whose commands remember it."""
    place = tmp_path / "project/service"
    place.mkdir(parents=True)
    (place / "mahavishnu.yaml").write_text(json.dumps(SPEC))
    assert ask(place, "generate").endswith("True\n")
    assert ask(place, "generate").endswith(AT_ONCE)
    return place


def ask(home: Path, *words: str, **said: str) -> str:
    """What a process of its own says, warnings first; last whether it has loaded what reads options or specs."""
    env = {**os.environ, "XDG_CACHE_HOME": str(home.parent / "caches"), **said}
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    return done.stderr + done.stdout


def test_it_is_told_how_many_files_there_are(home: Path) -> None:
    """The same words again, by both ways of asking; others are not taken for them."""
    files = sum(path.is_file() for path in (home / "deploy").rglob("*")) - 1
    assert ask(home, "generate").endswith(f"\n{files} files in deploy, {AT_ONCE}")
    checked = ask(home, "generate", "--check")
    assert checked.endswith("all as the spec says\nTrue\n")
    assert ask(home, "generate", "--check") == checked.replace("True\n", "False\n")
    assert checked.startswith("warning[MV502]")
    assert ask(home, "generate", "--target", "prometheus").endswith("True\n")


def test_from_a_folder_below_it_the_same_files_are_meant(home: Path) -> None:
    """Which are remembered, too, and not taken for what is there."""
    below = home / "src"
    below.mkdir()
    first = ask(below, "generate", XDG_CACHE_HOME=str(home.parent / "caches"))
    assert first.endswith("True\n")
    assert ask(below, "generate", XDG_CACHE_HOME=str(home.parent / "caches")).endswith(AT_ONCE)
    assert " files in ../deploy, all" in ask(below, "generate", "--check")
    edited(home)
    assert ask(below, "generate", XDG_CACHE_HOME=str(home.parent / "caches")).endswith("True\n")


def rewritten(home: Path) -> None:
    """Another owner."""
    spec = home / "mahavishnu.yaml"
    spec.write_text(spec.read_text().replace("payments team", "checkout team"))


def edited(home: Path) -> None:
    """A generated file, as long as before and of the same time."""
    file = home / "deploy/prometheus/rules.yml"
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(home: Path) -> None:
    """A generated file."""
    (home / "deploy/prometheus/rules.yml").unlink()


def unlocked(home: Path) -> None:
    """What knows which files are ours."""
    (home / "deploy/mahavishnu.lock").unlink()


def templated(home: Path) -> None:
    """A template of one's own, where there was none."""
    (home / ".mahavishnu/templates/prometheus").mkdir(parents=True)


def joined(home: Path) -> None:
    """A file of somebody else's, beside ours."""
    (home / "deploy/prometheus/more.yml").write_text("")


def ignored(home: Path) -> None:
    """What is to stay out of the image, where nothing was said of it."""
    (home / ".dockerignore").write_text("data\n")


@pytest.mark.proof
def test_a_change_is_never_overlooked(home: Path) -> None:
    """Of the spec, of what was generated from it, of the templates, of what the image has not."""
    ask(home, "generate", "--force")
    for change in (rewritten, edited, removed, unlocked, templated, ignored):
        change(home)
        assert ask(home, "generate", "--force").endswith("True\n"), change
        assert ask(home, "generate", "--force").endswith(AT_ONCE), change


def test_what_is_told_is_told_again(home: Path) -> None:
    """A file beside ours stops nothing, and is not forgotten because nothing else has changed."""
    ask(home, "generate")
    joined(home)
    for _ in range(3):
        assert "beside: deploy/prometheus/more.yml" in ask(home, "generate")
    (home / "deploy/prometheus/more.yml").unlink()
    assert "beside" not in ask(home, "generate")
    assert ask(home, "generate").endswith(AT_ONCE)


def linked(home: Path) -> None:
    """A link in the place of a file, to the very same."""
    file = home / "deploy/prometheus/rules.yml"
    file.rename(home / "rules.yml")
    file.symlink_to(home / "rules.yml")


def led_elsewhere(home: Path) -> None:
    """A link in the place of a folder, to the very same."""
    folder = home / "deploy/prometheus"
    folder.rename(home / "prometheus")
    folder.symlink_to(home / "prometheus")


@pytest.mark.proof
@pytest.mark.parametrize("change", [joined, linked, led_elsewhere])
def test_what_a_check_refuses_is_refused_also_when_it_was_fine_before(
    home: Path, change: Callable[[Path], None]
) -> None:
    """CI asks the same question again and again."""
    assert "all as the spec says" in ask(home, "generate", "--check")
    change(home)
    for asked in ("--check", "--check"):
        assert re.search("(beside|irregular): deploy/prometheus", ask(home, "generate", asked))


def test_another_environment_is_another_question(home: Path) -> None:
    """So is another folder."""
    assert ask(home, "generate", MAHAVISHNU_SPEC=str(home / "mahavishnu.yaml")).endswith("True\n")
    below = home / "below"
    below.mkdir()
    caches = str(home.parent / "caches")
    assert ask(below, "generate", XDG_CACHE_HOME=caches).endswith("True\n")
    assert ask(below, "generate", XDG_CACHE_HOME=caches).endswith(AT_ONCE)
    (below / "mahavishnu.yaml").write_text(json.dumps(SPEC))
    assert ask(below, "generate", XDG_CACHE_HOME=caches).endswith("True\n")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    "name", ["mahavishnu.yaml", ".mahavishnu/templates/prometheus/scrape.kubernetes.yml.j2"]
)
def test_what_changes_while_it_is_generated_is_generated_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The files are those of the spec and the templates that were read, not of those that came meanwhile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    (home / "mahavishnu.yaml").write_text(json.dumps(SPEC))
    if name.endswith(".j2"):
        ours = name.removeprefix(".mahavishnu/")
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text((Path(__file__).parents[2] / ours).read_text())
    write = compiler.write

    def slow(*words: Any, **said: Any) -> compiler.Written:
        (home / name).write_text((home / name).read_text() + "\n# another\n")
        return write(*words, **said)

    with monkeypatch.context() as patch:
        patch.setattr(compiler, "write", slow)
        assert _generation.generate() == 0
    assert _unchanged.told(["generate"]) is None
    assert _generation.generate() == 0
    assert _unchanged.told(["generate"]) is not None


@pytest.mark.usefixtures("asked")
def test_a_module_that_was_changed_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, and those of others that took part."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    module = tmp_path / "took_part.py"
    module.write_text("")
    __import__("took_part")
    _unchanged.remember(SAID, [])
    assert _unchanged.told(["generate"]) == SAID
    module.write_text("# another")
    assert _unchanged.told(["generate"]) is None


@pytest.mark.usefixtures("asked")
def test_a_package_that_is_installed_is_asked_for_its_generators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may bring one, whose files are missing then."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site-packages")])
    _unchanged.remember(SAID, [])
    assert _unchanged.told(["generate"]) == SAID
    (tmp_path / "site-packages/another-1.0.dist-info").mkdir()
    assert _unchanged.told(["generate"]) is None


@pytest.mark.usefixtures("asked")
def test_what_cannot_be_remembered_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is no line, a folder that cannot be, a record that was cut."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _unchanged.remember(SAID, ["a\nb"])
    assert _unchanged.told(["generate"]) is None
    _unchanged.remember(SAID, [])
    (record,) = (tmp_path / "mahavishnu/generated").iterdir()
    record.write_text(record.read_text() + "\nstamp")
    assert _unchanged.told(["generate"]) is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    _unchanged.remember(SAID, [])
    assert _unchanged.told(["generate"]) is None
