"""Where a series and an alert are shown: with the entry of the spec that a label of theirs names, or its section."""

from __future__ import annotations

from functools import lru_cache

from mahavishnu.contract import Contract
from mahavishnu.series import CPU, CPU_LIMIT, HTTP_ACTIVE, HTTP_DURATION, MEMORY, MEMORY_LIMIT, UP
from mahavishnu.signals import Alert, Signal

# No panel is listed here for a policy. A series is shown where the label that names its entry of the spec belongs
# (`limit`, `dependency`, `slo`, `backup`), an alert beside it: what it measures, and the bound beyond which it fires.

_LABELS = {"limit": "limits", "dependency": "dependencies", "slo": "slos", "backup": "backups"}
"""A label that names an entry of the spec, and the section in which that stands."""
_WORDS = {"limit": "limits", "dead": "dead_letters", "backup": "backups"}
"""The first word of a series without such a label, and its section; every other one is of the service."""
BOARDS = {
    "service": "service",
    "limits": "resilience",
    "dependencies": "resilience",
    "dead_letters": "resilience",
    "slos": "slos",
    "backups": "backups",
}
"""The dashboard of each section."""
_DRAWN = frozenset(one.name for one in (UP, HTTP_DURATION, HTTP_ACTIVE, MEMORY, MEMORY_LIMIT, CPU, CPU_LIMIT))
"""Series with panels of their own making."""


def label_of(signal: Signal) -> str | None:
    """The label of a series that names an entry of the spec."""
    return next((label.name for label in signal.labels if label.name in _LABELS), None)


def _section(signal: Signal) -> str:
    word = signal.name.removeprefix("mahavishnu_").split("_")[0]
    return _LABELS.get(label_of(signal) or "", _WORDS.get(word, "service"))


def series_of(made: Contract, section: str) -> list[Signal]:
    """The series of a section that have no panels of their own making."""
    return _sections(made).get(section, [])


@lru_cache(maxsize=4)
def _sections(made: Contract) -> dict[str, list[Signal]]:
    """The same of each section."""
    found: dict[str, list[Signal]] = {}
    for one in made.signals.values():
        if one.name not in _DRAWN:
            found.setdefault(_section(one), []).append(one)
    return found


def entries(made: Contract, section: str) -> tuple[str, ...]:
    """The entries of a section that have series."""
    labels = [one.label(label) for one in series_of(made, section) if (label := label_of(one))]
    return tuple(dict.fromkeys(value for label in labels for value in label.values or ()))


def has_entry(signal: Signal, name: str | None) -> bool:
    """Whether a series is, among others, that of an entry."""
    return any(label.name in _LABELS and name in label.known for label in signal.labels)


def place_of(alert: Alert) -> tuple[str, str | None]:
    """The section and the entry that an alert is about, by the series it asks for."""
    signals = [selector.signal for selector in alert.expr.selectors()]
    for selector in alert.expr.selectors():
        for matcher in selector.matchers:
            if matcher.label in _LABELS and matcher.op == "=":
                return _LABELS[matcher.label], matcher.value
    return next((section for one in signals if (section := _section(one)) != "service"), "service"), None
