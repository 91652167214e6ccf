"""ssh, as restic shall call it: with one key, to one server that is known, and with nobody's own settings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mahavishnu.backup import child
from mahavishnu.snapshots.sftp import Server

_FIXED = (
    "IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=none", "UpdateHostKeys=no", "ConnectTimeout=30", "ServerAliveInterval=30",
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """restic's options for an entry, and where ssh writes what it has to say."""

    words: tuple[str, ...] = ()
    log: Path | None = None

    def said(self) -> str:
        """That: restic does not always hear the end of it."""
        return self.log.read_text("utf-8", "replace") if self.log else ""


@dataclass(frozen=True)
class Entry:
    """What lets a job in to a server: a private key, and the lines by which the server is known."""

    server: Server
    key: str = field(repr=False)
    known_hosts: tuple[str, ...]

    @contextmanager
    def opened(self) -> Generator[Opened]:
        """Good as long as this lasts. restic takes the command apart at its spaces."""
        texts = f"{self.key}\n", "\n".join((*self.known_hosts, "")), ""
        with ExitStack() as stack:
            key, known, log = (stack.enter_context(child.lent(text)) for text in texts)
            command = ("ssh", "-F", "none", "-i", key, "-E", log, *_options(known), *self._whom())
            yield Opened(("-o", f"sftp.command={' '.join(command)}"), Path(log))

    def _whom(self) -> tuple[str, ...]:
        user = ("-l", self.server.user) if self.server.user else ()
        return (*user, "-p", str(self.server.port), "-s", "--", self.server.host, "sftp")


def _options(known: str) -> tuple[str, ...]:
    return tuple(word for one in (*_FIXED, f"UserKnownHostsFile={known}") for word in ("-o", one))
