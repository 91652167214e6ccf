"""MV704: backups that are lost together with what they are backups of."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV704",
    "too few copies for a critical service",
    "Three copies, in two kinds of places, one of them elsewhere: a fire, a thief or one wrong command must not reach "
    "all of them. What is critical has the original and at least two more.",
    "service: {tier: critical}\nbackups: {orders: {to: /mnt/backups/orders}}",
    "Name a second repository in `to`, at another provider or on another host.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Where the backups of a critical service lie."""
    if facts.spec.service.tier != "critical":
        return
    for name, backup in facts.spec.backups.items():
        path = ("backups", name, "to")
        if all(":" not in place for place in backup.to):
            what = f"every copy of backup `{name}` lies on the host of the original"
            yield error(CODE, path, what, "add a repository elsewhere: `s3:…`, `sftp:…`, `rest:…`")
        elif len(backup.to) == 1:
            what = f"backup `{name}` of a critical service has one copy: with the original that is two, not three"
            yield warning(CODE, path, what, "name a second repository: `to: [s3:…, /mnt/…]`")
