"""How long a line of the log lives in each place that keeps it: what was written together is forgotten together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mahavishnu.spec import Keeper, Spec
from mahavishnu.units import DAY, HOUR, MINUTE, Duration

_SHORT = 10 * DAY
# An index store looks every ten minutes (Elasticsearch) or less; Loki closes a chunk after two hours, looks every ten
# minutes, and deletes two hours after it has marked.
_LATE_INDEX, _LATE_LOKI = HOUR, 5 * HOUR
LEAST_LOKI = Duration(DAY + _LATE_LOKI)
"""Up to 3.7 Loki's manual calls a day the least; later ones, as Loki itself, only of `retention_stream`."""
FILES: Mapping[Keeper, str] = {
    "journald": "logs/journald.conf",
    "files": "logs/logrotate.conf",
    "loki": "logs/loki.yaml",
    "elasticsearch": "logs/elasticsearch.json",
    "opensearch": "logs/opensearch.json",
}
"""The file below the output folder by which each place is told."""


@dataclass(frozen=True, slots=True)
class Life:
    """Lines of one `piece` of time are forgotten together, once `keep` is over; each lives from `least` to `most`."""

    limit: Duration
    piece: Duration
    keep: Duration
    least: Duration
    most: Duration


def life(place: Keeper, limit: Duration) -> Life:
    """The numbers for a place, so that no line becomes older than the limit."""
    return _LIVES[place](limit)


def kept(spec: Spec) -> Mapping[Keeper, Life]:
    """The numbers for each place that keeps the log; none where the spec says no age."""
    limit = spec.retention.logs
    return {} if limit is None else {place: life(place, limit) for place in keepers(spec)}


def keepers(spec: Spec) -> tuple[Keeper, ...]:
    """The places that keep the log: files, where nothing else is said."""
    return spec.observability.logs.kept_in or ("files",)


def lives(spec: Spec) -> Iterator[str]:
    """One sentence for each place that keeps the log, and for each copy that only its size ends."""
    places = kept(spec)
    if not places:
        return
    for place, one in places.items():
        yield f"a line of the log lives {told(one.least)} to {told(one.most)} in {place} ({FILES[place]})"
    targets = spec.deploy.targets
    if targets.compose is not None and "journald" not in places:
        yield "Compose: a line also stays in Docker's own files until up to 30 MB follow it, whatever its age"
    if targets.kubernetes is not None:
        yield "Kubernetes: a line also stays on its node until the kubelet's size or its pod's end, whatever its age"


def told(length: Duration) -> str:
    """A length of time in days, where it is whole ones."""
    return str(length) if int(length) % DAY else f"{int(length) // DAY}d"


def _files(limit: Duration) -> Life:
    """A file is cut when a day or an hour begins. One piece is what it holds, one is left for runs that are late."""
    piece = HOUR if limit < _SHORT else DAY
    count = int(limit) // piece - 2
    keep = Duration(count * piece)
    return Life(limit, Duration(piece), keep, keep, Duration(keep + piece))


def _journald(limit: Duration) -> Life:
    """A file is removed as soon as its first line is too old."""
    piece = _thirtieth(limit)
    return Life(limit, piece, limit, Duration(limit - piece), limit)


def _index(limit: Duration) -> Life:
    """An index is deleted so long after its rollover, which ends what it holds: both together must not exceed it."""
    piece = _thirtieth(limit)
    keep = Duration(limit - piece - _LATE_INDEX)
    return Life(limit, piece, keep, keep, limit)


def _loki(limit: Duration) -> Life:
    """A chunk is deleted after its last line."""
    keep = Duration(max(DAY, limit - _LATE_LOKI))
    return Life(limit, Duration(2 * HOUR), keep, keep, limit)


_LIVES: Mapping[Keeper, Callable[[Duration], Life]] = {
    "journald": _journald,
    "files": _files,
    "loki": _loki,
    "elasticsearch": _index,
    "opensearch": _index,
}


def _thirtieth(limit: Duration) -> Duration:
    """In whole days, hours or minutes: fine enough to forget in time, and few enough files."""
    part = int(limit) // 30
    unit = next(one for one in (DAY, HOUR, MINUTE) if part >= one)
    return Duration(part // unit * unit)
