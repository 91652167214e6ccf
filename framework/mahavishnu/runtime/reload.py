"""The file of the spec, watched: what changes in it is judged once it is at rest, and taken or refused as a whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from hashlib import blake2b
from pathlib import Path

from mahavishnu.alerts.drift import SPEC_RELOADS
from mahavishnu.errors import Finding, Level, SpecError
from mahavishnu.events import SPEC_REFUSED
from mahavishnu.ground import codes
from mahavishnu.loading.guards import LARGEST
from mahavishnu.protocols import Clock
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.timer import Timer

PERIOD = 2_000_000_000
"""How often the file is looked at, ns: a change is taken once it has read the same at two looks."""
SETTLED = 100_000_000
"""How long a file must read the same that somebody asks to be read, ns."""

_NO_FILE = b"no file"

Take = Callable[[], None]
Prepare = Callable[[], Take | None]


class Reloader:
    """Looks at one file and puts its spec to work.

    `prepare` reads and builds, in a thread: it returns what puts the result to work, on the event loop, or None
    where nothing has changed. Whatever it raises, the spec at work stays. `service` is the one at work.
    """

    def __init__(
        self,
        path: Path,
        prepare: Prepare,
        service: Callable[[], Service],
        clock: Clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self.prepare = prepare
        self._service = service
        self._wall = wall
        self._seen = self._judged = fingerprint(path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer = Timer(clock, self._due)
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    def start(self) -> None:
        """Look at the file from now on, on the running event loop."""
        self.stop()
        self._loop = asyncio.get_running_loop()
        self._timer.start(PERIOD)

    def stop(self) -> None:
        """Look no more; what is being read is dropped."""
        self._loop = None
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()

    def ask(self) -> None:
        """Read the file soon, changed or not; from any thread, and from a signal handler."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._asked)

    async def look(self) -> None:
        """Judge the file if it has changed and come to rest."""
        before, self._seen = self._seen, fingerprint(self._path)
        if self._seen == before and self._seen != self._judged:
            await self.judge()

    async def judge(self) -> None:
        """Take the spec that the file holds now, or say what is wrong with it; while it changes, neither."""
        async with self._turn:
            await self._judged_now()

    async def _judged_now(self) -> None:
        read = fingerprint(self._path)
        if read == _NO_FILE:
            what = f"{self._path} is no file"
            self._refuse(read, (Finding(Level.ERROR, codes.UNREADABLE.id, what, help=codes.UNREADABLE.help),))
            return
        try:
            take = await asyncio.to_thread(self.prepare)
        except SpecError as fault:
            self._refuse(read, fault.findings)
            return
        except Exception as fault:  # noqa: BLE001  whatever cannot be built, the spec at work stays
            what = f"the spec cannot be put to work: {type(fault).__name__}: {fault}"
            self._refuse(read, (Finding(Level.ERROR, codes.NOT_BUILT.id, what, help=codes.NOT_BUILT.help),))
            return
        if fingerprint(self._path) != read or self._service().draining:
            return
        if take is not None:
            take()
        self._judge(read, "unchanged" if take is None else "applied")
        self._service().process_state.loaded_at = self._wall()

    def _refuse(self, read: bytes, findings: tuple[Finding, ...]) -> None:
        self._judge(read, "refused")
        service = self._service()
        for one in findings:
            where = f"{one.where.file}:{one.where.line}:{one.where.column}" if one.where else str(self._path)
            service.log.error(
                SPEC_REFUSED, code=one.code, where=where, what=one.what, help=one.help, still=service.hash
            )

    def _judge(self, read: bytes, outcome: str) -> None:
        self._judged = self._seen = read
        service = self._service()
        service.process_state.loaded = outcome != "refused"
        service.metrics.counter(SPEC_RELOADS, outcome=outcome).inc()

    def _asked(self) -> None:
        self._judged, self._seen = b"", fingerprint(self._path)
        self._timer.start(SETTLED)

    def _due(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._loop is None:
            return
        if self._task is None:
            self._task = self._loop.create_task(self.look(), context=Context())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if self._loop is not None and not task.cancelled():
            self._timer.start(PERIOD if self._judged else SETTLED)


def fingerprint(path: Path) -> bytes:
    """What tells one content of a file from another; that it cannot be read is one too."""
    try:
        if path.exists() and not path.is_file():
            return _NO_FILE
        with path.open("rb") as file:
            return blake2b(file.read(LARGEST + 1), digest_size=16).digest()
    except (OSError, ValueError) as fault:
        return type(fault).__name__.encode()
