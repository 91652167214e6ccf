"""MV215: a limit counted by a header that the client may write itself."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.rate import Rate

CODE = Code(
    "MV215",
    "a limit by a header that clients write",
    "A client that chooses its bucket has as many as it likes. A header counts only where a trusted proxy writes it "
    "in the place of whatever the client sent.",
    "limits: {tenants: {rate: 300/minute, per: header:x-tenant}}",
    "List the proxies in `service.trusted_proxies`, and count by a header that they set themselves.",
)
# What browsers and tools send by themselves, and proxies add to or pass on.
_CLIENTS_OWN = frozenset({"authorization", "cookie", "forwarded", "from", "host", "origin", "referer", "user-agent",
                          "via", "x-api-key", "x-forwarded-for", "x-forwarded-host", "x-request-id",
                          "x-requested-with"})  # fmt: skip


def check(facts: Facts) -> Iterator[Problem]:
    """Every `per: header:…`, against who is believed and who writes it."""
    for name, limit in facts.spec.limits.items():
        headers = [one for one in limit.per if one.startswith("header:")] if isinstance(limit, Rate) else []
        for one in headers:
            if found := _fault(one.removeprefix("header:").lower(), facts):
                yield error(
                    CODE, ("limits", name, "per"), f"limit `{name}` counts by `{one}`, {found[0]}", found[1]
                )


def _fault(header: str, facts: Facts) -> tuple[str, str] | None:
    if not facts.spec.service.trusted_proxies:
        help = "list the proxies that write it in `service.trusted_proxies`, or use `per: client`"
        return "but no proxy is trusted, so nobody is believed to have written it", help
    if header in _CLIENTS_OWN:
        kind = {"authorization": "user", "cookie": "session", "x-api-key": "api_key"}.get(header, "client")
        return "which clients write themselves", f"use `per: {kind}`, or a header that only your proxy sets"
    return None
