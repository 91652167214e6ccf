"""Which alerts leave a Prometheus for its Alertmanagers, and as what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mahavishnu.live.relabelling import Labels, Step, relabelled

Tree = Mapping[str, Any]
_KEY = "alert_relabel_configs"


def differences(config: Tree, alerts: Iterable[Labels]) -> Iterator[str]:
    """Alerts that never leave, or that have other labels then than those which routes and inhibitions ask for."""
    dropped, turned = list[str](), dict[tuple[str, str, str], list[str]]()
    for alert in alerts:
        sent = _sent(alert, config)
        if sent is None:
            dropped.append(alert["alertname"])
            continue
        for label, value in _turned(alert, sent).items():
            turned.setdefault((label, alert[label], value), []).append(alert["alertname"])
    if dropped:
        yield f"{_KEY} drop {_some(dropped)}: nobody is told of {'them' if dropped[1:] else 'it'}"
    for (label, old, new), names in turned.items():
        yield f"{_KEY} turn {label}={old} into {label}={new}, of {_some(names)}"


def _sent(alert: Labels, config: Tree) -> Labels | None:
    """What the Alertmanager receives that receives it best: each may have steps of its own.

    Labels that a rule leaves of a target's are not known here; most rules leave none.
    """
    everywhere, sending = _part(config, "global"), _part(config, "alerting")
    known = {**{name: str(value) for name, value in _part(everywhere, "external_labels").items()}, **alert}
    receivers: Sequence[Tree] = sending.get("alertmanagers") or ({},)
    steps = ([*_steps(sending), *_steps(one)] for one in receivers)
    told = [found for one in steps if (found := relabelled(known, one)) is not None]
    return min(told, key=lambda found: len(_turned(alert, found)), default=None)


def _part(tree: Tree, key: str) -> Tree:
    return tree.get(key) or {}


def _steps(tree: Tree) -> Sequence[Step]:
    return tree.get(_KEY) or ()


def _turned(alert: Labels, sent: Labels) -> dict[str, str]:
    """What the labels of a rule have become, of those that are not what they were."""
    return {label: sent.get(label, "") for label, value in alert.items() if sent.get(label) != value}


def _some(names: list[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if names[1:] else names[0]
