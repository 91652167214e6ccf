"""Why the reading of a text cannot go on."""

from __future__ import annotations

from mahavishnu.ground.codes import Code
from mahavishnu.loading.nodes import Mark


class Stopped(Exception):
    """Reading cannot go on: `what` is wrong at a mark, and what helps."""

    def __init__(self, code: Code, mark: Mark, what: str, help: str = "") -> None:
        super().__init__(what)
        self.code, self.mark, self.what, self.help = code, mark, what, help
