"""PostgreSQL's own programs, told where the database is by a file that is on no disk."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mahavishnu.backup import child
from mahavishnu.errors import MahavishnuError

_SCHEME = re.compile(r"postgres(ql)?(\+\w+)?")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


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

    def load(self, dump: Path, *, over: bool) -> None:
        """Read a dump into this database, all of it or nothing; `over` replaces what is there already."""
        more = ("--clean", "--if-exists") if over else ("--no-owner", "--no-privileges")
        self._run("pg_restore", "--single-transaction", "--exit-on-error", *more, "--dbname=", str(dump))

    def ask(self, query: str) -> list[str]:
        """The rows of a query, as psql prints them."""
        words = ("--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align")
        out = self._run("psql", *words, "--set=ON_ERROR_STOP=1", f"--command={query}")
        return [line for line in out.splitlines() if line]

    def exists(self) -> bool:
        """Whether the server has it."""
        listed = self.other("postgres").ask("select datname from pg_database")
        return self.name in listed

    def create(self) -> None:
        """Make it, empty."""
        self.other("postgres").ask(f'create database "{_plain(self.name)}" template template0')

    def drop(self) -> None:
        """Remove it, when it is there."""
        self.other("postgres").ask(f'drop database if exists "{_plain(self.name)}"')

    def _run(self, program: str, *words: str) -> str:
        text = "".join(f"{key}={value}\n" for key, value in self.said)
        with child.handed(f"[it]\n{text}") as path:
            env = {"PGSERVICEFILE": path, "PGSERVICE": "it", "PGAPPNAME": "mahavishnu backup"}
            said = [f"{word}service=it" if word == "--dbname=" else word for word in words]
            try:
                done = child.run([program, *said], env, handed_paths=[path])
            except FileNotFoundError:
                what = f"`{program}` is not on the PATH: `apt-get install postgresql-client`"
                raise PostgresFailed(what) from None
        if done.code:
            why = " ".join(done.err.split())
            for key, value in self.said:
                why = why.replace(value, "***") if key == "password" and value else why
            raise PostgresFailed(f"{program} failed ({done.code}): {why[-600:]}")
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
        options = dict(parse_qsl(parts.query))
    except ValueError:
        raise PostgresFailed("the URL of the database cannot be read") from None
    if not _SCHEME.fullmatch(parts.scheme):
        raise PostgresFailed("the URL of the database does not begin with `postgresql://`")
    found = {key: unquote(str(value)) for key, value in said.items() if value is not None}
    found = {**found, "dbname": unquote(parts.path.strip("/")), **options}
    if any(not value.isprintable() or value != value.strip() for value in found.values()):
        raise PostgresFailed("the URL of the database has characters that libpq's service file cannot carry")
    return Database(tuple((key, value) for key, value in found.items() if value))


@contextmanager
def scratch(server: Database, name: str) -> Generator[Database]:
    """A database that is there for the time of a drill."""
    made = server.other(_plain(name))
    made.drop()
    made.create()
    try:
        yield made
    finally:
        made.drop()


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PostgresFailed(f"`{name}` is no plain name for a database")
    return name
