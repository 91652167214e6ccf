"""Child processes side by side, of which none outlives who waits for them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = 4
"""So many run at a time: each may need a core and much memory."""

Ran = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Child:
    """A command, the folder it runs in, and its whole environment."""

    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


def ran(children: Sequence[Child], seconds: float) -> list[Ran | None]:
    """How each ended and what it printed, in the order given; None where it took longer than it may.

    It may take as many seconds when it runs alone; beside others it has to share, and may take as many times as long.
    """
    at_once = max(1, min(AT_ONCE, len(children)))
    begun = _Begun(seconds * at_once)
    with ThreadPoolExecutor(at_once) as pool:
        try:
            return [*pool.map(begun.run, children)]
        finally:
            begun.end()  # after a Ctrl-C, of which only a terminal tells the children too


class _Begun:
    """Those that run, each watched by a thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._running = set[subprocess.Popen[str]]()

    def run(self, child: Child) -> Ran | None:
        if self._ended.is_set():
            return None
        with _started(child) as process:
            self._running.add(process)
            try:
                if self._ended.is_set():  # `end` may have come too early for it
                    process.kill()
                return _result(process, self._seconds)
            finally:
                self._running.discard(process)

    def end(self) -> None:
        """Kill what runs, and begin nothing more."""
        self._ended.set()
        for process in [*self._running]:
            process.kill()


def _started(child: Child) -> subprocess.Popen[str]:
    return subprocess.Popen(
        child.words, cwd=child.folder, env=child.environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _result(process: subprocess.Popen[str], seconds: float) -> Ran | None:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    return Ran(process.args, process.returncode, out, err)
