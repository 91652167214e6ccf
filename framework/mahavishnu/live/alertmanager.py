"""A running Alertmanager: what it says of the alerts of one service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from mahavishnu.contract import Contract
from mahavishnu.ground.short import short
from mahavishnu.live import heard
from mahavishnu.live.excerpt import excerpts
from mahavishnu.live.fetch import Site, Unreachable, configuration

_HIDDEN = "<secret>"
# Where Alertmanager adds nothing of its own but `continue: false`: what is there, somebody wrote.
_WRITTEN = re.compile(r"(route|inhibit_rules|time_intervals|mute_time_intervals)\b.*|receivers\.[^.]+\.\w+")


def differences(site: Site, made: Contract, config: str) -> Iterator[str]:
    """Where a running Alertmanager says something else of this service's alerts, or nothing; secrets are not shown."""
    try:
        said = json.loads(site.text("/api/v2/status"))["config"]["original"]
    except (ValueError, KeyError, TypeError):
        raise Unreachable(f"what answers at {site.url} is no Alertmanager") from None
    loaded = configuration(str(said))
    yield from _differs(heard.part(configuration(config), made.job), heard.part(loaded, made.job), "")


def _differs(wanted: object, loaded: object, path: str) -> Iterator[str]:
    """What is wanted and not loaded, or loaded and not wanted; the loaded one says many defaults besides."""
    if isinstance(wanted, dict) and isinstance(loaded, dict):
        asked, found = cast("dict[str, object]", wanted), cast("dict[str, object]", loaded)
        for key, value in asked.items():
            yield from _differs(value, found.get(key), f"{path}.{key}".lstrip("."))
        yield from _more(asked, found, path)
    elif isinstance(wanted, list) and isinstance(loaded, list):
        yield from _items(cast("list[object]", wanted), cast("list[object]", loaded), path)
    elif loaded is None and wanted is not None:
        yield f"{path} is not there, and this spec says `{short(f'{wanted}')}`"
    elif loaded != _HIDDEN and f"{wanted}" != f"{loaded}":
        there, here = excerpts(f"{loaded}", f"{wanted}")
        yield f"{path} is `{there}`, and this spec says `{here}`"


def _more(wanted: Mapping[str, object], loaded: Mapping[str, object], path: str) -> Iterator[str]:
    for key, value in loaded.items():
        place = f"{path}.{key}".lstrip(".")
        if value and key not in wanted and _WRITTEN.fullmatch(place) and not _is_own_name(place, value):
            yield f"{place} is `{short(str(value))}`, and this spec says nothing of it"


def _is_own_name(place: str, value: object) -> bool:
    """The label that a newer Alertmanager gives to each receiver."""
    name = place.removeprefix("receivers.").removesuffix(".labels")
    return place == f"receivers.{name}.labels" and value == {"name": name}


def _items(wanted: list[object], loaded: list[object], path: str) -> Iterator[str]:
    if len(wanted) != len(loaded):
        yield f"{path} has {len(loaded)} entries, and this spec says {len(wanted)}"
        return
    pairs: Iterable[tuple[object, object]] = zip(wanted, loaded, strict=True)
    if all(isinstance(one, str) for one in wanted):  # Alertmanager puts matchers in an order of its own
        pairs = zip(sorted(map(str, wanted)), sorted(map(str, loaded)), strict=True)
    for place, (one, other) in enumerate(pairs):
        yield from _differs(one, other, f"{path}[{place}]")
