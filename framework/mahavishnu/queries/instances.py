"""Single series that a selector stands for: what a proof moves where a query names many."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from mahavishnu.promql import Matcher, Selector
from mahavishnu.queries.patterns import alternatives
from mahavishnu.signals import AgreementError, Label, boundary_text


def meets(selector: Selector, one: Selector) -> bool:
    """Whether a selector selects the one series that another one, of equalities, names."""
    labels = {matcher.label: matcher.value for matcher in one.matchers}
    return selector.series == one.series and all(
        matcher.holds(labels.get(matcher.label, "")) for matcher in selector.matchers
    )


def example(selector: Selector, avoid: Selector | None = None) -> Selector:
    """One series that a selector selects, every label said; none that `avoid` selects.

    Raises AgreementError when there is none.
    """
    found = _example(selector, avoid)
    if avoid is not None and meets(avoid, found):
        raise AgreementError(f"`{avoid}` calls everything bad that `{selector}` counts")
    return found


def outside(selector: Selector, other: Selector) -> Selector | None:
    """One series of what a selector counts and the other one does not; None: there is none that their labels tell.

    They may be parts of one histogram, or of two series that share labels.
    """
    alike = selector.signal.name == other.signal.name
    if alike and _bound(selector) > _bound(other):
        return example(selector)
    said = (one for one in other.matchers if alike or _shared(one.label, selector, other))
    mine = (one for one in selector.matchers if one.label == "le")
    counted = replace(selector, matchers=(*(one for one in said if one.label != "le"), *mine))
    found = _example(selector, counted)
    return None if meets(counted, found) else found


def _bound(selector: Selector) -> float:
    """Up to which of its values a part of a histogram counts; a counter has none."""
    return min((float(one.value) for one in selector.matchers if one.label == "le"), default=math.inf)


def _shared(name: str, one: Selector, other: Selector) -> bool:
    """Whether a label says the same of two series: each has it, and some value that the other one has as well."""
    labels = [each for selector in (one, other) for each in selector.signal.labels if each.name == name]
    open_ended = any(each.values is None for each in labels)
    return len(labels) == 2 and (open_ended or not labels[0].known.isdisjoint(labels[1].known))


def _example(selector: Selector, avoid: Selector | None) -> Selector:
    """One series that a selector selects, in each label different from what `avoid` selects, where that can be."""
    labels: dict[str, str] = {}
    for label in _labels(selector):
        mine = [one for one in selector.matchers if one.label == label.name]
        other = [one for one in avoid.matchers if one.label == label.name] if avoid else []
        values = [one for one in _values(label, mine) if all(matcher.holds(one) for matcher in mine)]
        if not values:
            what = (
                "selects nothing that is shown" if label.values else f"no value is found for its {label.name}"
            )
            raise AgreementError(f"`{selector}`: {what}")
        apart = [one for one in values if not all(matcher.holds(one) for matcher in other)]
        labels[label.name] = (apart or values)[0]
    said = tuple(Matcher(name, "=", value) for name, value in labels.items())
    return replace(selector, window=None, matchers=said)


def _values(label: Label, matchers: list[Matcher]) -> tuple[str, ...]:
    said = tuple(one.value for one in matchers if one.op == "=")
    guessed = (word for one in matchers if one.op == "=~" for word in _words(one.value))
    return said or label.values or (*guessed, "x", "y")


def _words(pattern: str) -> Iterator[str]:
    """What a simple pattern may stand for: its alternatives, with a letter in the place of anything."""
    for part in (one.strip("()") for one in alternatives(pattern)):
        for letter in ("x", "y"):
            yield re.sub(r"\\(.)", r"\1", re.sub(r"\.[*+]", letter, part))


def _labels(selector: Selector) -> tuple[Label, ...]:
    """Its signal's, and the boundary of a bucket."""
    bounds = (*map(boundary_text, selector.signal.buckets), "+Inf")
    return (*selector.signal.labels, *((Label("le", bounds),) if selector.suffix == "_bucket" else ()))
