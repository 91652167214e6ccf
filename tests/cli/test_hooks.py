"""The hooks for pre-commit, as it runs them: by their own words, where nothing is installed that the app needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mahavishnu import cli
from mahavishnu.loading.yaml_tree import documents

ROOT = Path(__file__).parents[2]
(HOOKS,) = documents((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
APP = "import a_package_that_no_hook_has\napp = None\n"
SPEC = """\
mahavishnu: 1
service: {name: %s, app: "main:app"}
limits: {per_client: {rate: 300/minute, mode: observe, scope: process}}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, where a hook starts, with two services and what was generated; there is no spec at its root."""
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    for name in ("a", "b"):
        home = tmp_path / "services" / name
        home.mkdir(parents=True)
        (home / "main.py").write_text(APP)
        (home / "mahavishnu.yaml").write_text(SPEC % name)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["generate", "services"]) == 0
    return tmp_path


class Terminal:
    """What is said to a person who types words."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def ask(self, words: str | list[str]) -> tuple[int, str]:
        """The exit code, and all that is printed."""
        first, *rest = shlex.split(words) if isinstance(words, str) else words
        assert first == "mahavishnu"
        self._capsys.readouterr()
        code = cli.run(rest)
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def hook(self, name: str, *changed: str) -> tuple[int | None, str]:
        """What a hook says of these files, as pre-commit would run it; None where it does not run."""
        (hook,) = (one for one in HOOKS if one["id"] == f"mahavishnu-{name}")
        names = [one for one in changed if re.search(hook.get("files", ""), one)]
        if not names and not hook.get("always_run"):
            return None, ""
        words = [*shlex.split(hook["entry"]), *hook.get("args", [])]
        return self.ask([*words, *(names if hook.get("pass_filenames", True) else [])])

    def hooks(self, *changed: str) -> tuple[int | None, int | None]:
        """The exit codes of both."""
        return self.hook("check", *changed)[0], self.hook("generate", *changed)[0]


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.mark.usefixtures("repository")
def test_they_pass_where_all_is_well(terminal: Terminal) -> None:
    """Whatever the app imports, and however many specs there are."""
    assert terminal.hooks("services/a/main.py", "services/a/mahavishnu.yaml") == (0, 0)
    assert terminal.hooks("README.md") == (None, 0)


def test_the_spec_that_was_changed_is_judged(repository: Path, terminal: Terminal) -> None:
    """Not the one that happens to lie at the root, or above."""
    (repository / "mahavishnu.yaml").write_text(SPEC % "root")
    assert terminal.ask("mahavishnu generate")[0] == 0
    spec = repository / "services/b/mahavishnu.yaml"
    spec.write_text(spec.read_text().replace("300/minute", "300"))

    for name in ("check", "generate"):
        code, said = terminal.hook(name, "services/b/mahavishnu.yaml")
        assert code == 1
        assert "services/b/mahavishnu.yaml:3:" in said


@pytest.mark.parametrize("change", ["edited", "removed", "stale"])
def test_what_was_generated_is_judged_wherever_it_lies(
    repository: Path, terminal: Terminal, change: str
) -> None:
    """With the words that write it anew."""
    home = repository / "services/b"
    rules = home / "deploy/prometheus/rules.yml"
    if change == "edited":
        rules.write_text(rules.read_text() + "# by hand\n")
    elif change == "removed":
        rules.unlink()
    else:
        (home / "mahavishnu.yaml").write_text((SPEC % "b").replace("300", "200"))

    code, said = terminal.hook("generate")

    assert code == 1
    assert "all as the spec says" in said  # of the other one
    assert (words := re.search("`(mahavishnu generate .*)`", said))
    force = " --force" if change == "edited" else ""
    assert words[1] == f"mahavishnu generate services/b/mahavishnu.yaml{force}"
    assert terminal.ask(words[1])[0] == 0
    assert terminal.hook("generate")[0] == 0


def test_copies_that_were_generated_are_no_specs(repository: Path, terminal: Terminal) -> None:
    """The Compose file has one beside it; nor is what a venv or a hidden folder holds."""
    for folder in (".cache", "env/lib"):
        (repository / folder).mkdir(parents=True)
        (repository / folder / "mahavishnu.yaml").write_text("- no spec\n")
    (repository / "env/pyvenv.cfg").touch()
    spec = repository / "services/a/mahavishnu.yaml"
    spec.write_text(spec.read_text() + "deploy: {targets: {compose: {}}}\n")
    assert terminal.ask("mahavishnu generate services/a")[0] == 0
    assert (repository / "services/a/deploy/compose/mahavishnu.yaml").is_file()

    code, said = terminal.ask("mahavishnu generate --check .")

    assert (code, said.count("all as the spec says")) == (0, 2)


def test_a_folder_without_a_spec_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    """Nothing was judged."""
    monkeypatch.chdir(tmp_path)
    code, said = terminal.ask("mahavishnu check .")
    assert code == 2
    assert "error[MV001]: there is no mahavishnu.yaml in `.`, nor below it" in said


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("verb", ["check", "generate"])
def test_an_option_of_one_spec_stands_beside_no_list(terminal: Terminal, verb: str) -> None:
    """Which one of them would it be about?"""
    code, said = terminal.ask(f"mahavishnu {verb} services --spec services/a/mahavishnu.yaml")
    assert code == 2
    assert "--spec is about one spec" in said


def test_several_specs_are_one_report(repository: Path, terminal: Terminal) -> None:
    """A machine reads one document of findings, whichever spec they are about."""
    for name in ("a", "b"):
        spec = repository / "services" / name / "mahavishnu.yaml"
        spec.write_text(spec.read_text().replace("300/minute", "300"))
    code, said = terminal.ask("mahavishnu check --no-app --format github services")
    assert code == 1
    assert [line.partition("file=")[2].partition(",")[0] for line in said.splitlines()] == [
        f"services/{name}/mahavishnu.yaml" for name in ("a", "b")
    ]
