"""What the manual promises of backups, against the real restic: sampled by default, FULL=1 at full length."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.backup import drill as drills
from mahavishnu.backup.capture import digest
from mahavishnu.backup.job import Failed, Job, job
from mahavishnu.backup.restic import KEEPS_OLDEST, Repository, Taken, parsed, version
from mahavishnu.cli import run
from mahavishnu.load import accept
from mahavishnu.snapshots.retention import Keep, kept, words
from tests.backup.vaults import answering
from tests.backup.world import PASSWORD, RESTICS, World, flipped, spec
from tests.figures import FULL, figure

pytestmark = [pytest.mark.proof, pytest.mark.judge]
OF_ONE_OR_BOTH = pytest.mark.parametrize("world", RESTICS if FULL else ["newer"], indirect=True)
ZONES = ("UTC", "UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati")
COUNTS = ("last", "daily", "weekly", "monthly", "yearly")


def orders(world: World) -> Job:
    return job(accept(world.home / "mahavishnu.yaml"), "orders", lambda event, **facts: None)


def named() -> str:
    """The restic that is at work."""
    return "restic {}.{}".format(*version())


def repository(world: World) -> Repository:
    return orders(world).repositories()["1"]


# --- the policy, against restic's own --------------------------------------------------------------


@OF_ONE_OR_BOTH
def test_our_plan_is_restics(world: World) -> None:
    """Random sets (each a tag of its own in one repository) and policies: the same ids stay and go."""
    sets, chance = (500, random.Random(7)) if FULL else (25, random.Random(8))
    world.begin()
    at, moments = datetime(2020, 12, 29, 23, 30, tzinfo=UTC), list[datetime]()
    for number in range(100 if FULL else 18):
        at += chance.choice(
            (timedelta(0), timedelta(hours=7), timedelta(days=1), timedelta(days=chance.randint(2, 90)))
        )
        moments.append(datetime(2037, 1, 1, tzinfo=UTC) if number == 5 else at)
    for moment in moments:
        tags = ",".join(f"set={number}" for number in range(sets) if chance.random() < 0.7) or "none"
        told = ["backup", "--stdin", "--stdin-filename", "orders.sqlite", "--host", "shop", "--tag", tags]
        world.ask(*told, "--time", f"{moment:%Y-%m-%d %H:%M:%S}", stdin=str(moment), TZ=chance.choice(ZONES))
    known = [one for one in map(parsed, listed(world)) if one is not None]
    wrong = [number for number in range(sets) if disagree(world, known, number, chance)]
    figure(
        f"random sets and policies on which we and {named()} differ",
        f"0 of {sets}",
        len(wrong),
    )
    assert wrong == []


def disagree(world: World, known: list[Taken], number: int, chance: random.Random) -> bool:
    counts = {name: chance.randint(1, 8) for name in COUNTS if chance.random() < 0.5}
    keep = Keep.model_validate({**counts, "within": chance.choice(("1h", "48h", "30d", "400d"))})
    of_set = [one for one in known if f"set={number}" in one.tags]
    said = world.ask("forget", "--dry-run", "--json", "--tag", f"set={number}", *words(keep))
    groups: list[dict[str, Any]] = json.loads(said or "[]") or []
    stays: list[dict[str, Any]] = [one for group in groups for one in group["keep"] or ()]
    theirs = {str(one["id"]) for one in stays}
    holds = kept([one.snapshot for one in of_set], keep, time.time_ns(), oldest=version() >= KEEPS_OLDEST)
    # Of equal times either may stay.
    times = {one.id: one.snapshot.order for one in of_set}
    return sorted(times[one] for one in holds) != sorted(times[one] for one in theirs)


# --- crashes ---------------------------------------------------------------------------------------


@OF_ONE_OR_BOTH
def test_killed_at_any_point_it_recovers(world: World) -> None:
    """The runner, restic or a hook is killed: no success is written that is none, and the next run is clean."""
    points, chance = (70 if FULL else 3), random.Random(9)
    world.begin()
    world.write(spec(hooks={"before": ["sleep", "0.3"]}))
    world.fill(40_000)
    began = time.monotonic()
    world.start("run").communicate()
    usual = time.monotonic() - began
    clean = honest = 0
    for point in range(points):
        world.fill(40_000 + point)
        before = killed(world, chance, point % 3, usual)
        after = world.known().copies["1"]
        there = [str(one["id"]) for one in listed(world)]
        honest += after.success == before or any(one.startswith(after.snapshot) for one in there)
        recovered = world.do("run") == 0 and world.do("verify", "--all") == 0
        clean += recovered and world.known().copies["1"].success != before
    figure(
        f"kill -9 of runner, restic or hook: repositories clean after the next run ({named()})",
        f"{points} of {points}",
        clean,
    )
    figure("… false successes written down", 0, points - honest)
    assert (clean, honest) == (points, points)
    assert world.do("drill") == 0


def killed(world: World, chance: random.Random, whom: int, usual: float) -> float | None:
    """Run until one of its processes could be killed at some moment; when the last success was before that."""
    for _ in range(50):
        before = world.known().copies["1"].success
        process = world.start("run")
        time.sleep(chance.random() * usual)
        struck = False
        while not struck and process.poll() is None:
            victims = {0: [process.pid], 1: found(process.pid, b"restic"), 2: found(process.pid, b"sleep")}[
                whom
            ]
            struck = sum(kill(pid) for pid in victims) > 0
        process.communicate(timeout=60)
        ended(process.pid)
        if struck:
            return before
    raise AssertionError("nothing could be killed")


@OF_ONE_OR_BOTH
def test_killed_while_it_removes_it_loses_nothing(world: World) -> None:
    """restic is killed as it forgets or prunes, or the runner is: what is to stay is there, and the next run ends."""
    points, chance = (30 if FULL else 3), random.Random(11)
    world.begin()
    world.write(spec(retention={"last": 2, "within": "1h"}))
    for day in range(8, 2, -1):
        forge(
            world,
            chance.randbytes(200_000),
            "--time",
            f"{datetime.now(UTC) - timedelta(days=day):%Y-%m-%d %H:%M:%S}",
        )
    assert world.do("run") == 0
    stay = {str(one["id"]) for one in listed(world)[-2:]}
    repository, whole = world.home / "repository", world.home / "whole"
    repository.rename(whole)
    there = clean = honest = 0
    for point in range(points):
        killed_removing(world, whole, chance, point % 3)
        left = {str(one["id"]) for one in listed(world, "--no-lock")}
        there += left >= stay
        honest += world.known().steps.get("prune") is not True or left == stay
        clean += world.do("prune", "--confirm") == 0 == world.do("verify", "--all")
        clean -= {str(one["id"]) for one in listed(world)} != stay
    figure(
        f"kill -9 of forget, prune or the runner: snapshots that stay are there ({named()})",
        f"{points} of {points}",
        there,
    )
    figure(
        "… repositories clean after the next prune, false successes",
        f"{points}, 0",
        f"{clean}, {points - honest}",
    )
    assert (there, clean, honest) == (points, points, points)
    assert world.do("drill") == 0


def killed_removing(world: World, whole: Path, chance: random.Random, whom: int) -> None:
    """Prune a copy of the whole until restic could be killed as it forgets (0) or prunes (1), or the runner (2)."""
    for _ in range(50):
        shutil.rmtree(world.home / "repository", ignore_errors=True)
        shutil.copytree(whole, world.home / "repository")
        process = world.start("prune", "--confirm")
        verb = (b"forget", b"prune", chance.choice((b"forget", b"prune")))[whom]
        while process.poll() is None:
            if pids := removing(process.pid, verb):
                time.sleep(chance.random() * 0.1)
                kill(process.pid if whom == 2 else pids[0])
                break
        process.communicate(timeout=60)
        ended(process.pid)
        if process.returncode:
            return
    raise AssertionError("nothing could be killed")


def removing(session: int, verb: bytes) -> list[int]:
    """The restic that does this, not one that only says what it would do."""
    pids: list[int] = []
    for path in members(session):
        with suppress(OSError):
            words_ = (path / "cmdline").read_bytes().split(b"\0")
            if verb in words_[1:2] and b"--dry-run" not in words_:
                pids.append(int(path.name))
    return pids


def kill(pid: int) -> bool:
    """Whether there was still something to kill."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def members(session: int) -> Iterator[Path]:
    """The processes of a session, those that have ended and that nobody has asked about yet, too."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(path.name)) == session:
                yield path


def found(session: int, name: bytes) -> list[int]:
    """Those of them whose program is called so."""
    pids: list[int] = []
    for path in members(session):
        with suppress(OSError):
            if name in (path / "cmdline").read_bytes().split(b"\0")[0]:
                pids.append(int(path.name))
    return pids


def ended(session: int) -> None:
    """What remains of a killed run comes to its end.

    Its restic dies as soon as it has something to say, and its lock stays. That is stale once init has taken notice:
    until then restic, which asks whether there is such a process, takes it for alive.
    """
    until = time.monotonic() + 60
    while [*members(session)]:
        assert time.monotonic() < until, "a process does not end, or nobody takes notice that it has"
        time.sleep(0.01)


@OF_ONE_OR_BOTH
def test_a_full_disk_loses_nothing(world: World) -> None:
    """Of the repository, and of the reports: the run fails and says so; what was there before is whole."""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT PROVED: nobody may mount a small disk here")
    world.write(spec(to="small/repository"))
    script = """
set -e
mkdir small && mount -t tmpfs -o size=2m tmpfs small
"$@" run
head -c 3000000 /dev/urandom > big && python3 -c "
import sqlite3
c = sqlite3.connect('orders.db')
c.execute('create table more (what blob)')
c.execute('insert into more values (?)', (open('big', 'rb').read(),))
c.commit()"
"$@" run && exit 7
cp .mahavishnu/backups/shop.orders.json after.json
"$@" drill
mkdir state && mount -t tmpfs -o size=64k tmpfs state && cp .mahavishnu/backups/shop.orders.json state
MAHAVISHNU_STATE=$PWD/state "$@" run && exit 8
cmp state/shop.orders.json after.json || cat state/shop.orders.json >&2
"""
    command = [*alone, "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "mahavishnu", "backup"],
        cwd=world.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no space left" in done.stderr.lower()
    after = json.loads((world.home / "after.json").read_text())
    figure(
        f"a full disk: old snapshots restored, success written ({named()})",
        "yes, no",
        f"yes, {'yes' if after['steps']['run'] else 'no'}",
    )
    assert after["steps"]["run"] is False
    assert len(after["copies"]["1"]["sizes"]) == 1


# --- damage ----------------------------------------------------------------------------------------


@OF_ONE_OR_BOTH
def test_every_flipped_byte_is_found(world: World) -> None:
    """In packs of data and of trees, the index and the snapshots; and it is never called verified."""
    flips, chance = (200 if FULL else 6), random.Random(10)
    world.begin()
    for rows in (200, 3000):
        world.fill(rows)
        assert world.do("run") == 0
    whole = world.home / "whole"
    (world.home / "repository").rename(whole)
    files = sorted(
        one for kind in ("data", "index", "snapshots") for one in (whole / kind).rglob("*") if one.is_file()
    )
    missed: list[Path] = []
    for flip in range(flips):
        shutil.copytree(whole, world.home / "repository")
        file = files[flip % len(files)]
        flipped(world.home / "repository" / file.relative_to(whole), chance.randrange(file.stat().st_size))
        if world.do("verify", "--all") != 1 or world.known().copies["1"].verified is not None:
            missed.append(file)
        shutil.rmtree(world.home / "repository")
    whole.rename(world.home / "repository")
    figure(
        f"flipped bytes in all kinds of files, found by verify ({named()})",
        f"{flips} of {flips}",
        flips - len(missed),
    )
    assert missed == []
    assert world.do("verify", "--all") == 0


Sabotage = Callable[[World], object]


def bare(world: World) -> None:
    world.ask("forget", *[str(one["id"]) for one in listed(world)])


def listed(world: World, *words_: str) -> list[dict[str, Any]]:
    """The snapshots, as restic shows them."""
    found: list[dict[str, Any]] = json.loads(world.ask("snapshots", "--json", *words_))
    return found


def damaged(world: World) -> None:
    for one in (world.home / "repository/data").rglob("*"):
        if one.is_file():
            flipped(one, 50)


def forge(world: World, file: Path | bytes, *words_: str, name: str = "orders.sqlite", **tags: str) -> None:
    """A snapshot as a run makes it, of something else."""
    path = world.home / "forged"
    path.write_bytes(file if isinstance(file, bytes) else file.read_bytes())
    said = {"backup": "orders", "sha256": digest(path), **tags}
    told = ["backup", "--stdin", "--stdin-filename", name, "--host", "shop", *words_]
    told += [word for key, value in said.items() if value for word in ("--tag", f"{key}={value}")]
    env = {**os.environ, "RESTIC_REPOSITORY": str(world.home / "repository"), "RESTIC_PASSWORD": PASSWORD}
    with path.open("rb") as stdin:
        subprocess.run([world.restic, *told], stdin=stdin, env=env, check=True, capture_output=True)


def foreign(world: World) -> None:
    with closing(sqlite3.connect(world.home / "foreign")) as other:
        other.execute("create table cats (name text)")
    forge(world, world.home / "foreign")


def emptied(world: World) -> None:
    world.fill(0, world.home / "empty")
    forge(world, world.home / "empty")


def torn(world: World) -> None:
    world.fill(3000, world.home / "torn")
    flipped(world.home / "torn", 20_000)
    for page in range(8192, 16384):
        flipped(world.home / "torn", page)
    forge(world, world.home / "torn")


def another(world: World) -> None:
    world.fill(201, world.home / "another")
    forge(world, world.home / "another", sha256=digest(world.database))


def old(world: World) -> None:
    bare(world)
    world.forge("2020-01-01 00:00:00")


SABOTAGES: dict[str, tuple[Sabotage, str]] = {
    "no snapshot": (bare, "no snapshot"),
    "only an old one": (old, "hours old"),
    "a truncated database": (lambda w: forge(w, w.database.read_bytes()[:5000]), "cannot be asked|damaged"),
    "a foreign database": (foreign, "cannot be asked"),
    "hardly anything": (lambda w: forge(w, b"x"), "cannot be asked|no table"),
    "an empty table": (emptied, "assert"),
    "a torn page": (torn, "damaged|cannot be asked"),
    "another content than was saved": (another, "hashes differ"),
    "nothing that says what was saved": (lambda w: forge(w, w.database, sha256=""), "nothing says"),
    "another file": (lambda w: forge(w, w.database, name="cats.sqlite"), "holds no `orders.sqlite`"),
    "damaged data": (damaged, "restic"),
    "no repository": (lambda w: (w.home / "repository").rename(w.home / "gone"), "restic"),
}  # fmt: skip


@OF_ONE_OR_BOTH
def test_every_sabotaged_drill_fails(world: World, tmp_path: Path) -> None:
    """Each for its own reason, and none is written down as a success; untouched, the drill succeeds."""
    world.begin()
    assert world.do("run") == 0
    shutil.copytree(world.home / "repository", tmp_path / "whole")
    caught: list[str] = []
    for name, (sabotage, why) in SABOTAGES.items():
        sabotage(world)
        with pytest.raises(Failed, match=why):
            drills.drill(orders(world))
        if world.known().copies["1"].drilled is None and world.known().steps["drill"] is False:
            caught.append(name)
        shutil.rmtree(world.home / "repository", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", world.home / "repository")
    figure(f"sabotaged drills caught ({named()})", f"{len(SABOTAGES)} of {len(SABOTAGES)}", len(caught))
    assert caught == [*SABOTAGES]
    assert world.do("drill") == 0


@OF_ONE_OR_BOTH
def test_the_measured_time_is_that_of_a_stopwatch(world: World) -> None:
    """Of a repository with a real key, whose data grow."""
    shares: list[float] = []
    for rows in (200, 20_000, 100_000) if FULL else (200,):
        world.fill(rows)
        assert world.do("run") == 0
        began = time.monotonic()
        drills.drill(orders(world))
        took, measured = time.monotonic() - began, world.known().copies["1"].restore or 0
        shares.append(measured / took)
    figure(
        f"the measured time of a restore, by a stopwatch ({named()})",
        "90 to 100%",
        ", ".join(f"{share:.1%}" for share in shares),
    )
    assert 0.9 <= min(shares) <= max(shares) <= 1


# --- secrets ---------------------------------------------------------------------------------------

SPY = """#!/bin/sh
{ tr '\\0' '\\n' < /proc/self/environ; tr '\\0' '\\n' < /proc/self/cmdline; } >> %(seen)s
tr '\\0' '\\n' < /proc/$$/cmdline >> %(seen)s
env >> %(seen)s
exec %(real)s "$@"
"""


@pytest.fixture
def refused() -> Iterator[int]:
    """The port of a server that lets nobody in.

    Where nobody answers at all, restic goes on trying: since 0.17 for a quarter of an hour.
    """
    with answering(403) as port:
        yield port


@OF_ONE_OR_BOTH
def test_no_secret_is_seen_where_it_has_no_business(
    world: World, refused: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A thousand canaries in the environment: none in arguments, environments of children, output, reports, files."""
    canaries = {f"CANARY_{number}": f"canary-{secrets.token_hex(12)}" for number in range(997)}
    aws, place = (f"canary-{secrets.token_hex(12)}" for _ in range(2))
    world.begin()  # with PASSWORD
    for name, value in {
        **canaries,
        "AWS_SECRET_ACCESS_KEY": aws,
        "REST_PASSWORD": place,
    }.items():
        monkeypatch.setenv(name, value)
    seen = world.home / "seen"
    (world.home / "bin").mkdir()
    for name in ("restic", "true"):
        spy = world.home / "bin" / name
        spy.write_text(SPY % {"seen": seen, "real": world.restic if name == "restic" else "/bin/true"})
        spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{world.home / 'bin'}:{os.environ['PATH']}")
    said = spec(
        to=["repository", f"rest:http://me:${{REST_PASSWORD}}@127.0.0.1:{refused}/x"],
        credentials=["${AWS_SECRET_ACCESS_KEY}"],
        hooks={"before": ["true"], "after": ["true"]},
    )
    said["secrets"] = ["RESTIC_PASSWORD", "AWS_SECRET_ACCESS_KEY", "REST_PASSWORD"]
    world.write(said)
    for words_ in (["run", "--prune"], ["verify"], ["drill"], ["list"]):
        assert world.do(*words_) in (1, 2)  # the second copy cannot be opened
    assert run(["generate", "--out", "deploy"]) == 0
    told = capfd.readouterr()
    files = [
        one
        for one in world.home.rglob("*")
        if one.is_file() and "repository" not in one.parts and one != seen
    ]
    shown = told.out + told.err + "".join(one.read_text("utf-8", "replace") for one in files)
    children = seen.read_text("utf-8", "replace")
    hits = [name for name, value in canaries.items() if value in shown or value in children]
    hits += [value for value in (PASSWORD, place) if value in shown or value in children]
    hits += [aws] if aws in shown else []
    figure(
        f"planted secrets seen outside of what restic is told ({named()})",
        f"0 of {len(canaries) + 3:,}",
        len(hits),
    )
    assert hits == []
    assert aws in children  # the one that restic reads as a variable: the spy does see
    assert "***" in told.out
