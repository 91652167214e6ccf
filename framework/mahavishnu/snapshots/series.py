"""What is shown of a backup: what its jobs have written down of each copy, and of each step."""

from __future__ import annotations

from mahavishnu.signals import Across, Kind, Label, Signal, Unit

COPIES = ("1", "2", "3")
"""A backup goes to at most so many repositories, named by their place in `to`."""


def _of_copy(name: str, help: str, unit: Unit = Unit.NUMBER, waived: str = "") -> Signal:
    """A number of each copy, as its jobs have written it down."""
    labels = (Label("backup"), Label("copy", COPIES))
    return Signal(name, Kind.GAUGE, help, labels, across=Across.MAX, waived=waived, unit=unit, reported=True)


BACKUP_SUCCESS = _of_copy(
    "mahavishnu_backup_last_success_timestamp_seconds",
    "When the last backup that succeeded was begun, in seconds since 1970.",
    waived="What its age is measured from: that is judged.",
    unit=Unit.POINT,
)
BACKUP_AGE = _of_copy(
    "mahavishnu_backup_age_seconds",
    "How old the last backup that succeeded is: what would be lost if everything else were.",
    unit=Unit.AGE,
)
BACKUP_SIZE = _of_copy(
    "mahavishnu_backup_size_bytes",
    "Size of what the last backup read.",
    unit=Unit.BYTES,
)
BACKUP_USUAL_SIZE = _of_copy(
    "mahavishnu_backup_usual_size_bytes",
    "Median size of the seven backups before it.",
    unit=Unit.BYTES,
)
BACKUP_DURATION = _of_copy(
    "mahavishnu_backup_duration_seconds",
    "How long the last backup took.",
    waived="How long it takes is looked at; one that never ends makes the age grow.",
    unit=Unit.SECONDS,
)
BACKUP_VERIFIED = _of_copy(
    "mahavishnu_backup_last_verified_timestamp_seconds",
    "When the last reading of the whole repository that found no fault was begun, in seconds since 1970.",
    waived="What its age is measured from: that is judged.",
    unit=Unit.POINT,
)
BACKUP_VERIFIED_AGE = _of_copy(
    "mahavishnu_backup_verified_age_seconds",
    "Time since then; where nothing was verified yet, since the first backup.",
    waived="Asked for where repositories are read.",
    unit=Unit.AGE,
)
BACKUP_DRILLED = _of_copy(
    "mahavishnu_backup_last_drill_timestamp_seconds",
    "When the last drill that restored good data was begun, in seconds since 1970.",
    waived="What its age is measured from: that is judged.",
    unit=Unit.POINT,
)
BACKUP_DRILL_AGE = _of_copy(
    "mahavishnu_backup_drill_age_seconds",
    "Time since then; where nothing was restored yet, since the first backup.",
    waived="Asked for where drills are made.",
    unit=Unit.AGE,
)
BACKUP_RESTORE = _of_copy(
    "mahavishnu_backup_restore_seconds",
    "How long that drill took: the measured RTO.",
    waived="Asked for where `rto` says how long it may take.",
    unit=Unit.SECONDS,
)
BACKUP_SNAPSHOTS = _of_copy(
    "mahavishnu_backup_snapshots",
    "Snapshots in the repository.",
    waived="How many there are is looked at; what is promised is how far back they go.",
)
BACKUP_HISTORY = _of_copy(
    "mahavishnu_backup_history_seconds",
    "Time from the newest snapshot back to the oldest.",
    waived="Asked for where a retention says how far back they go.",
    unit=Unit.SECONDS,
)
BACKUP_HISTORY_DUE = _of_copy(
    "mahavishnu_backup_history_due_seconds",
    "What that has to be by now: the guaranteed history, or the time from the first backup to the last less a day.",
    waived="Asked for where a retention says how far back they go.",
    unit=Unit.SECONDS,
)
COPIED = (
    BACKUP_SUCCESS,
    BACKUP_AGE,
    BACKUP_SIZE,
    BACKUP_USUAL_SIZE,
    BACKUP_DURATION,
    BACKUP_VERIFIED,
    BACKUP_VERIFIED_AGE,
    BACKUP_DRILLED,
    BACKUP_DRILL_AGE,
    BACKUP_RESTORE,
    BACKUP_SNAPSHOTS,
    BACKUP_HISTORY,
    BACKUP_HISTORY_DUE,
)
BACKUP_GUARANTEED = Signal(
    "mahavishnu_backup_guaranteed_history_seconds",
    Kind.GAUGE,
    "The history that the retention guarantees once backups have run long enough.",
    (Label("backup"),),
    across=Across.MAX,
    waived="What will be promised once there are enough of them; what is due by now is judged.",
    unit=Unit.SECONDS,
)
STEPS = ("run", "prune", "verify", "drill")
BACKUP_STEP = Signal(
    "mahavishnu_backup_step_successful",
    Kind.GAUGE,
    "1 when the last run, prune, verification or drill succeeded, 0 when it failed.",
    (Label("backup"), Label("step", STEPS)),
    across=Across.MIN,
    unit=Unit.FLAG,
    reported=True,
)
