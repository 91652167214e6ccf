"""What is backed up, where to, how often, and what must be known of it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from mahavishnu.ground.cron import Schedule
from mahavishnu.ground.secret_refs import REFERENCE, name_of
from mahavishnu.ground.unfit import unfit
from mahavishnu.policies._backup_alerts import BackupAlerts
from mahavishnu.policy import Policy
from mahavishnu.settings import Keyed, OneOf, SecretRef, Settings, listed
from mahavishnu.signals import Alert, Signal
from mahavishnu.snapshots.retention import Keep
from mahavishnu.snapshots.series import (
    BACKUP_GUARANTEED,
    BACKUP_STEP,
    COPIED,
    COPIES,
    STEPS,
)
from mahavishnu.snapshots.sftp import Ssh, server
from mahavishnu.store import HoldsSecret
from mahavishnu.units import Duration, Size

READ_PARTS = 7
"""`backup verify` reads a repository in so many parts, one in each run: all of it in a week of nights."""
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
    def places(self) -> dict[str, str]:
        """Where each copy is, as the spec says it."""
        return dict(zip(self.copies, self.to, strict=True))

    @property
    def copies(self) -> tuple[str, ...]:
        """The names of its repositories in labels."""
        return COPIES[: len(self.to)]

    def signals(self, name: str) -> tuple[Signal, ...]:
        copied = tuple(one.closed(backup=name, copy=self.copies) for one in COPIED)
        return (*copied, BACKUP_GUARANTEED.closed(backup=name), BACKUP_STEP.closed(backup=name, step=STEPS))

    def alerts(self, name: str) -> tuple[Alert, ...]:
        alerts = BackupAlerts(name, self.copies, self.rpo, self.rto, self.verify.every)
        return alerts.all()
