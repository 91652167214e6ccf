"""`mahavishnu check`: every mistake in the spec, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from mahavishnu.checks import App
from mahavishnu.cli import _output
from mahavishnu.cli._generation import files
from mahavishnu.cli._options import EnvOption, PlacesArgument, SpecOption, of_one, spec_path
from mahavishnu.cli._output import Format
from mahavishnu.cli._summary import agreed
from mahavishnu.cli._targets import specs
from mahavishnu.contract import Contract, contract
from mahavishnu.derived.bound import bound
from mahavishnu.derived.forgetting import lives
from mahavishnu.derived.hangs import unseen_hangs
from mahavishnu.derived.history import promises
from mahavishnu.derived.outage import outage
from mahavishnu.derived.shares import shares
from mahavishnu.errors import Finding, Level, Problem, SpecError
from mahavishnu.ground import variables
from mahavishnu.inspection import appinfo
from mahavishnu.load import Loaded, environments, load, shown
from mahavishnu.spec import Service


@dataclass(frozen=True, slots=True)
class Judged:
    """A spec, and what there is to say of it; what could not be read is not loaded."""

    path: Path
    loaded: Loaded | None
    findings: tuple[Finding, ...]
    app: App | None = None


def check(
    places: PlacesArgument = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    form: Annotated[Format, typer.Option("--format", help="How findings are written.")] = Format.FULL,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    app: Annotated[
        bool, typer.Option(help="Import service.app, in its own process, to see what it has and names.")
    ] = True,
) -> None:
    """Find every mistake in the spec: its shape, numbers that contradict each other, names of nothing.

    Without --env the spec is judged as it is and once for each environment. Exit code 1 for errors.
    A folder as PATH is every spec in it.
    """
    of_one(places, spec=spec)
    judged = [_judged(path, env, app) for path in (specs(places) if places else [spec_path(spec)])]
    around = tuple(replace(finding, severity=Level.ERROR) for finding in variables.doubts())
    findings = (*(finding for one in judged for finding in one.findings), *around)
    _output.report(findings, form)
    for line in _lines(judged) if form is Format.FULL else ():
        print(line)
    raise typer.Exit(_output.verdict(findings, strict))


def _judged(path: Path, env: str | None, app: bool) -> Judged:
    apps: list[App] = []
    try:
        loaded = load(path, env)
        findings = tuple(_all(loaded, env, app, apps.append))
    except SpecError as error:
        if any(finding.code == "MV001" for finding in error.findings):
            raise
        return Judged(path, None, error.findings)
    return Judged(path, loaded, findings, apps[0] if apps else None)


def _lines(judged: Iterable[Judged]) -> Iterator[str]:
    for one in judged:
        yield _summary(one)
        if one.loaded is not None:
            yield from (f"  {line}" for line in _more(one.loaded, one.findings, one.app))


def _more(loaded: Loaded, findings: tuple[Finding, ...], app: App | None) -> Iterator[str]:
    """What else a person should know: what was compared with what, what is kept, and what a lost store means."""
    if not _output.verdict(findings):
        made = contract(loaded.declared)
        here = app is not None and app.where == "around"
        yield f"agreement: {agreed(made, files(loaded, made), 'this app' if here else 'Hardening')}"
    yield from _unseen(loaded.spec.service, app)
    yield from shares(loaded.spec)
    yield from promises(loaded.spec)
    yield from lives(loaded.spec)
    yield from outage(loaded.spec)
    yield from unseen_hangs(loaded.spec)


def _unseen(service: Service, app: App | None) -> Iterator[str]:
    """What nobody has made sure of."""
    if app is None:
        yield f"not looked at: `{service.app}`, so neither its routes and middlewares, nor what it calls"
    elif service.hardening == "elsewhere" and app.where != "around":
        yield f"not seen: Hardening, which is put around `{service.app}` elsewhere"


def _all(loaded: Loaded, env: str | None, app: bool, seen: Callable[[App], None]) -> Iterator[Finding]:
    """The findings of the spec asked for; of every environment, when none was asked for; `seen` gets the app."""
    yield from loaded.findings
    known: set[Finding] = set()
    others = [(name, load(loaded.path, name)) for name in environments(loaded.tree)]
    worlds = [(None, loaded), *(others if env is None else ())]
    asked = [(world.spec.service, world.path, name or env) for name, world in worlds]
    looks = appinfo.looks(asked) if app else [None] * len(asked)
    for (name, world), looked in zip(worlds, looks, strict=True):
        for finding in _checked(world, looked, seen):
            if finding not in known:
                known.add(finding)
                yield replace(finding, what=f"{finding.what} (environment `{name}`)") if name else finding


def _checked(loaded: Loaded, looked: App | Problem | None, seen: Callable[[App], None]) -> Iterator[Finding]:
    if isinstance(looked, Problem):
        yield loaded.locate(looked)
        looked = None
    if looked is not None:
        seen(looked)
    yield from loaded.crossed(looked)


def _summary(one: Judged) -> str:
    loaded, findings = one.loaded, one.findings
    errors = sum(finding.severity is Level.ERROR for finding in findings)
    counts = ((errors, "error"), (len(findings) - errors, "warning"))
    verdict = ", ".join(_output.count(*one) for one in counts if one[0]) or "no findings"
    size = f"{len(loaded.text.splitlines())} lines, " if loaded else ""
    if loaded and not errors:
        made = contract(loaded.spec)
        size += f"{len(made.alerts)} alerts, {_series(made, one.app)}, "
    return f"{shown(one.path)}: {size}{verdict}"


def _series(made: Contract, app: App | None) -> str:
    """The most series that a replica can show, whatever clients do."""
    most = bound(made)
    if app is None:
        return f"at most {most.of(0):,} series and {most.per_route:,} a route"
    return f"at most {most.of(len({template for template, _ in app.routes})):,} series"
