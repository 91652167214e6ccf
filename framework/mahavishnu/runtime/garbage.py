"""What a process has loaded when it begins to serve is no more looked through for garbage."""

from __future__ import annotations

import gc

_done = False


def spare_what_is_loaded() -> None:
    """Collect what is garbage by now, and keep all else out of later collections; once in a process.

    A full collection stops everything for as long as it looks at every object there is: of a small app a quarter of a
    second where the processor is busy, again and again while many requests wait, and those that have waited for long
    are refused then. Nearly all that it looks at are modules, routes and models, which stay until the end.
    """
    global _done  # noqa: PLW0603 - so is what it does: the collector is the process's
    if not _done:
        _done = True
        gc.collect()
        gc.freeze()
