"""From a contract to files on disk: what is generated, how it is written, and what has drifted from it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from mahavishnu.agreement import templated
from mahavishnu.agreement.proof import agreement
from mahavishnu.artifact import Artifact, header
from mahavishnu.contract import Contract
from mahavishnu.errors import MahavishnuError
from mahavishnu.files import folder
from mahavishnu.files.lock import LOCK, lawful
from mahavishnu.survey import Drift, Survey


class CompileError(MahavishnuError):
    """Nothing was written, and why: a generator's mistake, or a folder that cannot be written."""


class OverwriteError(CompileError):
    """Files that somebody else changed or put there are in the way; `drifts` has them with their diffs."""

    def __init__(self, drifts: tuple[Drift, ...]) -> None:
        self.drifts = drifts
        files = ", ".join(f"{one.path} ({one.kind})" for one in drifts)
        super().__init__(f"nothing was written, since these files are not as they were generated: {files}")


class Written(NamedTuple):
    """What one run did, as paths below the output folder, what it left that is to be told of, and another version
    that had written what is written anew."""

    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    told: tuple[Drift, ...] = ()
    before: str = ""


def compile(contract: Contract, templates: Path | None = None) -> tuple[Artifact, ...]:
    """Every file that follows from a contract, sorted; `templates` is the folder of the user's own templates.

    Raises CompileError when a generator names a file that may not be, or one that another makes too; when a file
    asks for what nothing shows, or no rule asks for what is shown; and when a template of the user's own changes what
    a file asks.
    """
    artifacts = _made(contract, templates)
    faults = [*agreement(contract, artifacts).faults]
    if templates is not None:
        faults += templated.faults(artifacts, _made(contract, None))
    if faults:
        raise CompileError("nothing is written that does not agree: " + "; ".join(faults))
    return artifacts


def _made(contract: Contract, templates: Path | None) -> tuple[Artifact, ...]:
    made: dict[str, Artifact] = {}
    folders = set[str]()
    for generator, artifact in import_module("mahavishnu.generators").generate(contract, templates):
        if fault := _fault(artifact.path, made, folders):
            raise CompileError(f"generator `{generator}` wants to write `{artifact.path}`, {fault}")
        folders.update(folder.above(artifact.path.lower()))
        made[artifact.path.lower()] = replace(artifact, text=header(artifact.path) + artifact.text)
    return tuple(sorted(made.values()))


def drift(
    out: Path,
    artifacts: Iterable[Artifact],
    spec_hash: str,
    only: Container[str] | None = None,
    environment: str = "",
) -> tuple[Drift, ...]:
    """What on disk is not as the artifacts say, the lock included; changes nothing.

    With `only`, files outside the folders of these names are neither looked at nor missed.
    """
    return Survey.of(out, artifacts, spec_hash, only, environment).drifts()


def write(
    out: Path,
    artifacts: Iterable[Artifact],
    spec_hash: str,
    *,
    only: Container[str] | None = None,
    force: bool = False,
    environment: str = "",
) -> Written:
    """Bring the folder to what the artifacts say, or change nothing.

    First goes a lock that knows the old and the new digest of every file, then the files, then the final
    lock: after a crash at any point every file is whole, and the next run still tells its own from edits.
    Raises OverwriteError for edited and foreign files, marks of a merge, files of a newer version and a folder of
    another environment (`force` overwrites them, but never notes, nor what is no regular file), CompileError when space
    or rights do not suffice.
    """
    try:
        with folder.alone(out):
            survey = Survey.of(out, artifacts, spec_hash, only, environment)
            if obstacles := survey.obstacles(force=force):
                raise OverwriteError(obstacles)
            folder.sweep(out, survey.paths())
            folder.apply(out, survey.rounds())
    except OSError as fault:
        raise CompileError(f"cannot write `{fault.filename or out}`: {fault.strerror or fault}") from fault
    unchanged = tuple(sorted({*survey.wanted} - {*survey.changed()}))
    return Written(survey.changed(), survey.removed(), unchanged, survey.left(), survey.other_version())


def _fault(path: str, made: Container[str], folders: Container[str]) -> str:
    if not lawful(path) or path.lower() == LOCK:
        return "which is no path that a generated file may have"
    if path.lower() in made:
        return "which another generator writes too"
    if path.lower() in folders or any(one in made for one in folder.above(path.lower())):
        return "where another generator has a folder or a file"
    return ""
