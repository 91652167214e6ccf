"""What a process counts and shows at one moment, as data that another process can read."""

from __future__ import annotations

from hashlib import blake2b
from operator import add
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

LabelValues = tuple[str, ...]
Bounds = tuple[float, ...]
Number = tuple[str, LabelValues, float]
"""A series by its name and label values, and its value."""
Observations = tuple[str, LabelValues, Bounds, tuple[int, ...], float]
"""A histogram by its name and label values: boundaries, counts of the buckets, and the sum."""
Example = tuple[str, LabelValues, float, str, str, float]
"""An exemplar of a histogram by its name and label values: value, trace and span, and when (seconds since 1970)."""

_FORMAT = b"mahavishnu series 1"
_DIGEST = 16


class Snapshot(NamedTuple):
    """All series of a process.

    `good_until` (ns of the machine's monotonic clock) is when a process that lives has written a newer one; 0: it has
    taken its leave. Of processes that have ended, `ended` are those whose counts are in it.
    """

    counters: list[Number]
    histograms: list[Observations]
    gauges: list[Number]
    good_until: int = 0
    ended: list[str] = []  # noqa: RUF012 - of a tuple; nobody changes it
    exemplars: list[Example] = []  # noqa: RUF012 - ditto


EMPTY = Snapshot([], [], [])
_ADAPTER = TypeAdapter(Snapshot)


def encoded(snapshot: Snapshot) -> bytes:
    """As bytes which say what they are and whether they are whole."""
    content = _ADAPTER.dump_json(snapshot)
    return b"\n".join((_FORMAT, _digest(content), content))


def decoded(written: bytes) -> Snapshot:
    """The snapshot; raises ValueError for anything that is not whole, or of another format."""
    form, _, rest = written.partition(b"\n")
    digest, _, content = rest.partition(b"\n")
    if form != _FORMAT or digest != _digest(content):
        raise ValueError("no snapshot of this format, or not all of one")
    try:
        read = _ADAPTER.validate_json(content, strict=True)
    except ValidationError as fault:
        raise ValueError(str(fault)) from None
    if any(len(bounds) + 1 != len(counts) for _, _, bounds, counts, _ in read.histograms):
        raise ValueError("a histogram whose buckets are not those of its boundaries")
    return read


def last_whole(written: list[bytes]) -> Snapshot:
    """The first that is one, of what was written last and before that; raises ValueError where none is."""
    for number, one in enumerate(written, 1):
        try:
            return decoded(one)
        except ValueError:
            if number == len(written):
                raise
    raise ValueError("nothing was written")


def added(snapshots: list[Snapshot]) -> Snapshot:
    """All that was counted in them, as one; gauges and exemplars are of those who live."""
    counters = dict[tuple[str, LabelValues], float]()
    histograms = dict[tuple[str, LabelValues, Bounds], tuple[tuple[int, ...], float]]()
    for one in snapshots:
        for name, values, value in one.counters:
            counters[name, values] = counters.get((name, values), 0) + value
        for name, values, bounds, counts, total in one.histograms:
            key = name, values, bounds
            before, sum_before = histograms.get(key, ((0,) * len(counts), 0.0))
            histograms[key] = tuple(map(add, before, counts)), sum_before + total
    return Snapshot(
        [(*key, value) for key, value in counters.items()],
        [(*key, *seen) for key, seen in histograms.items()],
        [],
    )


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST).hexdigest().encode()
