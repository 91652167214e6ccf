"""What relabelling makes of labels: the steps of a Prometheus' configuration, as it takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import md5
from typing import Any

Labels = Mapping[str, str]
Step = Mapping[str, Any]
Match = re.Match[str]

_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def relabelled(labels: Labels, steps: Iterable[Step]) -> Labels | None:
    """The labels after all steps, None where one drops them; a step that cannot be told is passed over."""
    for step in steps:
        try:
            after = _ACTIONS.get(str(step.get("action", "replace")).lower(), _kept)(labels, step)
        except re.error:  # Go's, and none of Python's
            continue
        if after is None:
            return None
        labels = {name: value for name, value in after.items() if value}
    return labels


def _kept(labels: Labels, _: Step) -> Labels:
    return labels


def _replace(labels: Labels, step: Step) -> Labels:
    found = _match(step, _value(labels, step))
    if found is None:
        return labels
    return {**labels, _expanded(_target(step), found): _expanded(_replacement(step), found)}


def _keep(labels: Labels, step: Step) -> Labels | None:
    return labels if _match(step, _value(labels, step)) else None


def _drop(labels: Labels, step: Step) -> Labels | None:
    return None if _match(step, _value(labels, step)) else labels


def _keep_equal(labels: Labels, step: Step) -> Labels | None:
    return labels if _value(labels, step) == labels.get(_target(step), "") else None


def _drop_equal(labels: Labels, step: Step) -> Labels | None:
    return None if _value(labels, step) == labels.get(_target(step), "") else labels


def _lower(labels: Labels, step: Step) -> Labels:
    return {**labels, _target(step): _value(labels, step).lower()}


def _upper(labels: Labels, step: Step) -> Labels:
    return {**labels, _target(step): _value(labels, step).upper()}


def _hash(labels: Labels, step: Step) -> Labels:
    number = int.from_bytes(md5(_value(labels, step).encode(), usedforsecurity=False).digest()[8:], "big")
    return {**labels, _target(step): str(number % int(step["modulus"]))}


def _map(labels: Labels, step: Step) -> Labels:
    named = ((_match(step, name), value) for name, value in labels.items())
    return {**labels, **{_expanded(_replacement(step), name): value for name, value in named if name}}


def _drop_labels(labels: Labels, step: Step) -> Labels:
    return {name: value for name, value in labels.items() if not _match(step, name)}


def _keep_labels(labels: Labels, step: Step) -> Labels:
    return {name: value for name, value in labels.items() if _match(step, name)}


_ACTIONS: Mapping[str, Callable[[Labels, Step], Labels | None]] = {
    "replace": _replace,
    "keep": _keep,
    "drop": _drop,
    "keepequal": _keep_equal,
    "dropequal": _drop_equal,
    "lowercase": _lower,
    "uppercase": _upper,
    "hashmod": _hash,
    "labelmap": _map,
    "labeldrop": _drop_labels,
    "labelkeep": _keep_labels,
}


def _value(labels: Labels, step: Step) -> str:
    separator = str(step.get("separator", ";"))
    return separator.join(labels.get(str(name), "") for name in step.get("source_labels") or ())


def _match(step: Step, text: str) -> Match | None:
    return re.fullmatch(str(step.get("regex", "(.*)")), text, re.DOTALL)


def _target(step: Step) -> str:
    return str(step.get("target_label") or "")


def _replacement(step: Step) -> str:
    return str(step.get("replacement", "$1"))


def _expanded(template: str, found: Match) -> str:
    """What Go makes of a template: a group that is not there, or has no part in the match, is empty."""
    groups = {
        **{str(at): text for at, text in enumerate(found.groups(), 1)},
        "0": found[0],
        **found.groupdict(),
    }
    return _REFERENCE.sub(lambda one: one[1] or groups.get(one[2] or one[3]) or "", template)
