"""What keeps the log is told how long: rotation of files, the host's journal, lifecycles of stores."""

from __future__ import annotations

from collections.abc import Iterable

from mahavishnu.artifact import Artifact
from mahavishnu.contract import Contract
from mahavishnu.derived.forgetting import FILES, Life, kept, told
from mahavishnu.units import DAY, HOUR, MINUTE, SECOND, Duration

from ._render import render
from ._service import host

# A file of a day, or of an hour, before it is compressed; a flood cuts it sooner.
_ROOM = {True: 512, False: 32}


def generate(contract: Contract) -> Iterable[Artifact]:
    """One file for each place that keeps the log, where the spec says how long."""
    for place, one in kept(contract.spec).items():
        yield Artifact(FILES[place], render(f"{FILES[place]}.j2", **_values(contract, one)))


def _values(contract: Contract, one: Life) -> dict[str, object]:
    count, daily = int(one.keep) // int(one.piece), one.piece == DAY
    return {
        "name": host(contract),
        "limit": told(one.limit),
        "least": told(one.least),
        "most": told(one.most),
        "piece": _one_unit(one.piece),
        "keep": _one_unit(one.keep),
        "daily": daily,
        "count": count,
        # In whole days: never before the number of files would.
        "age": -(-int(one.keep) // DAY),
        "room": _ROOM[daily],
        "total": -(-count * _ROOM[daily] // 1024),
    }


def _one_unit(length: Duration) -> str:
    """The length as everybody reads it: not each knows `29d23h`."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        if int(length) % size == 0:
            return f"{int(length) // size}{unit}"
    return f"{int(length) // 10**6}ms"
