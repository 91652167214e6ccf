"""MV416: a CORSMiddleware of the app's own inside of Hardening."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import App, Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing

CODE = Code(
    "MV416",
    "a CORSMiddleware inside of Hardening",
    "What Hardening refuses it answers outside of the app, so a CORSMiddleware in there adds no headers to it. A "
    "browser then shows its page a network error in place of the 429, and hides `Retry-After`. Each preflight counts "
    "as a request: anybody may send one, so one that cost nothing would be a way around every rate. With "
    "`security.cors` Hardening answers preflights itself, at no cost, and none reaches the middleware inside.",
    'app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example.com"]), then '
    "`app.add_middleware(Hardening)`",
    "Say its origins in `security: {cors: {origins: [https://shop.example.com], credentials: true}}`, and take the "
    "CORSMiddleware out. One that must stay, because of a pattern of origins for example, is added after Hardening and "
    "named in `service: {outside: [CORSMiddleware]}`.",
)
_CREDENTIALS = "and `credentials: true` where it allows them"


def check(facts: Facts) -> Iterator[Problem]:
    """Those that stand in the app, where Hardening is around it and may refuse something, or answers preflights."""
    app, spec = facts.app, facts.spec
    if app is None or not app.cors or not (app.where == "around" or spec.service.hardening == "elsewhere"):
        return
    which, out = _named(app)
    if spec.security.cors is not None:
        what = f"{which} inside of Hardening: preflights are answered by `security.cors` alone"
        help = f"say all its origins there, {_CREDENTIALS}, and take {out} out"
        yield warning(CODE, ("security", "cors"), what, help)
    elif spec.dependencies or any(limit.mode != "off" for limit in spec.limits.values()):
        what = (
            f"{which} inside of Hardening: a browser shows its page a network error in place of a refusal, "
            "and each preflight counts as a request"
        )
        help = f"say its origins in `security.cors`, {_CREDENTIALS}, and take {out} out"
        yield warning(CODE, ("service", "app"), what, help)


def _named(app: App) -> tuple[str, str]:
    """Which it is, or they are, and a pronoun."""
    if "/" in app.cors:
        return "the app's CORSMiddleware stands", "it"
    if len(app.cors) == 1:
        return f"the CORSMiddleware of {listing(app.cors)} stands", "it"
    return f"the CORSMiddlewares of {listing(app.cors)} stand", "them"
