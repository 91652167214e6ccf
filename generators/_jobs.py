"""The jobs that carry out a spec's backups: what each runs, when, for how long, and what it may reach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from mahavishnu.backup.due import dues
from mahavishnu.contract import Contract
from mahavishnu.ground.secret_refs import replaced
from mahavishnu.policies.backup import Backup, Directory, Postgres, Sqlite
from mahavishnu.spec import Spec
from mahavishnu.units import DAY, SECOND

from ._room import TEMPORARY, mebibytes, storage
from ._service import host, job_secrets

_LONGEST_NAME = 52  # of a CronJob: its jobs' names are eleven characters longer
_HTTPS = 443
_PORTS = {"https": _HTTPS, "http": 80, "sftp": 22}
_SECRET = "0secret0"  # noqa: S105  stands for one while an address is taken apart
_PACKAGES = {"sftp": "openssh-client", "rclone": "rclone"}


class Job(NamedTuple):
    """One step of one backup: the words of its command, its schedule, how many seconds it may take, and its room."""

    name: str
    file: str
    words: tuple[str, ...]
    schedule: str
    deadline: int
    secrets: tuple[str, ...]
    scratch: str
    storage: str


def jobs(contract: Contract) -> Iterator[Job]:
    """Every step of every backup."""
    for name, backup in contract.spec.backups.items():
        for due in dues(name, backup):
            shortest, _ = due.schedule.gaps()
            scratch = -(-int(backup.scratch) // 2**20)
            file = f"backup-{name.replace('_', '-')}-{due.step}"
            yield Job(
                _short(f"{host(contract)}-{file}"),
                file,
                ("mahavishnu", *due.words),
                due.schedule.sunday_is_0,
                min(DAY, int(shortest)) // SECOND,
                tuple(job_secrets(backup)),
                mebibytes(scratch),
                storage(TEMPORARY, scratch),
            )


def by_hand(contract: Contract, backup: str) -> str:
    """What the job of a person is called, who does something beside those of a backup."""
    return _short(f"{host(contract)}-backup-{backup.replace('_', '-')}-by-hand")


def packages(spec: Spec) -> list[str]:
    """What Debian calls the programs that the jobs run."""
    found = {"ca-certificates", "restic"}
    for backup in spec.backups.values():
        kinds = {place.partition(":")[0] for place in backup.to if ":" in place}
        found |= {_PACKAGES[kind] for kind in kinds & _PACKAGES.keys()}
        found |= {"postgresql-client"} if isinstance(backup.source, Postgres) else set()
    return sorted(found)


def data_folders(spec: Spec) -> list[str]:
    """The folders that the service and the jobs share: those of files that are backed up."""
    found: set[str] = set()
    for backup in spec.backups.values():
        if isinstance(backup.source, Sqlite):
            found.add(PurePosixPath(backup.source.sqlite).parent.as_posix())
        if isinstance(backup.source, Directory):
            found.add(backup.source.directory)
    return sorted(found)


def outermost(folders: Iterable[str]) -> list[str]:
    """Those that lie in none of the others."""
    places = {PurePosixPath(one) for one in folders}
    return sorted(one.as_posix() for one in places if places.isdisjoint(one.parents))


def repository_folders(spec: Spec) -> list[str]:
    """The repositories that are folders."""
    return sorted({place for backup in spec.backups.values() for place in backup.to if ":" not in place})


def reached(backup: Backup) -> Iterator[tuple[str | None, int]]:
    """The host (None: wherever a secret or a cloud says) and the port of each repository."""
    for place in backup.to:
        kind, _, rest = place.partition(":")
        if "://" in rest or kind in ("s3", "sftp"):
            yield _endpoint(kind, rest)
        elif rest:
            yield None, _HTTPS


def _endpoint(kind: str, rest: str) -> tuple[str | None, int]:
    """The host and port in `https://user@host:port/…`, `host/bucket`, or `user@host:path` of sftp."""
    plain = replaced(rest, lambda _: _SECRET)
    scp = kind == "sftp" and "//" not in plain
    url = urlsplit(f"//{plain.partition(':')[0]}" if scp else plain if "//" in plain else f"//{plain}")
    try:
        port = url.port or _PORTS.get(url.scheme or kind, _HTTPS)
    except ValueError:  # beyond the last one: restic says so too
        port = _HTTPS
    name = url.hostname
    return (None if not name or _SECRET in name else name), port


def _short(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
