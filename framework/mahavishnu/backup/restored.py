"""How what was restored of a source is judged, and put in its place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mahavishnu.backup import postgres, sqlite
from mahavishnu.backup.job import Job
from mahavishnu.errors import MahavishnuError
from mahavishnu.policies.backup import Postgres, Sqlite

_NO_TEXT = re.compile("[\udc80-\udcff]")


class NotRestored(MahavishnuError):
    """What was restored is not what was backed up."""


def judged(job: Job, restored: Path) -> None:
    """Look into what was restored, a file or a folder; raises NotRestored."""
    source = job.backup.source
    try:
        if isinstance(source, Sqlite):
            sqlite.judge(restored, job.backup.verify.claim)
        elif isinstance(source, Postgres):
            _judge_dump(job, source, restored)
    except (postgres.PostgresFailed, sqlite.SqliteFailed) as fault:
        raise NotRestored(str(fault)) from None


def written_back(job: Job, restored: Path, claim: str | None) -> str:
    """Put what was restored in the place of the source, if it is sound and the claim holds; where what was there is.

    Raises NotRestored, and then the source is what it was.
    """
    source = job.backup.source
    try:
        if isinstance(source, Sqlite):
            sqlite.judge(restored, claim)
            return sqlite.replace(job.home / source.sqlite, restored)
        if isinstance(source, Postgres):
            return _replace_database(job, source, restored, claim)
    except (postgres.PostgresFailed, sqlite.SqliteFailed) as fault:
        raise NotRestored(str(fault)) from None
    raise NotRestored(f"a {source.keyword} is not restored in place; restore it `--to` a folder and copy it")


def same_files(listed: Sequence[tuple[str, int]], target: Path) -> None:
    """Whether every file of a snapshot was restored in its size; raises NotRestored."""
    if not any(size for _, size in listed):
        raise NotRestored("the snapshot holds nothing")
    files = (one for one in target.rglob("*") if one.is_file() and not one.is_symlink())
    left = Counter((_shown(one.relative_to(target)), one.stat().st_size) for one in files)
    for path, size in listed:
        if not left[path, size]:
            raise NotRestored(f"{path} was not restored whole")
        left[path, size] -= 1


def _shown(path: Path) -> str:
    """As restic lists it, with U+FFFD for each byte that is no text."""
    return _NO_TEXT.sub("\ufffd", f"/{path}")


def _judge_dump(job: Job, source: Postgres, dump: Path) -> None:
    """Load the dump into a database of its own, on the server that is meant for it, and ask that."""
    verify = job.backup.verify
    server = postgres.database(job.secret(verify.scratch or source.postgres))
    with postgres.scratch(server, postgres.scratch_name(job.host, job.mark)) as database:
        database.load(dump)
        database.set_like(postgres.database(job.secret(source.postgres)), partial(_lacks, job))
        _judge_database(database, verify.claim)


def _lacks(job: Job, what: str) -> None:
    job.tell("odd", what=what)


def _judge_database(database: postgres.Database, claim: str | None) -> None:
    tables = "select count(*) from pg_class join pg_namespace on relnamespace = pg_namespace.oid"
    tables += " where relkind in ('r', 'p') and nspname !~ '^(pg_|information_schema)'"
    if database.ask(tables) == ["0"]:
        raise NotRestored("the restored database has no table")
    if claim and database.ask(claim) != ["t"]:
        raise NotRestored("the `assert` of the spec does not hold in the restored database")


def _replace_database(job: Job, source: Postgres, dump: Path, claim: str | None) -> str:
    """Load the dump as a drill does, beside the database, and give it that one's name at last."""
    place, lacks = postgres.database(job.secret(source.postgres)), partial(_lacks, job)
    with postgres.successor(place, lacks) as database:
        try:
            database.load(dump, whole=True)  # which needs the same users
        except postgres.PostgresFailed as fault:
            database.load(dump)
            lacks(f"restored without owners and grants: {fault}")
        _judge_database(database, claim)
        return database.replace(place)
