"""Pauses that double, from a first one up to the longest."""

from __future__ import annotations

from mahavishnu.ground.unfit import unfit
from mahavishnu.settings import Settings
from mahavishnu.units import Duration


def not_above(base: Duration, longest: Duration, of: Settings) -> None:
    """Refuse a `base` that somebody wrote, and that no pause can be; a default one gives way to `max`."""
    if "base" in of.model_fields_set and base > longest:
        what = f"`base` is {base}, and no pause is longer than `max`, which is {longest}"
        raise unfit(what, f"set `max` to {base} or more, or `base` to {longest} or less")
