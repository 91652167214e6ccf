"""The site behind Hardening, as a spec says it: five a minute for each client."""

from __future__ import annotations

import time

from mahavishnu.asgi import Hardening
from mahavishnu.clock import SystemClock
from mahavishnu.runtime.current import forget
from mahavishnu.spec import Spec
from tests.bypass.arena import App, Site
from tests.bypass.attacks import BODY, LIMIT

SPEC = {
    "mahavishnu": 1,
    "service": {"name": "shop", "app": "shop:app", "trusted_proxies": ["10.0.0.0/8"]},
    "limits": {"per_client": {"rate": f"{LIMIT}/minute"}, "upload": {"body": f"{BODY // 1024}Ki"}},
    "observability": {"logs": {"level": "error"}},
}


class Shown(SystemClock):
    """The system's clock as the arena shows it."""

    def now(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()


def hardened() -> tuple[Site, App]:
    """A site behind Hardening."""
    site = Site()
    forget()
    return site, Hardening(site.app, Spec.model_validate(SPEC), clock=Shown())
