"""A spec with twice as many entries is twice the work to check and to generate: nothing is looked for in a list."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from mahavishnu.compile import compile as compiled
from mahavishnu.contract import contract
from mahavishnu.load import accept

HEAD = """\
mahavishnu: 1
service: {name: shop, app: shop.main:app, traffic: 50/second}
secrets: [HOOK]
channels: {room: {slack: "${HOOK}", channel: "#shop"}}
"""
BREAKER = "{failure_rate: 50%, min_calls: 20, window: 30s, open_for: 5s}"
SECTIONS = {
    "limits": "{rate: 300/minute, per: client, scope: process, match: {path: /N}}",
    "gates": "{concurrency: 4, queue: 4, wait: 500ms, match: {path: /N}}",
    "deadlines": "{timeout: 5s, match: {path: /N}}",
    "dependencies": f"{{url: 'http://N', timeout: 200ms, breaker: {BREAKER}, bulkhead: {{concurrency: 4}}}}",
    "slos": "{objective: 99.9%, min_requests: auto, match: {path: /N}}",
    "thresholds": "{when: limits.all.refused > 5%, for: 5m, severity: P3}",
}
PLACES = {"gates": "limits", "deadlines": "limits", "thresholds": "alerts: {thresholds"}
FEW = 5


def spec(kind: str, entries: int) -> str:
    said = ", ".join(f"e{number}: {SECTIONS[kind].replace('N', f'e{number}')}" for number in range(entries))
    place = PLACES.get(kind, kind)
    own = "limits: {all: {rate: 300/minute, scope: process}}\n" if kind == "thresholds" else ""
    return f"{HEAD}{own}{place}: {{{said}}}{'}' * place.count('{')}\n"


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, ours and built-in ones, and how often a generator is asked for its next."""
    count = 0

    def called(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.proof
@pytest.mark.parametrize("kind", SECTIONS)
def test_twice_the_entries_are_twice_the_work(kind: str, tmp_path: Path) -> None:
    def work(entries: int) -> int:
        path = tmp_path / f"{entries}.yaml"
        path.write_text(spec(kind, entries))
        return calls(lambda: compiled(contract(accept(path).declared)))

    work(2)  # whatever is made once is made by now
    few, more, most = (work(FEW * times) for times in (1, 2, 4))
    assert most - more < 2.05 * (more - few), f"{few:,}, {more:,}, {most:,} calls"


def test_searching_a_list_is_seen() -> None:
    """The same count of work that is not linear."""

    def search(size: int) -> None:
        for one in range(size):
            any(one == other for other in range(size))

    few, more, most = (calls(partial(search, 10 * times)) for times in (1, 2, 4))
    assert most - more > 3.5 * (more - few)
