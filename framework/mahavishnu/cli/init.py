"""`mahavishnu init`: a first spec for an app, which observes and refuses nothing."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from mahavishnu.checks import App
from mahavishnu.cli import _editor, _output
from mahavishnu.cli._apps import AppPlace, apps, home
from mahavishnu.derived.own_paths import taken
from mahavishnu.errors import MahavishnuError, Problem
from mahavishnu.ground.words import unaccented
from mahavishnu.inspection import appinfo
from mahavishnu.load import NAME, accept
from mahavishnu.policy import camel
from mahavishnu.spec import Service, Spec

_LOGIN = re.compile(r"(?=\S{1,200}\Z)/(?:.*/)?(?:log-?in|sign-?in|token|session|auth)[^/]*", re.IGNORECASE)
_ADD = (
    "app.add_middleware(Hardening), from mahavishnu.asgi, after every other middleware, for what is added later is "
    "outside of it; then "
)
_SERIES = "/metrics/mahavishnu"
_WRAP = "app = Hardening(app), from mahavishnu.asgi, around all else; then "


def init(
    app: Annotated[str | None, typer.Option("--app", help="The ASGI app, as module:attribute.")] = None,
    app_dir: Annotated[
        str | None, typer.Option("--app-dir", help="The folder in which the module is found, like `src`.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The service's name; else the folder's.")] = None,
) -> None:
    """Look at the routes of an app and write a short mahavishnu.yaml, with every limit in `mode: observe`.

    Nothing that exists is overwritten, and the new spec has been checked before it is written.
    """
    if Path(NAME).exists():
        raise MahavishnuError(
            f"{NAME} is there already, and init overwrites nothing; `mahavishnu check` judges it"
        )
    target, folder = _found(app, app_dir)
    service = _service(name or _name(Path.cwd().name), target, folder)
    seen = appinfo.unwritten(service, Path(NAME))
    if isinstance(seen, Problem):
        raise MahavishnuError(f"{seen.what}; {seen.help}")
    text = "".join(f"{line}\n" for line in _lines(service, seen))
    _prove(text)
    _editor.write(Path())
    Path(NAME).write_text(text, encoding="utf-8")
    print(
        f"{NAME}: {len(text.splitlines())} lines for {target}, {_output.count(len(seen.routes), 'route')}"
        f"{_calls(seen)}; it observes and refuses nothing"
    )
    there = "" if seen.where == "around" else _ADD if seen.adds else _WRAP
    print(f"Next: {there}`mahavishnu check` and `mahavishnu generate`")


def _service(name: str, target: str, app_dir: str) -> Service:
    try:
        return Service(name=name, app=target, app_dir=app_dir)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("name",):
            raise MahavishnuError(f"`{name}` is not a name: write one like `{_name(name)}`") from None
        raise MahavishnuError(
            f"`{target}` in `{app_dir}` does not name an app: write module:attribute"
        ) from None


def _found(app: str | None, app_dir: str | None) -> AppPlace:
    """The app that is named, else the one that the code defines, and the folder that its module is found in."""
    if app is not None:
        return AppPlace(app, home(app) if app_dir is None else app_dir)
    found = apps(app_dir)
    if len(found) != 1:
        several = (
            f"several apps are here ({', '.join(map(str, found))})" if found else "no app was found here"
        )
        raise MahavishnuError(
            f"{several}; name one with --app module:attribute, and with --app-dir the folder its module is found in"
        )
    return found[0]


def _name(folder: str) -> str:
    return (
        re.sub(r"[^a-z0-9]+", "_", unaccented(folder).lower())
        .strip("_")
        .lstrip("0123456789_")[:40]
        .strip("_")
        or "service"
    )


def _names(words: Iterable[str]) -> dict[str, str]:
    """A name for each word, and no two that nobody could tell apart: MV505 refuses those."""
    named: dict[str, str] = {}
    for word in dict.fromkeys(words):
        first = _name(word)
        taken = {camel(name).lower() for name in named}
        tried = chain([first], (f"{first[:36].strip('_')}_{number}" for number in count(2)))
        named[next(name for name in tried if camel(name).lower() not in taken)] = word
    return named


def _calls(seen: App) -> str:
    number = len(seen.dependencies)
    return f", {_output.count(number, 'dependency', 'dependencies')}" if number else ""


def _lines(service: Service, seen: App) -> Iterator[str]:
    """A short spec: one limit for every client, one for each place to log in, what is called, one SLO, one target."""
    where = f", app_dir: {json.dumps(service.app_dir)}" if service.app_dir != "." else ""
    yield f"# yaml-language-server: $schema={_editor.SCHEMA.as_posix()}"
    yield "mahavishnu: 1"
    yield f"service: {{name: {service.name}, app: {json.dumps(service.app)}{where}, trusted_proxies: [172.16.0.0/12]}}"
    yield "limits:                    # observe: counted, never refused; enforce when the numbers are right"
    yield "  per_client: {rate: 300/minute, per: client, mode: observe}"
    for name, path in _names(_logins(seen)).items():
        match = f"{{path: {json.dumps(path)}, method: POST}}"
        yield f"  {name}: {{rate: 10/minute, per: ip, match: {match}, mode: observe}}"
    yield "  uploads: {body: 10MiB, mode: observe}"
    yield "  request: {timeout: 30s, mode: observe}"
    if seen.tools:
        yield '  tools: {rate: 300/minute, per: [client, tool], match: {tool: "*"}, mode: observe}'
    if seen.dependencies:
        yield "dependencies:              # as the code names them; say `timeout` and `retry` for each"
    for name in _called(seen):
        yield f"  {name}: {{breaker: {{mode: observe}}}}"
    yield "slos:"
    yield "  availability: {objective: 99.9%, min_requests: auto}"
    if _has_series(service, seen):
        yield f"observability: {{metrics: {{path: {_SERIES}}}}}    # /metrics is a route of the app, which keeps it"
    # To everybody the port would show the series, too; and whom Docker hands on from the host arrives from its network.
    yield "deploy: {targets: {compose: {publish: host}}}    # a proxy on the host serves it, by way of Docker's network"


def _has_series(service: Service, seen: App) -> bool:
    """Whether the app has a route where ours would be by default, which would hide it from the first day on."""
    lost = taken(Spec(mahavishnu=1, service=service), seen.routes)
    return any(one.place[0] == "observability" for one in lost)


def _logins(seen: App) -> Iterator[str]:
    """Where people log in; one limit is for a path at whichever host."""
    for path, methods in seen.routes:
        if _LOGIN.fullmatch(path) and (methods is None or "POST" in methods):
            yield path


def _called(seen: App) -> Iterable[str]:
    """The dependencies by their names, which the code has chosen, if a spec can have them."""
    better = {one: _name(one) for one in seen.dependencies if one != _name(one)}
    better = better or {one: name for name, one in _names(seen.dependencies).items() if one != name}
    if better:
        said = (f"the dependency `{one}`: call it `{name}` in the code" for one, name in better.items())
        raise MahavishnuError(f"no spec can have {', nor '.join(said)}")
    return seen.dependencies


def _prove(text: str) -> None:
    """Load what is about to be written: `init` never leaves a spec that does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, NAME)
        path.write_text(text, encoding="utf-8")
        accept(path)
