"""`mahavishnu test`: prove the generated rules and routes with Prometheus' and Alertmanager's own tools."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

# ruff: noqa: PT028  (a verb, no test)
from mahavishnu import compile as compiler
from mahavishnu.cli import _drifts
from mahavishnu.cli._generation import Run, prepared
from mahavishnu.cli._options import EnvOption, OutOption, SpecOption
from mahavishnu.cli._targets import target
from mahavishnu.contract import Contract
from mahavishnu.errors import MahavishnuError
from mahavishnu.notify import NOBODY, receiver
from mahavishnu.signals import Severity
from mahavishnu.spec import Spec
from mahavishnu.survey import Kind

_SOURCES = {
    "promtool": "it comes with Prometheus: `apt-get install prometheus`, or https://prometheus.io/download",
    "amtool": "it comes with Alertmanager: `apt-get install prometheus-alertmanager`, "
    "or https://prometheus.io/download",
}
_ANYWHERE = "it comes with every POSIX system"
_FOLDERS = ("prometheus/", "alertmanager/")
_LONGEST = 600


class ToolError(MahavishnuError):
    """A tool that is needed is not there or does not end: nothing was proved."""


@dataclass(frozen=True, slots=True)
class Step:
    """One run of a tool: what it shows, and the words of the command."""

    shows: str
    command: tuple[str, ...]


def test(
    spec: SpecOption = None,
    env: EnvOption = None,
    out: OutOption = None,
) -> None:
    """Prove the generated rules with promtool and amtool.

    Every alert must be silent while all is well, fire on its fault, and clear; every severity must reach its
    receiver. Exit code 0: all of it holds; 1: something does not, or the files are not those of the spec;
    2: a tool is missing, which proves nothing.
    """
    tools = {name: _found(name) for name in (*_SOURCES, "sh")}
    run = prepared(target(spec, out), env)
    _current(run)
    made = run.made
    failed = [step for step in _steps(made, run.out) if not _passes(step, tools)]
    if failed:
        print(f"{len(failed)} of the proofs failed", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{len(made.alerts)} alerts seen to fire and to clear, {_told(made.spec)}")


def _told(spec: Spec) -> str:
    if not spec.channels:
        return "nobody is told of them: there is no channel"
    return f"{len(Severity)} severities routed" + (", the heartbeat too" if spec.alerts.heartbeat else "")


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ToolError(
            f"`{name}` is not on the PATH, so nothing can be proved; {_SOURCES.get(name, _ANYWHERE)}"
        )
    return path


def _current(run: Run) -> None:
    """Exit unless the files are those that the spec would generate now."""
    drifts = compiler.drift(run.out, run.artifacts, run.made.hash, environment=run.environment)
    wrong = [
        one
        for one in drifts
        if one.kind is Kind.ENVIRONMENT or (one.path.startswith(_FOLDERS) and one.kind is not Kind.BESIDE)
    ]
    for one in wrong:
        print(f"{run.out / one.path}: {one.kind}", file=sys.stderr)
    if wrong:
        print(_drifts.counted(wrong, run.command, run.apart), file=sys.stderr)
        raise typer.Exit(1)


def _steps(made: Contract, out: Path) -> Iterator[Step]:
    prometheus, alertmanager = out / "prometheus", out / "alertmanager/alertmanager.yml"
    rules = f"{len(made.recordings)} recording rules, {len(made.alerts)} alerts"
    yield Step(rules, ("promtool", "check", "rules", "--lint-fatal", str(prometheus / "rules.yml")))
    yield Step("prometheus.yml is valid", ("promtool", "check", "config", str(prometheus / "prometheus.yml")))
    for file in sorted(prometheus.glob("*.test.yml")):
        yield Step(f"alerts fire and clear ({file.name})", ("promtool", "test", "rules", str(file)))
    yield Step("alertmanager.yml is valid", ("amtool", "check-config", str(alertmanager)))
    routes = str(out / "alertmanager/routes.test.sh")
    yield Step("every alert reaches the receiver of its severity", ("sh", routes))
    for severity in Severity:
        told = receiver(made.job, severity.value) if made.spec.channels else NOBODY
        channels = made.spec.alerts.route.get(severity, made.spec.heard)
        labels = (f"service={made.job}", f"severity={severity.value}")
        ask = ("--config.file", str(alertmanager), f"--verify.receivers={told}", *labels)
        yield Step(
            f"{severity.value} reaches {', '.join(channels) or 'nobody'}",
            ("amtool", "config", "routes", "test", *ask),
        )


def _passes(step: Step, tools: dict[str, str]) -> bool:
    name, *words = step.command
    started = time.monotonic()
    try:
        ran = subprocess.run(
            [tools[name], *words], capture_output=True, text=True, check=False, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"`{' '.join(step.command)}` did not end within {_LONGEST} s") from None
    passed = ran.returncode == 0
    print(
        f"{'passed' if passed else 'FAILED'}  {step.shows:<60} {time.monotonic() - started:5.1f} s",
        flush=True,
    )
    if not passed:
        print(f"$ {' '.join(step.command)}\n{ran.stdout}{ran.stderr}", file=sys.stderr)
    return passed
