"""What people are shown of a contract: dashboards of panels, every query a tree, every line a number of the spec."""

# No panel is listed here for a policy. A series is shown where the label that names its entry of the spec belongs
# (`limit`, `dependency`, `slo`, `backup`), an alert beside it: what it measures, and the bound beyond which it fires.

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

from mahavishnu.contract import Contract, scoped
from mahavishnu.derived.lookback import DAY, lookback, step
from mahavishnu.errors import Path
from mahavishnu.policy import Policy
from mahavishnu.promql import (
    Aggregate,
    Binary,
    Call,
    Expr,
    Number,
    Selector,
    highest,
    lowest,
    quantile,
    total,
)
from mahavishnu.series import (
    CPU,
    CPU_LIMIT,
    DEPENDENCY_DURATION,
    HTTP_ACTIVE,
    HTTP_DURATION,
    MEMORY,
    MEMORY_LIMIT,
    SLO_REQUESTS,
    UP,
)
from mahavishnu.signals import WINDOW, Across, AgreementError, Alert, Kind, Label, Signal, Source
from mahavishnu.units import Duration

Unit = Literal["reqps", "cps", "Bps", "percentunit", "s", "bytes", "short", "dateTimeFromNow"]
"""Grafana's own names of units."""

_PER_SECOND = " per second"
_LONGEST_UID = 40  # Grafana's
_QUANTILES = (Decimal("0.5"), Decimal("0.95"), Decimal("0.99"))
_TITLES = {
    "service": "service",
    "resilience": "limits and dependencies",
    "slos": "SLOs",
    "backups": "backups",
}
_LABELS = {"limit": "limits", "dependency": "dependencies", "slo": "slos", "backup": "backups"}
"""A label that names an entry of the spec, and the section in which that stands."""
_WORDS = {"limit": "limits", "dead": "dead_letters", "backup": "backups"}
"""The first word of a series without such a label, and its section; every other one is of the service."""
_BOARDS = {
    "service": "service",
    "limits": "resilience",
    "dependencies": "resilience",
    "dead_letters": "resilience",
    "slos": "slos",
    "backups": "backups",
}
_STALE = "slo:sli_error:stale"
"""What the shares of an objective on time are made of, and no share itself."""
_CRUMB = Decimal("0.5")
"""What differences of long sums may leave where nothing was."""
_DRAWN = frozenset(one.name for one in (UP, HTTP_DURATION, HTTP_ACTIVE, MEMORY, MEMORY_LIMIT, CPU, CPU_LIMIT))
"""Series with panels of their own making."""
_UNITS: Mapping[str, Unit] = {
    "ratio": "percentunit",
    "seconds": "s",
    "bytes": "bytes",
    "count": "short",
    "events": "short",
}


class Query(NamedTuple):
    """One query of a panel; `legend` are the labels by which its answers are told apart."""

    expr: Expr
    legend: tuple[str, ...] = ()
    name: str = ""


class Panel(NamedTuple):
    """One picture: what it asks, in which unit, and the numbers that are drawn as lines.

    `alert` is the name of the alert that it shows: then every query is what the rule itself measures.
    """

    title: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    text: str = ""
    bounds: tuple[Decimal, ...] = ()
    kind: Literal["timeseries", "stat"] = "timeseries"
    alert: str = ""


class Row(NamedTuple):
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(NamedTuple):
    """A page of rows; `name` is that of its file, `uid` what links call it by."""

    name: str
    uid: str
    title: str
    rows: tuple[Row, ...]

    def numbered(self) -> Iterator[tuple[int, Row | Panel]]:
        """Every heading and every panel with its number, from the top."""
        yield from enumerate((one for row in self.rows for one in (row, *row.panels)), 1)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Every panel."""
        return tuple(panel for row in self.rows for panel in row.panels)


class Spot(NamedTuple):
    """Where an alert is shown."""

    dashboard: Dashboard
    number: int
    row: Row
    panel: Panel


@lru_cache(maxsize=4)
def dashboards(made: Contract) -> tuple[Dashboard, ...]:
    """Every dashboard of a contract; raises AgreementError when a query asks for what nothing shows."""
    boards = tuple(
        Dashboard(name, _uid(made.job, name), f"{made.job}: {title}", rows)
        for name, title in _TITLES.items()
        if (rows := tuple(row for row in _rows(made, name) if row.panels))
    )
    faults = (fault for _, expr in queries(boards) for fault in made.faults(expr))
    if (first := next(faults, None)) is not None:
        raise AgreementError(first)
    return boards


def queries(boards: Iterable[Dashboard]) -> Iterator[tuple[str, Expr]]:
    """Every query of dashboards, with the words for its place."""
    for board in boards:
        for panel in board.panels:
            yield from ((f"{board.name}: {panel.title}", query.expr) for query in panel.queries)


def spots(boards: Iterable[Dashboard]) -> dict[str, Spot]:
    """Where each alert is shown, by its name."""
    found: dict[str, Spot] = {}
    for board in boards:
        row = board.rows[0]
        for number, one in board.numbered():
            if isinstance(one, Row):
                row = one
            elif one.alert:
                found[one.alert] = Spot(board, number, row, one)
    return found


def _uid(job: str, name: str) -> str:
    uid = f"{job.replace('_', '-')}-{name}"
    return uid if len(uid) <= _LONGEST_UID else hashlib.sha256(uid.encode()).hexdigest()[:_LONGEST_UID]


def _rows(made: Contract, board: str) -> Iterator[Row]:
    sections = [section for section, home in _BOARDS.items() if home == board]
    if board == "service":
        yield Row("requests", _requests(made))
        yield Row("process", (*_process(made), *_overview(made, "service")))
        yield Row("alerts", tuple(_alerts(made, "service", None)))
        return
    for section in sections:
        overview = (*_overview(made, section), *_alerts(made, section, None))
        yield Row(section.replace("_", " "), overview)
        yield from (Row(f"{section}.{name}", _entry(made, section, name)) for name in _names(made, section))


# --- where a series and an alert belong ---------------------------------------------------------------------


def _label(signal: Signal) -> str | None:
    """The label of a series that names an entry of the spec."""
    return next((label.name for label in signal.labels if label.name in _LABELS), None)


def _section(signal: Signal) -> str:
    word = signal.name.removeprefix("mahavishnu_").split("_")[0]
    return _LABELS.get(_label(signal) or "", _WORDS.get(word, "service"))


def _of(made: Contract, section: str) -> list[Signal]:
    return _sections(made).get(section, [])


@lru_cache(maxsize=4)
def _sections(made: Contract) -> dict[str, list[Signal]]:
    """The series of each section that have no panels of their own making."""
    found: dict[str, list[Signal]] = {}
    for one in made.signals.values():
        if one.name not in _DRAWN:
            found.setdefault(_section(one), []).append(one)
    return found


def _names(made: Contract, section: str) -> tuple[str, ...]:
    """The entries of a section that have series."""
    labels = [one.label(label) for one in _of(made, section) if (label := _label(one))]
    return tuple(dict.fromkeys(value for label in labels for value in label.values or ()))


def _has(signal: Signal, name: str | None) -> bool:
    """Whether a series is, among others, that of an entry."""
    return any(label.name in _LABELS and name in label.known for label in signal.labels)


def _place(alert: Alert) -> tuple[str, str | None]:
    """The section and the entry that an alert is about, by the series it asks for."""
    signals = [selector.signal for selector in alert.expr.selectors()]
    for selector in alert.expr.selectors():
        for matcher in selector.matchers:
            if matcher.label in _LABELS and matcher.op == "=":
                return _LABELS[matcher.label], matcher.value
    return next((section for one in signals if (section := _section(one)) != "service"), "service"), None


# --- panels of series ---------------------------------------------------------------------------------------


def _overview(made: Contract, section: str) -> tuple[Panel, ...]:
    """One panel for each series of a section, its entries side by side."""
    if section == "slos":
        counted = (
            _alone(made, one.name, None) for one in _of(made, section) if one.source is not Source.RULE
        )
        return (*counted, *(_promised(made, one) for one in _fastest(made).values()))
    return tuple(_alone(made, one.name, None) for one in _of(made, section))


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


def _entry(made: Contract, section: str, name: str) -> tuple[Panel, ...]:
    """The series of one entry that its own numbers bound, and its alerts."""
    bounds = _bounds(made, section, name)
    groups: dict[str, list[Signal]] = {}
    for one in _of(made, section):
        if one.name in bounds and _has(one, name):
            groups.setdefault(_level(one), []).append(one)
    drawn = [_drawn(made, group, name, bounds[group[0].name]) for group in groups.values()]
    return (*drawn, *_alerts(made, section, name))


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
def _alone(made: Contract, series: str, name: str | None, window: Duration = WINDOW) -> Panel:
    """One series by itself, of one entry or of all."""
    kind, panel = made.signals[series].kind, _drawn(made, [made.signals[series]], name, window=window)
    if kind is Kind.COUNTER and window != WINDOW:
        return panel._replace(title=f"{panel.title.removesuffix(_PER_SECOND)} in the last {window}")
    return _over(window, panel) if kind is Kind.HISTOGRAM else panel


def _over(window: Duration, panel: Panel) -> Panel:
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
    own = _label(signal)
    where = {own: name} if own and name else {}
    by = tuple(
        one.name for one in signal.labels if one.name not in where and (one.name == own or _varies(one))
    )
    if signal.kind is Kind.HISTOGRAM:
        shares = _QUANTILES if not by else (Decimal("0.95"),)
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
    return _UNITS.get(signal.name.rpartition("_")[2], "short")


# --- panels of alerts ---------------------------------------------------------------------------------------


def _alerts(made: Contract, section: str, name: str | None) -> Iterator[Panel]:
    return map(_watched, _homes(made).get((section, name), ()))


@lru_cache(maxsize=4)
def _homes(made: Contract) -> dict[tuple[str, str | None], list[Alert]]:
    """The alerts of each entry of a section, and of the section itself where they are of no entry."""
    known = {section: {*_names(made, section)} for section in _BOARDS}
    found: dict[tuple[str, str | None], list[Alert]] = {}
    for alert in made.alerts:
        section, entry = _place(alert)
        found.setdefault((section, entry if entry in known[section] else None), []).append(alert)
    return found


def _watched(alert: Alert) -> Panel:
    """What an alert measures, and its bound."""
    parts = [*_measured(alert.expr)]
    bound = parts[0][1]
    exprs = dict.fromkeys(expr for expr, other in parts if other == bound)
    hold = f"for {alert.hold}" if alert.hold else "at once"
    return Panel(
        alert.name,
        tuple(Query(expr) for expr in exprs),
        _UNITS[alert.unit],
        f"{alert.severity} {hold}. {alert.meaning}",
        () if bound is None else (bound,),
        alert=alert.name,
    )


def behind(made: Contract, alert: Alert) -> tuple[Panel, ...]:
    """The series that an alert rests on, each by itself; for recorded ones those that they are made of.

    They are asked for over the longest of its own windows: in a shorter one what it is about may be over.
    """
    _, name = _place(alert)
    window = lookback(made, alert).window
    bases = dict.fromkeys(one.signal.name for one in made.bases(alert.expr) if _exposed(one))
    if HTTP_DURATION.name in bases or SLO_REQUESTS.name in bases:
        bad = (failed(made, window, _under(made, alert)),) if _of_the_bad(made, alert) else ()
        return (*bad, *(_over(window, one) for one in _by_route(made, window)))
    return tuple(
        _alone(made, base, name if _has(made.signals[base], name) else None, window) for base in bases
    )


def began(made: Contract, alert: Alert) -> tuple[Panel, ...]:
    """When the requests were that an alert is about, by route: asked for at every step as far back as it looks."""
    if not _of_the_bad(made, alert):
        return ()
    return (failing(made, max(lookback(made, alert).long, DAY), _under(made, alert)),)


def failed(made: Contract, window: Duration, under: Duration | None = None) -> Panel:
    """The requests of a window that failed, by route and status, or with `under` took longer: most of them first."""
    by = ("http_route", "http_response_status_code") if under is None else ("http_route",)
    title = f"{_fault(under)} in the last {window}, by {'route and status' if under is None else 'route'}"
    return _panel(made, title, {"": Call("sort_desc", (_bad(made, window, under, by),))}, "short", by)


def failing(made: Contract, long: Duration, under: Duration | None = None) -> Panel:
    """The same between one point and the next of such a time, by route."""
    apart = step(long)
    title = f"{_fault(under)} in each {apart}, by route"
    return _panel(made, title, {"": _bad(made, apart, under, ("http_route",))}, "short", ("http_route",))


def _fault(under: Duration | None) -> str:
    return "Answered with 5xx" if under is None else f"Took longer than {under}"


def _bad(made: Contract, window: Duration, under: Duration | None, by: tuple[str, ...]) -> Expr:
    http = made.signals[HTTP_DURATION.name]
    every = http.part("_count", **({} if under else {"http_response_status_code_re": "5.."}))
    counted: Expr = total(every.over(window, "increase"), *by)
    if under is not None:
        fast = http.part("_bucket", le=http.boundary(under.seconds))
        counted = counted - total(fast.over(window, "increase"), *by)
    return counted > _CRUMB


def _of_the_bad(made: Contract, alert: Alert) -> bool:
    """Whether it is about requests that an objective calls bad, and not about there being none."""
    return alert.path[0] == "slos" and any(
        base.signal.name == SLO_REQUESTS.name and one.value == "bad"
        for base in made.bases(alert.expr)
        for one in base.matchers
    )


def _under(made: Contract, alert: Alert) -> Duration | None:
    """How fast a request must be for the objective of an alert; None: it must succeed."""
    return made.spec.slos[str(alert.path[1])].under


def _exposed(selector: Selector) -> bool:
    return selector.signal.source is not Source.RULE


def _measured(expr: Expr) -> Iterator[tuple[Expr, Decimal | None]]:
    """Each value that a condition compares, with the number it is compared with."""
    match expr:
        case Binary(op="and" | "or"):
            yield from (*_measured(expr.left), *_measured(expr.right))
        case Binary(op="unless"):
            yield from _measured(expr.left)
        case Binary(op=">" | "<" | ">=" | "<=" | "==" | "!=", left=left, right=Number(value=bound)):
            yield left, bound
        case Binary(op=">" | "<" | ">=" | "<=" | "==" | "!="):
            yield from ((expr.left, None), (expr.right, None))
        case Call(name="absent", args=(inner,)):
            yield inner, None
        case Aggregate(inner=Binary(op="or", left=Call(name="absent")) as either):
            yield from _measured(either)
        case _:
            yield expr, None


# --- the service itself -------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _requests(made: Contract) -> tuple[Panel, ...]:
    """Rate, errors and duration of requests, by route."""
    requests = HTTP_DURATION.count_rate(WINDOW)
    status = "http_response_status_code"
    overall = _part(total(_failed(WINDOW)), total(requests))
    every = made.spec.slos.values()
    budgets = sorted(1 - one.objective.ratio for one in every if not (one.match or one.under or one.query))
    unders = _unders(made)
    return (
        *_by_route(made, WINDOW),
        _panel(made, "Answers per second, by status", {"": total(requests, status)}, "reqps", (status,)),
        _panel(made, "Share answered with 5xx", {"": overall}, "percentunit", (), budgets),
        _panel(
            made,
            "Duration",
            {f"p{one * 100:.0f}": _slowest(one, WINDOW) for one in _QUANTILES},
            "s",
            (),
            unders,
        ),
        _panel(made, "Requests being served", {"": HTTP_ACTIVE.select()}, "short", ("instance",)),
    )


@lru_cache(maxsize=16)
def _by_route(made: Contract, window: Duration) -> tuple[Panel, ...]:
    route, requests = "http_route", HTTP_DURATION.count_rate(window)
    share = _part(total(_failed(window), route), total(requests, route))
    slowest = _slowest(Decimal("0.95"), window, route)
    return (
        _panel(made, "Requests per second", {"": total(requests, route)}, "reqps", (route,)),
        _panel(made, "Share answered with 5xx, by route", {"": share}, "percentunit", (route,)),
        _panel(made, "Duration by route (p95)", {"": slowest}, "s", (route,), _unders(made)),
    )


def _unders(made: Contract) -> list[Decimal]:
    """How fast requests were promised to be."""
    return sorted({one.under.seconds for one in made.spec.slos.values() if one.under is not None})


def _process(made: Contract) -> tuple[Panel, ...]:
    """What the processes use of what they were given."""
    deploy, here = made.spec.deploy, ("instance",)
    memory = {"": MEMORY.select(), "given": highest(MEMORY_LIMIT.select())}
    cores = {"": CPU.rate(WINDOW), "given": highest(CPU_LIMIT.select())}
    given, least = deploy.resources, Decimal(deploy.replicas.min)
    return (
        _panel(made, "Replicas that answer", {"": total(UP.select())}, "short", (), [least]),
        _panel(made, "Memory", memory, "bytes", here, [Decimal(int(given.memory))]),
        _panel(made, "Processor cores used", cores, "short", here, [given.cpu.cores]),
    )


def _panel(
    made: Contract,
    title: str,
    exprs: Mapping[str, Expr],
    unit: Unit,
    legend: tuple[str, ...],
    bounds: Iterable[Decimal] = (),
) -> Panel:
    """A panel of queries by name; those without a name are told apart by the labels."""
    asked = (Query(scoped(expr, made.job), () if name else legend, name) for name, expr in exprs.items())
    return Panel(title, tuple(asked), unit, bounds=tuple(dict.fromkeys(bounds)))


def _failed(window: Duration) -> Expr:
    return HTTP_DURATION.count_rate(window, http_response_status_code_re="5..")


def _part(some: Expr, every: Expr) -> Expr:
    """The share of some in all, 0 where there never were any."""
    return some.or_(Number(Decimal(0)) * every) / (every > 0)


def _slowest(share: Decimal, window: Duration, *by: str) -> Expr:
    return quantile(share, total(HTTP_DURATION.bucket_rate(window), "le", *by))
