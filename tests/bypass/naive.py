"""A limiter that is sound but for one planted weakness: what an attack must be able to get around."""

from __future__ import annotations

import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Any

from tests.bypass.arena import App, Site
from tests.bypass.attacks import LIMIT, PROXY, Scope, Weakness, header

_WINDOW = 60.0


def naive(weakness: Weakness) -> tuple[Site, App]:
    """A site behind the limiter with this weakness."""
    site = Site()
    return site, Naive(site.app, weakness)


class Naive:
    """Five a minute for each client, as an exact log of times (or a fixed window, if that is its weakness)."""

    def __init__(self, app: App, weakness: Weakness) -> None:
        self._app = app
        self._weak = weakness
        self._times: OrderedDict[object, list[float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if self._weak.unlimited(scope):
            await self._app(scope, receive, send)
            return
        now = time.time() if self._weak.wall else time.monotonic()
        times = self._log(self._weak.key(scope) if self._weak.key else canonical(scope))
        begun = times[0] if times else now
        times[:] = [one for one in times if now - (begun if self._weak.fixed else one) < _WINDOW]
        if len(times) >= LIMIT:
            await _refuse(scope, send)
            return
        times.append(now)

        async def send_on(message: Any) -> None:
            if message.get("status") in self._weak.forgives:
                times.remove(now)
            await send(message)

        await self._app(scope, receive, send_on)

    def _log(self, key: object) -> list[float]:
        times = self._times.setdefault(key, [])
        self._times.move_to_end(key)
        if self._weak.most and len(self._times) > self._weak.most:
            self._times.popitem(last=False)
        return times


def canonical(scope: Scope) -> str:
    """The client: the peer or, behind the proxy, the last address it has written; IPv6 by its /64."""
    peer = scope["client"][0] if scope["client"] else ""
    if peer == PROXY:
        peer = (header(scope, "x-forwarded-for") or PROXY).split(",")[-1].strip()
    peer = peer.partition("]")[0].strip("[").partition("%")[0]
    if not peer:
        return "unknown"
    address = ip_address(peer)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or int(address) >> 64)
    return str(address)


async def _refuse(scope: Scope, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013})
        return
    await send({"type": "http.response.start", "status": 429, "headers": []})
    await send({"type": "http.response.body", "body": b""})
