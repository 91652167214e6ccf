"""Every cross-check speaks where it should, at the very token, and is silent beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mahavishnu import checks
from mahavishnu.errors import Finding
from mahavishnu.ground.codes import LOADER
from mahavishnu.load import Loaded, load
from mahavishnu.signals import AgreementError

TEXT = (Path(__file__).parent / "worlds.txt").read_text(encoding="utf-8")
BASE = {
    "mahavishnu": "mahavishnu: 1",
    "service": "service: {name: shop, app: shop.main:app, traffic: 50/second}",
    "secrets": "secrets: [KEY]",
    "channels": 'channels: {room: {slack: "${KEY}", channel: "#shop"}}',
}
ROUTES: checks.Routes = (
    ("/login", frozenset({"POST"})),
    ("/orders/{id}", frozenset({"GET", "HEAD"})),
    ("/products", frozenset({"GET", "HEAD"})),
    ("/static/*", None),
)
APP = checks.App(ROUTES, "around")


class World(NamedTuple):
    """A spec with «» around the token the check means, its neighbour, and what is said; of this app, if it matters."""

    name: str
    level: str
    app: str
    speaks: str
    silent: str
    says: str
    helps: str


def worlds() -> list[World]:
    """Those of worlds.txt."""
    form = r"^== (\w+) (\w+)\n(?:-- app ([^\n]*)\n)?(.+?)\n-- silent\n(.+?)\n-- says ([^\n]*)\n-- helps ([^\n]*)\n"
    return [World(*match.groups("")) for match in re.finditer(form, TEXT, re.MULTILINE | re.DOTALL)]


WORLDS = worlds()
NAMES = {one.CODE.id: str(getattr(one, "__name__", "")).rpartition(".")[2] for one in checks.ALL}


def loaded(text: str, folder: Path) -> Loaded:
    """The base spec with these sections in the place of its own."""
    sections = {line.split(":")[0] for line in text.splitlines()}
    kept = [line for name, line in BASE.items() if name not in sections]
    path = folder / "mahavishnu.yaml"
    path.write_text("\n".join([*kept, text, ""]), encoding="utf-8")
    return load(path)


def found(name: str, one: Loaded, app: str = "") -> list[Finding]:
    """What the check of this name says of it and an app; the others say what they like."""
    routes = ROUTES if "DELETE" not in one.text or "static" in one.text else ROUTES[:3]
    seen = APP._replace(routes=routes, **json.loads(app or "{}"))
    return [finding for finding in one.crossed(seen) if NAMES[finding.code] == name]


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_it_speaks(world: World, tmp_path: Path) -> None:
    """Once, with its level, what is wrong and what to do, under the token."""
    findings = found(world.name, loaded(re.sub("[«»]", "", world.speaks), tmp_path), world.app)

    assert [finding.severity for finding in findings] == [world.level]
    assert world.says in findings[0].what
    assert world.helps in findings[0].help
    where = findings[0].where
    assert where is not None
    token = where.text[where.column - 1 :][: where.width]
    assert f"«{token}»" in world.speaks


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_its_neighbour_is_silent(world: World, tmp_path: Path) -> None:
    """The nearest spec that is right says nothing."""
    assert found(world.name, loaded(world.silent, tmp_path), world.app) == []


def test_every_check_is_run_and_has_worlds() -> None:
    """A file in the folder that nobody runs would be a check that never fails."""
    files = {path.stem for path in Path(checks.__file__).parent.glob("[!_]*.py")}

    assert files == set(NAMES.values()) == {world.name for world in WORLDS}
    assert len(WORLDS) == TEXT.count("\n-- silent\n")


def test_codes_are_unique_and_complete() -> None:
    """Each says what, why, an example and the fix; no two share an id, of the loader's or of the checks'."""
    known = [*LOADER, *(one.CODE for one in checks.ALL)]

    assert len({code.id for code in known}) == len(known)
    assert all(code.title and code.why and code.example and code.fix for code in known)


def test_without_routes_nobody_judges_them(tmp_path: Path) -> None:
    """What was not looked at is not called wrong."""
    one = loaded("limits: {a: {rate: 5/minute, match: {path: /nowhere}}}", tmp_path)

    assert [finding.code for finding in one.crossed()] == []
    assert [finding.code for finding in one.crossed(APP)] == ["MV404"]


@pytest.mark.parametrize(
    ("path", "helps"),
    [
        ("/api/v1", "`/api/v1/*` stands for everything below it"),
        ("/items/*", "did you mean `/api/v1/items/*`? the prefix"),
        ("/upload", "did you mean `/api/v1/upload`? the prefix"),
        ("/v1/*", "did you mean `/api/v1/*`? the prefix"),
        ("/*/nowhere", "use one of"),
        ("/", "`/*` stands for everything below it"),
    ],
)
def test_a_path_without_the_prefix_of_its_router_is_told_with_it(
    path: str, helps: str, tmp_path: Path
) -> None:
    """As it stands in the code of a FastAPI router, whose app adds the rest."""
    one = loaded(f"limits: {{a: {{rate: 5/minute, match: {{path: '{path}'}}}}}}", tmp_path)
    routes = (("/api/v1/items/{id}", None), ("/api/v1/items/{id}/parts", None), ("/api/v1/upload", None))
    (finding,) = one.crossed(checks.App(routes, "around"))
    assert helps in finding.help


def test_a_tool_needs_no_route(tmp_path: Path) -> None:
    """An app may have none that anybody knows, and limit its tools."""
    one = loaded("limits: {a: {rate: 5/minute, match: {tool: search}}}", tmp_path)

    assert one.crossed(checks.App((), "around", tools=("search",))) == ()


def test_what_nobody_looked_at_is_not_called_wrong(tmp_path: Path) -> None:
    """Neither its middlewares, nor what it names."""
    text = (
        "service: {name: shop, app: shop.main:app, outside: [Tenants]}\ndependencies: {bank: {timeout: 1s}}\n"
    )
    one = loaded(f"{text}limits: {{a: {{rate: 5/minute, match: {{tool: search}}}}}}", tmp_path)

    assert one.crossed() == ()


def test_a_tool_without_any_limit_is_told_at_the_limits(tmp_path: Path) -> None:
    """There is no better place, and more than one is told."""
    one = loaded("limits: {a: {rate: 5/minute}}", tmp_path)

    found = one.crossed(APP._replace(tools=("add", "search")))

    assert [(finding.code, finding.where and finding.where.line) for finding in found] == [("MV413", 5)] * 2
    assert "match: {tool: …}" in found[0].help


def test_no_match_fits_an_app_whose_routes_nobody_knows(tmp_path: Path) -> None:
    """Its requests are all alike to the middleware: the limit would never apply."""
    one = loaded("limits: {a: {rate: 5/minute, match: {path: /login}}}", tmp_path)

    (finding,) = one.crossed(APP._replace(routes=()))

    assert (finding.code, finding.severity) == ("MV404", "error")
    assert "leave `match` out" in finding.help


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_health_check_of_the_app_is_missed(path: str, tmp_path: Path) -> None:
    """It is never asked again, and whoever wrote it should know."""
    one = loaded("limits: {a: {rate: 5/minute}}", tmp_path)

    (finding,) = one.crossed(APP._replace(routes=(*ROUTES, (path, frozenset({"GET"})))))

    assert (finding.code, finding.severity) == ("MV407", "warning")
    assert f"`{path}` is a route of the app, which a health check takes from it" in finding.what
    assert "another path" in finding.help


@pytest.mark.parametrize(
    ("target", "host", "codes"),
    [
        ("compose", "redis", ["MV608"]),
        ("compose", "redis.example.com", []),
        ("compose", "[fd00::1]", []),
        ("kubernetes", "redis", []),
    ],
)
def test_a_server_with_a_password_is_none_that_compose_starts(
    target: str, host: str, codes: list[str], tmp_path: Path
) -> None:
    """The line is shown without the login, so this one is no world."""
    store = f'store: "redis://:${{KEY}}@{host}:6379"'
    one = loaded(f"{store}\ndeploy: {{targets: {{{target}: {{}}}}}}", tmp_path)

    assert [finding.code for finding in found("no_server", one)] == codes


@pytest.mark.parametrize(
    ("url", "level", "helps"),
    [
        (
            "https://hooks.slack.com/services/T0/B0/CANARY",
            "error",
            'write `slack: "${NAME}"` with a `channel`',
        ),
        ("https://HOOKS.slack.com:443/services/T0?a=CANARY", "error", "write `slack:"),
        ("https://discord.com/api/webhooks/1/CANARY", "error", "`/slack` at the end"),
        ("https://canary.discordapp.com/api/webhooks/1/CANARY", "error", "`/slack` at the end"),
        ("https://events.eu.pagerduty.com/v2/CANARY", "error", "write `pagerduty:"),
        ("https://a.webhook.office.com/webhookb2/CANARY", "error", "use `email`"),
        ("https://chat.googleapis.com/v1/spaces/A/messages?key=CANARY", "error", "use `email`"),
        ("https://hc-ping.com/CANARY", "warning", 'write `webhook: "${NAME}"`'),
    ],
)
def test_a_webhook_that_is_a_secret_is_not_shown(url: str, level: str, helps: str, tmp_path: Path) -> None:
    """Its line is shown without that, so this one is no world."""
    one = loaded(f'channels: {{room: {{webhook: "{url}", token: "${{KEY}}"}}}}', tmp_path)

    (finding,) = found("known_hooks", one)

    assert (str(finding.severity), finding.where and finding.where.line) == (level, 4)
    assert helps in finding.help
    assert "CANARY" not in repr(finding)


WATCHED = """channels: {watch: {webhook: "https://watch.example.com/shop"}, room: {slack: "${KEY}", channel: "#shop"}}
alerts: {heartbeat: [watch]}
deploy: {targets: {compose: {}}}
environments: {staging: {%s}}"""


@pytest.mark.parametrize(
    ("patch", "advised", "followed"),
    [
        (
            "service: {name: shop_staging}",
            "write an address of its own in `environments.staging.channels.watch.webhook`",
            'channels: {watch: {webhook: "https://watch.example.com/staging"}}',
        ),
        (
            "alerts: {heartbeat: null}",
            "set `environments.staging.channels.watch: null`",
            "channels: {watch: null}, alerts: {heartbeat: null}",
        ),
        (
            "alerts: {heartbeat: null, route: {P1: [watch]}}",
            "write another URL in `environments.staging.channels.watch.webhook`",
            'channels: {watch: {webhook: "https://a.example.com"}}, alerts: {heartbeat: null, route: {P1: [watch]}}',
        ),
    ],
)
def test_who_follows_the_advice_on_heartbeats_has_none_left(
    patch: str, advised: str, followed: str, tmp_path: Path
) -> None:
    """What is advised loads, and is silent; it is told once, and not again when the environment is asked for."""
    (finding,) = found("one_heartbeat", loaded(WATCHED % patch, tmp_path))
    assert finding.help == advised
    assert found("one_heartbeat", load(tmp_path / "mahavishnu.yaml", "staging")) == []
    assert found("one_heartbeat", loaded(WATCHED % followed, tmp_path)) == []


def test_a_bug_of_the_contract_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a condition that has been found to name nothing excuses a contract that cannot be made."""

    def broken(facts: checks.Facts) -> None:
        raise AgreementError("no such series")

    monkeypatch.setattr(checks.Facts, "contract", broken)
    one = loaded("limits: {a: {rate: 5/minute}}", tmp_path)

    with pytest.raises(AgreementError):
        one.crossed()


def test_without_sessions_several_processes_may_answer(tmp_path: Path) -> None:
    """And clients keep no GET open."""
    text = "service: {name: shop, app: shop.main:app, workers: 2}\nlimits: {places: {concurrency: 6}}\n"
    found = loaded(text, tmp_path).crossed(APP)
    assert {"MV418", "MV419"}.isdisjoint(finding.code for finding in found)
