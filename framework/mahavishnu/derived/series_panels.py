"""Panels of series: those of a section, its entries side by side, and those of one entry, with its own bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from mahavishnu.contract import Contract, scoped
from mahavishnu.derived.panel_places import has_entry, label_of, series_of
from mahavishnu.derived.panels import QUANTILES, UNITS, Panel, Query, Unit
from mahavishnu.errors import Path
from mahavishnu.policy import Policy
from mahavishnu.promql import Expr, Selector, highest, lowest, quantile, total
from mahavishnu.series import DEPENDENCY_DURATION
from mahavishnu.signals import WINDOW, Across, Kind, Label, Signal, Source
from mahavishnu.units import Duration

_PER_SECOND = " per second"
_STALE = "slo:sli_error:stale"
"""What the shares of an objective on time are made of, and no share itself."""


def section_panels(made: Contract, section: str) -> tuple[Panel, ...]:
    """One panel for each series of a section, its entries side by side."""
    if section == "slos":
        counted = (
            alone(made, one.name, None) for one in series_of(made, section) if one.source is not Source.RULE
        )
        return (*counted, *(_promised(made, one) for one in _fastest(made).values()))
    return tuple(alone(made, one.name, None) for one in series_of(made, section))


def _fastest(made: Contract) -> dict[str, dict[str, list[str]]]:
    """What is recorded of objectives, by level, each over the shortest of its windows: the series, and whose it is."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in made.recordings:  # of each objective from the shortest window on
        slos = [value for label, value in one.labels if label == "slo"]
        series = found.setdefault(_level(one.signal), {}) if slos else {}
        known = one.signal.name == _STALE or any(slo in each for each in series.values() for slo in slos)
        if not known:
            series.setdefault(one.signal.name, []).extend(slos)
    return found


def _promised(made: Contract, series: Mapping[str, list[str]]) -> Panel:
    first, by = made.signals[next(iter(series))], ("slo",)
    windows = [word for word in (name.rpartition("rate")[2] for name in series) if word[:1].isdigit()]
    asked = ((name, highest(_of_these(made.signals[name], slos), *by)) for name, slos in series.items())
    queries = (
        Query(scoped(expr, made.job), by, name.rpartition(":")[2] if len(series) > 1 else "")
        for name, expr in asked
    )
    title = f"{_title(first)} over {', '.join(windows)}" if windows else _title(first)
    return Panel(title, tuple(queries), _unit(first), first.help, kind="stat")


def _of_these(signal: Signal, slos: list[str]) -> Selector:
    others = signal.label("slo").known - {*slos}
    return signal.select(**({"slo_re": "|".join(slos)} if others else {}))


def entry_panels(made: Contract, section: str, name: str) -> tuple[Panel, ...]:
    """The series of one entry that its own numbers bound."""
    bounds = _bounds(made, section, name)
    groups: dict[str, list[Signal]] = {}
    for one in series_of(made, section):
        if one.name in bounds and has_entry(one, name):
            groups.setdefault(_level(one), []).append(one)
    return tuple(_drawn(made, group, name, bounds[group[0].name]) for group in groups.values())


def _bounds(made: Contract, section: str, name: str) -> dict[str, tuple[Decimal, ...]]:
    spec, found = made.spec, dict[str, tuple[Decimal, ...]]()
    for policy in _policies(made).get((section, name), ()):
        for signal, bound in policy.bounds(name):
            # What each worker has for itself is shown of all of them together.
            most = bound * spec.service.workers if signal.across is Across.SUM else bound
            found[signal.name] = (*found.get(signal.name, ()), most)
    called = spec.dependencies.get(name) if section == "dependencies" else None
    if called is not None and called.timeout is not None:
        found[DEPENDENCY_DURATION.name] = (*found.get(DEPENDENCY_DURATION.name, ()), called.timeout.seconds)
    return found


@lru_cache(maxsize=4)
def _policies(made: Contract) -> dict[Path, list[Policy]]:
    """The policies of each entry of the spec."""
    found: dict[Path, list[Policy]] = {}
    for path, _, policy in made.spec.policies():
        found.setdefault(path[:2], []).append(policy)
    return found


def _level(signal: Signal) -> str:
    """What recordings of one thing over several windows have in common: `slo:sli_error`."""
    return signal.name.rpartition(":")[0] or signal.name


@lru_cache(maxsize=256)  # every other page shows what one before it has shown
def alone(made: Contract, series: str, name: str | None, window: Duration = WINDOW) -> Panel:
    """One series by itself, of one entry or of all."""
    kind, panel = made.signals[series].kind, _drawn(made, [made.signals[series]], name, window=window)
    if kind is Kind.COUNTER and window != WINDOW:
        return panel._replace(title=f"{panel.title.removesuffix(_PER_SECOND)} in the last {window}")
    return over(window, panel) if kind is Kind.HISTOGRAM else panel


def over(window: Duration, panel: Panel) -> Panel:
    """The same, with the window in its title where it is another one than usual."""
    return panel if window == WINDOW else panel._replace(title=f"{panel.title}, over {window}")


def _drawn(
    made: Contract,
    signals: list[Signal],
    name: str | None,
    bounds: tuple[Decimal, ...] = (),
    kind: Literal["timeseries", "stat"] = "timeseries",
    window: Duration = WINDOW,
) -> Panel:
    first, several = signals[0], len(signals) > 1
    parts = tuple(
        query for one in signals for query in _asked(made, one, name, several=several, window=window)
    )
    unit = _unit(first)
    return Panel(
        _title(first),
        parts,
        unit,
        first.help,
        tuple(sorted({*bounds})),
        "stat" if unit == "dateTimeFromNow" else kind,
    )


def _asked(
    made: Contract, signal: Signal, name: str | None, *, several: bool, window: Duration
) -> Iterator[Query]:
    own = label_of(signal)
    where = {own: name} if own and name else {}
    by = tuple(
        one.name for one in signal.labels if one.name not in where and (one.name == own or _varies(one))
    )
    if signal.kind is Kind.HISTOGRAM:
        shares = QUANTILES if not by else (Decimal("0.95"),)
        rates = total(signal.bucket_rate(window, None, **where), "le", *by)
        for share in shares:
            yield Query(scoped(quantile(share, rates), made.job), by, f"p{share * 100:.0f}")
        return
    if signal.kind is Kind.COUNTER:
        grown = signal.rate if window == WINDOW else signal.increase  # of what is rare, nobody reads a rate
        expr: Expr = total(grown(window, **where), *by)
    elif name is None or signal.source is Source.RULE:
        expr = _of_several(signal, where, by)
    else:
        expr, by = signal.select(**where), ("instance", *by)
    if _unit(signal) == "dateTimeFromNow":
        expr = expr * 1000  # Grafana's dates are in milliseconds
    yield Query(scoped(expr, made.job), by, signal.name.rpartition(":")[2] if several else "")


def _of_several(signal: Signal, where: Mapping[str, str], by: tuple[str, ...]) -> Expr:
    """What a gauge is of several replicas, as it is of several workers: a fault of one of them is seen."""
    if signal.across is Across.MIN:
        return lowest(signal.select(**where), *by)
    if signal.of_all is None:
        return highest(signal.select(**where), *by)
    label, value = signal.of_all
    each = lowest(signal.select(**where, **{label: value}), *by)
    return each.or_(highest(signal.select(**where, **{f"{label}_not": value}), *by))


def _varies(label: Label) -> bool:
    return label.values is None or len(label.values) > 1


def _title(signal: Signal) -> str:
    name = _level(signal).rpartition(":")[2].removeprefix("mahavishnu_")
    for unit in ("_total", "_timestamp_seconds", "_seconds", "_bytes", "_ratio"):
        name = name.removesuffix(unit)
    words = name.replace("_", " ").capitalize().replace("Sli ", "SLI ")
    return words + (_PER_SECOND if signal.kind is Kind.COUNTER else "")


def _unit(signal: Signal) -> Unit:
    if signal.kind is Kind.COUNTER:
        return "Bps" if signal.name.endswith("_bytes_total") else "cps"
    if signal.name.endswith(("_timestamp_seconds", "_start_time_seconds")):
        return "dateTimeFromNow"
    if "ratio" in re.split("[_:]", signal.name):
        return "percentunit"
    return UNITS.get(signal.name.rpartition("_")[2], "short")
