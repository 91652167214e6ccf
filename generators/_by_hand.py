"""What a person does with a backup where its jobs run, which have its secrets and its volumes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mahavishnu.container import SCRATCH_PATH
from mahavishnu.contract import Contract

from ._command import Command
from ._places import targets

_NEW = "$NEW_PASSWORD"


def done(
    contract: Contract, purpose: str, verb: str, backup: str, *words: str, fed: str = ""
) -> list[Command]:
    """A verb of `mahavishnu backup`, in each place where jobs run, else here; `fed`: the file that it reads."""
    begin, read = ["mahavishnu", "backup", verb, backup], f' < "{fed}"' if fed else ""
    there = [
        command
        for place in targets(contract)
        for command in place.titled(
            Command(purpose, place.beside_jobs(backup, [*begin, *words], fed=bool(fed)) + read)
        )
    ]
    return there or [Command(purpose, shlex.join([*begin, *contract.options, *words]) + read)]


def enter(contract: Contract, backup: str) -> list[Command]:
    """What lets a person in there."""
    return [one for place in targets(contract) for one in place.titled(*place.enter(backup))]


def leave(contract: Contract, backup: str) -> list[Command]:
    """What takes away again that which let him in."""
    return [one for place in targets(contract) for one in place.titled(*place.leave(backup))]


def recovered(contract: Contract, backup: str, *, in_place: bool) -> Iterator[Command]:
    """Get a backup back where its jobs run: to a folder that they may write to, from there to here, or in its place."""
    if not targets(contract):
        return
    folder = f"recovered-{backup}"
    yield from enter(contract, backup)
    yield from done(contract, "Restore it", "restore", backup, "--to", f"{SCRATCH_PATH}/{folder}")
    packed = ["tar", "-C", SCRATCH_PATH, "-cf", "-", folder]
    for place in targets(contract):
        fetch = f"{place.beside_jobs(backup, packed, fed=True)} | tar -xf -"
        yield from place.titled(Command("Get it from there into the folder where this is typed", fetch))
    if in_place:
        yield from done(contract, "Put it in the place of the source", "restore", backup, "--in-place")
    yield from leave(contract, backup)


def rotated(contract: Contract) -> Iterator[Command]:
    """Give every repository the new password beside the old one, and open it with that."""
    for name in contract.spec.backups:
        yield from enter(contract, name)
        for which, chosen in _repositories(contract, name):
            add = (*chosen, "--", "key", "add", "--new-password-file", "/dev/stdin")
            yield from done(contract, f"Tell {which} the new password", "restic", name, *add, fed=_NEW)
            opened = (*chosen, "--", "cat", "config", "--password-file", "/dev/stdin")
            yield from done(contract, f"See that it opens {which}", "restic", name, *opened, fed=_NEW)
        yield from leave(contract, name)


def forgotten(contract: Contract) -> Iterator[Command]:
    """See that the jobs have the new password, and by which key each repository knows the old one."""
    for name in contract.spec.backups:
        yield from enter(contract, name)
        yield from done(contract, f"See that the jobs of {name} have the new password", "list", name)
        for which, chosen in _repositories(contract, name):
            listed = (*chosen, "--", "key", "list")
            yield from done(
                contract, f"The keys of {which}; the old one has no asterisk", "restic", name, *listed
            )
            removed = (*chosen, "--", "key", "remove", "OLD")
            yield from done(contract, "Remove the old one; OLD is its id", "restic", name, *removed)
        yield from leave(contract, name)


def _repositories(contract: Contract, backup: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each as it is called, and the words that choose it."""
    copies = contract.spec.backups[backup].copies
    if len(copies) == 1:
        return [(f"the repository of {backup}", ())]
    return [(f"repository {one} of {backup}", ("--copy", one)) for one in copies]
