"""MV417: pages that stay blank, for strict headers forbid what they load."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing

CODE = Code(
    "MV417",
    "pages that strict headers leave blank",
    "`security.headers: strict` lets a page load scripts and styles from the service alone. FastAPI's `/docs` and "
    "`/redoc` load theirs from another host, and have some of it written within the page: the browser runs none of it.",
    "security: {headers: strict}, and `app = FastAPI()`, which has `/docs` and `/redoc`",
    "Make the app without them, `FastAPI(docs_url=None, redoc_url=None)`. To keep one, answer at its path yourself, "
    "with a `Content-Security-Policy` that allows what it loads: a header that an answer has is left as it is.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Those of the app, where Hardening is around it."""
    app, spec = facts.app, facts.spec
    if app is None or not app.pages or spec.security.headers != "strict":
        return
    if app.where == "around" or spec.service.hardening == "elsewhere":
        stay = "stays" if len(app.pages) == 1 else "stay"
        what = f"{listing(app.pages)} {stay} blank: the policy of `strict` forbids the scripts that FastAPI loads there"
        help = (
            "make the app without them, by `docs_url=None` and `redoc_url=None`, or answer there yourself with a "
            "`Content-Security-Policy` of your own, which is left as it is"
        )
        yield warning(CODE, ("security", "headers"), what, help)
