"""Programs of others in a time of our own: real logrotate and real journald, driven through months."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.judges import ROOT, judge

START = datetime(2026, 1, 1, tzinfo=UTC)
_DRIVER = ROOT / "tests/journal_driver.py"


def fake_clock() -> Path:
    """The library that tells a program another time; as with any judge, its absence is heard."""
    for folder in (ROOT / ".tools/usr/lib", Path("/usr/lib")):
        if found := sorted(folder.glob("*/faketime/libfaketimeMT.so.1")):
            return found[0]
    judge("libfaketime")
    raise AssertionError


@dataclass(frozen=True)
class Kept:
    """What is left of the log at a moment: how old its oldest line is, and which lines there are."""

    now: datetime
    lines: frozenset[datetime]

    @property
    def oldest(self) -> timedelta:
        return self.now - min(self.lines, default=self.now)


@dataclass
class Rotated:
    """A log in files, whoever writes it, and logrotate with a configuration."""

    folder: Path
    config: str
    now: datetime = START
    written: list[datetime] = field(default_factory=list[datetime])

    def __post_init__(self) -> None:
        self.logs = self.folder / "log"
        self.logs.mkdir()
        self.log = self.logs / "shop.log"
        # Open all the time, as whoever writes has it: rotated or not, this is where his lines go.
        self.writer = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        weakref.finalize(self, os.close, self.writer)
        (self.folder / "logrotate.conf").write_text(self.config.replace("/var/log/shop", str(self.logs)))
        (self.folder / "logrotate.conf").chmod(0o644)

    def write(self, filling: str = "") -> None:
        """One line, of this moment."""
        os.write(self.writer, f"{self.now.isoformat()} {filling}\n".encode())
        self.written.append(self.now)

    def run(self) -> None:
        """As the line for cron in the file says it."""
        (line,) = (one for one in self.config.splitlines() if one.startswith("#   */5 * * * * root "))
        program, option, state, config = line.split()[7:]
        assert (state, config) == ("/var/lib/logrotate/shop.status", "/etc/shop/logrotate.conf")
        before = {*self.logs.iterdir()}
        clock = {"FAKETIME": f"@{self.now:%Y-%m-%d %H:%M:%S}", "NO_FAKE_STAT": "1", "TZ": "UTC"}
        said: list[str | Path] = [
            judge(program),
            option,
            self.folder / "state",
            self.folder / "logrotate.conf",
        ]
        environment = {**os.environ, **clock, "LD_PRELOAD": str(fake_clock())}
        done = subprocess.run(said, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        stamp = self.now.timestamp()
        for one in {*self.logs.iterdir()} - before:
            os.utime(one, (stamp, stamp))  # the clock of the file system is the real one

    def kept(self) -> Kept:
        lines = [line for one in self.logs.iterdir() for line in _text(one).splitlines()]
        return Kept(self.now, frozenset(datetime.fromisoformat(line.split()[0]) for line in lines))

    def rotated(self) -> list[Path]:
        return sorted(one for one in self.logs.iterdir() if one != self.log)


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def journal(config: str, folder: Path, moments: list[datetime], silent_from: int) -> Iterator[Kept]:
    """What a real journald keeps at each of the moments; it is written to until the one of that number."""
    (folder / "journald.conf").write_text(config)
    (folder / "moments").write_text(json.dumps([one.isoformat() for one in moments]))
    view: list[str | Path] = [judge("unshare"), "--user", "--map-root-user", "--mount"]
    programs = judge("systemd-journald"), judge("journalctl"), fake_clock()
    words = [*view, sys.executable, _DRIVER, folder, str(silent_from), *programs]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine gives nobody a view of his own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        now, *lines = (datetime.fromisoformat(one) for one in json.loads(line))
        yield Kept(now, frozenset(lines))
