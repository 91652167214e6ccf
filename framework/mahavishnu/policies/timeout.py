"""How long a request may take until its response starts."""

from __future__ import annotations

from typing import ClassVar

from mahavishnu.policy import Limit
from mahavishnu.units import Duration


class Timeout(Limit):
    """A request whose response has not started by then is cancelled and answered with 504."""

    keyword: ClassVar[str] = "timeout"

    timeout: Duration
    """From the arrival of the request to the start of its response."""
    idle: Duration | None = None
    """The longest pause between two parts of a response that has started; a slower stream is cut."""
