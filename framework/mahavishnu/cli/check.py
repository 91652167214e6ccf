"""`mahavishnu check`: every mistake in the spec, in one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mahavishnu import appinfo
from mahavishnu.cli import _output
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.cli._output import Format
from mahavishnu.contract import contract
from mahavishnu.errors import Finding, Level, Problem, SpecError
from mahavishnu.load import Loaded, environments, load, shown
from mahavishnu.outage import outage


def check(
    spec: SpecOption = None,
    env: EnvOption = None,
    form: Annotated[Format, typer.Option("--format", help="How findings are written.")] = Format.FULL,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    app: Annotated[
        bool, typer.Option(help="Import service.app, in its own process, to see its routes.")
    ] = True,
) -> None:
    """Find every mistake in the spec: its shape, numbers that contradict each other, names of nothing.

    Without --env the spec is judged as it is and once for each environment. Exit code 1 for errors.
    """
    path = spec_path(spec)
    try:
        loaded = load(path, env)
        findings = tuple(_all(loaded, env, app))
    except SpecError as error:
        if any(finding.code == "MV001" for finding in error.findings):
            raise
        loaded, findings = None, error.findings
    _output.report(findings, form)
    if form is Format.FULL:
        print(_summary(loaded, findings, path))
        for line in outage(loaded.spec) if loaded else ():
            print(f"  {line}")
    raise typer.Exit(_output.verdict(findings, strict))


def _all(loaded: Loaded, env: str | None, app: bool) -> Iterator[Finding]:
    """The findings of the spec asked for; of every environment, when none was asked for."""
    yield from loaded.findings
    known: set[Finding] = set()
    worlds = [(None, loaded), *((name, load(loaded.path, name)) for name in environments(loaded.tree))]
    for name, world in worlds if env is None else [(None, loaded)]:
        for finding in _checked(world, app):
            if finding not in known:
                known.add(finding)
                yield replace(finding, what=f"{finding.what} (environment `{name}`)") if name else finding


def _checked(loaded: Loaded, app: bool) -> Iterator[Finding]:
    routes = appinfo.routes(loaded.spec.service, loaded.path) if app else None
    if isinstance(routes, Problem):
        yield loaded.locate(routes)
        routes = None
    yield from loaded.crossed(routes)


def _summary(loaded: Loaded | None, findings: tuple[Finding, ...], path: Path) -> str:
    errors = sum(finding.level is Level.ERROR for finding in findings)
    counts = [_count(errors, "error"), _count(len(findings) - errors, "warning")]
    verdict = ", ".join(filter(None, counts)) or "no findings"
    size = f"{len(loaded.text.splitlines())} lines, " if loaded else ""
    if loaded and not errors:
        size += f"{len(contract(loaded.spec).alerts)} alerts, "
    return f"{shown(path)}: {size}{verdict}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}" if number else ""
