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
_LAST = 2**63


def write(file: int, word: bytes) -> None:
    """Write the next word; raises OSError when there is no room for it, ValueError when it is too large."""
    if len(word) > MOST:
        raise ValueError(f"{len(word)} bytes are more than {MOST}")
    heads = [_head(file, 0), _head(file, _HALF)]
    at = _HALF * heads.index(min(heads))
    _, _, room = min(heads)
    wanted = room if len(word) <= room else min(2 * len(word), MOST)
    written = os.pwrite(file, word.ljust(wanted, b"\0") if wanted > room else word, at + _HEAD.size)
    if written < len(word):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.pwrite(file, _HEAD.pack(max(heads)[0] + 1, len(word), max(room, written)), at)


def read(file: int) -> list[bytes]:
    """The last word, and the one before it: where the last one is not whole; raises ValueError where none is said."""
    heads = sorted(((_head(file, at), at) for at in (0, _HALF)), reverse=True)
    words = [os.pread(file, length, at + _HEAD.size) for (number, length, _), at in heads if number]
    if not words and os.fstat(file).st_size:
        raise ValueError("nothing that was written here")
    return words


def _head(file: int, at: int) -> tuple[int, int, int]:
    head = os.pread(file, _HEAD.size, at)
    number, length, room = _HEAD.unpack(head) if len(head) == _HEAD.size else _NOTHING
    return (number, length, room) if number < _LAST and length <= MOST else _NOTHING
