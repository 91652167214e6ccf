"""What is sent at the end of a process is sent also where Python begins no thread any more, as 3.12 does then."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from mahavishnu.runtime.telemetry.collector import begun

AT_EXIT = """
import asyncio, atexit, threading
from mahavishnu.runtime.telemetry.collector import aside

def refuses(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def last():
    threading.Thread.start = refuses
    print(asyncio.run(aside(lambda: "sent")))

atexit.register(last)
"""


def test_at_the_end_it_is_done_here() -> None:
    """In an `atexit` function, as the last push."""
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("sent\n", "")


def test_before_the_end_nobody_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no room for one more thread: the event loop would stand still for as long."""

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        begun(lambda: pytest.fail("it is done here"))
