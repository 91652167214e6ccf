"""A request as its limits see it: who it is, what it meets, and what it holds while it runs."""

from __future__ import annotations

from mahavishnu.protocols import Decision, Gate, Taken
from mahavishnu.runtime.context import Request
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.plan import Plan


class Admission(Request):
    """What a request holds while it runs; `refused` is set when it was not let in.

    `aside` is what was decided beside its app: a call in it was not let in, or it is answered without the app.
    `taken` is what it was charged, or `left` what it is told of that, where nothing can be given back any more.
    `entered` is when it came past the gates: before that it waited, and the work is not to blame.
    """

    __slots__ = ("aside", "entered", "gates", "left", "plan", "refused", "taken")

    def __init__(self, request_id: str, caller: Caller, plan: Plan, began: int) -> None:
        super().__init__(request_id, caller)
        self.plan = plan
        self.entered = began
        self.refused: Decision | None = None
        self.aside: Decision | None = None
        self.taken: Taken | None = None
        self.left: tuple[int, ...] | None = None
        self.gates: list[Gate] | None = None

    @property
    def route(self) -> str:  # type: ignore[override]  # told by its plan, where another request holds it
        """The template of its route."""
        return self.plan.key[0]
