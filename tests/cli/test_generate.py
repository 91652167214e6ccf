"""`mahavishnu generate` as a person and a pipeline use it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import yaml

from mahavishnu import __version__
from mahavishnu.cli import _editor, run
from mahavishnu.files.lock import LOCK
from mahavishnu.files.notes import BEGIN
from tests.figures import FULL, figure
from tests.generators.specs import LARGE, merged

SPEC = merged(LARGE, {"limits": {"per_client": {"scope": "process"}}})
OTHER = merged(SPEC, {"service": {"owner": "others"}, "deploy": {"replicas": {"min": 12}}, "retention": None})

KILLS, STRIDE = (200, 1) if FULL else (15, 16)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a spec, which is where the person is."""
    say(tmp_path, SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    return tmp_path


def say(home: Path, spec: object) -> None:
    (home / "mahavishnu.yaml").write_text(json.dumps(spec) + "\n", encoding="utf-8")


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_it_says_what_it_wrote(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each family, the agreement, and how many files changed."""
    assert run(["generate"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"mahavishnu\.yaml +1 line, valid", said[0])
    families = ["alertmanager", "compose", "grafana", "kubernetes", "prometheus", "runbooks"]
    assert [line.split()[0] for line in said[1:7]] == families
    assert re.fullmatch(r"  grafana +3 dashboards, \d+ panels +deploy/grafana/", said[3])
    assert re.fullmatch(r"  kubernetes +8 objects +deploy/kubernetes/", said[4])
    assert re.fullmatch(r"  prometheus +\d+ alerts, \d+ recording rules, 1 SLO +deploy/prometheus/", said[5])
    assert re.fullmatch(r"  runbooks +\d+ pages, one for each alert, and 3 guides +deploy/runbooks/", said[6])
    alerts, recordings = re.findall(r"\d+", said[5])[:2]
    panels = re.findall(r"\d+", said[3])[1]
    counts = ((panels, "panels"), (recordings, "recordings"), (alerts, "alerts"), (alerts, "runbooks"))
    agreed = ", ".join(f"{count}/{count} {kind}" for count, kind in counts)
    assert said[7] == f"agreement       {agreed} name only series Hardening emits"
    assert re.fullmatch(
        r"series +a replica shows at most [\d,]+, and [\d,]+ for each route of the app", said[8]
    )
    files = len(tree(home / "deploy")) - 1
    assert re.fullmatch(rf"{files} files: {files} changed +\d+\.\d s", said[9])


def test_a_check_says_what_would_write_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same options: without them another environment would be written, to another folder."""
    assert run(["generate", "--check"]) == 1
    assert capsys.readouterr().out.endswith("not as the spec says: run `mahavishnu generate`\n")
    words = ["--spec", "mahavishnu.yaml", "--out", "other place", "--target", "prometheus"]
    assert run(["generate", "--check", *words]) == 1
    said = "run `mahavishnu generate --spec mahavishnu.yaml --out 'other place' --target prometheus`"
    assert capsys.readouterr().out.endswith(f"{said}\n")


def test_a_spec_that_is_found_has_its_files_beside_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From whichever folder below it: there is one `deploy`, and what is printed leads there."""
    (home / "src/acme").mkdir(parents=True)
    monkeypatch.chdir(home / "src/acme")
    assert run(["generate"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[3].endswith(" ../../deploy/grafana/")
    assert [path.name for path in (home / "src/acme").iterdir()] == []
    monkeypatch.chdir(home)
    assert run(["generate", "--check"]) == 0
    assert " files in deploy, all" in capsys.readouterr().out
    monkeypatch.chdir(home / "src")
    (home / "deploy/prometheus/rules.yml").unlink()
    assert run(["generate", "--check"]) == 1
    told = capsys.readouterr()
    assert told.err.endswith("missing: ../deploy/prometheus/rules.yml\n")
    assert told.out.endswith("run `mahavishnu generate`\n")
    assert run(["generate", "--force"]) == 0  # also where options are parsed
    assert [*(home / "src").iterdir()] == [home / "src/acme"]


@pytest.mark.parametrize("words", [["--spec", "../mahavishnu.yaml"], ["--out", "deploy"], []])
def test_a_spec_or_a_folder_that_is_named_is_seen_from_here(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """As always: a script that names one, or a variable that does, says where it is itself."""
    (home / "src").mkdir()
    monkeypatch.chdir(home / "src")
    if not words:
        monkeypatch.setenv("MAHAVISHNU_SPEC", str(home / "mahavishnu.yaml"))
    assert run(["generate", *words]) == 0
    assert (home / "src/deploy" / LOCK).is_file()
    assert not (home / "deploy").exists()


LOADED = """
import sys
from mahavishnu.cli import main
try: main()
finally: print(*sorted(sys.modules))
"""


def loaded(*words: str) -> set[str]:
    """The modules that a process of its own has loaded for a command."""
    command = [sys.executable, "-c", LOADED, *words]
    return {*subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()}


def test_it_loads_only_what_it_needs(home: Path) -> None:
    """No event loop, nothing that serves, and no parser of options where there are none."""
    needless = {
        "asyncio",
        "starlette",
        "prometheus_client",
        "structlog",
        "pydantic_settings",
        "rich",
        "redis",
    }
    assert not (needless | {"typer"}) & loaded("generate")
    with_options = loaded("generate", "--force")
    assert not needless & with_options
    assert {"typer", "pydantic", "jinja2"} <= with_options


@pytest.mark.parametrize("state", ["good", "again", "edited", "broken", "gone"])
def test_without_options_it_ends_as_with_them(
    state: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the end is: the same words, and the same exit code."""
    if state in ("again", "edited"):
        run(["generate"])
    if state == "edited":
        (home / "deploy/prometheus/rules.yml").write_text("groups: []\n")
    if state == "broken":
        say(home, {**SPEC, "limit": {}})
    if state == "gone":
        (home / "mahavishnu.yaml").unlink()
    told: list[tuple[int, str, str]] = []
    capsys.readouterr()
    for words in ([], ["--out", "deploy"]):
        code = run(["generate", *words])
        said = capsys.readouterr()
        err = said.err.replace("generate --out deploy", "generate")  # what is advised has the same words
        told.append((code, re.sub(r"\d+\.\d s", "", said.out), err))
        if state == "good":
            shutil.rmtree(home / "deploy")
    assert told[0] == told[1]
    assert told[0][0] == {"good": 0, "again": 0, "edited": 1, "broken": 1, "gone": 2}[state]


def test_a_second_run_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says so; the same tree also passes `--check`."""
    run(["generate"])
    before = tree(home)
    capsys.readouterr()
    assert run(["generate"]) == 0
    assert re.search(r"\d+ files: \d+ unchanged", capsys.readouterr().out)
    assert run(["generate", "--check"]) == 0
    assert "all as the spec says" in capsys.readouterr().out
    assert tree(home) == before


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (
            {"replicas": {"max": 3}, "targets": {"kubernetes": {"host": None}}},
            "hpa.yaml, ingress.yaml stay in the cluster until you delete them: see deploy/runbooks/maintenance.md",
        ),
        (
            {"targets": {"kubernetes": None}},
            "service.yaml, serviceaccount.yaml stay in the cluster until you delete them",
        ),
        ({"targets": {"compose": None}}, ""),
    ],
)
def test_it_says_what_stays_in_the_cluster(
    home: Path, capsys: pytest.CaptureFixture[str], patch: dict[str, Any], told: str
) -> None:
    """A file that is removed here is no object that is deleted there; once it is gone, nobody can say so any more."""
    assert run(["generate"]) == 0
    say(home, merged(SPEC, {"deploy": patch}))
    capsys.readouterr()
    assert run(["generate"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "in the cluster" in line]
    assert [line.endswith(told) for line in lines] == ([True] if told else [])
    assert run(["generate"]) == 0
    assert "in the cluster" not in capsys.readouterr().out


def test_check_finds_every_drift_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by name and with what to do, exit 1."""
    run(["generate"])
    deploy = home / "deploy"
    (deploy / "compose/Dockerfile").unlink()
    (deploy / "compose/compose.yaml").write_text("mine\n" + (deploy / "compose/compose.yaml").read_text())
    (deploy / "kubernetes/extra.yaml").write_text("mine\n")
    without_host = {"deploy": {"targets": {"kubernetes": {"host": None}}, "shutdown": "50s"}}
    say(home, merged(SPEC, without_host))
    before = tree(home)
    capsys.readouterr()
    assert run(["generate", "--check"]) == 1
    shown = capsys.readouterr()
    drifts = {path: kind for kind, path in re.findall(r"^([a-z]+): (deploy/.*)$", shown.err, re.MULTILINE)}
    assert drifts["deploy/compose/Dockerfile"] == "missing"
    assert drifts["deploy/compose/compose.yaml"] == "edited"
    assert drifts["deploy/kubernetes/extra.yaml"] == "beside"
    assert drifts["deploy/kubernetes/ingress.yaml"] == "orphaned"
    assert drifts["deploy/kubernetes/deployment.yaml"] == "stale"
    assert drifts[f"deploy/{LOCK}"] == "stale"
    assert "  +mine" in shown.err
    first, *told = shown.out.splitlines()
    assert first == f"{len(drifts)} files not as the spec says"
    assert [line.split(": ")[0] for line in told] == ["edited", "beside", "missing, stale, orphaned"]
    assert told[-1] == "missing, stale, orphaned: run `mahavishnu generate`"
    assert tree(home) == before


def test_an_edit_is_refused_with_its_diff(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written, the next step is named, and `--force` is the way over it."""
    run(["generate"])
    rules = home / "deploy/prometheus/rules.yml"
    rules.write_text(rules.read_text().replace("severity: P1", "severity: P4"))
    say(home, OTHER)
    before = tree(home)
    capsys.readouterr()
    assert run(["generate"]) == 1
    error = capsys.readouterr().err
    assert "edited: deploy/prometheus/rules.yml" in error
    assert re.search(r"^  \+.*severity: P4", error, re.MULTILINE)
    assert "edited: changed since they were generated" in error
    assert "`mahavishnu generate --force` writes over them" in error
    assert tree(home) == before
    assert run(["generate", "--force"]) == 0
    assert run(["generate", "--check"]) == 0


def test_one_family_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--target` writes and judges that family, and leaves the others as they are, in the lock too."""
    run(["generate"])
    before = tree(home / "deploy")
    say(home, OTHER)
    assert run(["generate", "--target", "kubernetes"]) == 0
    after = tree(home / "deploy")
    changed = {path for path in after if before.get(path) != after[path]}
    assert {path.split("/")[0] for path in changed} == {"kubernetes", LOCK}
    assert "kubernetes/hpa.yaml" not in after
    assert run(["generate", "--check", "--target", "kubernetes"]) == 0
    assert run(["generate", "--check"]) == 1
    assert run(["generate"]) == 0
    assert run(["generate", "--check"]) == 0
    capsys.readouterr()
    assert run(["generate", "--target", "kubernets"]) == 2
    assert "asks for no `kubernets`" in capsys.readouterr().err


def test_to_a_pipe(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--stdout` prints documents that a YAML reader takes apart, and writes nothing."""
    assert run(["generate", "--stdout", "--target", "kubernetes"]) == 0
    kinds = [one["kind"] for one in yaml.safe_load_all(capsys.readouterr().out) if one]
    assert "Deployment" in kinds
    assert len(kinds) == 9
    assert not (home / "deploy").exists()


def test_an_environment_has_a_folder_of_its_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of another one's is written over; what is told to be written instead does it, and is checked alike."""
    say(home, {**SPEC, "environments": {"staging": {"service": {"name": "shop_staging"}}}})
    assert run(["generate"]) == 0
    before = tree(home)
    for words in (["generate", "--env", "staging"], ["generate", "--env", "staging", "--target", "compose"]):
        assert run(words) == 1
        assert tree(home) == before
    told = capsys.readouterr().err
    assert "generated for no environment, and this is for the environment `staging`" in told
    (command,) = set(re.findall(r"run `mahavishnu ([^`]+)`", told))
    assert command == "generate --spec mahavishnu.yaml --env staging --out deploy-staging"
    assert run(command.split()) == 0
    assert run([*command.split(), "--check"]) == run(["generate", "--check"]) == run(["generate"]) == 0
    assert {name: text for name, text in tree(home).items() if name in before} == before
    assert (
        "--out deploy-staging --env staging" in (home / "deploy-staging/runbooks/maintenance.md").read_text()
    )
    assert run(["generate", "--out", "deploy-staging"]) == 1
    assert "`mahavishnu generate --spec mahavishnu.yaml --out deploy`" in capsys.readouterr().err


def test_a_folder_of_another_environment_is_no_long_list(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` says what it is, and `--force` takes it over."""
    say(home, {**SPEC, "environments": {"staging": {"service": {"name": "shop_staging"}}}})
    assert run(["generate"]) == 0
    capsys.readouterr()
    assert run(["generate", "--check", "--env", "staging"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(
        "this folder is another environment's\nenvironment: each environment needs a folder"
    )
    assert f"environment: deploy/{LOCK}" in said.err.splitlines()
    assert run(["generate", "--env", "staging", "--force"]) == 0
    assert run(["generate", "--check", "--env", "staging"]) == 0


def test_a_lock_that_names_no_environment_is_anybodys(home: Path) -> None:
    """Earlier versions wrote none."""
    assert run(["generate"]) == 0
    lock = json.loads((home / "deploy" / LOCK).read_text())
    assert lock.pop("environment") == ""
    (home / "deploy" / LOCK).write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n")
    say(home, {**SPEC, "environments": {"staging": {"service": {"name": "shop_staging"}}}})
    assert run(["generate", "--env", "staging"]) == 0


def test_an_environment_has_its_own_numbers(home: Path) -> None:
    """`--env` lies on top of the spec in every file."""
    say(home, {**SPEC, "environments": {"staging": {"deploy": {"replicas": {"min": 2, "max": 3}}}}})
    assert run(["generate", "--env", "staging"]) == 0
    assert "maxReplicas: 3" in (home / "deploy/kubernetes/hpa.yaml").read_text()
    assert "replicas: {min: 2, max: 3}" in (home / "deploy/compose/mahavishnu.yaml").read_text()
    assert run(["generate", "--check"]) == 1


def test_a_spec_by_another_name_is_named_in_its_pages(home: Path) -> None:
    """Typed in its folder, what they say is about this spec; one that is found unasked needs no name."""
    shutil.copy(home / "mahavishnu.yaml", home / "other.yaml")
    assert run(["generate", "--spec", "other.yaml", "--out", "other"]) == 0
    assert "mahavishnu check --spec other.yaml" in (home / "other/runbooks/maintenance.md").read_text()
    assert run(["generate", "--spec", str(home / "mahavishnu.yaml")]) == 0
    assert "--spec" not in (home / "deploy/runbooks/maintenance.md").read_text()


def test_a_template_of_ones_own(home: Path) -> None:
    """What lies in .mahavishnu/templates beside the spec goes before ours, quoted like ours."""
    mine = home / ".mahavishnu/templates/kubernetes/pdb.yaml.j2"
    mine.parent.mkdir(parents=True)
    mine.write_text("kind: Mine\nname: {{ name }}\nowner: {{ 'a: b' }}\n")
    assert run(["generate"]) == 0
    made = yaml.safe_load((home / "deploy/kubernetes/pdb.yaml").read_text())
    assert made == {"kind": "Mine", "name": "shop-api", "owner": "a: b"}


def by(home: Path, version: str) -> None:
    """Let another version have generated the files."""
    file = home / "deploy" / LOCK
    file.write_text(file.read_text().replace(f'"version": "{__version__}"', f'"version": "{version}"'))


def test_files_of_a_newer_version_are_not_called_a_fault_of_the_spec(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All say which version wrote them and which this is; only `--force` goes back."""
    run(["generate"])
    by(home, "9.0.0")
    assert run(["generate", "--check"]) == 0  # this one writes the same
    say(home, OTHER)
    for words in ([], ["--check"]):
        capsys.readouterr()
        assert run(["generate", *words]) == 1
        told = "".join(capsys.readouterr())
        assert f"newer: deploy/{LOCK}\n  generated by 9.0.0, and this is {__version__}\n" in told
        assert "\nnewer: a newer version generated these files: install it, or go back" in told
        assert "run `mahavishnu generate`" not in told
    assert run(["generate", "--force"]) == 0
    assert f"version         9.0.0 before, {__version__} now" in capsys.readouterr().out
    assert run(["generate", "--check"]) == 0


def test_files_of_an_older_version_are_told_as_an_upgrade(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The spec may be as it was, and the files differ all the same."""
    run(["generate"])
    by(home, "0.0.9")
    say(home, OTHER)
    capsys.readouterr()
    assert run(["generate", "--check"]) == 1
    told = "".join(capsys.readouterr())
    assert f"older: deploy/{LOCK}\n  generated by 0.0.9, and this is {__version__}\n" in told
    assert "\nolder: an older version generated these files" in told
    assert run(["generate"]) == 0
    assert f"version         0.0.9 before, {__version__} now" in capsys.readouterr().out
    assert run(["generate", "--check"]) == 0


def test_files_beside_send_nobody_round_in_circles(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All three say the same of them, none is stopped by them, and once they are moved all is well."""
    run(["generate"])
    (home / "deploy/runbooks/.ShopApiDown.md.swp").touch()
    (home / "deploy/prometheus/rules.yml.orig").touch()
    mine = home / "deploy/grafana/dashboards/mine.json"
    mine.write_text("{}")
    say(home, OTHER)
    for words, code in ((["--check"], 1), ([], 0), (["--force"], 0), (["--check"], 1)):
        capsys.readouterr()
        assert run(["generate", *words]) == code
        told = "".join(capsys.readouterr())
        assert "beside: deploy/grafana/dashboards/mine.json\n" in told
        assert "remove them, or move them into a folder of your own\n" in told
        assert "swp" not in told
        assert "orig" not in told
    assert "generate`" not in told  # which would not help
    (home / "deploy/grafana/dashboards/of_mine").mkdir()
    mine.rename(home / "deploy/grafana/dashboards/of_mine/mine.json")
    assert run(["generate", "--check"]) == 0


@pytest.mark.parametrize("words", [[], ["--force"], ["--check"]])
def test_a_template_of_ones_own_without_marks_costs_no_notes(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Whatever is asked, the answer is the same: what it needs, what would be lost, and where to go with it."""
    run(["generate"])
    page = home / "deploy/runbooks/ShopApiDown.md"
    page.write_text(page.read_text().replace(BEGIN, f"{BEGIN}\n\nCall Bob.\n"))
    mine = home / ".mahavishnu/templates/runbooks/alert.md.j2"
    mine.parent.mkdir(parents=True)
    mine.write_text("# {{ alert.name }}\n")
    before = tree(home)
    capsys.readouterr()
    assert run(["generate", *words]) == 1
    told = "".join(capsys.readouterr())
    assert "noted: deploy/runbooks/ShopApiDown.md\n" in told
    assert "  Call Bob.\n" in told
    assert "`{{ begin }}` and `{{ end }}`" in told
    assert told.count("\nnoted: what people wrote there would be lost, which not even `--force` does") == 1
    assert tree(home) == before


def test_a_refused_spec_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings as everywhere, exit 1, and the files of the last good spec remain."""
    run(["generate"])
    before = tree(home / "deploy")
    say(home, {**SPEC, "limts": {}})
    assert run(["generate"]) == 1
    assert "unknown key `limts`" in capsys.readouterr().err
    assert tree(home / "deploy") == before


@pytest.mark.parametrize("words", [["--check", "--force"], ["--stdout", "--check"], ["--force", "--stdout"]])
def test_words_that_exclude_each_other(home: Path, words: list[str]) -> None:
    """Exit 2, nothing written."""
    assert run(["generate", *words]) == 2
    assert not (home / "deploy").exists()


def test_a_folder_that_cannot_be_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence and exit 2, no traceback."""
    (home / "deploy").write_text("a file")
    assert run(["generate"]) == 2
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("out", ["deploy", "examples/shop/deploy", "."])
def test_the_build_context_is_the_spec_s_folder(home: Path, out: str) -> None:
    """Wherever the files go below it, Compose builds from where the spec lies."""
    assert run(["generate", "--out", out]) == 0
    build = yaml.safe_load((home / out / "compose/compose.yaml").read_text())["services"]["shop-api"]["build"]
    assert (home / out / "compose" / build["context"]).resolve() == home
    assert (home / build["dockerfile"]).is_file()


def test_a_repository_of_many_services_keeps_what_is_generated_where_it_likes(home: Path) -> None:
    """Beside them all: paths lead from the one folder to the other, and back."""
    spec = home / "services/shop"
    spec.mkdir(parents=True)
    say(spec, SPEC)
    assert run(["generate", "--spec", "services/shop/mahavishnu.yaml", "--out", "deploy/shop"]) == 0
    compose = home / "deploy/shop/compose"
    build = yaml.safe_load((compose / "compose.yaml").read_text())["services"]["shop-api"]["build"]
    assert (compose / build["context"]).resolve() == spec
    assert (spec / build["dockerfile"]).resolve() == compose / "Dockerfile"
    assert ".." not in (compose / "Dockerfile.dockerignore").read_text()
    (asked,) = {*re.findall(r"-f (\S+)/compose/", (home / "deploy/shop/runbooks/maintenance.md").read_text())}
    assert (spec / asked).resolve() == home / "deploy/shop"


def test_a_dockerignore_of_the_project_is_carried_on(home: Path) -> None:
    """The build reads ours in its place; a change of it is a change of ours."""
    (home / ".dockerignore").write_bytes("\ufeff# mine\r\n\r\nsecrets-of-ours\r\n!certs/*.pem\r\n".encode())
    assert run(["generate"]) == 0
    lines = (home / "deploy/compose/Dockerfile.dockerignore").read_text().splitlines()
    at = lines.index("secrets-of-ours")
    assert lines[at : at + 2] == ["secrets-of-ours", "!certs/*.pem"]
    assert "# mine" not in lines
    (home / ".dockerignore").unlink()
    assert run(["generate", "--check"]) == 1


def generate_elsewhere(home: Path, **env: str) -> dict[str, bytes]:
    """What a process of its own writes, under another environment."""
    command = [sys.executable, "-c", "from mahavishnu.cli import main; main()", "generate"]
    done = subprocess.run(
        command, cwd=home, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = tree(home / "deploy")
    shutil.rmtree(home / "deploy")
    return made


def test_the_same_bytes_everywhere(home: Path) -> None:
    """Two hash seeds, two time zones, two locales, secrets in the environment: identical bytes."""
    first = generate_elsewhere(home, PYTHONHASHSEED="0", TZ="UTC", LC_ALL="C.UTF-8")
    other = {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONUTF8": "0"}
    second = generate_elsewhere(home, **other, DATABASE_URL="s3cr3t", MAHAVISHNU_RETENTION="1d")
    assert first == second
    assert not any(b"s3cr3t" in content for content in first.values())


# --- killed ---------------------------------------------------------------------------------------


def killed(work: Callable[[], object], after: int, delay: float) -> int:
    """Run in a child that is killed, as by `kill -9`, before its n-th change of the output folder, or so many seconds
    after that."""
    child = os.fork()
    if child == 0:
        left = after
        watched = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}

        def hook(event: str, details: tuple[Any, ...]) -> None:
            nonlocal left
            if event not in watched or (event == "open" and not details[2] & (os.O_WRONLY | os.O_RDWR)):
                return
            if "deploy" in Path(str(details[0])).parts:
                if left == 0 and delay:
                    signal.setitimer(
                        signal.ITIMER_REAL, delay
                    )  # whose signal leaves no more time than -9 does
                elif left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.addaudithook(hook)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.proof
def test_kill_9_at_any_point(home: Path) -> None:
    """Whenever it is killed, before a change or anywhere between two, each file is whole, old or new, and the next run
    makes the tree complete."""
    run(["generate"])
    old = tree(shutil.copytree(home / "deploy", home / "old"))
    say(home, OTHER)
    assert run(["generate"]) == 0
    new = tree(home / "deploy")
    mixed = deaths = at = changes = 0
    delay, chance = 0.0, random.Random("kills")
    while deaths < KILLS:
        shutil.rmtree(home / "deploy")
        shutil.copytree(home / "old", home / "deploy")
        ended = killed(lambda: run(["generate"]), at, delay)
        left = {path: text for path, text in tree(home / "deploy").items() if ".mahavishnu-new-" not in path}
        assert all(text in (old.get(path), new.get(path)) for path, text in left.items() if path != LOCK)
        assert {*old} & {*new} <= {*left}
        mixed += left not in (old, new)
        assert run(["generate"]) == 0
        assert tree(home / "deploy") == new
        deaths += ended < 0
        if not delay and ended < 0:
            at += STRIDE
        else:  # all changes have had their turn
            changes = changes or at
            at, delay = chance.randrange(changes), chance.uniform(1e-5, 1e-3)
    figure("kill -9 points after which every file is whole and the next run heals", KILLS, deaths)
    assert mixed > KILLS / 10, "no kill fell between two files, so nothing was proved"


def test_the_schema_of_an_editor_is_written_anew_after_an_upgrade(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where there is one, and none that this version or a later one wrote."""
    monkeypatch.setattr(_editor, "text", lambda: f'{{"$comment": "mahavishnu {__version__}"}}\n')
    file = home / ".mahavishnu" / "schema.json"
    assert run(["generate"]) == 0
    assert not file.exists()
    file.parent.mkdir(exist_ok=True)
    for text, anew in (
        ('{"old": 1}\n', True),
        (_editor.text(), False),
        ('{"$comment": "mahavishnu 99.0"}\n', False),
        ('{"$comment": "mahavishnu 0.0.1"}\n', True),
    ):
        file.write_text(text)
        capsys.readouterr()
        assert run(["generate"]) == 0
        assert file.read_text() == (_editor.text() if anew else text)
        assert ("anew, for an earlier version wrote it" in capsys.readouterr().out) == anew


def test_files_are_printed_as_files_are_whatever_the_terminal_speaks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In UTF-8, and no letter is lost."""
    say(home, merged(SPEC, {"service": {"owner": "Zoë 日本"}}))
    printed = BytesIO()
    stream = TextIOWrapper(printed, encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert run(["generate", "--stdout"]) == 0
    stream.flush()
    assert "Zoë 日本".encode() in printed.getvalue()
