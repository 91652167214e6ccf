"""Alerts on the spec itself: a file that was refused, and a spec at work that is not the deployed one."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.events import SPEC_REFUSED
from mahavishnu.series import SPEC_INFO
from mahavishnu.signals import Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.spec import Spec, spec_hash
from mahavishnu.units import Duration

_OTHER = "0000000000000000"

SPEC_RELOAD_SUCCESSFUL = Signal(
    "mahavishnu_spec_reload_successful",
    Kind.GAUGE,
    "1 when the spec's file was taken as it last changed, 0 when it was refused and the old spec holds.",
    across=Across.MIN,
    unit=Unit.FLAG,
)
SPEC_RELOAD_TIME = Signal(
    "mahavishnu_spec_reload_timestamp_seconds",
    Kind.GAUGE,
    "When the spec's file was last read and found good, in seconds since 1970.",
    across=Across.MIN,
    waived="When it was is looked at; that it failed is an alert of its own.",
    unit=Unit.POINT,
)
SPEC_RELOADS = Signal(
    "mahavishnu_spec_reloads_total",
    Kind.COUNTER,
    "How often the spec's file was read anew, by what came of it.",
    (Label("outcome", ("applied", "unchanged", "refused")),),
    waived="A reload that fails is an alert by its gauge; these say how often.",
    unit=Unit.RELOADS,
)


def signals(_: object) -> Iterator[Signal]:
    """The hash of what is at work, and what became of the file."""
    yield from (SPEC_INFO, SPEC_RELOAD_SUCCESSFUL, SPEC_RELOAD_TIME, SPEC_RELOADS)


def alerts(spec: Spec) -> Iterator[Alert]:
    """Those of this spec, whose hash is written into the rules."""
    yield _refused()
    yield _drifted(spec_hash(spec), spec.deploy.startup)


def _refused() -> Alert:
    return Alert(
        name="SpecReloadFailed",
        severity=Severity.P3,
        expr=SPEC_RELOAD_SUCCESSFUL.lately().equals(0),
        hold=Duration.parse("5m"),
        summary="A change of the spec was refused: the one before it still holds.",
        meaning="The file of the spec was changed, or went away, and what is there now cannot be put to work.",
        impact="Nothing yet: the old spec is enforced, whole. The next restart will fail.",
        action=f"Read `{SPEC_REFUSED}` in the service's log, which says where and why; `mahavishnu check` says the "
        "same of the file. It is taken by itself as soon as it is good.",
        path=("service",),
        proof=(Feed(SPEC_RELOAD_SUCCESSFUL.select(), healthy=1, faulty=0),),
    )


def _drifted(hash: str, startup: Duration) -> Alert:
    # A fleet is rolled out in four rounds, and each pod has its time to start, and as long to be placed.
    rollout = Duration(10 * startup)
    return Alert(
        name="SpecDrift",
        severity=Severity.P3,
        expr=SPEC_INFO.lately(hash_not=hash).equals(1),
        hold=max(Duration.parse("15m"), rollout),
        summary="A replica enforces another spec than the one these rules were generated from.",
        meaning=f"These rules, dashboards and manifests come from the spec {hash}; the hash of the one at work is "
        "in the alert's label. While a deployment rolls out both are at work, which is why this waits.",
        impact="Thresholds and runbooks may not fit the limits that are enforced.",
        action="See which side is late: run `mahavishnu generate --check` and deploy what it writes, or bring the "
        "replica's file up to date.",
        path=("service",),
        proof=(
            Feed(SPEC_INFO.select(hash=hash), healthy=1, faulty=None),
            Feed(SPEC_INFO.select(hash=_OTHER), healthy=None, faulty=1),
        ),
    )
