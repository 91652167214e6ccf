"""What runs, compared with what the spec says: a service, its Prometheus, its Alertmanager."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPException
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from mahavishnu import heard
from mahavishnu.contract import Contract
from mahavishnu.errors import MahavishnuError
from mahavishnu.loading import yaml_tree
from mahavishnu.pace import Pace, paces
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.series import LIMIT_QUOTA, SPEC_INFO
from mahavishnu.signals import AgreementError, Kind, Signal, Source, boundary_text, exposed
from mahavishnu.units import Duration

_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/\S*)?")
_LONGEST, _LARGEST = 10, 64 * 2**20
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \S+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_STRING = r'"(?:[^"\\]|\\.)*"'
_MATCHERS = re.compile(rf'{_STRING}|\{{((?:{_STRING}|[^{{}}"])*)\}}')
_MATCHER = re.compile(rf'(?:{_STRING}|[^,"])+')
_NUMBER = re.compile(r"(?<![\w.\"])[0-9][0-9.]*(?:e[+-]?[0-9]+)?(?![\w.\"])")
_HIDDEN = "<secret>"
# Where Alertmanager adds nothing of its own but `continue: false`: what is there, somebody wrote.
_WRITTEN = re.compile(r"(route|inhibit_rules|time_intervals|mute_time_intervals)\b.*|receivers\.[^.]+\.\w+")
Groups = list[dict[str, Any]]
Rules = Mapping[tuple[str, str], Mapping[str, Any]]


class Unreachable(MahavishnuError):
    """Nobody answers there, or not what was asked for: nothing was compared."""


def service(url: str, made: Contract) -> Iterator[str]:
    """Where a running service differs: its spec, its series with their labels and boundaries, its numbers."""
    path = made.spec.observability.metrics.path
    text = _fetch(f"{url.rstrip('/')}{path}")
    samples = list(_samples(text))
    if SPEC_INFO.name not in {name for name, _, _ in samples}:
        raise Unreachable(f"what answers at {url}{path} is no service of mahavishnu")
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
    yield from _missing({name for name, _, _ in samples}, made)
    yield from _numbers(samples, made)


def prometheus(url: str, made: Contract, rules: str, scraping: Iterable[str]) -> Iterator[str]:
    """Where a running Prometheus differs: rules, targets of the job, series, who is told, how long it remembers.

    `scraping` are the texts that say how the job is scraped, each for a Prometheus of its own.
    """
    base = f"{url.rstrip('/')}/api/v1"
    loaded: Groups = _data(f"{base}/rules")["groups"]
    written: Groups = _yaml(rules)["groups"]
    yield from _rules(_named(loaded), _named(written))
    yield from _evaluated(loaded, written)
    targets: list[dict[str, Any]] = _data(f"{base}/targets?state=active")["activeTargets"]
    yield from _targets(
        [one for one in targets if one["labels"].get("job") == made.job], made, [*paces(scraping, made.job)]
    )
    query = urlencode({"match[]": f'{{job="{made.job}"}}'})
    yield from _missing({str(one) for one in _data(f"{base}/label/__name__/values?{query}")}, made)
    if not _data(f"{base}/alertmanagers")["activeAlertmanagers"]:
        yield "it knows no Alertmanager: its alerts reach nobody"
    kept = str(_data(f"{base}/status/runtimeinfo").get("storageRetention", ""))
    wanted = made.spec.retention.metrics
    if any(_years(one) != wanted for one in kept.split(" or ") if one[-1:].islower()):  # and no size
        yield f"it keeps its series for {kept}, and retention.metrics is {wanted}"


def alertmanager(url: str, made: Contract, config: str) -> Iterator[str]:
    """Where a running Alertmanager says something else of this service's alerts, or nothing; secrets are not shown."""
    status = json.loads(_fetch(f"{url.rstrip('/')}/api/v2/status"))
    loaded = _yaml(cast("dict[str, Any]", status)["config"]["original"])
    yield from _differs(heard.part(_yaml(config), made.job), heard.part(loaded, made.job), "")


# --- a service --------------------------------------------------------------------------------------------


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


def _missing(names: set[str], made: Contract) -> Iterator[str]:
    """Gauges are there from the start but for those that jobs report; what counts may not have counted yet."""
    for one in made.signals.values():
        known = one.source is Source.RUNTIME and one.kind is Kind.GAUGE and not one.reported
        if known and one.name not in names:
            yield f"there is no {one.name}"


def _numbers(samples: list[tuple[str, dict[str, str], float]], made: Contract) -> Iterator[str]:
    enforced = {labels.get("limit"): value for name, labels, value in samples if name == LIMIT_QUOTA.name}
    for name, limit in made.spec.limits.items():
        adapts, wanted = False, limit.number()
        if isinstance(limit, Concurrency):  # each worker has places of its own, and they are shown together
            adapts, wanted = limit.adaptive, wanted * made.spec.service.workers
        if name in enforced and not adapts and enforced[name] != wanted:
            yield f"limit {name} is enforced as {enforced[name]:g}, and this spec says {wanted:g}"


# --- Prometheus -------------------------------------------------------------------------------------------


def _named(groups: Groups) -> Rules:
    return {_key(one): one for group in groups for one in group["rules"]}


def _key(rule: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a rule from all others: its name and its labels."""
    name = rule.get("name") or rule.get("alert") or rule.get("record")
    return str(name), json.dumps(rule.get("labels", {}), sort_keys=True)


def _rules(loaded: Rules, wanted: Rules) -> Iterator[str]:
    owners = {json.loads(labels).get("service") for _, labels in wanted}
    for key, one in wanted.items():
        name = key[0]
        if key not in loaded:
            yield f"rule {name} is not loaded, or with other labels"
            continue
        found = loaded[key]
        if normal(found["query"]) != normal(one["expr"]):
            yield f"rule {name} asks `{found['query']}`"
        if "alert" in one and found["duration"] != _seconds(one.get("for")):
            yield f"rule {name} waits for {found['duration']:g} s"
        if other := _other(one.get("annotations") or {}, found.get("annotations") or {}):
            yield f"rule {name} is told with another {', '.join(other)}"
        if found.get("health") == "err":
            yield f"rule {name} cannot be evaluated: {found.get('lastError')}"
    for name, labels in loaded.keys() - wanted.keys():
        if json.loads(labels).get("service") in owners:
            yield f"rule {name} is loaded, and this spec knows nothing of it"


def _other(wanted: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    """The names under which two mappings do not say the same."""
    return sorted(key for key in {*wanted, *loaded} if f"{wanted.get(key)}" != f"{loaded.get(key)}")


def _evaluated(loaded: Groups, wanted: Groups) -> Iterator[str]:
    """Groups that are asked at another pace than they say; one that says none is asked as Prometheus likes."""
    places = {_key(rule): (one["name"], one.get("interval")) for one in loaded for rule in one["rules"]}
    for group in wanted:
        interval = group.get("interval")
        found = {places[key] for rule in group["rules"] if interval and (key := _key(rule)) in places}
        for name, every in sorted(found):
            if every is not None and every != _seconds(interval):
                yield f"group {name} is evaluated every {every:g} s, and this spec says {interval}"


def normal(query: str) -> str:
    """A query in a form that does not depend on who wrote it down: blanks, order of matchers, forms of numbers."""
    numbers = _NUMBER.sub(lambda match: repr(float(match[0])), _MATCHERS.sub(_ordered, query))
    return re.sub(r"\s+", "", numbers)


def _ordered(found: re.Match[str]) -> str:
    """Matchers in order; a string outside of any is left as it is."""
    if found[1] is None:
        return found[0]
    return "{" + ",".join(sorted(one.strip() for one in _MATCHER.findall(found[1]))) + "}"


def _seconds(hold: object) -> float:
    return float(Duration.parse(str(hold)).seconds) if hold else 0.0


def _years(length: str) -> Duration:
    """A length as Prometheus spells it, which has years, of 365 days."""
    return Duration.parse(re.sub(r"(\d+)y", lambda match: f"{365 * int(match[1])}d", length))


def _targets(targets: list[dict[str, Any]], made: Contract, asked: list[Pace]) -> Iterator[str]:
    if not targets:
        yield f"it scrapes nothing as job {made.job}"
    for one in targets:
        if one["health"] != "up":
            yield f"target {one['scrapeUrl']} is {one['health']}: {one.get('lastError') or 'not scraped yet'}"
        if urlsplit(str(one["scrapeUrl"])).path != made.spec.observability.metrics.path:
            yield f"target {one['scrapeUrl']} is not at {made.spec.observability.metrics.path}"
        yield from _paced(one, asked)


def _paced(one: Mapping[str, Any], wanted: Iterable[Pace]) -> Iterator[str]:
    """Windows are so long as to hold some scrapes; a Prometheus before 2.28 does not say how often it scrapes."""
    for key, says, known in (
        ("scrapeInterval", "is scraped every", {each.interval for each in wanted}),
        ("scrapeTimeout", "must answer within", {each.timeout for each in wanted}),
    ):
        if known and one.get(key) and _years(one[key]) not in known:
            said = " or ".join(map(str, sorted(known)))
            yield f"target {one['scrapeUrl']} {says} {one[key]}, and this spec says {said}"


# --- Alertmanager -----------------------------------------------------------------------------------------


def _differs(wanted: object, loaded: object, path: str) -> Iterator[str]:
    """What is wanted and not loaded, or loaded and not wanted; the loaded one says many defaults besides."""
    if isinstance(wanted, dict) and isinstance(loaded, dict):
        asked, found = cast("dict[str, object]", wanted), cast("dict[str, object]", loaded)
        for key, value in asked.items():
            yield from _differs(value, found.get(key), f"{path}.{key}".lstrip("."))
        yield from _more(asked, found, path)
    elif isinstance(wanted, list) and isinstance(loaded, list):
        yield from _items(cast("list[object]", wanted), cast("list[object]", loaded), path)
    elif loaded != _HIDDEN and f"{wanted}" != f"{loaded}":
        yield f"{path} is `{loaded}`, and this spec says `{wanted}`"


def _more(wanted: Mapping[str, object], loaded: Mapping[str, object], path: str) -> Iterator[str]:
    for key, value in loaded.items():
        place = f"{path}.{key}".lstrip(".")
        if value and key not in wanted and _WRITTEN.fullmatch(place):
            yield f"{place} is `{yaml_tree.short(str(value))}`, and this spec says nothing of it"


def _items(wanted: list[object], loaded: list[object], path: str) -> Iterator[str]:
    if len(wanted) != len(loaded):
        yield f"{path} has {len(loaded)} entries, and this spec says {len(wanted)}"
        return
    pairs: Iterable[tuple[object, object]] = zip(wanted, loaded, strict=True)
    if all(isinstance(one, str) for one in wanted):  # Alertmanager puts matchers in an order of its own
        pairs = zip(sorted(map(str, wanted)), sorted(map(str, loaded)), strict=True)
    for place, (one, other) in enumerate(pairs):
        yield from _differs(one, other, f"{path}[{place}]")


# --- reading ----------------------------------------------------------------------------------------------


def _yaml(text: str) -> dict[str, Any]:
    tree = yaml_tree.read(text.encode(), "").tree
    if not isinstance(tree, yaml_tree.Mapping):
        raise Unreachable("what it says of its configuration cannot be read")
    return cast("dict[str, Any]", yaml_tree.plain(tree))


def _data(url: str) -> Any:
    try:
        return json.loads(_fetch(url))["data"]
    except (ValueError, KeyError, TypeError):
        raise Unreachable(f"what answers at {url} is no Prometheus") from None


def _fetch(url: str) -> str:
    if not _URL.fullmatch(url):
        raise Unreachable("what was given is no URL: write one like `http://127.0.0.1:9090`, without a login")
    try:
        with urlopen(Request(url), timeout=_LONGEST) as answer:  # noqa: S310 (http and https alone)
            return str(answer.read(_LARGEST).decode("utf-8", "replace"))
    except HTTPError as fault:
        raise Unreachable(f"{url} answers {fault.code} {fault.reason}") from None
    except (URLError, HTTPException, OSError, ValueError) as fault:
        raise Unreachable(f"{url} cannot be reached: {getattr(fault, 'reason', fault)}") from None
