"""How a backup tells what it does: sentences and a progress bar on a terminal, else one JSON object a line."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from functools import partial

from mahavishnu.backup.copies import each_copy
from mahavishnu.backup.evidence import Copy, Evidence
from mahavishnu.backup.job import Job, Tell
from mahavishnu.backup.pruning import planned as plan_of
from mahavishnu.backup.restic import Repository, Taken

_SENTENCES = {
    "capturing": "capturing its {source}",
    "absent": "there is no repository yet; looking again in {seconds} s, lest another job makes it, too",
    "initialised": "made a new repository at {repository}",
    "saved": "saved {bytes} bytes as {snapshot} in {seconds} s",
    "pruned": "{kept} snapshots kept, removed {removed}",
    "differs": "restic's plan and ours differ over {snapshots}; these stay",
    "odd": "{what}",
    "verified": "read {read}, no fault found",
    "drilled": "restored {snapshot} in {seconds} s, and it is good",
    "restoring": "restoring {snapshot}, made {made}",
    "restored": "{snapshot} is at {place}",
    "kept": "what was there before is kept as {place}",
    "retrying": "restic tries again, for a quarter of an hour at the most: {why}",
    "failed": "{why}",
    "waiting": "waiting for {what}, {at_most} at the most; held by {held_by}",
    "due": "{step} is due",
    "late": "{step} is due, and the one before it has not ended",
    "ended": "{step} ended with {code}",
}


def teller(name: str = "") -> Tell:
    """Who hears what happens to a backup."""
    return _Screen(name) if sys.stdout.isatty() else _Lines(name)


class _Lines:
    """One JSON object a line on standard output, for logs; progress at most every ten seconds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._silent_until = 0.0

    def __call__(self, event: str, **facts: object) -> None:
        if event == "progress":
            if time.monotonic() < self._silent_until:
                return
            self._silent_until = time.monotonic() + 10
        said = {"time": datetime.now(UTC).isoformat(), "event": event, "backup": self.name, **facts}
        print(json.dumps({key: value for key, value in said.items() if value != ""}), flush=True)


class _Screen:
    """Sentences for a person, and how far it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._line = False

    def __call__(self, event: str, **facts: object) -> None:
        if event == "progress":
            self._progress(float(str(facts["done"])))
            return
        if self._line:
            print(file=sys.stderr)
            self._line = False
        of = f"copy {facts['copy']}: " if "copy" in facts else ""
        print(f"{self.name}: {of}{_SENTENCES[event].format(**facts)}".removeprefix(": "), flush=True)

    def _progress(self, done: float) -> None:
        full = round(30 * done)
        print(f"\r  [{'#' * full}{'.' * (30 - full)}] {done:4.0%}", end="", file=sys.stderr, flush=True)
        self._line = True


# --- lists ----------------------------------------------------------------------------------------


def listed(job: Job) -> None:
    """Every snapshot of a backup, and what was last proved of each copy; raises Failed when one does not answer."""
    each_copy(job, partial(_listed, job, job.known()))


def _listed(job: Job, known: Evidence, copy: str, repository: Repository) -> None:
    one, (taken, incomplete, _) = known.copies.get(copy, Copy()), repository.snapshots()
    every = sorted((*taken, *incomplete), key=lambda each: -each.snapshot.order)
    proved = {"succeeded": one.success, "verified": one.verified, "drilled": one.drilled}
    if not sys.stdout.isatty():
        facts = {key: value and _moment(value) for key, value in proved.items()}
        about = {"backup": job.name, "copy": copy, **facts, "restore_seconds": one.restore}
        print(json.dumps({"event": "copy", **about}))
        for each in every:
            about = {"backup": job.name, "copy": copy, **_snapshot(each)}
            print(json.dumps({"event": "snapshot", **about, "incomplete": each in incomplete}))
        return
    said = ", ".join(f"{key} {_moment(value) if value else 'never'}" for key, value in proved.items())
    measured = f", restored in {one.restore:.1f} s" if one.restore is not None else ""
    print(f"{job.name} copy {copy}: {len(taken)} snapshots; {said}{measured}")
    for each in every:
        lacks = ", incomplete" if each in incomplete else ""
        print(f"  {each.id[:8]}  {each.snapshot.at.isoformat()}  {each.tag('bytes') or '?'} bytes{lacks}")


def _snapshot(one: Taken) -> dict[str, str]:
    return {"id": one.id, "made": one.snapshot.at.isoformat(), "bytes": one.tag("bytes") or "?"}


def planned(job: Job) -> None:
    """What the retention says of every snapshot, and what `prune` would do; raises Failed as `listed` does."""
    each_copy(job, partial(_planned, job))


def _planned(job: Job, copy: str, repository: Repository) -> None:
    made, (taken, incomplete, _) = plan_of(job, repository)
    for one in (*taken, *incomplete):
        why = "incomplete" if one in incomplete else ", ".join(made.kept.get(one.id, ()))
        verdict = "remove" if one.id in made.remove else "keep"
        facts = {"backup": job.name, "copy": copy, **_snapshot(one), "plan": verdict, "why": why}
        if sys.stdout.isatty():
            print(f"  copy {copy}  {one.id[:8]}  {facts['made']}  {verdict:<6}  {why}")
        else:
            print(json.dumps({"event": "plan", **facts}))
    for line in (*made.never, *made.unless) if made.remove else ():
        print(f"copy {copy}: nothing would be removed: {line}", file=sys.stderr)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
