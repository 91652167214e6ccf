"""How much time a request has left, as its headers say it: read from callers, told to dependencies."""

# The name of a header tells its form: `grpc-timeout` that of gRPC, `…-ms` whole milliseconds, any other seconds.
# gRPC's: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (at most eight digits and a unit).

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from mahavishnu.units import HOUR, MINUTE, SECOND

Read = Callable[[Iterable[tuple[bytes, bytes]]], int | None]

LEAST = 1_000_000
"""Nanoseconds below which nothing is begun: no form but gRPC's can say less, and 0 would mean `for ever`."""

_MS = 1_000_000
_GRPC_UNITS = {
    "n": 1,
    "u": 1000,
    "m": _MS,
    "S": SECOND,
    "M": MINUTE,
    "H": HOUR,
}
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])")
_MILLISECONDS = re.compile(r"[0-9]{1,10}")
_SECONDS = re.compile(r"([0-9]{1,8})(?:\.([0-9]{1,9})[0-9]{0,9})?")
_LARGEST = 10**8 - 1


def parse(name: str, value: str) -> int | None:
    """The nanoseconds that a header of this name says; None for what is no time, and for none at all (0)."""
    if name == "grpc-timeout":
        said = _GRPC.fullmatch(value)
        return int(said[1]) * _GRPC_UNITS[said[2]] or None if said else None
    if name.endswith("-ms"):
        return int(value) * _MS or None if _MILLISECONDS.fullmatch(value) else None
    said = _SECONDS.fullmatch(value)
    return int(said[1]) * SECOND + int((said[2] or "").ljust(9, "0")) or None if said else None


def write(name: str, left: int) -> str:
    """A time of at least LEAST ns for a header of this name: never more than it is."""
    if name == "grpc-timeout":
        return _grpc(left)
    if name.endswith("-ms"):
        return str(min(left // _MS, 10**10 - 1))
    seconds, rest = divmod(min(left, _LARGEST * SECOND) // _MS, 1000)
    return f"{seconds}.{rest:03}".rstrip("0").rstrip(".")


def reader(names: Iterable[str]) -> Read:
    """A function from the headers of a request (ASGI's, lowercase) to the shortest time they leave it, in ns.

    None when they say none, or nothing that can be understood.
    """
    forms = {name.encode(): name for name in names}

    def read(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
        shortest: int | None = None
        for name, value in headers:
            if name in forms:
                said = parse(forms[name], value.decode("latin-1"))
                if said is not None and (shortest is None or said < shortest):
                    shortest = said
        return shortest

    return read


def _grpc(left: int) -> str:
    """In the finest unit that eight digits can hold."""
    for unit, size in _GRPC_UNITS.items():
        if left // size <= _LARGEST:
            return f"{left // size}{unit}"
    return f"{_LARGEST}H"
