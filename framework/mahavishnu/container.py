"""The container that a service runs in: what lies where, and which folders are no place for anything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from mahavishnu.spec import Spec

HOME = "/srv"
"""The image's working directory."""
SPEC_PATH = "/etc/mahavishnu/mahavishnu.yaml"
STATE_PATH = "/var/lib/mahavishnu"
"""Where the jobs of backups write what they know, and the service reads it."""
SCRATCH_PATH = f"{STATE_PATH}/scratch"
"""Where they have room for what they copy and restore."""
_TEMPORARY = "/tmp"  # noqa: S108  of the container alone
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")


def letters_folder(spec: Spec) -> str | None:
    """The folder in which the dead letters are, where they are in a file."""
    file = spec.dead_letters.file if spec.parking else None
    return None if file is None else (PurePosixPath(HOME) / file).parent.as_posix()


def hidden(folder: str, spec: Spec) -> str | None:
    """What a volume over this folder would hide; None: nothing that is needed."""
    place = PurePosixPath(folder)
    if any(place.is_relative_to(one) for one in _SYSTEM):
        return "the system"
    return next((what for what, own in _contents(spec) if own.is_relative_to(place)), None)


def _contents(spec: Spec) -> Iterator[tuple[str, PurePosixPath]]:
    module, _, _ = spec.service.app.partition(":")
    yield "the code of the app", PurePosixPath(HOME, spec.service.app_dir, *module.split("."))
    yield "the spec", PurePosixPath(SPEC_PATH)
    yield "temporary files", PurePosixPath(_TEMPORARY)
    if spec.backups:
        yield "what backups report", PurePosixPath(STATE_PATH)
