"""Ports for the servers of tests."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from itertools import count

_NEXT = count(os.getpid())


def free_port() -> int:
    """A port that nobody has, below those that the system gives away; each process of tests has its own thousand."""
    first = 20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    return next(port for number in _NEXT if _is_free(port := first + number % 1_000))


def _is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False
