"""What a client has used of a rate, under the rate that takes its place: never less of it, never more left."""

from __future__ import annotations

from typing import Any

from mahavishnu.protocols import Algorithm


def carried(state: Any, old: Algorithm, new: Algorithm, now: int) -> Any:
    """The state under `new` of one who has this state under `old`; times in ns, None where nothing is used.

    As many requests are used as before or, where `new` gives more at once, the same share of it: who had nothing
    left has nothing left, and nobody has more than the new number less what he has used. For GCRA this is
    TAT' = now + (TAT - now) * T'/T, and the share of the burst where that is larger.
    """
    used, of = old.used(state, now)
    if not used:
        return None
    if new.most > old.most:
        used, of = used * new.most, of * old.most
    return new.having(used, of, now)
