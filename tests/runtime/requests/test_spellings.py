"""500 spellings of a request: the route that is dispatched is the route that is limited, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.routing import Host, Mount, Route, Router

from tests.figures import figure
from tests.runtime.asgi_client import House, harden, limits, run, site
from tests.runtime.routing.test_routes import files, named

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "BREW", "get", "PoSt")
OVERRIDES = {"x-http-method-override": "DELETE", "x-method-override": "DELETE", "x-http-method": "DELETE",
             "x-original-url": "/login", "x-rewrite-url": "/login", "x-forwarded-prefix": "/x"}  # fmt: skip
TARGETS = (
    "/login",
    "/orders/7",
    "/api/items/7",
    "/static/a.js",
    "/tenants/t/home",
    "/deep/er/and/deeper",
    "/nowhere",
)

# What a request line may become on the way: the path as a server hands it over, decoded once or not at all.
SPELLED: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "//": lambda path: "/" + path,
    "// inside": lambda path: path.replace("/", "//"),
    "/./": lambda path: "/." + path,
    "/./ at the end": lambda path: path + "/.",
    "/../": lambda path: "/x/.." + path,
    "/.. at the end": lambda path: path + "/..",
    "%2e": lambda path: "/%2e" + path,
    "%2e%2e": lambda path: "/x/%2e%2e" + path,
    "%2f": lambda path: "/" + path[1:].replace("/", "%2f"),
    "%2F first": lambda path: "%2F" + path[1:],
    "%5c": lambda path: "/" + path[1:].replace("/", "\\"),
    "backslash first": lambda path: "\\" + path[1:],
    "percent-encoded letter": lambda path: "/%" + format(ord(path[1]), "x") + path[2:],
    "encoded twice": lambda path: "/%25" + format(ord(path[1]), "x") + path[2:],
    "capitals": str.upper,
    "title": str.title,
    "slash": lambda path: path + "/",
    "slashes": lambda path: path + "//",
    ";x": lambda path: path + ";x",
    ";jsessionid": lambda path: path.replace("/", "/;a=b/", 1),
    "?": lambda path: path + "?x",
    "#": lambda path: path + "#x",
    "NUL": lambda path: path + "\0",
    "NUL inside": lambda path: path[:3] + "\0" + path[3:],
    "%00": lambda path: path + "%00",
    "line break": lambda path: path + "\n",
    "two line breaks": lambda path: path + "\n\n",
    "CR LF": lambda path: path + "\r\n",
    "line break inside": lambda path: path[:2] + "\n" + path[2:],
    "space": lambda path: path + " ",
    "space first": lambda path: " " + path,
    "tab": lambda path: path + "\t",
    "overlong UTF-8": lambda path: path.replace("/", b"\xc0\xaf".decode("utf-8", "replace")),
    "overlong, as latin-1": lambda path: path.replace("/", "\xc0\xaf"),
    "overlong, surrogates": lambda path: path.replace("/", b"\xc0\xaf".decode("utf-8", "surrogateescape")),
    "full-width": lambda path: "/" + chr(ord(path[1]) + 0xFEE0) + path[2:],
    "full-width slash": lambda path: path.replace("/", "\uff0f"),
    "zero-width": lambda path: path[:3] + "\u200b" + path[3:],
    "combining": lambda path: path + "\u0301",
    "dotless i": lambda path: path.replace("i", "\u0131"),
    "Kelvin sign": lambda path: path.replace("k", "\u212a"),
    "right to left": lambda path: "\u202e" + path,
    "byte-order mark": lambda path: "\ufeff" + path,
    "absolute": lambda path: "http://evil.example" + path,
    "host first": lambda path: "//evil.example" + path,
    "no slash": lambda path: path[1:],
    "star": lambda path: "*",
    "empty": lambda path: "",
    "a template": lambda path: path.replace("7", "{id}"),
    "wild": lambda path: path + "/*",
    "extension": lambda path: path + ".json",
    "long": lambda path: path + "/" * 5000,
    "very long": lambda path: path + "x" * 60_000,
}  # fmt: skip

PREFIXES: dict[str, dict[str, Any]] = {
    "no prefix": {},
    "a prefix that was taken off": {"root_path": "/proxy"},
    "a prefix that is a route": {"root_path": "/login"},
    "a prefix of the same letters": {"root_path": "/log"},
    "a slash": {"root_path": "/"},
}
HOSTS = (
    "shop.example",
    "admin.example",
    "ADMIN.example:80",
    "x/login?",
    "admin.example/login",
    "",
    "[::1",
    "a b",
    "@admin.example",
)


def town() -> list[Any]:
    """Routes of every kind, with a neighbour for each that a sloppy reading would confuse it with."""

    def at(path: str, template: str | None = None, **more: Any) -> Route:
        return Route(path, named(template or path), **more)

    inner = [
        at("/", "/api/"),
        at("/items/{id:int}", "/api/items/{id:int}"),
        at("/{rest:path}", "/api/{rest:path}"),
    ]
    return [
        Host("admin.example", app=Router([at("/login", "/login"), at("/secret")])),
        at("/login", methods=["GET", "POST"]),
        at("/login/", methods=["DELETE"]),
        at("/orders/{id}"),
        at("/orders/{id}", methods=["POST"]),
        Mount("/api", routes=inner),
        Mount("/static", app=files),
        Mount("/tenants/{tenant}", routes=[at("/home", "/tenants/{tenant}/home")]),
        Mount("/deep", routes=[Mount("/er", routes=[at("/and/{how}", "/deep/er/and/{how}")])]),
        at("//{odd}"),
        at("/{word}.json"),
    ]


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and what else is said."""
    for target in TARGETS:
        for spell in SPELLED.values():
            for method in METHODS:
                yield method, spell(target), {}
            yield "GET", spell(target), {"headers": OVERRIDES}
            for prefix in PREFIXES.values():
                yield "GET", spell(target), prefix
                yield "POST", str(prefix.get("root_path", "")) + spell(target), prefix
        for host in HOSTS:
            yield "GET", target, {"headers": {"host": host}}


async def misled(house: House) -> list[str]:
    """The requests that ran under another route than they were counted under."""
    wrong: list[str] = []
    for method, path, more in requests():
        answer = await house.call(method, path, **more)
        ran, counted = answer.headers.get("x-route"), house.lines[-1]["route"]
        house.stream.truncate(0)
        house.stream.seek(0)
        if ran is not None and ran != counted:
            wrong.append(f"{method} {path[:80]!r} {more}: ran {ran}, counted as {counted}")
        if ran is None and answer.status == 404 and counted != "unmatched" and not counted.endswith("*"):
            wrong.append(f"{method} {path[:80]!r} {more}: nothing ran, counted as {counted}")
    return wrong


def test_there_are_enough_of_them() -> None:
    """Different paths alone are more than 300, with methods, prefixes and hosts some thousand requests."""
    asked = list(requests())
    assert len({path for _, path, _ in asked}) > 500
    assert len(asked) > 5_000


@pytest.mark.proof
def test_no_spelling_runs_under_another_route() -> None:
    """For each the handler that runs is the one whose limits and series were asked."""
    wrong = run(misled(harden(site(*town()), limits())))
    paths = len({path for _, path, _ in requests()})
    figure(
        f"{paths} path spellings, {len(list(requests())):,} requests: dispatched other than limited",
        0,
        len(wrong),
    )
    assert wrong == []


@pytest.mark.parametrize("target", TARGETS)
async def test_no_spelling_gets_past_a_limit(target: str) -> None:
    """With two requests an hour per route, whatever the spelling: no route serves a third, nor does nowhere."""
    house = harden(site(*town()), limits(all={"rate": "2/hour", "per": ["client", "route"]}))
    served: dict[str, int] = {}
    for spell in SPELLED.values():
        for method in METHODS:
            answer = await house.call(method, spell(target))
            if answer.status != 429:
                ran = answer.headers.get("x-route") or house.lines[-1]["route"]
                served[ran] = served.get(ran, 0) + 1
    assert served["unmatched"] == 2
    assert {ran: times for ran, times in served.items() if times > 2} == {}
