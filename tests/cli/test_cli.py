"""The command line's manners: exit codes, streams, colour, speed, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from mahavishnu import checks
from mahavishnu.cli import _editor, _output, run
from mahavishnu.cli._run import function_of
from mahavishnu.cli._verbs import VERBS, page
from mahavishnu.errors import Finding, Level, MahavishnuError, Where
from tests.figures import figure
from tests.test_load import LATER

MINIMAL = str(Path(__file__).parents[1] / "specs/minimal.yaml")
FULL = str(Path(__file__).parents[1] / "specs/full.yaml")
FINDING = Finding(
    Level.ERROR, "MV101", "what", Where("a,b:c.yaml", 3, 5, 4, "  a: brust"), "100% sure\nreally"
)


class Screen(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--version", 0),
        ("--help", 0),
        (f"check --no-app --spec {MINIMAL}", 0),
        (f"check --no-app --strict --spec {MINIMAL}", 1),
        (f"check --no-app --spec {FULL}", 1),
        ("check --spec no/such/file.yaml", 2),
        ("check --format nonsense", 2),
        ("check --nonsense", 2),
        ("nonsense", 2),
        ("", 2),
        (f"config --spec {MINIMAL}", 0),
        (f"config --spec {FULL}", 1),
        ("config --spec no/such/file.yaml", 2),
        ("schema", 0),
        ("explain MV101", 0),
        ("explain MV999", 2),
    ],
)
def test_exit_codes_mean_one_thing_everywhere(words: str, code: int) -> None:
    """0 fine, 1 findings, 2 cannot run."""
    assert run(words.split()) == code


def test_an_interrupted_run_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell expects it."""

    def interrupted(facts: checks.Facts) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "run", interrupted)

    assert run(["check", "--no-app", "--spec", MINIMAL]) == 130


def test_a_surprise_is_a_sentence_and_a_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The surprise's own text is left out, too: it may hold a secret."""

    def surprised(facts: checks.Facts) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(checks, "run", surprised)

    assert run(["check", "--no-app", "--spec", MINIMAL]) == 2
    assert (
        capsys.readouterr().err == "mahavishnu: unforeseen RuntimeError; `mahavishnu --debug …` shows where\n"
    )
    with pytest.raises(RuntimeError):
        run(["check", "--no-app", "--spec", MINIMAL, "--debug"])


def test_what_the_operating_system_refuses_is_said_in_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the file; a traceback only on request."""
    assert run(["schema", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"mahavishnu: {tmp_path}: is a directory\n"
    with pytest.raises(IsADirectoryError):
        run(["schema", "--debug", "--out", str(tmp_path)])


@pytest.mark.parametrize("words", ["--help", "explain MV201", "schema"])
@pytest.mark.parametrize(
    ("streams", "code", "told"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 2, "mahavishnu: no space left on device\n"),
    ],
)
def test_a_stream_that_takes_nothing_is_no_surprise(words: str, streams: str, code: int, told: str) -> None:
    """Closed, what is printed is lost; full, it is said."""
    command = f"exec {sys.executable} -m mahavishnu {words} {streams}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, told)


def test_a_folder_that_was_removed_is_said(tmp_path: Path) -> None:
    """Whoever still stands in it sees no traceback."""
    command = f"rmdir {tmp_path}; exec {sys.executable} -m mahavishnu check"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "mahavishnu: the folder it was started in is no longer there\n"


def test_an_error_of_our_own_is_its_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No class name, no traceback."""

    def refused(facts: checks.Facts) -> None:
        raise MahavishnuError("the moon is full")

    monkeypatch.setattr(checks, "run", refused)

    assert run(["check", "--no-app", "--spec", MINIMAL]) == 2
    assert capsys.readouterr().err == "mahavishnu: the moon is full\n"


def test_every_verb_of_the_help_exists() -> None:
    """The table in front of the lazy imports names real functions."""
    assert all(callable(function_of(verb)) for verb in VERBS)


def test_the_page_is_the_one_the_parser_would_print(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--help` is answered without the parser of options, and says what that says."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == page() + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "mahavishnu", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout == page() + "\n"


def test_help_imports_no_verb_and_no_model() -> None:
    """`--help` pays for nothing but itself."""
    program = (
        "import sys; from mahavishnu.cli import run; run(['--help']);"
        "print([name for name in sys.modules if name in ('pydantic', 'ruamel.yaml', "
        "'mahavishnu.cli.check', 'rich')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.proof
def test_help_answers_at_once() -> None:
    """Against an interpreter that does nothing, turn about: the best of ten of each, for the machine may be busy."""
    times: dict[str, list[float]] = {"-c pass": [], "-m mahavishnu --help": []}
    for _ in range(10):
        for words, took in times.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *words.split()], capture_output=True, check=True)
            took.append(time.perf_counter() - begun)
    nothing, asked = map(min, times.values())

    figure("mahavishnu --help / python -c pass", "< 2.5", f"{asked / nothing:.1f}")
    assert asked / nothing < 2.5


def test_a_closed_pipe_is_no_traceback() -> None:
    """`mahavishnu schema | head -1` ends quietly."""
    command = f"{sys.executable} -m mahavishnu schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize("words", ["--help", "schema"])
def test_a_pipe_that_nobody_reads_is_no_traceback(words: str) -> None:
    """Whether the parser of options is asked or not."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        command = [sys.executable, "-m", "mahavishnu", words]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


# --- how findings are written ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("no_color", "term", "expected"), [("", "xterm", True), ("1", "xterm", False), ("", "dumb", False)]
)
def test_colour_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, no_color: str, term: str, expected: bool
) -> None:
    """And not when NO_COLOR says no."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)

    assert _output.coloured(Screen()) is expected
    assert _output.coloured(StringIO()) is False


def test_colour_changes_nothing_but_colour() -> None:
    """What is read is the same."""
    import re

    bare = re.sub(r"\x1b\[[0-9;]*m", "", _output.full([FINDING], colour=True))

    assert bare == _output.full([FINDING])
    assert "\x1b[1;31m" in _output.full([FINDING], colour=True)


def test_a_caret_stands_under_its_token_beside_wide_characters_and_in_long_lines() -> None:
    """Columns are those of a terminal; a line of thousands of characters is cut around the token."""
    wide = Finding(Level.ERROR, "MV1", "x", Where("f", 1, 4, 2, "漢字 ab cd"))
    long = Finding(Level.ERROR, "MV1", "x", Where("f", 1, 5001, 3, "y" * 5000 + "abc" + "z" * 5000))

    assert _output.full([wide]).splitlines()[-2:] == ["1 | 漢字 ab cd", "  |      ^^"]
    line, caret = _output.full([long]).splitlines()[-2:]
    assert len(line) < 200
    assert line[caret.index("^") :][:3] == "abc"


def test_nothing_that_moves_a_cursor_is_written() -> None:
    """Neither escapes nor marks of direction, wherever they come from."""
    evil = "a\x1b[2Jb\u202ec\r\x07"
    text = _output.full([Finding(Level.WARNING, "MV1", evil, Where("f", 1, 1, 1, evil), evil)])

    assert not {"\x1b", "\u202e", "\r", "\x07"} & set(text)


def test_github_commands_are_escaped() -> None:
    """A colon, a comma, a percent sign or a newline would end the command early."""
    assert _output.as_github([FINDING]) == (
        "::error title=MV101,file=a%2Cb%3Ac.yaml,line=3,col=5,endColumn=8::what (help: 100%25 "
        "sure%0Areally)\n"
    )


def test_a_finding_in_json_has_all_that_a_person_sees() -> None:
    """Severity, code, what, help and the place, as keys."""
    assert json.loads(_output.as_json([FINDING])) == [
        {
            "severity": "error",
            "code": "MV101",
            "what": "what",
            "help": "100% sure\nreally",
            "file": "a,b:c.yaml",
            "line": 3,
            "column": 5,
            "width": 4,
        }
    ]


def test_machine_formats_of_nothing_are_whole_documents() -> None:
    """A tool that parses them must not choke on a clean run."""
    sarif: dict[str, Any] = json.loads(_output.as_sarif([]))

    assert json.loads(_output.as_json([])) == []
    assert sarif["runs"][0]["results"] == []
    assert _output.as_github([]) == ""


def test_the_schema_is_written_where_an_editor_looks(tmp_path: Path) -> None:
    """Into a folder that need not exist; the same as on stdout."""
    out = tmp_path / ".mahavishnu/schema.json"

    assert run(["schema", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == _editor.text()


def test_python_m_mahavishnu_is_the_same() -> None:
    """The module runs the entry point and hands on its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "mahavishnu", "check", "--no-app", "--format", "concise", "--spec", FULL],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == len(LATER.splitlines())


def test_explain_knows_where_every_section_holds() -> None:
    """A new section needs its line, or nobody learns what it does."""
    from mahavishnu.cli import explain
    from mahavishnu.spec import Spec

    assert {*explain.__dict__["_HOLDS"]} == {*Spec.model_fields} - {"mahavishnu", "secrets"}


def test_explain_is_asked_without_the_names_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`<name>` in a shell is a file; what is suggested can be typed as it stands there."""
    monkeypatch.chdir(tmp_path)
    assert run(["explain", "limits.rat"]) == 2
    suggested = capsys.readouterr().err.split("`")[3]
    assert suggested == "limits.rate"
    assert run(["explain", suggested]) == 0
    assert capsys.readouterr().out.startswith("limits.<name>.rate\n")
