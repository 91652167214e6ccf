"""A SQLite database that is restored in its place: what was there stays, whole, whatever comes after it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mahavishnu.backup import sqlite
from tests.backup.world import World

pytestmark = pytest.mark.judge
WRITES_AND_DIES = """
import os, sqlite3, sys
opened = sqlite3.connect(sys.argv[1])
opened.execute("pragma journal_mode=wal")
opened.execute("pragma wal_autocheckpoint=0")
opened.execute("insert into orders (what) values (?)", (sys.argv[2],))
opened.commit()
os._exit(0)
"""


USES = """
import sqlite3, sys
opened = sqlite3.connect(sys.argv[1], isolation_level=None)
opened.execute(f"pragma journal_mode={sys.argv[2]}")
opened.execute("select count(*) from orders").fetchall()
if sys.argv[3] == "writes":
    opened.execute("begin immediate")
    opened.execute("insert into orders (what) values ('in flight')")
print("ready", flush=True)
sys.stdin.read()
if opened.in_transaction:
    opened.execute("commit")
"""


@contextmanager
def used(database: Path, mode: str, how: str) -> Generator[subprocess.Popen[str]]:
    """Somebody has it open."""
    words = [sys.executable, "-c", USES, str(database), mode, how]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate()
    assert process.returncode == 0


def left_by_a_crash(database: Path, what: str) -> None:
    """An order that is in the write-ahead log alone."""
    subprocess.run([sys.executable, "-c", WRITES_AND_DIES, str(database), what], check=True)


def last(world: World, path: Path) -> str:
    """The newest order in a database that is whole."""
    with closing(sqlite3.connect(path)) as opened:
        assert opened.execute("pragma integrity_check").fetchall() == [("ok",)]
    return world.rows(path)[-1][1]


def test_each_restore_keeps_what_it_replaces(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when it is the second one, with orders that are in a write-ahead log alone."""
    world.begin()
    assert world.do("run") == 0
    saved = world.rows()
    for what, kept in (
        ("monday", "orders.db.before-restore"),
        ("tuesday", "orders.db.before-restore.2"),
        ("wednesday", "orders.db.before-restore.3"),
    ):
        left_by_a_crash(world.database, what)
        capsys.readouterr()
        assert world.do("restore", "orders", "--in-place") == 0
        assert f"{world.home / kept}" in capsys.readouterr().out
        assert world.rows() == saved
    assert last(world, world.home / "orders.db.before-restore") == "monday"
    assert last(world, world.home / "orders.db.before-restore.2") == "tuesday"
    assert last(world, world.home / "orders.db.before-restore.3") == "wednesday"


def test_a_log_without_its_database_is_no_log_of_the_restored_one(world: World) -> None:
    """Somebody removed the database, and forgot what belongs to it."""
    world.begin()
    assert world.do("run") == 0
    saved = world.rows()
    left_by_a_crash(world.database, "gone")
    world.database.unlink()
    assert world.do("restore", "orders", "--in-place") == 0
    assert world.rows() == saved


def test_a_restored_database_belongs_to_whom_it_belonged(world: World) -> None:
    """With the rights it had: whoever restores it may be root, whoever reads it is not."""
    world.begin()
    assert world.do("run") == 0
    world.database.chmod(0o640)
    owner = (10001, 10002) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(world.database, *owner)
    assert world.do("restore", "orders", "--in-place") == 0
    now = world.database.stat()
    assert (now.st_mode & 0o777, (now.st_uid, now.st_gid)) == (0o640, owner)


def test_a_database_behind_a_link_is_restored_where_it_lies(world: World) -> None:
    """The link stays one."""
    world.begin()
    (world.home / "disk").mkdir()
    world.database.rename(world.home / "disk/orders.db")
    world.database.symlink_to("disk/orders.db")
    assert world.do("run") == 0
    left_by_a_crash(world.database, "since")
    assert world.do("restore", "orders", "--in-place") == 0
    assert world.database.is_symlink()
    assert len(world.rows()) == 200
    assert last(world, world.home / "disk/orders.db.before-restore") == "since"


@pytest.mark.proof
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_that_is_used_is_not_replaced(
    world: World, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    """What is written from then on would go to the file that was set aside, and nobody would hear of it."""
    world.begin()
    assert world.do("run") == 0
    for how in ("writes", "waits"):
        with used(world.database, mode, how) as process:
            capsys.readouterr()
            assert world.do("restore", "orders", "--in-place", "--confirm") == 1
            assert "stop what uses it" in capsys.readouterr().err
        assert process.pid
    assert world.rows()[-1][1] == "in flight"
    assert not [*world.home.glob("*before-restore*")]
    assert not [*world.home.glob("*.restored")]
    assert world.do("restore", "orders", "--in-place") == 0
    assert len(world.rows()) == 200


@pytest.mark.parametrize("how", ["writes", "waits"])
def test_a_database_is_seen_to_be_used_by_its_locks_alone(tmp_path: Path, how: str) -> None:
    """The processes of other containers are not to be seen; whoever has one in WAL mode open holds a lock of it."""
    database = tmp_path / "orders.db"
    with closing(sqlite3.connect(database)) as made:
        made.execute("create table orders (id integer primary key, what text)")
    with (
        used(database, "wal", how),
        pytest.raises(sqlite.SqliteFailed, match="locked by"),
        sqlite.unused(database, processes=tmp_path),
    ):
        raise AssertionError("it is used")
    with sqlite.unused(database, processes=tmp_path):
        pass
