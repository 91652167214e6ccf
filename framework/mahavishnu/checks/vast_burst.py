"""MV221: a burst so much larger than its rate that the limit refuses hardly anybody."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.rate import Rate
from mahavishnu.units import Duration

CODE = Code(
    "MV221",
    "a burst that leaves nobody to refuse",
    "`burst` is how much may come at once, and the rate only says how fast it is made up for. With a burst of a "
    "thousand times the rate's count, which takes more than a week, the limit holds nobody back for days: neither a "
    "flood, nor a client that tries passwords.",
    "limits: {login: {rate: 5/minute, burst: 1000000}}",
    "Lower `burst`, or leave it out: then the whole count may come at once, and no more.",
)
_TIMES = 1000
_AWHILE = Duration.parse("7d")
_DAY = Duration.parse("1d")


def check(facts: Facts) -> Iterator[Problem]:
    """Every burst against its own rate."""
    for name, limit in facts.spec.limits.items():
        if not isinstance(limit, Rate) or limit.burst is None or limit.mode == "off":
            continue
        count, refills = limit.rate.count, limit.burst * limit.rate.period // limit.rate.count
        if limit.burst >= _TIMES * count and refills > _AWHILE:
            what = (
                f"limit `{name}` refuses hardly anybody: {limit.burst // limit.cost:,} requests may come at once, for "
                f"which {limit.rate} takes {refills // _DAY:,} days"
            )
            yield warning(
                CODE,
                ("limits", name, "burst"),
                what,
                f"lower `burst`, or leave it out, which means {count:,}",
            )
