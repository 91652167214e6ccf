"""What a merge leaves behind is looked for first: in the spec, in generated files, in notes, in templates."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.cli import run
from mahavishnu.errors import SpecError
from mahavishnu.files.merges import Unmerged, unmerged
from mahavishnu.files.notes import BEGIN
from mahavishnu.load import load

SPEC = """\
mahavishnu: 1
service: {name: shop, app: "main:app"}
limits:
  per_client: {rate: 300/minute, scope: process}
  ceiling: {concurrency: 50}
"""
BOTH = """\
mahavishnu: 1
service: {name: shop, app: "main:app"}
limits:
<<<<<<< HEAD
  per_client: {rate: 400/minute, scope: process}
=======
  per_client: {rate: 500/minute, scope: process}
>>>>>>> other
  ceiling: {concurrency: 50}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has been generated."""
    (tmp_path / "mahavishnu.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    assert run(["generate"]) == 0
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code of `generate`, and all that is said."""
    capsys.readouterr()
    code = run(["generate", *words])
    return code, "".join(capsys.readouterr())


def conflict(file: Path, old: str) -> int:
    """Let a merge leave its marks around a line; the line of the first."""
    text = file.read_text()
    line = next(one for one in text.splitlines() if old in one)
    file.write_text(text.replace(line, f"<<<<<<< HEAD\n{line}\n=======\n{line}x\n>>>>>>> other", 1))
    return text[: text.index(line)].count("\n") + 1


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"a\n<<<<<<< HEAD\nb\n", Unmerged(2, "<<<<<<< HEAD")),
        (b"a\r\nb\r\n>>>>>>> other\r\n", Unmerged(3, ">>>>>>> other")),
        (b"<<<<<<<", Unmerged(1, "<<<<<<<")),
        (b"  <<<<<<< HEAD\n<<<<<<<<\na <<<<<<< b\nHeading\n=======\n", None),
        (b"", None),
    ],
)
def test_the_first_mark_is_found(content: bytes, found: Unmerged | None) -> None:
    """Only what a merge writes: at the beginning of a line, and no heading of Markdown."""
    assert unmerged(content) == found


@pytest.mark.parametrize("text", [BOTH, BOTH.replace("<<<<<<< HEAD\n", "\n"), BOTH.replace("\n", "\r\n")])
def test_marks_in_a_spec_are_told_before_what_comes_of_them(tmp_path: Path, text: str) -> None:
    """At the mark, and not as whatever a reader of YAML makes of it."""
    (tmp_path / "mahavishnu.yaml").write_bytes(text.encode())
    with pytest.raises(SpecError) as refusal:
        load(tmp_path / "mahavishnu.yaml")
    (found,) = refusal.value.findings
    assert found.where is not None
    first = next(number for number, line in enumerate(text.splitlines(), 1) if line[:3] in ("<<<", ">>>"))
    assert (found.code, found.where.line, found.where.column) == ("MV004", first, 1)
    assert "a merge left its marks" in found.what
    assert "keep what holds" in found.help


@pytest.mark.parametrize("words", [[], ["--check"]])
def test_marks_in_a_generated_file_are_told_with_their_line(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Not as an edit to be taken into the spec; the way out is one command, and it leads out."""
    line = conflict(home / "deploy/prometheus/rules.yml", "- alert: ShopDown")
    code, said = ask(capsys, *words)
    assert code == 1
    assert f"conflicted: deploy/prometheus/rules.yml:{line}\n" in said
    assert "\nconflicted: a merge left its marks" in said
    assert "`mahavishnu generate --force` writes" in said
    assert "edited" not in said
    assert run(["generate", "--force"]) == 0
    assert run(["generate", "--check"]) == 0


def test_a_lock_with_marks_says_why_files_are_not_known(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It vouches for nothing; where nothing else differs it is simply written anew."""
    line = conflict(home / "deploy/mahavishnu.lock", '"spec"')
    assert ask(capsys, "--check")[0] == 1
    assert run(["generate"]) == 0
    conflict(home / "deploy/mahavishnu.lock", '"spec"')
    (home / "mahavishnu.yaml").write_text(SPEC.replace("300", "400"))
    code, said = ask(capsys)
    assert code == 1
    assert f"conflicted: deploy/mahavishnu.lock:{line}\n" in said
    assert "foreign: deploy/prometheus/rules.yml\n" in said
    assert run(["generate", "--force"]) == 0
    assert run(["generate", "--check"]) == 0


def test_marks_in_notes_are_kept_and_told_until_somebody_has_merged_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides are people's words: nothing is lost, nothing is stopped, and nothing is green meanwhile."""
    page = home / "deploy/runbooks/ShopDown.md"
    page.write_text(page.read_text().replace(BEGIN, f"{BEGIN}\nCall Bob."))
    line = conflict(page, "Call Bob.")
    (home / "mahavishnu.yaml").write_text(SPEC.replace("300", "400"))
    for words, code in (([], 0), (["--force"], 0), (["--check"], 1)):
        ended, said = ask(capsys, *words)
        assert ended == code
        assert f"unmerged: deploy/runbooks/ShopDown.md:{line}\n" in said
        assert "\nunmerged: a merge left its marks in the notes" in said
    assert "Call Bob.\n=======\nCall Bob.x\n" in page.read_text()
    text = page.read_text().replace("<<<<<<< HEAD\n", "").replace(">>>>>>> other\n", "")
    page.write_text(text.replace("=======\n", ""))
    assert run(["generate", "--check"]) == 0


def test_marks_in_notes_are_told_also_of_a_page_that_is_written_over(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was in conflict around them is generated; they are at another line than before, and still to be merged."""
    page = home / "deploy/runbooks/ShopDown.md"
    page.write_text(page.read_text().replace(BEGIN, f"{BEGIN}\nCall Bob."))
    conflict(page, "Call Bob.")
    conflict(page, "# ShopDown")
    assert "conflicted: deploy/runbooks/ShopDown.md:" in ask(capsys)[1]
    code, said = ask(capsys, "--force")
    line = page.read_text().split("<<<<<<< HEAD")[0].count("\n") + 1
    assert (code, page.read_text().count("<<<<<<< HEAD")) == (0, 1)
    assert f"unmerged: deploy/runbooks/ShopDown.md:{line}\n" in said
    assert f"unmerged: deploy/runbooks/ShopDown.md:{line}\n" in ask(capsys, "--check")[1]


def test_marks_in_a_template_of_ones_own_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else they would be in every page, and each page would say that it is as it should be."""
    mine = home / ".mahavishnu/templates/runbooks/alert.md.j2"
    mine.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / "templates/runbooks/alert.md.j2", mine)
    conflict(mine, "## Mitigation")
    code, said = ask(capsys)
    assert code == 2
    assert "a merge left its marks in your template" in said


# --- git itself -----------------------------------------------------------------------------------


def git(home: Path, *words: str) -> int:
    """The exit code of a command of git's, which asks nobody."""
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *words], cwd=home, capture_output=True, text=True, check=False)
    return done.returncode


def saved(home: Path, what: str) -> None:
    assert git(home, "add", "-A") == 0
    assert git(home, "commit", "-qm", what) == 0


def noted(page: Path, words: str) -> None:
    page.write_text(page.read_text().replace(BEGIN, f"{BEGIN}\n\n{words}"))


ATTRIBUTES = "deploy/** -merge\ndeploy/runbooks/*.md merge\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
@pytest.mark.parametrize("attributes", ["", ATTRIBUTES])
def test_two_branches_that_change_the_spec_are_merged_in_three_steps(
    home: Path, capsys: pytest.CaptureFixture[str], attributes: str
) -> None:
    """Merge, say in the spec what holds, `generate --force`: with all notes of both sides."""
    pages: dict[str, Any] = {name: home / f"deploy/runbooks/Shop{name}.md" for name in ("Down", "SpecDrift")}
    (home / ".gitattributes").write_text(attributes)
    assert git(home, "init", "-qb", "main") == 0
    saved(home, "first")
    assert git(home, "checkout", "-qb", "other") == 0
    (home / "mahavishnu.yaml").write_text(SPEC.replace("300", "500"))
    assert run(["generate"]) == 0
    noted(pages["SpecDrift"], "Theirs.\n")
    saved(home, "theirs")
    assert git(home, "checkout", "-q", "main") == 0
    (home / "mahavishnu.yaml").write_text(SPEC.replace("300", "400"))
    assert run(["generate"]) == 0
    noted(pages["Down"], "Ours.\n")
    saved(home, "ours")
    assert git(home, "merge", "other") == 1
    marked = {one.name for one in home.rglob("*") if one.is_file() and unmerged(one.read_bytes())}
    assert ("rules.yml" in marked) == (not attributes)
    code, said = ask(capsys)
    assert code == 1
    assert "a merge left its marks" in said
    assert "mahavishnu.yaml:4:1" in said
    (home / "mahavishnu.yaml").write_text(SPEC.replace("300", "600"))
    code, said = ask(capsys)
    assert code == 1
    assert "conflicted: deploy/runbooks/ShopSpecDrift.md:" in said
    assert ask(capsys, "--force")[0] == 0
    assert ask(capsys, "--check")[0] == 0
    assert "Theirs." in pages["SpecDrift"].read_text()
    assert "Ours." in pages["Down"].read_text()
