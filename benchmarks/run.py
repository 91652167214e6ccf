"""Measure everything in one run and print the tables; `--readme` puts them into benchmarks/README.md, too."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    battery,
    breakers,
    calls,
    commands,
    crowd,
    decisions,
    fleet,
    layers,
    refused,
    routes,
    served,
    socket,
)
from benchmarks.goals import Goal, Report, shown

README = Path(__file__).with_name("README.md")
MARKS = ("<!-- measured -->\n", "<!-- /measured -->\n")
_ROUNDS = 15
_FAMILIES: dict[str, Callable[[int], Report]] = {
    "served": served.report,
    "layers": layers.report,
    "routes": routes.report,
    "refused": refused.report,
    "crowd": crowd.report,
    "decisions": decisions.report,
    "socket": socket.report,
    "fleet": fleet.report,
    "calls": calls.report,
    "breakers": breakers.report,
    "commands": commands.report,
    "battery": battery.report,
}
_PEERS = (
    "starlette fastapi slowapi fastapi-limiter limits throttled-py pyrate-limiter asgi-ratelimit "
    "prometheus-fastapi-instrumentator starlette-exporter structlog asgi-correlation-id circuitbreaker purgatory hyx "
    "aiobreaker pybreaker stamina tenacity"
)


def main() -> None:
    """Run the named families, by default all."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="|".join(_FAMILIES), help="by default all of them")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="more rounds, steadier medians")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    said = parser.parse_args()
    unknown = [name for name in said.families if name not in _FAMILIES]
    if unknown:
        parser.error(f"no family {', '.join(unknown)}; there are {', '.join(_FAMILIES)}")
    began = time.monotonic()
    parts, goals = list[str](), list[Goal]()
    for name in said.families or _FAMILIES:
        report = _FAMILIES[name](said.rounds)
        parts.append(_printed(report.text))
        goals.extend(report.goals)
    if goals:
        parts.insert(0, _printed(shown(goals)))
    parts.append(_printed(_conditions(said.rounds, time.monotonic() - began)))
    if said.readme:
        before, rest = README.read_text().split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        tables = "".join(f"\n{part}\n" for part in parts)
        README.write_text(f"{before}{MARKS[0]}{tables}\n{MARKS[1]}{after}")


def _printed(part: str) -> str:
    print(part, end="\n\n", flush=True)
    return part


def _conditions(rounds: int, took: float) -> str:
    peers = ", ".join(f"{name} {version(name)}" for name in _PEERS.split())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{rounds} rounds in {took:.0f} s, {python} on {platform.machine()} {sys.platform}; {peers}."


if __name__ == "__main__":
    main()
