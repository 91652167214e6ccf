"""Which specs a command is about, and where what is generated from each lies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mahavishnu.artifact import HEADER
from mahavishnu.cli._folders import own
from mahavishnu.errors import Finding, Level, SpecError
from mahavishnu.ground import codes, variables
from mahavishnu.load import IN_A_COMMAND, NAME, find_spec

OUT = Path("deploy")


class Target(NamedTuple):
    """A spec, the folder that is generated from it as seen from here, and the words of a command that name both."""

    spec: Path
    out: Path
    words: tuple[str, ...] = ()


def target(spec: Path | None, out: Path | None) -> Target:
    """What --spec and --out say; what is generated from a spec that nobody has named lies beside it."""
    found = spec or find_spec(help=IN_A_COMMAND)
    said = (("--spec", spec), ("--out", out))
    words = tuple(str(word) for option, value in said if value is not None for word in (option, value))
    named = spec is not None or variables.spec_file() is not None
    return Target(found, out or (OUT if named else beside(found)), words)


def targets(places: Iterable[Path]) -> list[Target]:
    """Of specs, and of all that lie in folders, each with what is generated beside it; raises SpecError."""
    return [Target(spec, beside(spec), (str(spec),)) for spec in specs(places)]


def specs(places: Iterable[Path]) -> list[Path]:
    """The specs at these places, and of a folder all that lie in it; raises SpecError for a folder without any."""
    return list(dict.fromkeys(one for place in places for one in _at(place)))


def beside(spec: Path) -> Path:
    """The folder beside a spec that its files are generated to, as seen from here."""
    return Path(os.path.relpath(spec.parent / OUT))


def _at(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    found = list(_within(place))
    if not found:
        what = f"there is no {NAME} in `{place}`, nor below it"
        help = "name a folder that has one, or let `mahavishnu init` write it"
        raise SpecError((Finding(Level.ERROR, codes.UNREADABLE.id, what, None, help),))
    yield from found


def _within(folder: Path) -> Iterator[Path]:
    """Every spec in a folder; no generated copies, and nothing of hidden folders and packages of others."""
    for here, files in own(folder):
        if NAME in files and not _generated(here / NAME):
            yield here / NAME


def _generated(spec: Path) -> bool:
    start = HEADER.encode()
    try:
        with spec.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False  # whoever reads it says why not
