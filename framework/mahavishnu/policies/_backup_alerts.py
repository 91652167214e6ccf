"""What must be known of a backup: that it is made, can be restored, and reaches back as far as it should."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mahavishnu.errors import Path
from mahavishnu.policy import camel
from mahavishnu.promql import Expr, absent, highest
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.snapshots.series import (
    BACKUP_AGE,
    BACKUP_DRILL_AGE,
    BACKUP_HISTORY,
    BACKUP_HISTORY_DUE,
    BACKUP_RESTORE,
    BACKUP_SIZE,
    BACKUP_STEP,
    BACKUP_USUAL_SIZE,
    BACKUP_VERIFIED_AGE,
)
from mahavishnu.units import DAY, SECOND, Duration

_HOLD = Duration.parse("5m")
_SHRUNK = Decimal("0.5")
_SHORT = Decimal("0.9")
_VERIFIED = Duration.parse("21d")
"""Two cycles of the nightly parts of `backup verify`, and a third of which some nights failed."""


@dataclass(frozen=True, slots=True)
class BackupAlerts:
    """The alerts of one backup: `copies` are its repositories as labels name them, `every` the time between drills."""

    name: str
    copies: tuple[str, ...]
    rpo: Duration
    rto: Duration | None
    every: Duration

    @property
    def path(self) -> Path:
        """The place of the spec that asks for it."""
        return ("backups", self.name)

    def all(self) -> tuple[Alert, ...]:
        """One for each way in which it can fail to be there when it is needed."""
        return (
            self._too_old(), self._silent(), self._failing(), self._unproven(), self._shrunk(),
            self._history_short(), self._verified_too_old(), self._drill_too_old(), *self._too_slow(),
        )  # fmt: skip

    def _too_old(self) -> Alert:
        rpo = self.rpo
        return Alert(
            name=self._named("TooOld"),
            severity=Severity.P2,
            expr=highest(self._of(BACKUP_AGE), "copy") > rpo.seconds,
            summary=f"The newest backup of {self.name} is $value old; it may be {rpo}.",
            path=self.path,
            hold=_HOLD,
            unit="seconds",
            meaning=f"No backup has succeeded for longer than the RPO of {rpo}, in one of its repositories.",
            impact="What was written since the last backup would be lost.",
            action=self._try("run"),
            proof=(self._feed(BACKUP_AGE, rpo.seconds / 2, rpo.seconds * 2),),
        )

    def _silent(self) -> Alert:
        gone = [absent(BACKUP_AGE.select(backup=self.name, copy=copy)) for copy in self.copies]
        any_gone: Expr = gone[0]
        for one in gone[1:]:
            any_gone = any_gone.or_(one)
        healthy = self.rpo.seconds / 2
        where, there = (", in one of its repositories at least", " there") if len(gone) > 1 else ("", "")
        return Alert(
            name=self._named("Silent"),
            severity=Severity.P2,
            expr=highest(any_gone),
            path=self.path,
            hold=Duration.parse("15m"),
            summary=f"Nobody has heard of a backup of {self.name}{where}.",
            meaning="The service finds no report of a successful backup: there was none yet, its folder is not "
            "shared with the jobs, or a report lies in the future, so that a clock is wrong.",
            impact=f"There may be no backup at all{there}.",
            action=f"{self._try('list')} Then see that the service and the jobs share the folder that "
            "MAHAVISHNU_STATE names.",
            proof=tuple(
                Feed(BACKUP_AGE.select(backup=self.name, copy=copy), healthy=healthy, faulty=None)
                for copy in self.copies
            ),
        )

    def _failing(self) -> Alert:
        return Alert(
            name=self._named("Failing"),
            severity=Severity.P3,
            expr=highest(BACKUP_STEP.lately(backup=self.name, step_re="run|prune"), "step").equals(0),
            path=self.path,
            hold=_HOLD,
            summary=f"The last backup of {self.name}, or the removal of old ones, failed.",
            meaning="A run failed, or a prune deleted nothing because something was not as it has to be.",
            impact="Nothing is lost yet; the newest backup grows older, or the repository larger.",
            action=self._try("run"),
            proof=(Feed(BACKUP_STEP.select(backup=self.name, step="run"), healthy=1, faulty=0),),
        )

    def _unproven(self) -> Alert:
        return Alert(
            name=self._named("Unproven"),
            severity=Severity.P2,
            expr=highest(BACKUP_STEP.lately(backup=self.name, step_re="verify|drill"), "step").equals(0),
            path=self.path,
            hold=_HOLD,
            summary=f"Backups of {self.name} were found damaged, or could not be restored.",
            meaning="The last reading of the repository, or the last drill, failed.",
            impact="The backups may not restore.",
            action=f"{self._try('verify')} Where it finds damage, make a new backup to another repository first.",
            proof=(Feed(BACKUP_STEP.select(backup=self.name, step="drill"), healthy=1, faulty=0),),
        )

    def _shrunk(self) -> Alert:
        usual = 10**9
        return Alert(
            name=self._named("Shrunk"),
            severity=Severity.P2,
            expr=highest(self._of(BACKUP_SIZE) / self._of(BACKUP_USUAL_SIZE), "copy") < _SHRUNK,
            summary=f"The last backup of {self.name} has $value of the usual size.",
            path=self.path,
            hold=_HOLD,
            unit="ratio",
            meaning="It is less than half as large as the median of the seven before it.",
            impact="Data may have been deleted, or what is backed up is no longer what it was.",
            action=f"Look into the source before older snapshots expire; `mahavishnu backup list {self.name}` has "
            "the sizes.",
            proof=(
                self._feed(BACKUP_SIZE, usual, usual // 10),
                self._feed(BACKUP_USUAL_SIZE, usual, usual),
            ),
        )

    def _history_short(self) -> Alert:
        due = 100 * DAY // SECOND
        return Alert(
            name=self._named("HistoryShort"),
            severity=Severity.P2,
            expr=highest(self._of(BACKUP_HISTORY) / self._of(BACKUP_HISTORY_DUE), "copy") < _SHORT,
            summary=f"The snapshots of {self.name} reach back $value of what is guaranteed.",
            path=self.path,
            hold=_HOLD,
            unit="ratio",
            meaning="Snapshots are missing that the retention would have kept.",
            impact="Somebody, or something else than this service, has deleted backups.",
            action="Find out who may delete in the repository. Backups that are made now do not bring it back.",
            proof=(self._feed(BACKUP_HISTORY, due, due // 2), self._feed(BACKUP_HISTORY_DUE, due, due)),
        )

    def _verified_too_old(self) -> Alert:
        return self._aged("VerifiedTooOld", BACKUP_VERIFIED_AGE, _VERIFIED, "read back as a whole", "verify")

    def _drill_too_old(self) -> Alert:
        bound = Duration(int(self.every) * 3 // 2)
        return self._aged("DrillTooOld", BACKUP_DRILL_AGE, bound, "restored in a drill", "drill")

    def _too_slow(self) -> tuple[Alert, ...]:
        rto = self.rto
        if rto is None:
            return ()
        alert = Alert(
            name=self._named("RestoreTooSlow"),
            severity=Severity.P3,
            expr=highest(self._of(BACKUP_RESTORE), "copy") > rto.seconds,
            summary=f"Restoring {self.name} took $value in the last drill; it may take {rto}.",
            path=self.path,
            hold=_HOLD,
            unit="seconds",
            meaning="The measured time of a restore is longer than the RTO.",
            impact="After a disaster the service would be away for longer than promised.",
            action="Look for a slow way to the repository and a slow disk; else promise less, or restore less.",
            proof=(self._feed(BACKUP_RESTORE, rto.seconds / 2, rto.seconds * 2),),
        )
        return (alert,)

    def _aged(self, kind: str, signal: Signal, bound: Duration, done: str, verb: str) -> Alert:
        return Alert(
            name=self._named(kind),
            severity=Severity.P3,
            expr=highest(self._of(signal), "copy") > bound.seconds,
            path=self.path,
            hold=_HOLD,
            summary=f"No backup of {self.name} was {done} for $value; it may be {bound}.",
            unit="seconds",
            meaning=f"The last `mahavishnu backup {verb}` that succeeded lies too far back.",
            impact="Whether the backups restore is not known.",
            action=self._try(verb),
            proof=(self._feed(signal, bound.seconds / 2, bound.seconds * 2),),
        )

    def _named(self, kind: str) -> str:
        return f"Backup{camel(self.name)}{kind}"

    def _of(self, signal: Signal) -> Expr:
        return signal.lately(backup=self.name)

    def _feed(self, signal: Signal, healthy: Decimal | int, faulty: Decimal | int) -> Feed:
        return Feed(signal.select(backup=self.name, copy="1"), healthy=healthy, faulty=faulty)

    def _try(self, verb: str) -> str:
        return f"Read the log of the last job, or run `mahavishnu backup {verb} {self.name}`: it says what is wrong."
