"""A running service: its spec, its series with their labels and boundaries, its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mahavishnu.contract import Contract
from mahavishnu.live.fetch import Site, Unreachable
from mahavishnu.live.missing import missing
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.series import LIMIT_QUOTA, SPEC_INFO
from mahavishnu.signals import AgreementError, Signal, boundary_text, exposed

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \S+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def differences(site: Site, made: Contract) -> Iterator[str]:
    """Where a running service differs: its spec, its series with their labels and boundaries, its numbers."""
    path = made.spec.observability.metrics.path
    samples = list(_samples(site.text(path)))
    if SPEC_INFO.name not in {name for name, _, _ in samples}:
        raise Unreachable(f"what answers at {site.url}{path} is no service of mahavishnu")
    for name, labels, _ in samples:
        if name == SPEC_INFO.name and labels.get("hash") != made.hash:
            yield f"the spec at work is {labels.get('hash')}, and this one is {made.hash}"
    known = exposed(made.signals.values())
    for name in dict.fromkeys(name for name, _, _ in samples):
        if name not in known:
            yield f"it shows {name}, which this spec knows nothing of"
    for name, labels, _ in samples:
        if name in known:
            yield from _labels(name, labels, known[name])
    yield from missing({name for name, _, _ in samples}, made)
    yield from _numbers(samples, made)


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match:
            yield match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])


def _labels(name: str, labels: Mapping[str, str], signal: Signal) -> Iterator[str]:
    own = {key: value for key, value in labels.items() if key != "le"}
    if own.keys() != {label.name for label in signal.labels}:
        yield f"{name} has the labels {', '.join(sorted(own))}"
        return
    bounds = {"+Inf", *map(boundary_text, signal.buckets)}
    if name.endswith("_bucket") and labels.get("le") not in bounds:
        yield f"{name} has a boundary at {labels.get('le')}, and this spec has none there"
    for key, value in own.items():
        try:
            signal.check_value(key, "=", value)
        except AgreementError:
            yield f"{name} says {key}={value}, which this spec knows nothing of"


def _numbers(samples: list[tuple[str, dict[str, str], float]], made: Contract) -> Iterator[str]:
    enforced = {labels.get("limit"): value for name, labels, value in samples if name == LIMIT_QUOTA.name}
    for name, limit in made.spec.limits.items():
        adapts, wanted = False, limit.number()
        if isinstance(limit, Concurrency):  # each worker has places of its own, and they are shown together
            adapts, wanted = limit.adaptive, wanted * made.spec.service.workers
        if name in enforced and not adapts and enforced[name] != wanted:
            yield f"limit {name} is enforced as {enforced[name]:g}, and this spec says {wanted:g}"
