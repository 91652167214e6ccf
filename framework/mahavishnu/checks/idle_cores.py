"""MV217: a share of a replica's processor time that its workers never use, and that something waits for."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.threshold import Condition, Threshold
from mahavishnu.spec import Spec
from mahavishnu.targets import SCALED_ABOVE
from mahavishnu.units import Percent

CODE = Code(
    "MV217",
    "more cores than workers can keep busy",
    "A worker is one Python process, which keeps one core busy; only code that leaves Python's lock, in threads, can "
    "use more. The other cores of its replica are idle under any load: no replica is ever added, and a threshold on "
    "`cpu` above the share that is used never fires.",
    "deploy: {resources: {cpu: 4000m}, replicas: {min: 2, max: 6}, targets: {kubernetes: {}}}   # 1 worker: 25%",
    "Run as many `service.workers` as there are cores, or ask for fewer cores and run more replicas.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The autoscaler's target, and every threshold on `cpu`, against what the workers can use."""
    spec = facts.spec
    most = _most(spec)
    if spec.deploy.targets.kubernetes is not None and spec.deploy.replicas.vary and most < SCALED_ABOVE.ratio:
        target = f"the autoscaler waits for {SCALED_ABOVE}, a tenth above its target"
        what = f"no replica is ever added: {_use(spec)}, and {target}"
        yield warning(CODE, ("deploy", "resources", "cpu"), what, _help(spec))
    for name, threshold in spec.alerts.thresholds.items():
        if isinstance(threshold, Threshold) and _beyond(threshold.when, most):
            what = f"`{threshold.when}` never holds: {_use(spec)}"
            help = f"{_help(spec)}, or a bound below {_whole(most)}"
            yield warning(CODE, ("alerts", "thresholds", name, "when"), what, help)


def _most(spec: Spec) -> Decimal:
    """How much of a replica's processor time its workers can use; above 1 where it has too few cores for them."""
    return Decimal(spec.service.workers * 1000) / int(spec.deploy.resources.cpu)


def _beyond(when: Condition, most: Decimal) -> bool:
    if when.signal != "cpu" or not isinstance(when.bound, Percent):
        return False
    bound = when.bound.ratio
    return bound >= most if when.comparison == ">" else bound > most and when.comparison == ">="


def _use(spec: Spec) -> str:
    workers = spec.service.workers
    who = "1 worker keeps" if workers == 1 else f"{workers} workers keep"
    return f"{who} {_whole(_most(spec))} of {spec.deploy.resources.cpu} busy at the most"


def _whole(share: Decimal) -> str:
    """In whole hundredths, and no more than it is."""
    return f"{int(share * 100)}%"


def _help(spec: Spec) -> str:
    workers, cpu = spec.service.workers, int(spec.deploy.resources.cpu)
    return f"set `service.workers: {-(-cpu // 1000)}`, or `deploy.resources.cpu: {workers * 1000}m`"
