"""Alerts on the spec itself: a file that was refused, and a spec at work that is not the deployed one."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.series import SPEC_INFO, SPEC_RELOAD_SUCCESSFUL, SPEC_RELOAD_TIME, SPEC_RELOADS
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.spec import Spec, spec_hash
from mahavishnu.units import Duration

_OTHER = "0000000000000000"


def signals(_: object) -> Iterator[Signal]:
    """The hash of what is at work, and what became of the file."""
    yield from (SPEC_INFO, SPEC_RELOAD_SUCCESSFUL, SPEC_RELOAD_TIME, SPEC_RELOADS)


def alerts(spec: Spec) -> Iterator[Alert]:
    """Those of this spec, whose hash is written into the rules."""
    yield _refused()
    yield _drifted(spec_hash(spec))


def _refused() -> Alert:
    return Alert(
        name="SpecReloadFailed",
        severity=Severity.P3,
        expr=SPEC_RELOAD_SUCCESSFUL.lately().equals(0),
        hold=Duration.parse("5m"),
        summary="A change of the spec was refused: the one before it still holds.",
        meaning="The file of the spec was changed, or went away, and what is there now cannot be put to work.",
        impact="Nothing yet: the old spec is enforced, whole. The next restart will fail.",
        action="Read `spec refused` in the service's log, which says where and why; `mahavishnu check` says the "
        "same of the file. It is taken by itself as soon as it is good.",
        path=("service",),
        proof=(Feed(SPEC_RELOAD_SUCCESSFUL.select(), healthy=1, faulty=0),),
    )


def _drifted(hash: str) -> Alert:
    return Alert(
        name="SpecDrift",
        severity=Severity.P3,
        expr=SPEC_INFO.lately(hash_not=hash).equals(1),
        hold=Duration.parse("15m"),
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
