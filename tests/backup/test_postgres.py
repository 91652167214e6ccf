"""A real PostgreSQL: saved, damaged, and brought back by the words of the generated page."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from urllib.parse import quote

import pytest

from mahavishnu.backup.job import Job, job
from mahavishnu.backup.postgres import Database, PostgresFailed, database, scratch_name
from mahavishnu.backup.restored import NotRestored, judged, written_back
from mahavishnu.cli import run
from mahavishnu.load import accept
from tests.backup.database import PASSWORD, programs, server
from tests.backup.test_page import followed
from tests.backup.world import OF_BOTH, World, spec
from tests.figures import figure


def test_a_url_is_read_without_being_shown() -> None:
    """Escapes, options, drivers; and what cannot be read says so without its password."""
    one = database("postgresql+asyncpg://me:p%40ss@db:6432/shop?sslmode=require")
    assert dict(one.said) == {
        "host": "db", "port": "6432", "user": "me", "password": "p@ss", "dbname": "shop", "sslmode": "require"
    }  # fmt: skip
    assert "p@ss" not in repr(one)
    for wrong in (
        "mysql://me:secret1@db/x",
        "postgresql://me:secret1@db:port/x",
        "postgresql://me:sec%0Aret1@db/x",
    ):
        with pytest.raises(PostgresFailed) as refused:
            database(wrong)
        assert "ret1" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "mode"), [("require", "require"), ("verify-full", "verify-full"), ("true", "require")]
)
def test_a_url_of_another_driver_means_the_same(said: str, mode: str) -> None:
    """`ssl` is what asyncpg and JDBC call it, and the service may be told the same secret."""
    assert dict(database(f"postgresql+asyncpg://me@db/shop?ssl={said}").said)["sslmode"] == mode


@pytest.mark.judge
def test_an_option_that_is_none_of_libpqs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the line of a file that nobody ever sees, in whatever language."""
    monkeypatch.setenv("PATH", f"{programs()}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with pytest.raises(
        PostgresFailed, match="has the option `command_timeout`, which PostgreSQL's programs do not know"
    ):
        database("postgresql://me@127.0.0.1:1/shop?command_timeout=5").ask("select 1")


def test_drills_of_two_services_are_in_databases_of_their_own() -> None:
    """On one server, with one name for their backups, and with the longest names."""
    pairs = [
        ("shop", "main"),
        ("crm", "main"),
        ("a_b", "c"),
        ("a", "b_c"),
        ("s" * 40, "b" * 40),
        ("s" * 40, "b" * 39),
    ]
    names = {scratch_name(service, backup) for service, backup in pairs}
    assert len(names) == len(pairs)
    assert max(map(len, names)) <= 63


@OF_BOTH
@pytest.mark.proof
@pytest.mark.judge
def test_the_page_brings_a_database_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, a sequence, a view, a constraint; dropped tables and a database that is gone; and a drill on its server."""
    said = spec(source={"postgres": "${DATABASE_URL}"}, rto="10m")
    said["secrets"] = ["RESTIC_PASSWORD", "DATABASE_URL"]
    world.write(said)
    world.begin()
    with server(monkeypatch) as port:
        url = f"postgresql://shop:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/orders"
        monkeypatch.setenv("DATABASE_URL", url)
        orders = database(url)
        orders.create()
        orders.ask("create table orders (id serial primary key, what text not null check (what <> ''))")
        orders.ask("insert into orders (what) select 'guitar ' || n from generate_series(1, 5000) n")
        orders.ask("create view sold as select count(*) from orders")
        before = everything(orders)
        assert run(["generate", "--out", "deploy"]) == 0
        page = world.home / "deploy/runbooks/disaster-recovery.md"
        assert world.do("run") == 0

        orders.ask("delete from orders where id > 7; drop view sold; alter table orders drop column what")
        followed(page)
        damaged = everything(orders) == before

        orders.drop()
        (world.home / "recovered-orders").rename(world.home / "before")
        followed(page)
        gone = everything(orders) == before
        left = [
            name
            for name in orders.other("postgres").ask("select datname from pg_database")
            if "drill" in name
        ]

        orders.ask("delete from orders")
        assert world.do("run") == 0
        assert world.do("drill") == 1  # the assert of the spec
    figure(
        "PostgreSQL brought back by the page's own words, damaged and gone",
        "equal",
        "equal" if damaged and gone else "differs",
    )
    assert damaged
    assert gone
    assert left == []


@pytest.fixture
def shop(world: World, monkeypatch: pytest.MonkeyPatch) -> Generator[Database]:
    """A database with another name, encoding and settings than usual, of an ordinary user; another one may read."""
    monkeypatch.setenv("SCRATCH_URL", "postgresql://shop@127.0.0.1:1/nobody")
    with server(monkeypatch) as port:
        admin = database(f"postgresql://shop:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres")
        admin.ask("create role reporting; create role keeper login createdb password 'secret'")
        said = "owner keeper template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
        admin.ask(f'create database "shop-prod" {said}')
        url = f"postgresql://keeper:secret@127.0.0.1:{port}/shop-prod"
        monkeypatch.setenv("DATABASE_URL", url)
        made = database(url)
        made.ask(
            'revoke all on database "shop-prod" from public; grant connect on database "shop-prod" to reporting'
        )
        made.ask('alter database "shop-prod" set search_path = app, public')
        made.ask("create schema app; create table app.orders (id int primary key)")
        made.ask("insert into orders values (1), (2); grant select on orders to reporting")
        made.dump(world.home / "dump")
        yield made


def known(world: World, told: list[str], claim: str | None = None, scratch: str = "${SCRATCH_URL}") -> Job:
    """The backup of that database; what is told is written down."""
    verify = {"scratch": scratch, **({"assert": claim} if claim else {})}
    said = spec(source={"postgres": "${DATABASE_URL}"}, verify=verify)
    world.write({**said, "secrets": ["RESTIC_PASSWORD", "DATABASE_URL", "SCRATCH_URL"]})

    def tell(event: str, **facts: object) -> None:
        told.append(f"{event}: {facts['what']}")

    return job(accept(world.home / "mahavishnu.yaml"), "orders", tell)


def put_back(world: World, claim: str | None = None) -> tuple[str, list[str]]:
    """The dump, in the place of the database; what is kept, and what is told."""
    told: list[str] = []
    return written_back(known(world, told), world.home / "dump", claim), told


@pytest.mark.proof
@pytest.mark.judge
def test_a_drill_asks_a_database_with_the_settings_of_the_source(
    world: World, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds in the source holds in what was restored, on a server of its own, too; without a source it is told."""
    claim = "select count(*) = 2 and current_setting('datestyle') = 'SQL, DMY' from orders"
    shop.ask("alter database \"shop-prod\" set datestyle = 'SQL, DMY'")
    shop.ask('alter database "shop-prod" set default_transaction_read_only = on')
    port = dict(shop.said)["port"]
    there = f"postgresql://shop:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
    monkeypatch.setenv("SCRATCH_URL", there)
    told: list[str] = []
    judged(known(world, told, claim), world.home / "dump")
    judged(known(world, told, claim, scratch="${DATABASE_URL}"), world.home / "dump")
    assert told == []
    shop.server.ask('drop database "shop-prod"')
    judged(known(world, told, "select count(*) = 2 from app.orders"), world.home / "dump")
    (said,) = told
    assert said.startswith(
        "odd: the drill's database lacks the settings of the source, which does not tell them:"
    )


@pytest.mark.proof
@pytest.mark.judge
def test_a_database_is_replaced_whatever_became_of_it(world: World, shop: Database) -> None:
    """What was made since goes with it, and stays beside it; owners, grants, encoding and settings are as before."""
    shop.ask("create table app.lines (of int references orders)")
    assert put_back(world) == ("shop-prod_before_restore", [])
    assert shop.ask("select id from orders") == ["1", "2"]
    assert shop.ask("select relname from pg_class where relname = 'lines'") == []
    assert shop.ask("select has_table_privilege('reporting', 'orders', 'select')") == ["t"]
    assert shop.ask("show server_encoding") == ["LATIN1"]
    same = "select datacl, datdba, datconnlimit, datcollate from pg_database where datname like 'shop-prod%'"
    assert len({*shop.ask(same)}) == 1
    assert shop.other("shop-prod_before_restore").ask("select count(*) from lines") == ["0"]
    assert put_back(world) == ("shop-prod_before_restore1", [])


@pytest.mark.proof
@pytest.mark.judge
def test_a_database_that_cannot_be_replaced_is_what_it_was(world: World, shop: Database) -> None:
    """While somebody uses it, and by something in which the claim does not hold."""
    shop.ask("insert into orders values (3)")
    for claim in ("select count(*) > 2 from orders", "select 1 from invoices"):
        with pytest.raises(NotRestored):
            put_back(world, claim)
    user = Thread(target=asleep, args=(shop,))
    user.start()
    while not shop.users():
        time.sleep(0.01)
    with pytest.raises(NotRestored, match="`shop-prod` has 1 sessions"):
        put_back(world)
    shop.server.ask("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop-prod'")
    user.join()
    assert shop.ask("select count(*) from orders") == ["3"]
    listed = shop.server.ask("select datname from pg_database where datname like 'shop-prod%'")
    assert listed == ["shop-prod"]


def asleep(shop: Database) -> None:
    """A session, until it is ended."""
    with suppress(PostgresFailed):
        shop.ask("select pg_sleep(60)")


@pytest.mark.proof
@pytest.mark.judge
def test_a_database_is_put_back_without_users_that_are_gone(world: World, shop: Database) -> None:
    """On a new server nobody else may be there yet: its data come back, and what does not is told."""
    admin = replace(shop.server, said=(("user", "shop"), ("password", PASSWORD), *shop.server.said))
    shop.drop()
    admin.ask("drop role reporting")
    kept, (told,) = put_back(world)
    assert kept == ""
    assert told.startswith("odd: restored without owners and grants")
    assert 'role "reporting" does not exist' in told
    assert shop.ask("select count(*) from app.orders") == ["2"]


def everything(orders: Database) -> list[str]:
    """All that is in it, and that the sequence goes on."""
    return [
        *orders.ask("select * from orders order by id"),
        *orders.ask("select * from sold"),
        *orders.ask("select last_value from orders_id_seq"),
        *orders.ask("select conname from pg_constraint where conrelid = 'orders'::regclass order by 1"),
    ]
