"""An act of the demo: the shop's orders are saved, deleted, and brought back, by what the spec says of its backups."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from examples.shop.stage import ROOT

ORDERS = 1000


def lose_and_recover(folder: Path, say: Callable[[str], None]) -> None:
    """Do it in a folder of its own, with the environment `local` of the shop's spec."""
    if shutil.which("restic", path=_path()) is None:
        say("NOT DONE: restic was not found; `make tools` fetches it where the platform allows")
        return
    env = stocked(folder)
    database = folder / "shop/orders.db"
    told = backup(folder, env, "run", "orders", "--wait", "1s")  # nobody else makes the repository meanwhile
    say(f"saved {told['saved']['bytes']} bytes of {ORDERS} orders in {told['saved']['seconds']} s")
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("drop table orders")
        opened.commit()
    say("somebody drops the table; then the words of runbooks/disaster-recovery.md:")
    backup(folder, env, "restore", "orders", "--in-place")
    with closing(sqlite3.connect(database)) as opened:
        (count,) = opened.execute("select count(*) from orders").fetchone()
    say(f"orders after the restore: {count}")
    told = backup(folder, env, "drill", "orders")
    say(f"drill: the newest snapshot was restored and found good in {told['drilled']['seconds']} s")


def stocked(folder: Path) -> dict[str, str]:
    """Put the shop's spec and its orders into a folder; the environment of the commands that save them."""
    shutil.copy(ROOT / "mahavishnu.yaml", folder)
    database = folder / "shop/orders.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("create table orders (id integer primary key, what text)")
        opened.executemany("insert into orders (what) values (?)", [("guitar",)] * ORDERS)
        opened.commit()
    said = {"PATH": _path(), "RESTIC_PASSWORD": secrets.token_hex(16), "MAHAVISHNU_ENV": "local"}
    return {**os.environ, **said}


def _path() -> str:
    return f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}"


def backup(folder: Path, env: dict[str, str], *words: str) -> dict[str, dict[str, object]]:
    """The command; what it told, by event."""
    command = [sys.executable, "-m", "mahavishnu", "backup", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mahavishnu backup {' '.join(words)} failed: {done.stderr}")
    return {one["event"]: one for one in map(json.loads, done.stdout.splitlines())}
