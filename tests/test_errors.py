"""What goes wrong may go wrong in another process: every error crosses to whoever waits for it, as it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from mahavishnu import errors
from mahavishnu.errors import (
    BadAnswer,
    BreakerOpen,
    BulkheadFull,
    CallTimeout,
    DependencyError,
    Finding,
    Level,
    MahavishnuError,
    Parked,
    RateLimited,
    SpecError,
    Throttled,
    Where,
)

ONES: tuple[MahavishnuError, ...] = (
    MahavishnuError("what"),
    SpecError((Finding(Level.ERROR, "MV101", "what", Where("a.yaml", 1, 2), "help"),)),
    DependencyError("mail", "breaker", "what", 5, "a.yaml:1"),
    BreakerOpen("mail", "breaker", "what", 5, "a.yaml:1"),
    Throttled("mail", "throttle", "what"),
    BulkheadFull("mail", "bulkhead", "what", 5),
    CallTimeout("mail", "timeout", "what", None, "a.yaml:1"),
    BadAnswer("mail", {"an": "answer"}, 503),
    Parked("mail", "fallback", "what", letter="letter", key="key"),
    RateLimited("search", "what", 5, 503),
)


def _piped(error: MahavishnuError) -> object:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _piped])
@pytest.mark.parametrize("error", ONES, ids=lambda one: type(one).__name__)
def test_an_error_crosses_to_another_process(
    error: MahavishnuError, again: Callable[[MahavishnuError], object]
) -> None:
    """Of the same kind, with the same words and attributes: a pool whose worker cannot send one is lost."""
    other = again(error)

    assert isinstance(other, type(error))
    assert (str(other), vars(other)) == (str(error), vars(error))


def test_none_is_forgotten() -> None:
    """Every error that people may meet is tried above: nobody raises what only others are made of."""
    kinds = [one for name, one in vars(errors).items() if isinstance(one, type) and not name.startswith("_")]
    known = {one for one in kinds if issubclass(one, Exception)}

    assert known == {type(one) for one in ONES}
