"""What the jobs have written down of the backups, as series: the service only reads, and never opens a repository."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

from mahavishnu.backup import evidence
from mahavishnu.backup.evidence import Copy, Evidence
from mahavishnu.ground.environments import called
from mahavishnu.protocols import Meter
from mahavishnu.signals import Signal
from mahavishnu.snapshots.retention import guaranteed
from mahavishnu.snapshots.series import (
    BACKUP_AGE,
    BACKUP_DRILL_AGE,
    BACKUP_DRILLED,
    BACKUP_DURATION,
    BACKUP_GUARANTEED,
    BACKUP_HISTORY,
    BACKUP_HISTORY_DUE,
    BACKUP_RESTORE,
    BACKUP_SIZE,
    BACKUP_SNAPSHOTS,
    BACKUP_STEP,
    BACKUP_SUCCESS,
    BACKUP_USUAL_SIZE,
    BACKUP_VERIFIED,
    BACKUP_VERIFIED_AGE,
    STEPS,
)
from mahavishnu.spec import Spec
from mahavishnu.units import DAY, SECOND

NONE = math.nan
"""No such series now."""
_AHEAD = 3600
"""A report that lies so many seconds in the future is not believed."""
_Read = Callable[[Copy, float], float | None]


def show(spec: Spec, folder: Callable[[], Path], meter: Meter, now: Callable[[], float]) -> None:
    """Show what is known of every backup of a spec; `folder` is asked at each scrape, `now` is seconds since 1970."""
    for name, backup in spec.backups.items():
        about = evidence.about(spec.service.name, called(name, spec.environment))
        report = _Report(folder, about, backup.places)
        span = int(guaranteed(keep, backup.schedule)) / SECOND if (keep := spec.keeps(name)) else 0.0
        meter.gauge(BACKUP_GUARANTEED, partial(float, span), backup=name)
        for step in STEPS:
            meter.gauge(BACKUP_STEP, _step(report, step), backup=name, step=step)
        for copy in backup.copies:
            for signal, read in (*_READ.items(), (BACKUP_HISTORY_DUE, _due(span))):
                meter.gauge(signal, _reader(report, copy, read, now), backup=name, copy=copy)


class _Report:
    """The file of one backup, read again only when it is another one."""

    def __init__(self, folder: Callable[[], Path], name: str, places: Mapping[str, str]) -> None:
        self._folder, self._name, self._places = folder, name, places
        self._seen: tuple[Path, int, int] | None = None
        self._known = Evidence()

    def known(self) -> Evidence:
        """What it says of these repositories; nothing where there is none."""
        folder = self._folder()
        try:
            found = (folder / f"{self._name}.json").stat()
        except OSError:
            self._seen = None
            return Evidence()
        seen = (folder, found.st_ino, found.st_mtime_ns)
        if seen != self._seen:
            known = evidence.among(evidence.read(folder, self._name), self._places)
            self._known, self._seen = known, seen
        return self._known


def _reader(report: _Report, copy: str, read: _Read, now: Callable[[], float]) -> Callable[[], float]:
    def value() -> float:
        one, at = report.known().copies.get(copy), now()
        if one is None or one.success is None or one.success > at + _AHEAD:
            return NONE
        found = read(one, at)
        return NONE if found is None else found

    return value


def _step(report: _Report, step: str) -> Callable[[], float]:
    def value() -> float:
        ended = report.known().steps.get(step)
        return NONE if ended is None else float(ended)

    return value


def _since(moment: float | None, one: Copy, at: float) -> float:
    """Time since a moment, or since the first backup of this copy where it has not come yet."""
    began = moment if moment is not None else one.first or one.success or at
    return max(0.0, at - began)


def _age(one: Copy, at: float) -> float:
    """Of the newest snapshot that is still there; where none is, all is lost that came since the first backup."""
    if not one.newest:
        return _since(None, one, at)
    return max(0.0, at - min(one.success or at, one.newest))


def _due(span: float) -> _Read:
    """A day less than there has been time for: the first run was begun before there was its snapshot.

    A retention promises what it keeps from its first run on, beside what the one before it kept. Where no snapshot is
    left, all is due that was kept until the last backup.
    """

    def due(one: Copy, _: float) -> float:
        until = one.newest or one.success or 0
        began = max(one.first or until, one.since or 0)
        promised = span if one.promised is None else min(span, one.promised)
        return max(0.0, min(promised, until - began - DAY // SECOND))

    return due


_READ: dict[Signal, _Read] = {
    BACKUP_SUCCESS: lambda one, _: one.success,
    BACKUP_AGE: _age,
    BACKUP_SIZE: lambda one, _: one.sizes[-1] if one.sizes else None,
    BACKUP_USUAL_SIZE: lambda one, _: median(one.sizes[:-1] or one.sizes) if one.sizes else None,
    BACKUP_DURATION: lambda one, _: one.duration,
    BACKUP_VERIFIED: lambda one, _: one.verified,
    BACKUP_VERIFIED_AGE: lambda one, at: _since(one.verified, one, at),
    BACKUP_DRILLED: lambda one, _: one.drilled,
    BACKUP_DRILL_AGE: lambda one, at: _since(one.drilled, one, at),
    BACKUP_RESTORE: lambda one, _: one.restore,
    BACKUP_SNAPSHOTS: lambda one, _: one.snapshots,
    BACKUP_HISTORY: lambda one, _: max(0.0, one.newest - one.oldest),
}
