"""The forty attacks of tests/bypass on ours and on the peers, side by side: how many requests too many got through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from benchmarks.goals import Goal, Report
from benchmarks.harness import peer, table
from tests.bypass.arena import App, Outcome, Protect, Site, fight
from tests.bypass.attacks import ATTACKS, LIMIT
from tests.bypass.hardened import hardened
from tests.bypass.naive import naive

_FLOOD = 10_000
_OURS = "Hardening"
_TITLE = f"""\
Fifty requests of one client at a limit of {LIMIT} a minute: how many got through beyond what is allowed. Every
package is used as its documentation shows it, behind uvicorn's own handling of trusted proxies; an answer that is
no refusal counts, whatever its status. `naive` is sound but for the one weakness that the attack is made for. The
flood is {_FLOOD:,} clients. At the end: after how many attacks another client was refused its second request.
(fastapi-limiter answers 500 to everyone in an app with an included router; its routes are added directly. The
limiter of its documentation is one bucket for all clients.)"""


def report(_: int) -> Report:
    """The table, and the goal that nothing gets around ours."""
    results = {
        name: [asyncio.run(fight(one, protect, _FLOOD)) for one in ATTACKS] for name, protect in _ALL.items()
    }
    results["naive"] = [asyncio.run(fight(one, partial(naive, one.weakness), _FLOOD)) for one in ATTACKS]
    rows = [
        (attack.name, *(_shown(outcomes[place]) for outcomes in results.values()))
        for place, attack in enumerate(ATTACKS)
    ]
    rows.append(("attacks that got more", *(f"{_broken(one)} of {len(ATTACKS)}" for one in results.values())))
    rows.append(("others were refused", *(_hurt(one) for one in results.values())))
    broken = _broken(results[_OURS])
    goal = Goal("attacks with extra admissions", "0 of 40", f"{broken} of {len(ATTACKS)}", broken == 0)
    return Report(f"### Forty attacks\n\n{_TITLE}\n\n{table(('attack', *results), rows)}", (goal,))


def _shown(one: Outcome) -> str:
    return f"{one.extra}" + (f" ({one.crashed} x 500)" if one.crashed else "")


def _broken(outcomes: list[Outcome]) -> int:
    return sum(one.extra > 0 for one in outcomes)


def _hurt(outcomes: list[Outcome]) -> str:
    return f"{sum(not one.bystander for one in outcomes)} of {len(outcomes)}"


def _proxied(site: Site, app: Any) -> tuple[Site, App]:
    """As `uvicorn --forwarded-allow-ips 10.0.0.0/8` would run it."""
    return site, ProxyHeadersMiddleware(app, trusted_hosts=["10.0.0.0/8"])


def _slowapi() -> tuple[Site, App]:
    slow, middleware = peer("slowapi"), peer("slowapi.middleware")
    site = Site()
    address = peer("slowapi.util").get_remote_address
    site.app.state.limiter = slow.Limiter(key_func=address, default_limits=[f"{LIMIT}/minute"])
    exceeded = peer("slowapi.errors").RateLimitExceeded
    site.app.add_exception_handler(exceeded, slow._rate_limit_exceeded_handler)  # noqa: SLF001 - as documented
    site.app.add_middleware(middleware.SlowAPIMiddleware)
    return _proxied(site, site.app)


def _fastapi_limiter() -> tuple[Site, App]:
    pyrate, depends, fastapi = peer("pyrate_limiter"), peer("fastapi_limiter.depends"), peer("fastapi")

    def limiter() -> Any:
        return pyrate.Limiter(pyrate.Rate(LIMIT, pyrate.Duration.MINUTE))

    http = fastapi.Depends(depends.RateLimiter(limiter=limiter()))
    websocket = fastapi.Depends(depends.WebSocketRateLimiter(limiter=limiter()))
    site = Site([http], [websocket], include=False)
    return _proxied(site, site.app)


def _asgi_ratelimit() -> tuple[Site, App]:
    ratelimit, simple = peer("ratelimit"), peer("ratelimit.backends.simple")
    site = Site()
    site.app.add_middleware(
        ratelimit.RateLimitMiddleware,
        authenticate=peer("ratelimit.auths.ip").client_ip,
        backend=simple.MemoryBackend(),
        config={r"^/": [ratelimit.Rule(minute=LIMIT)]},
    )
    return _proxied(site, site.app)


_ALL: Mapping[str, Protect] = {
    _OURS: hardened,
    "slowapi": _slowapi,
    "fastapi-limiter": _fastapi_limiter,
    "asgi-ratelimit": _asgi_ratelimit,
}
