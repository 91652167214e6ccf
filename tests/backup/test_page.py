"""The generated page, carried out word by word on a machine that has nothing but the spec: data are equal after it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from mahavishnu.backup.restored import NotRestored, same_files
from mahavishnu.cli import run
from tests.backup.world import OF_BOTH, World, spec

pytestmark = pytest.mark.judge


def commands(page: Path) -> list[list[str]]:
    """Every command of the page's code blocks, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line.split() for block in blocks for line in block.splitlines()]


def followed(page: Path) -> list[list[str]]:
    """Do what the page says, line by line."""
    done = commands(page)
    for words in done:
        assert words[0] == "mahavishnu"
        assert run(words[1:]) == 0, words
    return done


@pytest.mark.proof
@OF_BOTH
def test_the_page_brings_a_damaged_database_back(world: World) -> None:
    """Backup, damage, and then only the words of the page, and the commands that stand in its sentences."""
    world.begin()
    assert run(["generate", "--out", "deploy"]) == 0
    before = world.rows()
    assert world.do("run") == 0
    world.database.write_bytes(b"not a database any more")
    page = world.home / "deploy/runbooks/disaster-recovery.md"
    done = followed(page)
    assert [words[2] for words in done] == ["list", "restore", "restore", "run", "drill"]
    assert world.rows() == before
    assert world.rows(world.home / "recovered-orders/orders.sqlite") == before
    assert (world.home / "orders.db.before-restore").read_bytes() == b"not a database any more"
    for words in re.findall(r"`mahavishnu (backup [^`]+)`", page.read_text()):
        assert run(words.split()) == 0, words


def test_a_snapshot_in_which_the_assert_does_not_hold_is_put_back_by_a_person(world: World) -> None:
    """It may be older than what is asserted; nobody else replaces anything by it."""
    world.begin()
    before = world.rows()
    assert world.do("run") == 0
    world.fill(3)
    world.write(spec(verify={"assert": "select count(*) > 0 from invoices"}))
    assert world.do("restore", "orders", "--in-place") == 1
    assert len(world.rows()) == 3
    assert world.do("restore", "orders", "--in-place", "--confirm") == 0
    assert world.rows() == before


@OF_BOTH
def test_files_whose_names_are_no_text_are_brought_back(world: World) -> None:
    """restic lists U+FFFD for each byte that is none, in several names perhaps; each of the files is missed."""
    world.begin()
    world.write(spec(source={"directory": "files"}, verify={}))
    files = world.home / "files"
    files.mkdir()
    for name in (b"caf\xe9", b"x\xe2\x82y", b"x\xe9\xe9y", "Ä\n".encode()):
        (files / os.fsdecode(name)).write_bytes(name)
    assert world.do("run") == 0
    assert world.do("drill") == 0
    with pytest.raises(NotRestored, match=r"caf\ufffd was not restored whole"):
        same_files([("/caf\ufffd", 4), ("/caf\ufffd", 4)], files)


@OF_BOTH
@pytest.mark.proof
def test_the_page_brings_a_folder_back_to_a_new_machine(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The repository is all that is left: no report, no cache, no data; a folder is copied by hand."""
    world.begin()
    world.write(spec(source={"directory": "files"}, verify={}))
    (world.home / "files/deep").mkdir(parents=True)
    (world.home / "files/deep/a").write_text("one")
    (world.home / "files/b").write_text("two")
    assert world.do("run") == 0
    shutil.rmtree(world.home / "files")
    shutil.rmtree(world.state)
    assert run(["generate", "--out", "deploy"]) == 0
    for words in commands(world.home / "deploy/runbooks/disaster-recovery.md")[:2]:
        assert run(words[1:]) == 0
    restored = {
        one.name: one.read_text() for one in (world.home / "recovered-orders").rglob("*") if one.is_file()
    }
    assert restored == {"a": "one", "b": "two"}
