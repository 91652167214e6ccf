"""What alerting rests on beside queries: how rules are labelled, how long they wait, and which jobs are scraped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from mahavishnu.units import Duration

_WAITS = ("for", "keep_firing_for")
_OF_A_GROUP = ("interval", "query_offset", "limit")
_WAY_OUT = "let the template write labels and times of rules, and jobs, as ours does"
Terms = Mapping[str, str]
"""What a rule carries: each of its labels, its waits, and what its group says of it, by name."""


class Named(NamedTuple):
    """A rule by its kind (`alert` or `record`), its name and what it asks; several may be called so."""

    kind: str
    name: str
    expr: str


def faults(path: str, own: Any, ours: Any) -> Iterator[str]:
    """Where a file read from a template of the user's own lets its rules or its jobs be others than ours."""
    mine, wanted = _rules(own), _rules(ours)
    shared = sorted(wanted.keys() & mine.keys())
    wrong = [(rule, one) for rule in shared for one in [*_differing(rule, mine[rule], wanted[rule])][:1]]
    rest = f", and {len(wrong) - 1} more rules differ" if wrong[1:] else ""
    yield from (f"`{path}` says of `{rule.name}` {one}{rest}: {_WAY_OUT}" for rule, one in wrong[:1])
    for job in sorted({*_jobs(ours)} - {*_jobs(own)})[:1]:
        yield f"`{path}` scrapes no job `{job}`, whose series the rules ask for: {_WAY_OUT}"


def _differing(rule: Named, mine: Iterable[Terms], wanted: Iterable[Terms]) -> Iterator[str]:
    """What is said otherwise; every rule must be one of ours, and each of ours there."""
    for ones, others, turned in ((wanted, mine, False), (mine, wanted, True)):
        for one in ones:
            found = [_difference(rule, *((one, other) if turned else (other, one))) for other in others]
            if all(found):
                yield found[0]


def _difference(rule: Named, mine: Terms, ours: Terms) -> str:
    """How one rule differs from ours, in words; an alert may have labels that ours has not."""
    names = {*ours, *(name for name in mine if rule.kind == "record" or not _labels(name))}
    wrong = (name for name in sorted(names) if _plain(name, mine) != _plain(name, ours))
    return next((f"{_said(name, mine)}, and ours {_said(name, ours)}" for name in wrong), "")


def _labels(name: str) -> bool:
    return name not in (*_WAITS, *_OF_A_GROUP)


def _plain(name: str, terms: Terms) -> str:
    """What is said under a name; of times, however they are written."""
    text = terms.get(name, "")
    try:
        return text if _labels(name) else str(Duration.parse(text))
    except ValueError:
        return text.strip("0smhdwy") and text


def _said(name: str, terms: Terms) -> str:
    return f"`{name}: {terms[name]}`" if name in terms else f"no `{name}`"


def _rules(node: Any) -> dict[Named, list[Terms]]:
    found = defaultdict[Named, list[Terms]](list)
    for rule, group in _within(node, {}):
        for kind in ("alert", "record"):
            if rule.get(kind):
                found[Named(kind, str(rule[kind]), str(rule.get("expr")).strip())].append(_terms(rule, group))
    return found


def _within(node: Any, group: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every rule, however deep, and the group that it is in."""
    if isinstance(node, dict):
        entries = cast("dict[str, Any]", node)
        if "expr" in entries:
            yield entries, group
        for value in entries.values():
            yield from _within(value, entries if "rules" in entries else group)
    elif isinstance(node, list | tuple):
        for item in cast("Iterable[Any]", node):
            yield from _within(item, group)


def _terms(rule: Mapping[str, Any], group: Mapping[str, Any]) -> Terms:
    labels = {**_mapping(group.get("labels")), **_mapping(rule.get("labels"))}
    times = {name: rule.get(name) for name in _WAITS} | {name: group.get(name) for name in _OF_A_GROUP}
    said = {f"label {name}": value for name, value in labels.items()} | times
    return {name: str(value) for name, value in said.items() if value is not None}


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _jobs(node: Any) -> Iterator[str]:
    """The name of every job that is scraped, however deep."""
    return (str(one["job_name"]) for one in mappings(node) if "job_name" in one)


def mappings(node: Any) -> Iterator[Mapping[object, Any]]:
    """Every mapping of a tree, however deep."""
    if isinstance(node, dict):
        entries = cast("dict[object, Any]", node)
        yield entries
        yield from mappings([*entries.values()])
    elif isinstance(node, list | tuple):
        for item in cast("Iterable[Any]", node):
            yield from mappings(item)
