"""The promtool tests that prove a contract's alerts, derived from their queries, windows, holds and proofs."""

# A **threshold** test moves an alert's series through five steady times: healthy, just within the
# bound, just beyond it, healthy again, gone where absence is a fault: silent, silent, firing, silent, firing.
# Two **level** tests per burn-rate alert hold the share of failures just below and just above its threshold. A
# **timing** test starts a fault after a full long window of health and asks for the very steps at which the
# alert must begin and end. With e the share of failures: after factor x budget x long / e, and after the fault
# short x (1 - factor x budget / e). A **guard** test brings just too few, and just enough, events into a long
# window in which all of them are bad; likewise for a budget. A **budget** test begins with no history at all, so that
# minutes spend a month's budget and win it back. Where time is counted instead of events, a share is an average of
# samples: the timing is that of counting them, and levels are given as the recorded shares themselves. Two **changes**
# tests let what an alert counts the changes of go to and fro, and ask for the samples at which it must begin and end.
# Two **handful** tests per pack of alerts on shares bring just too few, and just enough, of the bad events waited for.

from __future__ import annotations

from functools import lru_cache

from mahavishnu.contract import Contract
from mahavishnu.signals import Alert
from mahavishnu.units import Duration

from ._burns import Burn, budget_behind, budget_guards, budget_test, burns_of, guards, kin_of, levels
from ._changing import changes, changing
from ._handfuls import handfuls
from ._promtool import FAST, SLOW, Test
from ._thresholds import packed, window_of
from ._timings import timings

_FAST_HOLD = Duration.parse("30m")
_FAST_LONG = Duration.parse("1h")


def fast(contract: Contract) -> tuple[Test, ...]:
    """Tests whose file evaluates every minute: thresholds, levels, the timing of short windows."""
    burns = burns_of(contract)
    steady = [one for one in _plain(contract) if _quick(one, contract)]
    return (
        *packed(contract, steady, FAST),
        *(test for alert in contract.alerts if changing(alert) for test in changes(alert, contract, FAST)),
        *(test for kin in kin_of(burns) for burn in kin for test in levels(burn, kin, contract)),
        *(
            test
            for alert in contract.alerts
            if budget_behind(alert, contract) is not None
            for test in (budget_test(alert, contract), *budget_guards(alert))
        ),
        *timings([burn for burn in burns if _short(burn)], FAST),
        *guards([burn for burn in burns if _short(burn)], FAST),
    )


def slow(contract: Contract) -> tuple[Test, ...]:
    """Tests whose file evaluates every half hour: long holds, handfuls, and the timing of windows of hours and days."""
    steady = [one for one in _plain(contract) if not _quick(one, contract)]
    late = [burn for burn in burns_of(contract) if not _short(burn)]
    return (
        *packed(contract, steady, SLOW),
        *handfuls(contract, SLOW),
        *timings(late, SLOW),
        *guards(late, SLOW),
    )


def _short(burn: Burn) -> bool:
    """Whether its windows are too short to be seen in samples as far apart as the slow ones are."""
    return burn.long <= _FAST_LONG or burn.short < 2 * SLOW.burning


def _quick(alert: Alert, contract: Contract) -> bool:
    hold = alert.hold or 0
    # A hold that is no whole number of slow steps cannot be told from the next one that is.
    return hold <= _FAST_HOLD and (window_of(alert, contract) < _FAST_LONG or hold % SLOW.step != 0)


@lru_cache(maxsize=4)
def _plain(contract: Contract) -> list[Alert]:
    """Those whose series can be moved through their bound in any length of time."""
    burning = {burn.alert.name for burn in burns_of(contract)}
    rest = (alert for alert in contract.alerts if alert.name not in burning)
    return [one for one in rest if budget_behind(one, contract) is None and not changing(one)]
