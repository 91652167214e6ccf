"""The exit codes, and what is said and done when nothing can be printed any more."""

from __future__ import annotations

import os
import sys

FINE, FINDINGS, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


def said(error: OSError) -> str:
    """What the operating system refuses, in a sentence's words."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the folder it was started in is no longer there"
    what = (error.strerror or type(error).__name__).lower()
    return f"{error.filename}: {what}" if error.filename is not None else what


def unread() -> int:
    """Nobody reads what is printed any more: what still waits goes nowhere, without a complaint at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FINDINGS
