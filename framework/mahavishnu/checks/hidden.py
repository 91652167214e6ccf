"""MV709: data that would be mounted over what the container needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from mahavishnu import container
from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.backup import Directory, Sqlite
from mahavishnu.spec import Spec

CODE = Code(
    "MV709",
    "data in a folder of the container that has something else",
    "What outlives a container lies on a volume, and a volume hides all that the image has at its folder: the code of "
    "the app, the system, the spec. The folder of a file is mounted as a whole.",
    "dependencies: {stripe: {fallback: dead_letter}}\ndead_letters: {store: sqlite:/srv/letters.db}\n"
    "deploy: {targets: {compose: {}}}",
    "Give the data a folder of its own, like `/var/lib/shop`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every folder that is mounted where the service is deployed."""
    for path, folder in _mounted(facts.spec):
        if (what := container.hidden(folder, facts.spec)) is not None:
            said = f"a volume at `{folder}` would hide {what}"
            yield error(
                CODE, path, said, f"give it a folder of its own, like `/var/lib/{facts.spec.service.name}`"
            )


def _mounted(spec: Spec) -> Iterator[tuple[Path, str]]:
    targets = spec.deploy.targets
    letters = container.letters_folder(spec)
    if letters is not None and targets.any:
        yield ("dead_letters", "store"), letters
    for name in spec.backups if targets.compose is not None else ():
        yield from ((path, folder) for path, folder in _of_backup(name, spec) if folder.startswith("/"))


def _of_backup(name: str, spec: Spec) -> Iterator[tuple[Path, str]]:
    backup = spec.backups[name]
    match backup.source:
        case Sqlite(sqlite=file):
            yield ("backups", name, "source", "sqlite"), PurePosixPath(file).parent.as_posix()
        case Directory(directory=folder):
            yield ("backups", name, "source", "directory"), folder
        case _:
            pass
    yield from ((("backups", name, "to", number), place) for number, place in enumerate(backup.to))
