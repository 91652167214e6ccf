"""What is answered where an app lets an error of this package out: who was refused is no fault of the app."""

from __future__ import annotations

from mahavishnu.errors import BadAnswer, CallTimeout, DependencyError, RateLimited
from mahavishnu.outcomes.faults import kinds, leaves
from mahavishnu.protocols import Decision
from mahavishnu.runtime.limits.fields import QUOTA_EXCEEDED, REDUCED_CAPACITY


def answer(error: BaseException) -> Decision | None:
    """What the client is told; of a group the refusal that lasts longest. None: it, or a part of it, is a fault."""
    said = [_said(each) for each in leaves(error)]
    refused = [one for one in said if one is not None]
    return max(refused, key=lambda one: one.retry_after or 0) if len(refused) == len(said) else None


def failed(error: BaseException) -> bool:
    """Whether it is a fault of the app: who is cancelled has none, nor whose client has gone."""
    return any(isinstance(each, Exception) and "gone" not in kinds(type(each)) for each in leaves(error))


def _said(error: BaseException) -> Decision | None:
    if isinstance(error, RateLimited):
        kind = QUOTA_EXCEEDED if error.status == 429 else REDUCED_CAPACITY
        return Decision(False, error.limit, error.status, kind, error.what, error.retry_after, where="")
    if isinstance(error, DependencyError):
        detail = f"dependency `{error.dependency}`: {error.what}"
        status, kind = _status(error)
        return Decision(False, error.place, status, kind, detail, error.retry_after, where=error.where)
    return None


def _status(error: DependencyError) -> tuple[int, str]:
    """As a gateway would say it, RFC 9110, 15.6.3 to 15.6.5."""
    if isinstance(error, BadAnswer):
        return 502, "about:blank"
    return (504 if isinstance(error, CallTimeout) else 503), REDUCED_CAPACITY
