"""The page that is read when data are gone: this service's backups, and the very commands that bring them back."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from mahavishnu.artifact import Artifact
from mahavishnu.backup import evidence
from mahavishnu.contract import Contract
from mahavishnu.derived.history import days
from mahavishnu.ground.environments import called
from mahavishnu.ground.secret_refs import name_of
from mahavishnu.policies.backup import Backup, Command, Directory, Postgres, Sqlite
from mahavishnu.snapshots.retention import guaranteed, most

from . import _by_hand
from ._render import Code, Mark, render
from ._service import jobs_secrets


def generate(contract: Contract) -> Iterable[Artifact]:
    """The page, where anything is backed up."""
    spec = contract.spec
    if not spec.backups:
        return
    values = {
        "job": contract.job,
        "options": contract.options and Code(shlex.join(contract.options), inline=True),
        "env": contract.env,
        "backups": [_backup(contract, name, backup) for name, backup in spec.backups.items()],
        "postgres": any(isinstance(one.source, Postgres) for one in spec.backups.values()),
        "secrets": jobs_secrets(spec),
    }
    yield Artifact("runbooks/disaster-recovery.md", render("runbooks/disaster-recovery.md.j2", **values))


def _backup(contract: Contract, name: str, backup: Backup) -> dict[str, object]:
    keep = contract.spec.keeps(name)
    word, mark = shlex.join([name, *contract.options]), called(name, contract.spec.environment)
    kept = "every snapshot"
    if keep is not None:
        span = days(guaranteed(keep, backup.schedule))
        kept = f"{keep.text}; at most {most(keep, backup.schedule)} snapshots, at least {span}"
    return {
        "name": name,
        "word": Mark(word),
        "folder": Mark(f"recovered-{name}"),
        "recovered": Code(f"recovered-{name}", inline=True),
        "report": Code(f"{evidence.about(contract.spec.service.name, mark)}.json", inline=True),
        "plan": Code(f"mahavishnu backup plan {word}", inline=True),
        "prune": Code(f"mahavishnu backup prune {word} --confirm", inline=True),
        "what": _what(backup),
        "schedule": str(backup.schedule),
        "rpo": str(backup.rpo),
        "rto": str(backup.rto) if backup.rto else "",
        "kept": kept,
        "places": backup.places,
        "in_place": isinstance(backup.source, Sqlite | Postgres),
        "replaced": _replaced(backup),
        "beside": [
            {"purpose": one.purpose, "code": Code(one.text)}
            for one in _by_hand.recovered(
                contract, name, in_place=isinstance(backup.source, Sqlite | Postgres)
            )
        ],
        "claim": backup.verify.claim is not None,
    }


def _what(backup: Backup) -> str:
    match backup.source:
        case Sqlite(sqlite=path):
            return f"the SQLite database {path}"
        case Postgres(postgres=reference):
            return f"the PostgreSQL database of the secret {name_of(reference)}"
        case Directory(directory=path):
            return f"the folder {path}"
        case Command(command=words):
            return f"what {words[0]} writes"


def _replaced(backup: Backup) -> str:
    if isinstance(backup.source, Sqlite):
        kept = f"{backup.source.sqlite}.before-restore"
        beside = f"The file that is there now stays beside it, as {kept}, with a number where there is one already."
        return f"Nobody may have it open. {beside}"
    return (
        "It is loaded into a new database, which then takes the name of the one that is there now: nobody may be "
        "connected to that, and the user of the secret's URL has to be allowed to create databases. The old one stays "
        "beside it until you drop it, as orders_before_restore where its name was orders; there has to be "
        "room for both."
    )
