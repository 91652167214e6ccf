"""A file written over in its place, its two halves by turns: what interrupts a word leaves the last one whole."""

# What it has room for once it has for ever: a disk that is full by now keeps nobody from saying as much again.

from __future__ import annotations

import errno
import os
import struct

MOST = 8 * 2**20
"""Bytes of one word; a larger one is neither written nor read."""
_HEAD = struct.Struct(">QQQ")
"""Of a half: which word it holds, counted from 1, how long that is, and for how many bytes there is room."""
_NOTHING = 0, 0, 0
_HALF = MOST + _HEAD.size
_HALVES = 0, _HALF
_LAST = 2**63
_TRIES = 3


def write(file: int, word: bytes) -> None:
    """Write the next word; raises OSError when there is no room for it, ValueError when it is too large."""
    if len(word) > MOST:
        raise ValueError(f"{len(word)} bytes are more than {MOST}")
    heads = _heads(file)
    at = _HALVES[heads.index(min(heads))]
    _, _, room = min(heads)
    wanted = room if len(word) <= room else min(2 * len(word), MOST)
    written = os.pwrite(file, word.ljust(wanted, b"\0") if wanted > room else word, at + _HEAD.size)
    if written < len(word):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.pwrite(file, _HEAD.pack(max(heads)[0] + 1, len(word), max(room, written)), at)


def read(file: int) -> list[bytes]:
    """The last word, and the one before it: where the last one is not whole; raises ValueError where none is said.

    A reader who is kept from reading while two words are written has neither of those that he wanted: he reads again.
    """
    words = list[bytes]()
    for _ in range(_TRIES):
        heads = _heads(file)
        ordered = sorted(zip(heads, _HALVES, strict=True), reverse=True)
        words = [os.pread(file, length, at + _HEAD.size) for (number, length, _), at in ordered if number]
        if _heads(file) == heads:
            break
    if not words and any(os.pread(file, _HEAD.size, at).strip(b"\0") for at in _HALVES):
        raise ValueError("nothing that was written here")
    return words


def _heads(file: int) -> list[tuple[int, int, int]]:
    return [_head(file, at) for at in _HALVES]


def _head(file: int, at: int) -> tuple[int, int, int]:
    head = os.pread(file, _HEAD.size, at)
    number, length, room = _HEAD.unpack(head) if len(head) == _HEAD.size else _NOTHING
    return (number, length, room) if number < _LAST and length <= MOST else _NOTHING
