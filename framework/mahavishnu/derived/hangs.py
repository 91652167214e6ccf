"""Where the deadline of some requests comes before the timeout of what they may call."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.spec import Spec


def unseen_hangs(spec: Spec) -> Iterator[str]:
    """One sentence for each deadline: whose calls no breaker sees, if they hang and its requests call it.

    Nothing in a spec says which requests call what; where all of them would be cut, that is MV304.
    """
    for name, limit in spec.deadlines.items():
        called = [
            f"`{one}` (timeout {found.timeout})"
            for one, found in spec.dependencies.items()
            if found.timeout and limit.ends_first(found.timeout) and found.breaker and found.breaker.judges
        ]
        if called:
            yield (
                f"where requests of limit `{name}` call {' or '.join(called)}, no breaker sees a call that hangs: "
                f"they end after {limit.timeout}"
            )
