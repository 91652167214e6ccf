"""Dead letters in a process without the middleware: a worker makes its own again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mahavishnu.dependencies import service_at_work
from mahavishnu.ground import variables
from mahavishnu.runtime.dead_letters.redriver import Redriver


@asynccontextmanager
async def redriving() -> AsyncGenerator[None, None]:
    """While the block lasts, letters that this process has the code for are made again, on this event loop.

    What is being made when it ends is given back. Raises SpecError where the spec cannot be used.
    """
    redriver = Redriver(service_at_work, service_at_work().clock)
    if not variables.disabled():
        redriver.start()
    try:
        yield
    finally:
        await redriver.stop()
