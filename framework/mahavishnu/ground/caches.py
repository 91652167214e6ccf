"""Where things lie that may be lost: the folder of the XDG base directories."""

from __future__ import annotations

import os


def caches() -> str:
    """The folder of our own among the caches of the user; it need not be there yet."""
    return f"{os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')}/mahavishnu"
