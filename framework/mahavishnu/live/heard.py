"""What of an Alertmanager's configuration decides who hears of one service, where others may share it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mahavishnu.notify import HEARTBEAT
from mahavishnu.signals import Severity

_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!=|!~|=)\s*("?)(.*?)\3\s*')
_OLDER = {"match": "=", "match_re": "=~"}  # deprecated, and taken all the same
Known = Mapping[str, tuple[str, ...]]
Tree = Mapping[str, Any]


class Matcher(NamedTuple):
    """What a label must be."""

    label: str
    op: str
    value: str

    def holds(self, value: str) -> bool:
        """Whether a label with this value is let through; one that cannot be told lets everything through."""
        try:
            same = self.value == value if "~" not in self.op else bool(re.fullmatch(self.value, value))
        except re.error:
            return True
        return same is not self.op.startswith("!")


def part(config: Tree, service: str) -> dict[str, Any]:
    """Routes, inhibitions, receivers and times that may be about alerts of the service; of others nothing."""
    known = {"service": (service,), "severity": (*(one.value for one in Severity), HEARTBEAT)}
    root: Tree = config.get("route") or {}
    routes, whole = _routes(root, known)
    # Where all of the service is taken, the default route, and what it says, are somebody else's.
    route = {"routes": routes} if whole else {**root, "routes": routes}
    rules = [one for one in config.get("inhibit_rules") or () if _inhibits(one, known)]
    receivers, times = {*_said(route, "receiver")}, {*_said(route, "mute_time_intervals")}
    times |= {*_said(route, "active_time_intervals")}
    return {
        "route": route,
        "inhibit_rules": rules,
        "receivers": {one["name"]: one for one in config.get("receivers") or () if one["name"] in receivers},
        "time_intervals": {
            one["name"]: one for one in config.get("time_intervals") or () if one["name"] in times
        },
    }


def _routes(root: Tree, known: Known) -> tuple[list[Tree], bool]:
    """Those that may take alerts of the service, to the one that takes all, and whether there is such a one."""
    found = list[Tree]()
    for one in root.get("routes") or ():
        matchers = [*_matchers(one)]
        if _may(matchers, known):
            found.append(one)
            if not one.get("continue") and {each.label for each in matchers} <= {"service"}:
                return found, True
    return found, False


def _inhibits(rule: Tree, known: Known) -> bool:
    """Whether it may silence an alert of the service: its source is another's only where it need not be the same."""
    own = "service" in (rule.get("equal") or ())
    return _may(_matchers(rule, "target_"), known) and (not own or _may(_matchers(rule, "source_"), known))


def _may(matchers: Iterable[Matcher], known: Known) -> bool:
    """Whether they let an alert of the service through, as far as its labels are known."""
    return all(any(map(one.holds, known[one.label])) for one in matchers if one.label in known)


def _matchers(one: Tree, side: str = "") -> Iterator[Matcher]:
    for text in one.get(f"{side}matchers") or ():
        if found := _MATCHER.fullmatch(str(text)):
            yield Matcher(found[1], found[2], found[4])
    for key, op in _OLDER.items():
        older: Tree = one.get(f"{side}{key}") or {}
        yield from (Matcher(label, op, str(value)) for label, value in older.items())


def _said(route: Tree, key: str) -> Iterator[str]:
    """Every name that a route, or one below it, says under a key."""
    said = route.get(key) or ()
    yield from (said,) if isinstance(said, str) else map(str, said)
    for one in route.get("routes") or ():
        yield from _said(one, key)
