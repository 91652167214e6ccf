"""PostgreSQL's own programs, told where the database is by a file that is on no disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mahavishnu.backup import child
from mahavishnu.backup.hiding import hiding
from mahavishnu.errors import MahavishnuError

_SCHEME = re.compile(r"postgres(ql)?(\+\w+)?")
_UNKNOWN = re.compile(r"syntax error in service file .*?, line (\d+)")
_FIRST_LINE = 2
"""Of what is said in a service file, after its name."""
_LONGEST_NAME = 63
"""Of a database, in bytes."""
_LISTED = "select datname from pg_database"
_USERS = "select count(*) from pg_stat_activity where datname = {name} and usesysid is not null"
_CREATED = """
select format('create database %I owner %I template template0 connection limit %s', {new}::text,
        pg_get_userbyid(datdba), datconnlimit)
    || format(' encoding %L lc_collate %L lc_ctype %L', pg_encoding_to_char(encoding), datcollate, datctype)
    || case of.said->>'datlocprovider' when 'i' then format(' locale_provider icu icu_locale %L',
        coalesce(of.said->>'daticulocale', of.said->>'datlocale')) else '' end
from pg_database, to_jsonb(pg_database) as of (said) where datname = {old}
"""
"""What makes a database of the same owner, in which text is written and ordered as in another one."""
_ADMITTED = """
select format('revoke all on database %I from public', {new}::text)
from pg_database where datname = {old} and datacl is not null
union all select format('grant %s on database %I to %s', privilege_type, {new}::text,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end)
from pg_database, aclexplode(datacl) where datname = {old} and grantee <> datdba
"""
"""What lets the same users in."""
_SET = """
select format('select set_config(%L, %L, false); alter database %I set %I from current',
    split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1), {new}::text, split_part(setting, '=', 1))
from pg_db_role_setting join pg_database on pg_database.oid = setdatabase, unnest(setconfig) as setting
where datname = {old} and setrole = 0
"""
"""What gives it the same settings, on any server: a list of names is none of texts, so no literal stands for it."""


class PostgresFailed(MahavishnuError):
    """One of its programs failed, or is not there; the message has no secret in it."""


@dataclass(frozen=True)
class Database:
    """A database of a server: the keys and values of libpq's connection service file."""

    said: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return "Database(…)"

    @property
    def name(self) -> str:
        return dict(self.said).get("dbname", "")

    def other(self, name: str) -> Database:
        """Another database of the same server."""
        return replace(self, said=tuple({**dict(self.said), "dbname": name}.items()))

    def dump(self, to: Path) -> None:
        """Write the whole database in pg_restore's custom format; uncompressed, so that snapshots share blocks."""
        self._run("pg_dump", "--format=custom", "--compress=0", "--no-password", f"--file={to}")

    def load(self, dump: Path, *, whole: bool = False) -> None:
        """Read a dump into this empty database, all of it or nothing; the `whole` of it has owners and grants, too."""
        more = () if whole else ("--no-owner", "--no-privileges")
        self._run("pg_restore", "--single-transaction", "--exit-on-error", *more, "--dbname=", str(dump))

    def ask(self, query: str) -> list[str]:
        """The rows of a query, as psql prints them."""
        words = ("--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align")
        out = self._run("psql", *words, "--set=ON_ERROR_STOP=1", f"--command={query}")
        return [line for line in out.splitlines() if line]

    @property
    def server(self) -> Database:
        """Another database that is on every server, from where this one is made, named and removed."""
        return self.other("template1" if self.name == "postgres" else "postgres")

    def exists(self) -> bool:
        """Whether the server has it."""
        return self.name in self.server.ask(_LISTED)

    def create(self) -> None:
        """Make it, empty."""
        self.server.ask(f"create database {_quoted(self.name)} template template0")

    def create_like(self, old: Database, lacks: Callable[[str], None]) -> None:
        """Make it, empty, with the encoding, grants and settings of another one; `lacks` hears which it cannot get."""
        names = {"new": _literal(self.name), "old": _literal(old.name)}
        (created,) = old.ask(_CREATED.format(**names))
        self.server.ask(created)
        self._given([*old.ask(_ADMITTED.format(**names)), *old.ask(_SET.format(**names))], lacks)

    def set_like(self, source: Database, lacks: Callable[[str], None]) -> None:
        """Give it the settings of another one, perhaps on another server; `lacks` hears which it cannot get.

        Not before it is filled: they may be such that nobody writes to it.
        """
        try:
            statements = source.ask(_SET.format(new=_literal(self.name), old=_literal(source.name)))
        except PostgresFailed as fault:
            lacks(f"the drill's database lacks the settings of the source, which does not tell them: {fault}")
        else:
            self._given(statements, lacks)

    def _given(self, statements: Iterable[str], lacks: Callable[[str], None]) -> None:
        for statement in statements:
            try:
                self.server.ask(statement)
            except PostgresFailed as fault:
                lacks(str(fault))

    def users(self) -> int:
        """How many sessions there are in it."""
        return int(self.server.ask(_USERS.format(name=_literal(self.name)))[0])

    def replace(self, old: Database) -> str:
        """Take the name of another one, in one transaction; what that is called from then on, if there is one."""
        listed = old.server.ask(_LISTED)
        takes, kept = f"alter database {_quoted(self.name)} rename to {_quoted(old.name)}", ""
        if old.name in listed:
            names = (_fitted(old.name, f"_before_restore{number or ''}") for number in count())
            kept = next(name for name in names if name not in listed)
            takes = f"alter database {_quoted(old.name)} rename to {_quoted(kept)}; {takes}"
        old.server.ask(takes)
        return kept

    def drop(self) -> None:
        """Remove it, when it is there."""
        self.server.ask(f"drop database if exists {_quoted(self.name)}")

    def _run(self, program: str, *words: str) -> str:
        text = "".join(f"{key}={value}\n" for key, value in self.said)
        with child.handed(f"[it]\n{text}") as path:
            env = {"PGSERVICEFILE": path, "PGSERVICE": "it", "PGAPPNAME": "mahavishnu backup", "LC_ALL": "C"}
            said = [f"{word}service=it" if word == "--dbname=" else word for word in words]
            try:
                done = child.run([program, *said], env, handed_paths=[path])
            except FileNotFoundError:
                what = f"`{program}` is not on the PATH: `apt-get install postgresql-client`"
                raise PostgresFailed(what) from None
        if done.code:
            why = " ".join(done.err.split())
            if unknown := _UNKNOWN.search(why):
                key, _ = self.said[int(unknown[1]) - _FIRST_LINE]
                what = f"has the option `{key}`, which PostgreSQL's programs do not know"
                raise PostgresFailed(f"the URL of the database {what}")
            clean = hiding(value for key, value in self.said if key == "password")
            raise PostgresFailed(f"{program} failed ({done.code}): {clean(why)[-600:]}")
        return done.out


def database(url: str) -> Database:
    """The database of a URL; raises PostgresFailed for one that cannot be read, without showing it."""
    try:
        parts = urlsplit(url)
        said = {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "password": parts.password,
        }
        options = dict(map(_of_libpq, parse_qsl(parts.query)))
    except ValueError:
        raise PostgresFailed("the URL of the database cannot be read") from None
    if not _SCHEME.fullmatch(parts.scheme):
        raise PostgresFailed("the URL of the database does not begin with `postgresql://`")
    found = {key: unquote(str(value)) for key, value in said.items() if value is not None}
    found = {**found, "dbname": unquote(parts.path.strip("/")), **options}
    if any(not value.isprintable() or value != value.strip() for value in found.values()):
        raise PostgresFailed("the URL of the database has characters that libpq's service file cannot carry")
    return Database(tuple((key, value) for key, value in found.items() if value))


def _of_libpq(option: tuple[str, str]) -> tuple[str, str]:
    """An option of a URL as libpq knows it: other drivers say `ssl`."""
    key, value = option
    return ("sslmode", "require" if value == "true" else value) if key == "ssl" else option


def scratch_name(service: str, backup: str) -> str:
    """What a drill's database is called: one server may be that of many services."""
    whole = f"mahavishnu_drill_{service}__{backup}"
    if len(whole) <= _LONGEST_NAME:
        return whole
    return _fitted(whole, f"_{hashlib.sha256(whole.encode()).hexdigest()[:8]}")


@contextmanager
def scratch(server: Database, name: str) -> Generator[Database]:
    """An empty database that is there for the time of a drill."""
    made = server.other(name)
    made.drop()
    try:
        made.create()
        yield made
    finally:
        made.drop()


@contextmanager
def successor(old: Database, lacks: Callable[[str], None]) -> Generator[Database]:
    """An empty database beside another one, and like it where that is there; gone afterwards unless it replaced that.

    `lacks` hears what it could not be given. Raises PostgresFailed while anybody uses the other one.
    """
    made = old.other(_fitted(old.name, "_restored"))
    there = old.exists()
    if there and (users := old.users()):
        raise PostgresFailed(f"`{old.name}` has {users} sessions: stop what uses it, and then try again")
    made.drop()
    try:
        if there:
            made.create_like(old, lacks)
        else:
            made.create()
        yield made
    finally:
        made.drop()


def _fitted(name: str, suffix: str) -> str:
    return name.encode()[: _LONGEST_NAME - len(suffix)].decode(errors="ignore") + suffix


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _literal(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))
