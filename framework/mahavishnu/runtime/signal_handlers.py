"""Signals of the operating system, answered before whatever answered them already."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_signal(name: str, call: Callable[[], object], *, alone: bool = False) -> None:
    """Call on this signal, and then do what would have been done.

    Only in the main thread, where Python lets signals be handled. Where nothing of Python's handles it, only
    with `alone`: then what the system would have done, like ending the process, is not done any more.
    """
    number = getattr(signal, name, None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(number)
    if before is None or not (alone or callable(before)) or getattr(before, "call", None) == call:
        return

    def handle(received: int, frame: FrameType | None) -> None:
        call()
        if callable(before):
            before(received, frame)

    handle.call = call  # type: ignore[attr-defined]  # so that whoever asks again is not called twice
    signal.signal(number, handle)
