"""Run by tests.virtual in a view of its own: a journald, a clock, and lines at the moments that are asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

_MACHINE = "0123456789abcdef0123456789abcdef"


def main(folder: Path, silent_from: int, journald: str, journalctl: str, clock: str) -> None:
    """For each moment one JSON list: the moment, and the lines that are there."""
    _prepare(folder)
    moments = [datetime.fromisoformat(one) for one in json.loads((folder / "moments").read_text())]
    turn(folder, moments[0])
    settings = {
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
    }
    environment = {
        **os.environ,
        **settings,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "LD_PRELOAD": clock,
        "TZ": "UTC",
    }
    running = subprocess.Popen([journald], env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_for(Path("/run/systemd/journal/socket"))
        for number, now in enumerate(moments):
            turn(folder, now)
            send(now.isoformat() if number < silent_from else "", "shop" if number < silent_from else "other")
            subprocess.run([journalctl, "--sync"], check=True, capture_output=True)
            sys.stdout.write(json.dumps([now.isoformat(), *lines(journalctl)]) + "\n")
    finally:
        running.terminate()
        running.wait()


def _prepare(folder: Path) -> None:
    """Nothing of the machine's own, and a disk that is never too full for the journal's own bounds of size."""
    for place in ("/etc", "/run", "/var/log"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40g", "none", place], check=True)
    Path(f"/var/log/journal/{_MACHINE}").mkdir(parents=True)
    Path("/etc/machine-id").write_text(f"{_MACHINE}\n")
    settings = Path("/run/systemd/journald.conf.d")
    settings.mkdir(parents=True)
    (settings / "shop.conf").write_text((folder / "journald.conf").read_text())
    (settings / "test.conf").write_text("[Journal]\nReadKMsg=no\nAudit=no\n")
    Path("/run/systemd/journal").mkdir()
    Path("/run/systemd/journal/flushed").touch()  # its own sign that /var is there


def turn(folder: Path, now: datetime) -> None:
    """Set the clock; whole, since it may be read at any time."""
    (folder / "clock.new").write_text(f"@{now:%Y-%m-%d %H:%M:%S}\n")
    (folder / "clock.new").rename(folder / "clock")


def send(text: str, name: str) -> None:
    """One line to the journal, as Docker does; another's wakes it, as anything on a host does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(f"MESSAGE={text}\nSYSLOG_IDENTIFIER={name}\n".encode(), "/run/systemd/journal/socket")


def lines(journalctl: str) -> list[str]:
    """What the journal has of the service."""
    words = [journalctl, "--quiet", "--identifier=shop", "--output=cat", "--directory=/var/log/journal"]
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout.split()


def _wait_for(path: Path) -> None:
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.01)
    raise SystemExit(f"journald has not made {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6])
