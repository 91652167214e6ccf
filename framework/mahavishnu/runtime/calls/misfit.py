"""Why what the spec lets stand in for a dependency could never stand in for a function that it guards."""

from __future__ import annotations

from mahavishnu.errors import MahavishnuError
from mahavishnu.policies.fallback import AnyFallback, Static
from mahavishnu.runtime.calls.operation import Operation


def misfit(operation: Operation, said: AnyFallback | None) -> MahavishnuError | TypeError | None:
    """That, as the error to raise; None where it could, or where the spec says nothing."""
    if said is None:
        return None
    if operation.own is not None:
        return two_fallbacks(operation)
    if not operation.terms.repeatable:
        what = f"dependency `{operation.dependency}` has a fallback, which stands in for calls that may be repeated"
        return MahavishnuError(
            f"{what}: guard `{operation.name}` with idempotent=True, or by another dependency"
        )
    return None if isinstance(said, Static) else _unwritable(operation)


def two_fallbacks(operation: Operation) -> MahavishnuError:
    """The error that the spec names a fallback, and so does code."""
    what = (
        f"dependency `{operation.dependency}` has `fallback` in the spec, and `{operation.name}` one in code"
    )
    return MahavishnuError(f"{what}: keep one of them")


def _unwritable(operation: Operation) -> TypeError | None:
    try:
        _ = operation.codec
    except TypeError as fault:
        return TypeError(f"dependency `{operation.dependency}`: {fault}")
    return None
