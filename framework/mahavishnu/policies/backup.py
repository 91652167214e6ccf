"""What is backed up, where to, how often, and what must be known of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from mahavishnu.cron import Schedule
from mahavishnu.policies._backup_series import (
    BACKUP_AGE,
    BACKUP_DRILL_AGE,
    BACKUP_GUARANTEED,
    BACKUP_HISTORY,
    BACKUP_HISTORY_DUE,
    BACKUP_RESTORE,
    BACKUP_SIZE,
    BACKUP_STEP,
    BACKUP_USUAL_SIZE,
    BACKUP_VERIFIED_AGE,
    COPIED,
    COPIES,
    STEPS,
)
from mahavishnu.policies._retention import Keep
from mahavishnu.policies._sftp import Ssh, server
from mahavishnu.policy import Policy, camel
from mahavishnu.promql import Expr, absent, highest
from mahavishnu.secret_refs import REFERENCE, name_of
from mahavishnu.settings import Keyed, OneOf, SecretRef, Settings, listed
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.store import HoldsSecret
from mahavishnu.unfit import unfit
from mahavishnu.units import DAY, SECOND, Duration, Size

_HOLD = Duration.parse("5m")
_SHRUNK = Decimal("0.5")
_SHORT = Decimal("0.9")
READ_PARTS = 7
"""`backup verify` reads a repository in so many parts, one in each run: all of it in a week of nights."""
_VERIFIED = Duration.parse("21d")
"""Two cycles of nightly parts, and a third of which some nights failed."""
_DRILL_EVERY = {"daily": "1d", "weekly": "7d", "monthly": "31d"}

_PART = r"\.?[A-Za-z0-9_][A-Za-z0-9_.-]*"
_FILE = rf"/?{_PART}(/{_PART})*"
FilePath = Annotated[
    str,
    StringConstraints(pattern=rf"^{_FILE}$", max_length=200),
    Field(examples=["/var/lib/shop/orders.db"]),
]
Words = Annotated[
    tuple[
        Annotated[
            str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=500), Field(examples=["sync"])
        ],
        ...,
    ],
    Field(min_length=1, max_length=40),
]
"""A command as the words it has; no shell reads them, unless the first is one."""


def _no_password(value: object) -> object:
    text = value if isinstance(value, str) else ""
    login = text.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if ":" in login and "${" not in login.partition(":")[2]:
        what = "the address of the repository holds a password"
        help = 'write `"rest:https://user:${NAME}@host/path"`'
        raise unfit(what, help)
    return value


_PLACE = r"[A-Za-z0-9_.~:/@\[\]-]"
Repository = Annotated[
    str,
    StringConstraints(
        pattern=rf"^((s3|sftp|rest|b2|azure|gs|swift|rclone):({_PLACE}|{REFERENCE})+|{_FILE})$",
        max_length=400,
    ),
    BeforeValidator(_no_password),
    HoldsSecret(),
    Field(examples=["s3:https://s3.example.com/shop-backups/orders", "/mnt/backups/orders"]),
]


def _different(places: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(places)) < len(places):
        what = "the same repository is named twice: that is one copy"
        raise unfit(what, "name another place, or one only")
    return places


Repositories = Annotated[
    tuple[Repository, ...],
    Field(min_length=1, max_length=len(COPIES)),
    BeforeValidator(listed, json_schema_input_type=Repository | list[Repository]),
    AfterValidator(_different),
]
_BACKENDS = ("AWS_", "AZURE_", "B2_", "GOOGLE_", "OS_", "RCLONE_", "ST_")


def _backends_own(credentials: tuple[str, ...]) -> tuple[str, ...]:
    for name in map(name_of, credentials):
        if not name.startswith(_BACKENDS):
            what = f"restic reads no variable `{name}`"
            help = "give the secret the name that restic's backend reads, like `${AWS_ACCESS_KEY_ID}`"
            raise unfit(what, help)
    return credentials


class Sqlite(Keyed):
    """A SQLite database, copied by its online backup while it is in use."""

    keyword: ClassVar[str] = "sqlite"
    file: ClassVar[str] = "sqlite"

    sqlite: FilePath
    """Its file, from the spec's own folder."""


class Postgres(Keyed):
    """A PostgreSQL database, dumped by `pg_dump`."""

    keyword: ClassVar[str] = "postgres"
    file: ClassVar[str] = "dump"

    postgres: SecretRef
    """The secret that holds its URL, `postgresql://user:password@host:5432/name`."""


class Directory(Keyed):
    """A folder with everything below it."""

    keyword: ClassVar[str] = "directory"
    file: ClassVar[str] = ""

    directory: FilePath
    """The folder, from the spec's own folder; a link stands for the folder that it points to."""


class Command(Keyed):
    """What a command writes to its standard output."""

    keyword: ClassVar[str] = "command"
    file: ClassVar[str] = "out"

    command: Words
    """The command, word by word; it must end with 0 and write something."""
    secrets: Annotated[tuple[SecretRef, ...], Field(max_length=10)] = ()
    """Secrets that it is told, as variables of their names; it is told no others."""


Source = Sqlite | Postgres | Directory | Command
AnySource = Annotated[Source, OneOf(Sqlite, Postgres, Directory, Command)]


class Verify(Settings):
    """How it is proved that a backup can be restored."""

    restore: Literal["daily", "weekly", "monthly"] = "weekly"
    """How often the newest snapshot is restored to a scratch place and looked at."""
    claim: Annotated[str | None, StringConstraints(pattern=r"^[^\x00-\x1f\x7f;]+$", max_length=500)] = Field(
        default=None, alias="assert", examples=["select count(*) > 0 from orders"]
    )
    """A query whose one answer must be true in the restored database."""
    scratch: SecretRef | None = None
    """The secret that holds the URL of a PostgreSQL server on which a database may be made for the drill; the
    source's own server when absent."""

    @property
    def every(self) -> Duration:
        """The time between two drills, at the most."""
        return Duration.parse(_DRILL_EVERY[self.restore])


class Hooks(Settings):
    """Commands around a backup; they are told no secret."""

    before: Words | None = None
    """Run first; when it fails nothing is backed up."""
    after: Words | None = None
    """Run last, whatever came of it: `BACKUP_OUTCOME` is `success` or `failure`."""


class Backup(Policy):
    """A source that is backed up with restic, and can be restored."""

    source: AnySource
    """What is backed up."""
    to: Repositories
    """One to three restic repositories: a folder, or `s3:…`, `sftp:…`, `rest:…`, `b2:…`, `azure:…`, `gs:…`."""
    password: SecretRef
    """The secret that encrypts the repositories. Keep a copy of it where this system is not."""
    credentials: Annotated[tuple[SecretRef, ...], Field(max_length=10), AfterValidator(_backends_own)] = ()
    """Secrets that restic reads as variables, like `${AWS_ACCESS_KEY_ID}`; it is told no others."""
    ssh: Ssh | None = None
    """The key for `sftp:` repositories, and the servers' own keys; where absent, those of the user who runs it."""
    schedule: Schedule
    """When it is made: cron's five fields, in UTC."""
    rpo: Duration
    """How old the newest backup may be: what may be lost."""
    rto: Duration | None = None
    """How long a restore may take."""
    verify: Verify = Verify.model_construct()
    """How it is proved that it can be restored."""
    hooks: Hooks = Hooks.model_construct()
    """Commands around it."""
    retention: Keep | None = None
    """Which snapshots are kept, in the place of `retention.backups`."""
    scratch: Size = Size.parse("10GiB")
    """Room for a copy of the source on its way, and for a drill, where containers are given a bound."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Backup:
        if self.verify.claim is not None and not isinstance(self.source, Sqlite | Postgres):
            what = f"an `assert` is a query, and a {self.source.keyword} answers none"
            raise unfit(what, "remove it: what is restored is compared by its hash")
        return self

    @model_validator(mode="after")
    def _is_elsewhere(self) -> Backup:
        if isinstance(self.source, Directory):
            for place in self.to:
                if PurePosixPath(place).is_relative_to(self.source.directory):
                    what = f"the repository `{place}` lies in the folder that is backed up"
                    raise unfit(what, "name another place: each backup would hold all that were before it")
        return self

    @model_validator(mode="after")
    def _is_let_in(self) -> Backup:
        """Every server of an `sftp:` repository has a port that can be, and is known where keys are given."""
        try:
            servers = {place: server(place) for place in self.to if "${" not in place}
        except ValueError:
            what = "an `sftp:` repository names a port that cannot be"
            raise unfit(what, "write `sftp://user@host:port/path` with a port up to 65535") from None
        if self.ssh is None:
            return self
        if not any(place.startswith("sftp:") for place in self.to):
            raise unfit(
                "`ssh` is given, and no repository is reached by it", "remove it, or name `sftp:…` in `to`"
            )
        for one in servers.values():
            if one is not None and not self.ssh.knows(one):
                scan = f"`ssh-keyscan -p {one.port} {one.host}`"
                what = f"`ssh.known_hosts` holds no key of {one.known_as}"
                raise unfit(what, f"add what {scan} prints, once you have compared it with the server's own")
        return self

    @property
    def copies(self) -> tuple[str, ...]:
        """The names of its repositories in labels."""
        return COPIES[: len(self.to)]

    def signals(self, name: str) -> tuple[Signal, ...]:
        copied = tuple(one.closed(backup=name, copy=self.copies) for one in COPIED)
        return (*copied, BACKUP_GUARANTEED.closed(backup=name), BACKUP_STEP.closed(backup=name, step=STEPS))

    def alerts(self, name: str) -> tuple[Alert, ...]:
        alerts = _Alerts(self, name)
        return (
            alerts.too_old(), alerts.silent(), alerts.failing(), alerts.unproven(), alerts.shrunk(),
            alerts.history_short(), alerts.verified_too_old(), alerts.drill_too_old(), *alerts.too_slow(),
        )  # fmt: skip


class _Alerts:
    """The alerts of one backup."""

    def __init__(self, backup: Backup, name: str) -> None:
        self.backup, self.name = backup, name
        self.path = ("backups", name)

    def too_old(self) -> Alert:
        rpo = self.backup.rpo
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

    def silent(self) -> Alert:
        gone = [absent(BACKUP_AGE.select(backup=self.name, copy=copy)) for copy in self.backup.copies]
        any_gone: Expr = gone[0]
        for one in gone[1:]:
            any_gone = any_gone.or_(one)
        healthy = self.backup.rpo.seconds / 2
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
                for copy in self.backup.copies
            ),
        )

    def failing(self) -> Alert:
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

    def unproven(self) -> Alert:
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

    def shrunk(self) -> Alert:
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

    def history_short(self) -> Alert:
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

    def verified_too_old(self) -> Alert:
        return self._aged("VerifiedTooOld", BACKUP_VERIFIED_AGE, _VERIFIED, "read back as a whole", "verify")

    def drill_too_old(self) -> Alert:
        bound = Duration(int(self.backup.verify.every) * 3 // 2)
        return self._aged("DrillTooOld", BACKUP_DRILL_AGE, bound, "restored in a drill", "drill")

    def too_slow(self) -> tuple[Alert, ...]:
        rto = self.backup.rto
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
