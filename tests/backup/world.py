"""A small shop with a SQLite database, its spec, and the real command in a process of its own or in this one."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.backup.beginning import apart
from mahavishnu.backup.evidence import Evidence, read
from mahavishnu.cli import run
from tests.judges import ROOT, judge, newer

PASSWORD = "correct-horse-battery-staple"
RESTICS = {"restic": judge, "newer": newer}
"""Debian's restic, the oldest that will do, and a current one: each with where it is found."""
OF_BOTH = pytest.mark.parametrize(
    "world", ["restic", pytest.param("newer", marks=pytest.mark.proof)], indirect=True
)
NEW = Path(__file__).parent / "repository"
"""What `restic init` made with `PASSWORD`; then its key was sealed anew by the cheapest scrypt (N = 2). To any restic
it is a repository like others, but each command opens it in no time, where a real one takes half a second."""
ASSERT = "select count(*) > 0 from orders"


def begin(place: Path) -> None:
    """A repository that is there already, and empty."""
    shutil.copytree(NEW, place)
    for kind in ("data", "index", "locks", "snapshots"):
        (place / kind).mkdir()


def environment(least: float, most: float, *backups: str) -> str:
    """One in which these backups (`orders` alone) wait so many seconds before they make their repository."""
    marks = backups or ("orders",)
    names = (f"e{number}" for number in count())
    return next(one for one in names if all(least <= apart("shop", f"{mark}@{one}") < most for mark in marks))


def spec(**patch: Any) -> dict[str, Any]:
    """A spec with one backup, `orders`; `patch` changes what is said of it."""
    backup: dict[str, Any] = {
        "source": {"sqlite": "orders.db"},
        "to": "repository",
        "password": "${RESTIC_PASSWORD}",
        "schedule": "0 2 * * *",
        "rpo": "25h",
        "verify": {"assert": ASSERT},
    }
    return {
        "mahavishnu": 1,
        "secrets": ["RESTIC_PASSWORD"],
        "service": {"name": "shop", "app": "shop.main:app"},
        "retention": {"backups": {"daily": 30, "weekly": 12, "monthly": 6}},
        "backups": {"orders": {**backup, **patch}},
    }


class World:
    """A folder with the spec, the database and restic on the PATH."""

    def __init__(
        self,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        said: Mapping[str, Any] | None = None,
        restic: Path | None = None,
    ) -> None:
        self.home = home
        self.restic = restic or judge("restic")
        monkeypatch.setenv("PATH", f"{self.restic.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
        monkeypatch.delenv("MAHAVISHNU_STATE", raising=False)
        monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
        monkeypatch.chdir(home)
        self.write(said or spec())
        self.database = home / "orders.db"

    def begin(self, place: str = "repository") -> None:
        """A repository that is there already, and empty."""
        begin(self.home / place)

    def write(self, said: Mapping[str, Any]) -> None:
        """Another spec."""
        (self.home / "mahavishnu.yaml").write_text(json.dumps(said))

    def fill(self, rows: int, to: Path | None = None) -> None:
        """A database with so many orders."""
        path = to or self.database
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as made:
            made.execute("create table orders (id integer primary key, what text)")
            made.executemany(
                "insert into orders (what) values (?)", [(f"guitar {row:040}",) for row in range(rows)]
            )
            made.commit()

    def rows(self, path: Path | None = None) -> list[tuple[int, str]]:
        """What is in it."""
        with closing(sqlite3.connect(path or self.database)) as opened:
            return opened.execute("select * from orders order by id").fetchall()

    def do(self, *words: str) -> int:
        """`mahavishnu backup …`, in this process."""
        return run(["backup", *words])

    def start(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """The same as a process of its own, in a session of its own; `more` are variables."""
        command = [sys.executable, "-m", "mahavishnu", "backup", *words]
        pipe, env = subprocess.PIPE, {**os.environ, **more}
        return subprocess.Popen(
            command, cwd=self.home, env=env, start_new_session=True, stdout=pipe, stderr=pipe
        )

    def forge(self, at: str) -> None:
        """A snapshot of this time as a run calls it, of what is no database."""
        told = ("--stdin", "--stdin-filename", "orders.sqlite", "--host", "shop", "--tag", "backup=orders")
        self.ask("backup", *told, "--time", at, stdin="x")

    def ask(
        self,
        *words: str,
        check: bool = True,
        stdin: str | None = None,
        place: str = "repository",
        **more: str,
    ) -> str:
        """restic itself, as somebody who knows the password; `more` are variables."""
        env = {**os.environ, "RESTIC_REPOSITORY": str(self.home / place), "RESTIC_PASSWORD": PASSWORD, **more}
        env["RESTIC_CACHE_DIR"] = str(self.home / "cache")
        done = subprocess.run(
            [self.restic, *words], env=env, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def known(self) -> Evidence:
        """What is written down of the backup."""
        return read(self.state, "shop.orders")

    @property
    def state(self) -> Path:
        """Where that is."""
        return self.home / ".mahavishnu/backups"


def flipped(path: Path, at: int) -> None:
    """One byte of a file, turned around."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0xFF
    path.write_bytes(bytes(data))


__all__ = ["OF_BOTH", "PASSWORD", "RESTICS", "ROOT", "World", "flipped", "spec"]
