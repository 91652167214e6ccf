"""The memory that a replica takes before its first request."""

from __future__ import annotations

from mahavishnu.units import Size

# 44 MiB with Starlette, 48 with FastAPI, 59 with redis and OTLP besides; 22 for uvicorn's parent and helper. A proof in
# tests/test_several_workers.py measures the whole.
EACH = Size.parse("50Mi")
"""Of each worker that serves a small app."""
BESIDES = Size.parse("30Mi")
"""Of what starts the workers, and the first requests."""


def memory(workers: int) -> Size:
    """What so many workers take, in bytes."""
    return Size(EACH * workers + BESIDES)


def workers(memory: int) -> int:
    """How many workers that memory has room for."""
    return (memory - BESIDES) // EACH
