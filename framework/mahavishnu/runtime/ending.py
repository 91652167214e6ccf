"""The end of a process whose server tells its app nothing of it: something can be said all the same, just before."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.util import Finalize


def at_exit(call: Callable[[], object]) -> Finalize[object]:
    """Call when this process ends, but for what kills it; not when a fork of it does. `cancel()` calls it off."""
    # As `atexit`, which children of multiprocessing that were forked do without.
    return Finalize(None, call, exitpriority=0)


def hold_back(name: str) -> None:
    """Let a signal wait that this thread sends to itself, until it is `let_through`.

    uvicorn does so when it has served the last request, with the signal that has asked it to end and with nobody any
    more to handle it: that is the process's end, and none of Python's.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name)})


def let_through(name: str) -> None:
    """Let it come, also the one that waits."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {getattr(signal, name)})
