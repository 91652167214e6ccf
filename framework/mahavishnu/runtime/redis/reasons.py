"""Why a server does not serve us, in words: without addresses and secrets, and the same ones at every try."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Iterable

LOST, SLOW = "the connection was lost", "no answer in time"
STRANGE = "it does not speak the protocol of Redis"
SILENT = "it hangs up without a word: perhaps it wants TLS (`rediss://`), or a certificate"
OF_THE_SERVER = frozenset(
    {"READONLY", "LOADING", "OOM", "NOAUTH", "WRONGPASS", "NOPERM", "MOVED"}
) | frozenset({"CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS"})
"""Errors that are not the fault of one call: every other one would fare alike, and another server may do better."""
_WORDY = ("ERR", "NOPERM")  # errors of many kinds; others have a name for each
_LONGEST = 200


def reason(fault: BaseException) -> str:
    """Of a connection that cannot be made, or has failed."""
    if isinstance(fault, asyncio.TimeoutError):
        return SLOW
    if isinstance(fault, ssl.SSLError):  # its number is none of the system's
        return f"TLS: {fault.reason}" if fault.reason else LOST
    number = fault.errno if isinstance(fault, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number)
    return str(fault) or type(fault).__name__


def name_of(error: str) -> str:
    """The first word of what a server says of an error (`READONLY`, `LOADING`, …)."""
    return error.split(" ", 1)[0] or "ERR"


def words_of(error: str, secrets: Iterable[str] = ()) -> str:
    """An error of a server: its name, or all it says where that is how one knows what to do.

    That is one line without these secrets, and without what was asked.
    """
    name = name_of(error)
    if name not in _WORDY:
        return name
    said = " ".join(error.split()).split(", with args beginning with", 1)[0]
    for secret in filter(None, secrets):
        said = said.replace(secret, "…")
    return said[:_LONGEST]
