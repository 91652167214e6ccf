"""What `mahavishnu generate` says of what it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mahavishnu import __version__
from mahavishnu.agreement.proof import agreement
from mahavishnu.artifact import Artifact
from mahavishnu.cli import _output
from mahavishnu.compile import Written
from mahavishnu.contract import Contract
from mahavishnu.derived.bound import bound
from mahavishnu.derived.dashboards import dashboards

if TYPE_CHECKING:
    from mahavishnu.cli._generation import Run

_WIDTH = 60


def summary(run: Run, done: Written, took: float) -> str:
    """One line for each family of files, for what holds for all of them, and for what became of them."""
    head = f"{run.loaded.file}  {run.environment}".ljust(_WIDTH)
    lines = [f"{head}  {_output.count(len(run.loaded.text.splitlines()), 'line')}, valid"]
    for family, paths in run.families.items():
        lines.append(f"  {family:<13} {_about(family, run.made, paths):<{_WIDTH - 16}}  {run.out / family}/")
    if told := agreed(run.made, run.artifacts, "Hardening"):
        lines.append(f"agreement       {told}")
    most = bound(run.made)
    told = f"a replica shows at most {most.of(0):,}, and {most.per_route:,} for each route of the app"
    lines.append(f"series          {told}")
    if done.before:
        lines.append(f"version         {done.before} before, {__version__} now")
    if told := _left_in_cluster(run, done.removed):
        lines.append(f"kubernetes      {told}")
    changes = {"changed": len(done.changed), "removed": len(done.removed), "unchanged": len(done.unchanged)}
    told = ", ".join(f"{number} {word}" for word, number in changes.items() if number)
    lines.append(f"{_output.count(len(run.artifacts), 'file')}: {told}".ljust(_WIDTH) + f"  {took:.1f} s")
    return "\n".join(lines)


def agreed(made: Contract, artifacts: Iterable[Artifact], emitter: str) -> str:
    """How much was compared with what that one emits, in one line; nothing where the files ask nothing."""
    found = agreement(made, artifacts)
    counts = ", ".join(f"{good}/{every} {kind}" for kind, (good, every) in found.kinds.items())
    return f"{counts} name only series {emitter} emits" if counts else ""


def _about(family: str, made: Contract, paths: Sequence[str]) -> str:
    """What is in one family of files, in its own words."""
    match family:
        case "prometheus":
            counts = ((made.alerts, "alert"), (made.recordings, "recording rule"), (made.spec.slos, "SLO"))
            return ", ".join(_output.count(len(those), noun) for those, noun in counts)
        case "alertmanager":
            severities = {alert.severity for alert in made.alerts}
            beat = ", and a heartbeat" if made.spec.alerts.heartbeat else ""
            return f"{len(severities)} severities -> {_output.count(len(made.spec.heard), 'channel')}{beat}"
        case "compose":
            target = made.spec.deploy.targets.compose
            monitored = target is not None and target.monitoring
            return _output.count((4 if monitored else 1) + bool(made.spec.backups), "service")
        case "grafana":
            boards = dashboards(made)
            panels = sum(len(one.panels) for one in boards)
            return f"{_output.count(len(boards), 'dashboard')}, {_output.count(panels, 'panel')}"
        case "runbooks":
            pages, guides = len(made.alerts), len(paths) - len(made.alerts)
            return f"{_output.count(pages, 'page')}, one for each alert, and {_output.count(guides, 'guide')}"
        case "kubernetes":
            return _output.count(sum(not path.endswith("/kustomization.yaml") for path in paths), "object")
        case _:
            return _output.count(len(paths), "file")


def _left_in_cluster(run: Run, removed: Iterable[str]) -> str:
    """That to remove a file is not to delete its object, where there was one; and where the commands are that do."""
    names = ", ".join(
        name for path in removed for folder, _, name in [path.partition("/")] if folder == "kubernetes"
    )
    page = run.out / "runbooks/maintenance.md"
    way = f": see {page}" if "kubernetes" in run.families and page.is_file() else ""
    return f"the objects of {names} stay in the cluster until you delete them{way}" if names else ""
