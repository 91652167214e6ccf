"""MV705: a folder or a file that the container of a backup does not have."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.backup import Backup, Directory, Sqlite

CODE = Code(
    "MV705",
    "a backup of something its container cannot reach",
    "In Kubernetes the job is another pod than the service: it has none of its files, and a repository on its own "
    "disk goes away with it. In Compose both share volumes, which need absolute places. Neither has the files of ssh.",
    "backups: {orders: {source: {sqlite: data/orders.db}}}\ndeploy: {targets: {compose: {}}}",
    "Write absolute paths for Compose; in Kubernetes back up databases, to repositories that are reached by network. "
    "Give the jobs a key of their own for `sftp:`, in `ssh`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every path of every backup, where it is deployed."""
    targets = facts.spec.deploy.targets
    for name, backup in facts.spec.backups.items():
        if targets.any:
            yield from _keyless(name, backup)
        for path, place, kind in _paths(name, backup):
            if targets.kubernetes is not None:
                what = f"`{place}` is a {kind} that a job in Kubernetes does not have"
                help = "back up a database over the network, to `s3:…` or the like; or leave the target out"
                yield error(CODE, path, what, help)
            elif targets.compose is not None and not place.startswith("/"):
                what = f"`{place}` lies beside the spec, where a container has no {kind}"
                yield error(CODE, path, what, f"write an absolute path, like `/var/lib/shop/{place}`")


def _keyless(name: str, backup: Backup) -> Iterator[Problem]:
    for number, place in enumerate(backup.to):
        if backup.ssh is None and place.startswith("sftp:"):
            what = f"`{place}` is entered with a key, and a container has none"
            help = 'add `ssh: {key: "${NAME}", known_hosts: [what ssh-keyscan prints]}` to this backup'
            yield error(CODE, ("backups", name, "to", number), what, help)


def _paths(name: str, backup: Backup) -> Iterator[tuple[Path, str, str]]:
    above: Path = ("backups", name)
    if isinstance(backup.source, Sqlite):
        yield (*above, "source", "sqlite"), backup.source.sqlite, "file"
    if isinstance(backup.source, Directory):
        yield (*above, "source", "directory"), backup.source.directory, "folder"
    for number, place in enumerate(backup.to):
        if ":" not in place:
            yield (*above, "to", number), place, "folder"
