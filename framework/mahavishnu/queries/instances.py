"""Single series that a selector stands for: what a proof moves where a query names many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from mahavishnu.promql import Matcher, Selector
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
    """One series that a selector selects and the other one does not; None: there is none."""
    found = _example(selector, other)
    return None if meets(other, found) else found


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
    for part in pattern.strip("()").split("|"):
        for letter in ("x", "y"):
            yield re.sub(r"\\(.)", r"\1", re.sub(r"\.[*+]", letter, part))


def _labels(selector: Selector) -> tuple[Label, ...]:
    """Its signal's, and the boundary of a bucket."""
    bounds = (*map(boundary_text, selector.signal.buckets), "+Inf")
    return (*selector.signal.labels, *((Label("le", bounds),) if selector.suffix == "_bucket" else ()))
