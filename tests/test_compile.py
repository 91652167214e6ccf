"""What is written is whole, is ours, and stays where it belongs; everything else on disk is left alone."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import random
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mahavishnu import __version__
from mahavishnu import compile as compiler
from mahavishnu.artifact import HEADER, Artifact, header
from mahavishnu.compile import CompileError, OverwriteError, drift, write
from mahavishnu.contract import contract
from mahavishnu.errors import MahavishnuError
from mahavishnu.files import folder
from mahavishnu.files.lock import LOCK
from mahavishnu.spec import Spec
from mahavishnu.survey import Drift, Kind

OLD = (
    Artifact("compose/Dockerfile", "FROM scratch\n"),
    Artifact("compose/compose.yaml", "services: {}\n"),
    Artifact("prometheus/rules.yml", "groups: []\n"),
    Artifact("cloud_run/service.yaml", "gone: true\n"),
)
NEW = (
    Artifact("compose/Dockerfile", "FROM scratch\n"),
    Artifact("compose/compose.yaml", "services: {app: {}}\n"),
    Artifact("kubernetes/pdb.yaml", "new: true\n"),
    Artifact("prometheus/rules.yml", "groups: [1]\n"),
)
MINIMAL: dict[str, Any] = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop.main:app"}}


def tree(root: Path) -> dict[str, str]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes().decode() for path in found}


def expected(artifacts: tuple[Artifact, ...]) -> dict[str, str]:
    return {one.path: one.text for one in artifacts}


def files(root: Path) -> dict[str, str]:
    return {path: text for path, text in tree(root).items() if path != LOCK}


def kinds(drifts: tuple[Drift, ...]) -> dict[str, str]:
    return {one.path: str(one.kind) for one in drifts}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder as the older spec left it."""
    write(tmp_path / "deploy", OLD, "old")
    return tmp_path / "deploy"


# --- writing --------------------------------------------------------------------------------------


def test_the_first_run_writes_everything(tmp_path: Path) -> None:
    """A folder that is not there is made, and afterwards nothing drifts."""
    done = write(tmp_path / "a/deploy", OLD, "old")
    assert files(tmp_path / "a/deploy") == expected(OLD)
    assert done.changed == tuple(sorted(expected(OLD)))
    assert drift(tmp_path / "a/deploy", OLD, "old") == ()


@pytest.mark.parametrize(("mask", "folder", "file"), [(0o002, 0o775, 0o664), (0o077, 0o755, 0o644)])
def test_what_is_written_is_readable_by_every_user(mask: int, folder: int, file: int, tmp_path: Path) -> None:
    """Containers read it as users of their own: a strict umask is for what is secret, and nothing here is."""
    before = os.umask(mask)
    try:
        write(tmp_path / "project/deploy", OLD, "old")
    finally:
        os.umask(before)
    modes = {(one.is_dir(), stat.S_IMODE(one.stat().st_mode)) for one in tmp_path.rglob("*")}
    assert modes == {(True, folder), (False, file)}


def test_a_second_run_changes_nothing(out: Path) -> None:
    """Not even a time of modification moves when nothing has changed."""
    before = {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}
    done = write(out, OLD, "old")
    assert (done.changed, done.removed, len(done.unchanged)) == ((), (), len(OLD))
    assert {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]} == before


def test_a_lock_of_old_and_new_is_written_only_where_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run has nothing to remember: its lock is the last one from the beginning."""
    renamed: list[str] = []
    replace = os.replace

    def seen(path: str, target: str) -> None:
        renamed.append(target)
        replace(path, target)

    monkeypatch.setattr(os, "replace", seen)
    for artifacts, times in ((OLD, 1), (NEW, 2)):
        renamed.clear()
        write(tmp_path / "deploy", artifacts, "spec")
        assert renamed.count(str(tmp_path / "deploy" / LOCK)) == times


def test_a_new_spec_changes_adds_and_removes(out: Path) -> None:
    """Only what differs is written, and what is no longer generated goes, with its empty folder."""
    done = write(out, NEW, "new")
    assert files(out) == expected(NEW)
    assert done.changed == ("compose/compose.yaml", "kubernetes/pdb.yaml", "prometheus/rules.yml")
    assert done.removed == ("cloud_run/service.yaml",)
    assert done.unchanged == ("compose/Dockerfile",)
    assert not (out / "cloud_run").exists()


def test_the_lock_is_the_same_in_every_place(out: Path, tmp_path: Path) -> None:
    """However a folder came to be as it is, its lock holds the same bytes."""
    write(out, NEW, "new")
    write(tmp_path / "fresh", NEW, "new")
    assert tree(out) == tree(tmp_path / "fresh")


def test_what_lies_elsewhere_is_not_ours(out: Path) -> None:
    """The root of the folder and folders of one's own may hold anything."""
    for path in ("README.md", "terraform/main.tf", "compose/overlays/x.yaml"):
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_text("mine")
    assert drift(out, OLD, "old") == ()
    write(out, NEW, "new")
    assert {"README.md", "terraform/main.tf", "compose/overlays/x.yaml"} < set(tree(out))


# --- drift ----------------------------------------------------------------------------------------


def test_every_kind_of_drift_has_its_name(out: Path) -> None:
    """They are told apart, with what differs."""
    (out / "prometheus/rules.yml").write_text("groups: [mine]\n")
    (out / "compose/Dockerfile").unlink()
    (out / "compose/Dockerfile").symlink_to("elsewhere")
    (out / "kubernetes").mkdir()
    (out / "kubernetes/pdb.yaml").write_text("mine: true\n")
    (out / "prometheus/extra.yml").write_text("extra\n")
    found = drift(out, NEW, "new")
    assert kinds(found) == {
        "cloud_run/service.yaml": "orphaned",
        "compose/Dockerfile": "irregular",
        "compose/compose.yaml": "stale",
        "kubernetes/pdb.yaml": "foreign",
        "prometheus/extra.yml": "beside",
        "prometheus/rules.yml": "edited",
        LOCK: "stale",
    }
    diffs = {one.path: one.diff for one in found}
    assert "-groups: [1]\n+groups: [mine]\n" in diffs["prometheus/rules.yml"]
    assert "-services: {}\n+services: {app: {}}\n" in diffs["compose/compose.yaml"]


def test_looking_for_drift_writes_nothing(out: Path, tmp_path: Path) -> None:
    """`--check` leaves no trace, neither in a drifted folder nor where there is none."""
    before = tree(tmp_path)
    drift(out, NEW, "new")
    assert {one.kind for one in drift(tmp_path / "nowhere", NEW, "new")} == {Kind.MISSING}
    assert tree(tmp_path) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_the_place_of_the_folder_is_told_of(tmp_path: Path) -> None:
    """It is told of, and not taken for a folder that is yet to be made."""
    (tmp_path / "deploy").write_text("mine")
    assert kinds(drift(tmp_path / "deploy", OLD, "old"))["."] == "irregular"
    with pytest.raises(CompileError, match="File exists"):
        write(tmp_path / "deploy", OLD, "old")
    assert tree(tmp_path) == {"deploy": "mine"}


def test_a_missing_lock_is_drift_and_heals(out: Path) -> None:
    """Files that are exactly as generated need no lock to be known for ours."""
    (out / LOCK).unlink()
    assert kinds(drift(out, OLD, "old")) == {LOCK: "missing"}
    write(out, OLD, "old")
    assert drift(out, OLD, "old") == ()


@pytest.mark.parametrize(
    "lock", [b"", b"<<<<<<< HEAD", b"[]", b'{"files": 3}', b'{"files": {"a": [{}]}}', b"\xff"]
)
def test_a_broken_lock_vouches_for_nothing(out: Path, lock: bytes) -> None:
    """After a failed merge of the lock, changed files are refused instead of being taken for ours."""
    (out / LOCK).write_bytes(lock)
    with pytest.raises(OverwriteError):
        write(out, NEW, "new")
    assert (out / LOCK).read_bytes() == lock
    write(out, NEW, "new", force=True)
    assert files(out) == expected(NEW) | {"cloud_run/service.yaml": "gone: true\n"}


def test_a_forged_lock_reaches_nothing_outside(out: Path, tmp_path: Path) -> None:
    """A lock that claims a file elsewhere as ours does not get it deleted."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    digest = hashlib.sha256(b"precious").hexdigest()
    for path in ("../victim", str(victim), "compose/../../victim", "./../victim"):
        (out / LOCK).write_text(json.dumps({"files": {path: digest}}))
        write(out, NEW, "new", force=True)
        assert victim.read_text() == "precious"


# --- versions -------------------------------------------------------------------------------------


def by(out: Path, version: str) -> bytes:
    """Let the lock say that another version wrote these files; what it says then."""
    lock = json.loads((out / LOCK).read_text())
    (out / LOCK).write_text(json.dumps({**lock, "version": version}, indent=2, sort_keys=True) + "\n")
    return (out / LOCK).read_bytes()


@pytest.mark.parametrize("version", ["0.0.9", "9.0.0"])
def test_a_version_that_writes_the_same_is_no_difference(out: Path, version: str) -> None:
    """Not in one direction, nor in the other: nobody has to generate anything because of a release."""
    lock = by(out, version)
    assert drift(out, OLD, "old") == ()
    assert write(out, OLD, "old").changed == ()
    assert (out / LOCK).read_bytes() == lock


def test_what_a_newer_version_wrote_is_not_undone(out: Path) -> None:
    """Unless somebody says so: whoever has not installed it yet would silently take back what it brought."""
    by(out, "9.0.0")
    before = tree(out)
    (found,) = (one for one in drift(out, NEW, "new") if one.path == LOCK)
    assert found == Drift(Kind.NEWER, LOCK, f"generated by 9.0.0, and this is {__version__}\n")
    with pytest.raises(OverwriteError) as refusal:
        write(out, NEW, "new")
    assert refusal.value.drifts == (found,)
    assert tree(out) == before
    assert write(out, NEW, "new", force=True).before == "9.0.0"
    assert drift(out, NEW, "new") == ()
    assert json.loads((out / LOCK).read_text())["version"] == __version__


def test_what_an_older_version_wrote_is_brought_up(out: Path) -> None:
    """As any change of the spec, and it is said what it is."""
    by(out, "0.0.9")
    found = drift(out, NEW, "new")[-1]
    assert found == Drift(Kind.OLDER, LOCK, f"generated by 0.0.9, and this is {__version__}\n")
    assert write(out, NEW, "new").before == "0.0.9"
    assert drift(out, NEW, "new") == ()
    assert write(out, OLD, "old").before == ""  # it is by this one now


def test_a_part_that_is_written_says_nothing_of_the_rest(out: Path) -> None:
    """The rest is still of the other version, so that the whole is asked for again."""
    only = {"compose"}
    for version, kind in (("0.0.9", Kind.OLDER), ("9.0.0", Kind.NEWER)):
        write(out, OLD, "old", force=True)
        by(out, version)
        part = tuple(one for one in NEW if one.path.startswith("compose/"))
        write(out, part, "new", only=only, force=True)
        assert drift(out, part, "new", only) == ()
        assert drift(out, NEW, "newer")[-1].kind is kind


@pytest.mark.parametrize("version", [None, 3, "soon", "", "9" * 200])
def test_a_lock_that_names_no_version_is_one_of_this(out: Path, version: object) -> None:
    """It is neither newer nor older, and hinders nobody."""
    lock = json.loads((out / LOCK).read_text())
    (out / LOCK).write_text(json.dumps({**lock, "version": version}))
    write(out, NEW, "new")
    assert drift(out, NEW, "new") == ()
    assert json.loads((out / LOCK).read_text())["version"] == __version__


# --- edits ----------------------------------------------------------------------------------------


def test_a_hundred_one_byte_edits_are_refused_a_hundred_times(out: Path) -> None:
    """Whatever byte of whatever file is changed, nothing at all is written."""
    generator = random.Random(8)
    for _ in range(100):
        path = out / generator.choice(OLD).path
        content = path.read_bytes()
        place = generator.randrange(len(content))
        other = bytes([content[place] ^ 1 << generator.randrange(8)])
        path.write_bytes(content[:place] + other + content[place + 1 :])
        before = tree_bytes(out)
        with pytest.raises(OverwriteError) as refusal:
            write(out, NEW, "new")
        assert [one.kind for one in refusal.value.drifts] == [Kind.EDITED]
        assert tree_bytes(out) == before
        path.write_bytes(content)


def tree_bytes(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_other_line_ends_are_an_edit(out: Path) -> None:
    """A checkout with CRLF is refused, in a sentence: in its diff all lines would differ, and look the same."""
    path = out / "compose/compose.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(OverwriteError) as refusal:
        write(out, OLD, "old")
    assert refusal.value.drifts[0].diff.startswith("only its line breaks differ")
    path.write_bytes(path.read_bytes() + b"more\r\n")
    (found,) = drift(out, OLD, "old")
    assert "+services: {}\\r\n" in found.diff


def test_force_overwrites_edits_and_what_is_in_the_way(out: Path) -> None:
    """By force edited files are written anew, but a file that collides with none of ours stays."""
    (out / "prometheus/rules.yml").write_text("mine")
    (out / "cloud_run/service.yaml").write_text("mine")
    (out / "kubernetes").mkdir()
    (out / "kubernetes/pdb.yaml").write_text("mine")
    (out / "prometheus/extra.yml").write_text("mine")
    write(out, NEW, "new", force=True)
    assert files(out) == expected(NEW) | {"prometheus/extra.yml": "mine"}
    assert kinds(drift(out, NEW, "new")) == {"prometheus/extra.yml": "beside"}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["extra.yml", "extra.yaml", "rules_LOCAL_42.yml", "dashboard.json"])
def test_what_a_reader_of_the_folder_would_load_is_told_and_hinders_nothing(
    out: Path, name: str, force: bool
) -> None:
    """`kubectl apply -f` and Prometheus read whole folders: a file nobody generated does not slip in unseen."""
    (out / "prometheus" / name).write_text("mine\n")
    assert drift(out, OLD, "old") == (Drift(Kind.BESIDE, f"prometheus/{name}"),)
    done = write(out, NEW, "new", force=force)
    assert "prometheus/rules.yml" in done.changed
    assert done.told == (Drift(Kind.BESIDE, f"prometheus/{name}"),)
    assert (out / "prometheus" / name).read_text() == "mine\n"


@pytest.mark.parametrize(
    "name",
    [".gitkeep", ".DS_Store", "._rules.yml", ".rules.yml.swp", "rules.yml~", "#rules.yml#", "rules.yml.orig",
     "rules.yml.rej", "rules.yml.bak", "README.md", "notes.txt", "sub/rules.yml"],
)  # fmt: skip
def test_what_nobody_could_take_for_ours_is_nobodys_business(out: Path, name: str) -> None:
    """What editors, merges and systems leave there, though it begins as ours do; and folders of one's own."""
    (out / "prometheus" / name).parent.mkdir(exist_ok=True)
    (out / "prometheus" / name).write_text("mine\n" if name.endswith(".md") else HEADER)
    assert drift(out, OLD, "old") == ()
    assert write(out, NEW, "new").told == ()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "unreadable"])
def test_what_lies_beside_is_not_opened(out: Path, kind: str) -> None:
    """Whatever it is: to read it could take for ever, or fail. A link is one to who loads the folder, too."""
    place = out / "prometheus/extra.md"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "link":
        place = place.with_suffix(".yml")
        place.symlink_to("nowhere")
    else:
        place.write_text("mine")
        place.chmod(0)
    assert kinds(drift(out, OLD, "old")) == ({"prometheus/extra.yml": "beside"} if kind == "link" else {})
    write(out, NEW, "new")


def test_where_no_tool_reads_a_folder_a_file_is_told_only_if_it_says_that_it_is_ours(out: Path) -> None:
    """As the page of an alert that is gone, when the lock that knew it was lost with a merge."""
    page = Artifact("runbooks/ShopDown.md", f"{header('x.md')}# It is down\n")
    gone = Artifact("runbooks/ShopLate.md", f"{header('x.md')}# It is late\n")
    write(out, (*OLD, gone, page), "old")
    (out / "runbooks/mine.md").write_text("# What I know\n")
    (out / "runbooks/data.yml").write_text("mine\n")
    (out / LOCK).unlink()
    told = (Drift(Kind.BESIDE, "runbooks/ShopLate.md"),)
    assert write(out, (*OLD, page), "old").told == told
    assert drift(out, (*OLD, page), "old") == told
    (out / "runbooks/ShopLate.md").unlink()
    assert drift(out, (*OLD, page), "old") == ()


# --- links and odd files --------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "path", ["compose", "compose/compose.yaml", "kubernetes", "kubernetes/pdb.yaml", "cloud_run", LOCK]
)
@pytest.mark.parametrize("to", ["folder", "file", "nothing"])
def test_no_link_is_followed(out: Path, tmp_path: Path, path: str, to: str, force: bool) -> None:
    """A link in the place of a file or a folder of ours is refused even by force, wherever it leads."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/.mahavishnu-new-0").touch()
    (tmp_path / "file").write_text("precious")
    before = tree(tmp_path / "folder")
    place = out / path
    if place.is_dir():
        place.rename(tmp_path / "moved")
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / to)
    with pytest.raises(OverwriteError):
        write(out, NEW, "new", force=force)
    assert place.is_symlink()
    assert (tree(tmp_path / "folder"), (tmp_path / "file").read_text()) == (before, "precious")
    assert not (tmp_path / "nothing").exists()


def test_a_folder_or_pipe_in_the_place_of_a_file_is_refused(out: Path) -> None:
    """Neither is read, which could take for ever, nor replaced."""
    (out / "prometheus/rules.yml").unlink()
    os.mkfifo(out / "prometheus/rules.yml")
    (out / "compose/compose.yaml").unlink()
    (out / "compose/compose.yaml").mkdir()
    with pytest.raises(OverwriteError) as refusal:
        write(out, NEW, "new", force=True)
    assert [one.path for one in refusal.value.drifts] == ["compose/compose.yaml", "prometheus/rules.yml"]


def test_the_folder_itself_may_be_reached_by_a_link(out: Path, tmp_path: Path) -> None:
    """Where the output goes is the user's own choice."""
    (tmp_path / "link").symlink_to(out)
    write(tmp_path / "link", NEW, "new")
    assert files(out) == expected(NEW)


# --- names ----------------------------------------------------------------------------------------

BAD_PATHS = (
    "", ".", "..", "/", "/etc/passwd", "../x", "a/../x", "a/./b", "a//b", "a/", "~/x", "a\\b", "C:/x",
    "a\x00b", "a\nb", "é", "a b", "a" * 300, "x/" * 20 + "x", LOCK, LOCK.upper(), ".mahavishnu-new-1",
    "$HOME/x", "a/.mahavishnu-new-1",
)  # fmt: skip


class Planted:
    """A package of generators that makes what a test wants."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def generate(self, *_: object) -> list[tuple[str, Artifact]]:
        return [("planted", Artifact(path, "text\n")) for path in self.paths]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace all generators by one that writes the given paths."""

    def planted(*paths: str) -> None:
        def planted_import(_: str) -> Planted:
            return Planted(*paths)

        monkeypatch.setattr(compiler, "import_module", planted_import)

    return planted


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_leads_elsewhere_is_refused(plant: Callable[..., None], path: str) -> None:
    """A generator cannot name a file outside the folder, nor one that some system reads differently."""
    plant(path)
    with pytest.raises(CompileError, match="no path that a generated file may have"):
        compiler.compile(contract(Spec.model_validate(MINIMAL)))


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "A"), ("a/b/c", "a/B")])
def test_two_files_in_one_place_are_refused(plant: Callable[..., None], paths: tuple[str, str]) -> None:
    """Neither would be the one a reader expects, and some disks do not tell cases apart."""
    plant(*paths)
    with pytest.raises(CompileError, match="another generator"):
        compiler.compile(contract(Spec.model_validate(MINIMAL)))


def test_the_longest_names_fit() -> None:
    """Every name that a spec may give can be part of the name of a file."""
    service, own = "s" * 40, "o" * 40
    failing = {"retry": {"attempts": 2}, "breaker": {}, "bulkhead": {"concurrency": 5}, "throttle": {}}
    spec = {
        **MINIMAL,
        "service": {**MINIMAL["service"], "name": service},
        "secrets": ["PASSWORD"],
        "limits": {own: {"rate": "5/second"}},
        "dependencies": {own: {"url": "http://x:1", "timeout": "1s", **failing}},
        "slos": {own: {"objective": "99.9%"}},
        "alerts": {"thresholds": {own: {"when": "memory > 90%", "severity": "P2"}}},
        "backups": {
            own: {
                "source": {"sqlite": "data/x.db"},
                "to": "/mnt/x",
                "password": "${PASSWORD}",
                "schedule": "0 2 * * *",
                "rpo": "25h",
            }
        },
    }
    made = contract(Spec.model_validate(spec))
    paths = {one.path for one in compiler.compile(made)}
    assert {f"runbooks/{alert.name}.md" for alert in made.alerts} <= paths


def test_every_commented_language_says_where_it_comes_from() -> None:
    """A reader of a generated file learns what to change instead."""
    made = compiler.compile(contract(Spec.model_validate(MINIMAL)))
    assert made == tuple(sorted(made))
    for one in made:
        if not one.path.endswith(".json"):
            start = "<!-- " if one.path.endswith(".md") else "# "
            assert one.text.startswith(f"{start}Generated by mahavishnu."), one.path


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b"x: 1\ny: {{ nope }}\n", ", line 2", "'nope' is undefined"),
        (b"x: 1\n{% if %}\n", ", line 2", "Expected an expression"),
        (b'{% include "kubernetes/none.j2" %}\n', ", line 1", "kubernetes/none.j2"),
        (b"{{ 1 / 0 }}\n", ", line 1", "division by zero"),
        (b"{{ labels.items() }}\n", "", "a template cannot write dict_items"),
    ],
)
def test_a_users_template_that_is_wrong_is_named(tmp_path: Path, text: bytes, line: str, said: str) -> None:
    """With its line, and without a traceback; a fault of ours stays what it is."""
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes/pdb.yaml.j2").write_bytes(text)
    target: dict[str, Any] = {"deploy": {"targets": {"kubernetes": {}}}}
    with pytest.raises(MahavishnuError) as fault:
        compiler.compile(contract(Spec.model_validate({**MINIMAL, **target})), tmp_path)
    assert f"{tmp_path}/kubernetes/pdb.yaml.j2`{line}" in str(fault.value)
    assert said in str(fault.value)
    (tmp_path / "kubernetes/pdb.yaml.j2").write_bytes(b"x: \xff\n")
    with pytest.raises(MahavishnuError, match=r"that is no UTF-8 cannot be filled in: .* invalid start byte"):
        compiler.compile(contract(Spec.model_validate({**MINIMAL, **target})), tmp_path)


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("kubernetes/pbd.yaml.j2", "did you mean `kubernetes/pdb.yaml.j2`?"),
        ("kubernetes/pdb.yaml", "did you mean `kubernetes/pdb.yaml.j2`?"),
        ("rules.yml.j2", "did you mean `prometheus/rules.yml.j2`?"),
        ("notes/of_mine.txt", "use one of `alertmanager/alertmanager.yml.j2`, "),
    ],
)
def test_a_template_that_replaces_none_is_refused(tmp_path: Path, name: str, help: str) -> None:
    """It would be ignored, and whoever wrote it would believe that it is at work."""
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("x: 1\n")
    with pytest.raises(MahavishnuError) as fault:
        compiler.compile(contract(Spec.model_validate(MINIMAL)), tmp_path)
    assert f"`{mine}` replaces no template of ours: {help}" in str(fault.value)


def test_what_a_template_of_ones_own_includes_is_at_work(tmp_path: Path) -> None:
    """A part of it may have any name; so may what no reader of a folder sees, and ours that this spec does not need."""
    files = {
        "alertmanager/routes.test.sh.j2": '{% include "mine/head.j2" %}exit 0\n',
        "mine/head.j2": "# {% include 'mine/deeper.j2' %}",
        "mine/deeper.j2": "mine",
        ".gitignore": "*.orig\n",
        ".git/config": "x",
        "kubernetes/pdb.yaml.j2": "x: 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    made = {one.path: one.text for one in compiler.compile(contract(Spec.model_validate(MINIMAL)), tmp_path)}
    assert "# mineexit 0" in made["alertmanager/routes.test.sh"]
    (tmp_path / "alertmanager/routes.test.sh.j2").write_text("exit 0\n")
    with pytest.raises(MahavishnuError, match=r"mine/head\.j2` replaces no template of ours"):
        compiler.compile(contract(Spec.model_validate(MINIMAL)), tmp_path)


OURS = Path(__file__).parents[1] / "templates"


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "prometheus/rules.yml",
            "{{ rule.expr }}",
            "made_up > 1",
            "`prometheus/rules.yml` asks `made_up > 1`",
        ),
        (
            "prometheus/rules.yml",
            "groups:\n",
            "groups: []\nothers:\n{% set groups = [] %}\n",
            "and 7 more, which your template leaves out",
        ),
        ("prometheus/rules.yml", "groups:\n", "groups: [\n", "`prometheus/rules.yml` cannot be read"),
        (
            "grafana/dashboard.json",
            "{{ query.expr }}",
            '"made_up"',
            "`grafana/dashboards/service.json` asks `made_up`",
        ),
        ("grafana/dashboard.json", '"uid"', "uid", "`grafana/dashboards/service.json` cannot be read"),
        ("alertmanager/alertmanager.yml", "route:", "expr: made_up\nroute:", "asks `made_up`"),
        (
            "prometheus/rules.yml",
            "{{ rule.expr }}",
            "{{ (group.rules | rejectattr('record') | list or group.rules)[-1].expr }}",
            "for `ShopDown`, which your template says",
        ),
        (
            "prometheus/rules.yml",
            "alert: {{ rule.alert }}",
            'alert: {{ "My" ~ rule.alert }}',
            "for `MyShop",
        ),
        (
            "runbooks/alert.md",
            "## Mitigation",
            "    curl $P --data-urlencode 'query=made_up{a=\"it'\"'\"'s\"}'\n\n## Mitigation",
            '`runbooks/ShopDown.md` asks `made_up{a="it\'s"}`',
        ),
        (
            "runbooks/incident-response.md",
            "## Stop the harm",
            "```promql\nmade_up > 1\n```\n\n## Stop the harm",
            "`runbooks/incident-response.md` asks `made_up > 1`",
        ),
    ],
)
def test_a_template_of_ones_own_changes_no_query(
    tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    """What it adds nobody has resolved, and what it leaves out nobody watches; nor is a broken file written."""
    assert said in refused(tmp_path, name, old, new, MINIMAL)


def refused(folder: Path, name: str, old: str, new: str, of: dict[str, Any]) -> str:
    """What is said against a template like ours in which that is replaced."""
    mine = folder / f"{name}.j2"
    mine.parent.mkdir()
    text = (OURS / f"{name}.j2").read_text()
    assert old in text
    mine.write_text(text.replace(old, new, 1))
    with pytest.raises(compiler.CompileError, match="nothing is written that does not agree") as fault:
        compiler.compile(contract(Spec.model_validate(of)), folder)
    return str(fault.value)


PROMISED: dict[str, Any] = {**MINIMAL, "slos": {"availability": {"objective": "99.9%"}}}


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "prometheus/rules.yml",
            "{% for name, value in rule.labels.items() %}",
            "{% for name, value in rule.labels.items() if name != 'severity' %}",
            "no `label severity`, and ours `label severity: ",
        ),
        (
            "prometheus/rules.yml",
            "{% for name, value in rule.labels.items() %}",
            "          team: mine\n{% for name, value in rule.labels.items() if rule.alert or name != 'slo' %}",
            "`label team: mine`, and ours no `label team`, and 9 more",
        ),
        (
            "prometheus/rules.yml",
            "        labels:\n",
            "        labels:\n{% if rule.record %}\n          team: mine\n{% endif %}\n",
            "`label team: mine`, and ours no `label team`, and ",
        ),
        ("prometheus/rules.yml", "for: {{ rule.hold }}", "for: 400h", "`for: 400h`, and ours `for: "),
        (
            "prometheus/rules.yml",
            "for: {{ rule.hold }}",
            "keep: {{ rule.hold }}",
            "no `for`, and ours `for: ",
        ),
        (
            "prometheus/rules.yml",
            "for: {{ rule.hold }}",
            "for: {{ rule.hold }}\n        keep_firing_for: 6h",
            "`keep_firing_for: 6h`, and ours no `keep_firing_for`",
        ),
        (
            "prometheus/rules.yml",
            "    rules:\n",
            "    limit: 1\n    rules:\n",
            "`limit: 1`, and ours no `limit`",
        ),
        (
            "prometheus/rules.yml",
            "interval: {{ group.interval }}",
            "interval: 6h",
            "`interval: 6h`, and ours `interval: 15s`",
        ),
        (
            "prometheus/rules.yml",
            "    rules:\n",
            "    labels: {team: mine}\n    rules:\n",
            "`label team: mine`, and ours no `label team`",
        ),
        (
            "prometheus/prometheus.yml",
            "job_name: {{ job }}",
            "job_name: {{ 'my_' ~ job }}",
            "`prometheus/prometheus.yml` scrapes no job `shop`, whose series the rules ask for",
        ),
    ],
)
def test_a_template_of_ones_own_lets_the_same_alerts_come_of_it(
    tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    """A query is not all of an alert: who hears it, and when, hangs on labels and waits, and what is scraped."""
    assert said in refused(tmp_path, name, old, new, PROMISED)


def test_an_alert_may_have_labels_of_ones_own_and_times_be_written_otherwise(tmp_path: Path) -> None:
    """They are added to those that routes look at; and a job of another program may stand beside ours."""
    changes = {
        "prometheus/rules.yml": {
            "        labels:\n": "        labels:\n{% if rule.alert %}\n          team: mine\n{% endif %}\n",
            "for: {{ rule.hold }}": "keep_firing_for: 0s\n"
            "        for: {{ '120s' if rule.alert == 'ShopDown' else rule.hold }}",
        },
        "prometheus/prometheus.yml": {
            "scrape_configs:\n": "scrape_configs:\n  - {job_name: mine, static_configs: [{targets: ['a:1']}]}\n"
        },
    }
    for name, replaced in changes.items():
        text = (OURS / f"{name}.j2").read_text()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / f"{name}.j2").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.j2").write_text(text)
    made = {one.path: one.text for one in compiler.compile(contract(Spec.model_validate(PROMISED)), tmp_path)}
    assert "for: 120s" in made["prometheus/rules.yml"]
    assert "team: mine" in made["prometheus/rules.yml"]
    assert "job_name: mine" in made["prometheus/prometheus.yml"]


def test_a_template_of_ones_own_says_the_same_otherwise(tmp_path: Path) -> None:
    """Other words, other blanks around a query, several documents in a file: all of that is its own."""
    for name, old, new in (
        (
            "prometheus/rules.yml",
            "expr: {{ rule.expr }}",
            "team: mine\n        expr:\n          {{ rule.expr }}",
        ),
        ("grafana/dashboard.json", '"refresh": "30s"', '"refresh": "1m"'),
        ("kubernetes/pdb.yaml", "apiVersion", "kind: Mine\n---\napiVersion"),
        ("runbooks/alert.md", "{{ condition }}", "Mine:\n\n```promql\n{{ condition }}\n```"),
        (
            "runbooks/incident-response.md",
            "**4. See",
            "It's asked by\n\n    curl $P --data-urlencode 'query=sum(up{job=\"shop\"})' -s\n\n**4. See",
        ),
    ):
        mine = tmp_path / f"{name}.j2"
        mine.parent.mkdir(exist_ok=True)
        text = (OURS / f"{name}.j2").read_text()
        assert old in text
        mine.write_text(text.replace(old, new, 1))
    target: dict[str, Any] = {"deploy": {"targets": {"kubernetes": {}}, "replicas": {"min": 2, "max": 3}}}
    made = compiler.compile(contract(Spec.model_validate({**MINIMAL, **target})), tmp_path)
    assert sum("team: mine" in one.text or '"1m"' in one.text or "Mine" in one.text for one in made) >= 4


def test_a_users_template_goes_before_ours(tmp_path: Path) -> None:
    """The folder with the user's own templates reaches the renderer; then ours alone, to compare what is asked."""
    render: Any = import_module("mahavishnu.generators._render")
    seen: list[Path | None] = []

    class Spy:
        def generate(self, *_: object) -> list[Artifact]:
            seen.append(render._overrides.get())
            return []

    generators: Any = import_module("mahavishnu.generators")
    found = generators.discover()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "discover", lambda: {"spy": Spy(), **found})
        compiler.compile(contract(Spec.model_validate(MINIMAL)), tmp_path)
    assert seen == [tmp_path, None]
    assert render._overrides.get() is None


# --- crashes and full disks -----------------------------------------------------------------------


def operations(work: Callable[[], object], die_at: int | None = None) -> int:
    """Run in a child that is killed before its n-th change to the disk; returns how many it made, or -9."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, details: tuple[Any, ...]) -> None:
            nonlocal count
            if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
                event == "open" and isinstance(details[2], int) and details[2] & os.O_CREAT
            ):
                if count == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        sys.addaudithook(hook)
        work()
        os._exit(count)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


@pytest.mark.proof
def test_a_crash_at_any_point_leaves_whole_files_and_heals(tmp_path: Path) -> None:
    """Killed before each change to the disk: each file is old or new, and the next runs know it for ours."""
    newest = (*NEW, Artifact("edge/nginx.conf", "third\n"))

    def attempt(at: int | None) -> int:
        out = tmp_path / f"deploy-{at}"
        write(out, OLD, "old")
        done = operations(lambda: write(out, NEW, "new"), at)
        for path, text in files(out).items():
            if ".mahavishnu-new-" not in path:
                assert text in (expected(OLD).get(path), expected(NEW).get(path)), path
        assert not {"edited", "foreign"} & set(kinds(drift(out, NEW, "new")).values())
        write(out, newest, "newest")
        assert files(out) == expected(newest)
        assert drift(out, newest, "newest") == ()
        return done

    total = attempt(None)
    assert total > 10
    assert [attempt(at) for at in range(total)] == [-signal.SIGKILL] * total


def test_a_writer_in_place_would_be_caught(tmp_path: Path) -> None:
    """The test above can fail: a plain overwrite, killed half-way, leaves what is neither old nor new."""
    path = tmp_path / "file"
    path.write_text("old")

    def overwrite() -> None:
        with path.open("w") as file:
            file.write("ne")
            file.flush()
            (tmp_path / "x").mkdir()

    assert operations(overwrite, 1) == -signal.SIGKILL
    assert path.read_text() == "ne"


class Disk:
    """What a run asks of a disk, in order; and what a disk may hold that loses its power in the middle of it.

    A file is whole, and a name is there, for certain only once it was waited for (`fsync`); until then either may be.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, Path, bytes | None]] = []
        self.synced: dict[Path, bytes] = {}
        fsync, replace, unlink = os.fsync, os.replace, os.unlink

        def waited(opened: int) -> None:
            path = Path(f"/proc/self/fd/{opened}").readlink()
            if path.is_dir():
                self.log.append(("waited", path, None))
            else:
                self.synced[path] = path.read_bytes()
            fsync(opened)

        def renamed(path: str, target: str) -> None:
            self.log.append(("named", Path(target), self.synced.get(Path(path), b"")))
            replace(path, target)

        def removed(path: str) -> None:
            if not Path(path).name.startswith(".mahavishnu-new-"):
                self.log.append(("named", Path(path), None))
            unlink(path)

        patch.setattr(os, "fsync", waited)
        patch.setattr(os, "replace", renamed)
        patch.setattr(os, "unlink", removed)

    def after(self, many: int, files: dict[Path, bytes], chance: random.Random) -> dict[Path, bytes]:
        """The files after so many events: of those that nobody waited for, some are there and some are not."""
        held = dict(files)
        pending: list[tuple[Path, bytes | None]] = []
        for kind, path, content in self.log[:many]:
            if kind == "named":
                pending.append((path, content))
                continue
            _happen(held, [one for one in pending if one[0].parent == path])
            pending = [one for one in pending if one[0].parent != path]
        _happen(held, [one for one in pending if chance.random() < 0.5])
        return held


def _happen(held: dict[Path, bytes], named: list[tuple[Path, bytes | None]]) -> None:
    for path, content in named:
        held.pop(path, None)
        if content is not None:
            held[path] = content


def lost_power(
    out: Path,
    patch: pytest.MonkeyPatch,
    aside: Path,
    worse: Callable[[pytest.MonkeyPatch], None] | None = None,
) -> set[str]:
    """What the next run would take for another's work, whenever the power goes while the new spec is written."""
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with patch.context() as inside:
        disk = Disk(inside)
        if worse is not None:
            worse(inside)
        write(out, NEW, "new")
    found: set[str] = set()
    wanted = {
        path: {those.get(path) for those in map(expected, (OLD, NEW))} for path in expected((*OLD, *NEW))
    }
    for many, seed in itertools.product(range(len(disk.log) + 1), range(8)):
        there = aside / f"{many}-{seed}"
        for path, content in disk.after(many, before, random.Random(seed)).items():
            target = there / path.relative_to(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        found |= {path for path, text in files(there).items() if text not in wanted.get(path, ())}
        found |= {
            path for path, kind in kinds(drift(there, NEW, "new")).items() if kind in ("edited", "foreign")
        }
    return found


def test_power_that_is_lost_at_any_point_leaves_whole_files_that_are_known(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it had reached the disk by then."""
    assert lost_power(out, monkeypatch, tmp_path / "aside") == set()


def _unknown(patch: pytest.MonkeyPatch) -> None:
    """A writer for whom all steps are one round: the lock may reach the disk after the files that it must know."""
    apply = folder.apply

    def at_once(root: Path, rounds: Sequence[Sequence[folder.Step]]) -> None:
        apply(root, [[step for one in rounds for step in one]])

    patch.setattr(folder, "apply", at_once)


def _hasty(patch: pytest.MonkeyPatch) -> None:
    """A writer that waits for no file, only for names."""
    fsync = os.fsync

    def waits(opened: int) -> None:
        if Path(f"/proc/self/fd/{opened}").readlink().is_dir():
            fsync(opened)

    patch.setattr(os, "fsync", waits)


@pytest.mark.parametrize("worse", [_unknown, _hasty])
def test_a_writer_that_does_not_wait_would_be_caught(
    worse: Callable[[pytest.MonkeyPatch], None], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    assert lost_power(out, monkeypatch, tmp_path / "aside", worse) != set()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("at", range(5))
def test_a_full_disk_changes_nothing(out: Path, monkeypatch: pytest.MonkeyPatch, at: int, code: int) -> None:
    """When any file cannot be prepared, none is changed, nothing lies about, and the error says why."""
    before = tree(out)
    calls = iter(range(99))

    def failing(_: int) -> None:
        if next(calls) == at:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(CompileError, match=os.strerror(code)):
        write(out, NEW, "new")
    assert tree(out) == before
    assert not (out / "kubernetes").exists()


def test_two_runs_at_once_do_not_mix(out: Path) -> None:
    """The second waits for the first; afterwards the folder is as one of them wanted it, whole."""
    children: list[int] = []
    for wanted, name in ((NEW, "new"), (OLD, "old")) * 4:
        child = os.fork()
        if child == 0:
            write(out, wanted, name)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert drift(out, OLD, "old") == () or drift(out, NEW, "new") == ()
