"""How large a request body may be."""

from __future__ import annotations

from typing import ClassVar

from mahavishnu.policy import Limit
from mahavishnu.units import Size


class Body(Limit):
    """A request body larger than this is refused with 413, before it is read where its length is announced."""

    keyword: ClassVar[str] = "body"

    body: Size
    """The largest body that is read."""
