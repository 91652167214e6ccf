"""What is told of files that are not as the spec says: what differs in each, and for each state what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mahavishnu.cli import _output
from mahavishnu.files.lock import LOCK
from mahavishnu.survey import Drift, Kind

_LONGEST = 60
_RUN = "run `{command}`"
# In the order in which they are told: what a person has to do himself, what `--force` does, what any run does.
_ADVICE = {
    Kind.ENVIRONMENT: "each environment needs a folder of its own: run `{apart}`; "
    "`{command} --force` gives this folder to the environment that is asked for",
    Kind.NOTED: "what people wrote there would be lost, which not even `--force` does: do as it says there, or take "
    "the words elsewhere and remove the file",
    Kind.CONFLICTED: "a merge left its marks there: say in the spec what holds, then `{command} --force` writes these "
    "files anew, and keeps the notes of both sides",
    Kind.UNMERGED: "a merge left its marks in the notes: keep what holds of both sides, and remove the marks",
    Kind.IRREGULAR: "links are not followed, and folders not replaced, not even by `--force`: move it elsewhere",
    Kind.NEWER: "a newer version generated these files: install it, or go back with `{command} --force`",
    Kind.EDITED: "changed since they were generated: take the change into the spec, or into a template of your own in "
    ".mahavishnu/templates; `{command} --force` writes over them, and removes those that nothing makes any more",
    Kind.FOREIGN: "ours go there, and no run is known to have written these: move what is yours elsewhere; after a "
    f"merge, or where {LOCK} was lost, `{{command}} --force` writes over them",
    Kind.OLDER: "an older version generated these files: `{command}` writes them as this one does",
    Kind.BESIDE: "nothing generates them, and who reads their folder takes them for ours: remove them, or move them "
    "into a folder of your own",
    Kind.MISSING: _RUN,
    Kind.STALE: _RUN,
    Kind.ORPHANED: _RUN,
}


def show(drifts: Iterable[Drift], out: Path) -> None:
    """Each file, and what differs in it where that is not plain."""
    for one in drifts:
        print(f"{one.kind}: {out / one.place}", file=sys.stderr)
        lines = one.diff.splitlines()
        shown = lines[:_LONGEST]
        if len(lines) > len(shown):
            shown.append(f"… and {len(lines) - len(shown)} more lines")
        for line in shown:
            print(f"  {line}", file=sys.stderr)


def tell(head: str, drifts: Sequence[Drift], out: Path, command: str, apart: str = "") -> None:
    """What a run met, and what to do about it."""
    show(drifts, out)
    print("\n".join((*filter(None, (head,)), *advice(drifts, command, apart))), file=sys.stderr)


def counted(drifts: Sequence[Drift], command: str, apart: str = "") -> str:
    """How many files are not as the spec says, and what to do."""
    head = f"{_output.count(len(drifts), 'file')} not as the spec says"
    if any(one.kind is Kind.ENVIRONMENT for one in drifts):
        head = "this folder is another environment's"
    told = [*_sentences(drifts)]
    if told == [_RUN]:
        return f"{head}: {_RUN.format(command=command)}"
    return "\n".join((head, *advice(drifts, command, apart)))


def advice(drifts: Sequence[Drift], command: str, apart: str = "") -> list[str]:
    """A line for each thing to do, with the states that it is about.

    `command` is what generates the files, and `apart` what generates them into a folder of their own.
    """
    present = {one.kind for one in drifts}
    lines: list[str] = []
    for sentence in _sentences(drifts):
        kinds = ", ".join(kind for kind, said in _ADVICE.items() if kind in present and said == sentence)
        lines.append(f"{kinds}: {sentence.format(command=command, apart=apart)}")
    return lines


def _sentences(drifts: Iterable[Drift]) -> Iterator[str]:
    present = {one.kind for one in drifts}
    known = dict.fromkeys(said for kind, said in _ADVICE.items() if kind in present)
    if {
        Kind.NEWER,
        Kind.OLDER,
    } & present:  # where the version is the reason, its advice is the one for what differs
        known.pop(_RUN, None)
    yield from known
