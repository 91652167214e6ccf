"""A limit of bodies as it is applied: in size, and perhaps in time."""

from __future__ import annotations

from dataclasses import dataclass

from mahavishnu.policies.body import Body
from mahavishnu.protocols import Decision
from mahavishnu.runtime.limits.cells import Cells
from mahavishnu.runtime.limits.margin import Margin


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """`margin.whole` bytes at most; `timed`: it matters, too, how slowly they come."""

    name: str
    limit: Body
    cells: Cells
    margin: Margin
    timed: bool

    @classmethod
    def of(cls, name: str, limit: Body, cells: Cells, margin: Margin) -> SizeLimit:
        """From the settings of a limit."""
        return cls(name, limit, cells, margin, limit.timed)

    def too_large(self) -> Decision | None:
        """The refusal of a larger body; None when the limit only observes."""
        return self._refusal(413, f"accepts bodies of at most {self.limit.body}")

    def dripping(self) -> Decision | None:
        """The refusal of a body that comes too slowly; None when the limit only observes."""
        return self._refusal(408, f"refuses bodies {self.limit.beyond()}")

    def _refusal(self, status: int, what: str) -> Decision | None:
        refusal = Decision(False, self.name, status, detail=f"limit `{self.name}` {what}")
        return self.cells.beyond(self.limit.mode, self.margin, refusal)
