"""An app, imported in a process of its own: what it has and names, as JSON, or why nobody can know."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import threading
import traceback
from typing import Any, NoReturn

from mahavishnu.ground.app_names import NAMED
from mahavishnu.inspection.cors import cors_in
from mahavishnu.inspection.ends import FAILED, NO_APP, NO_PACKAGE, NOWHERE
from mahavishnu.inspection.pages import pages_of
from mahavishnu.inspection.sessions import sessions_of
from mahavishnu.runtime.routing.layers import layers_of, listed
from mahavishnu.runtime.routing.routes import mounted, resolved_routes, routes_of

UNWRITTEN = "--unwritten"
"""Before the app's name: its spec is still to be written."""
_MAKERS = ("http_app", "streamable_http_app")


class Unseen(Exception):
    """Why nobody can know, and with which code the process ends."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


def seen(target: str) -> dict[str, object]:
    """What the app that `module:attribute` names has and names; raises Unseen."""
    NAMED.asked = True
    module, _, name = target.partition(":")
    found = _imported(module)
    try:
        named = getattr(found, name)
    except AttributeError as fault:
        raise Unseen(_first_line(fault), NOWHERE) from None
    try:
        app = _made(named)
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever an app does, it is said in a sentence
        raise Unseen(_first_line(fault), FAILED) from None
    if reason := _no_app(app, name):
        raise Unseen(f"it is no ASGI app, for {reason}", NO_APP)
    return {
        "routes": [(path, sorted(methods) if methods else None) for path, methods in routes_of(app)],
        **_standing(app),
        "tools": sorted(NAMED.tools),
        "dependencies": sorted(NAMED.dependencies),
        "plain": sorted(NAMED.plain),
        "pages": [*pages_of(app)],
        "sessions": [*sessions_of(app)],
        "adds": any(hasattr(one, "add_middleware") for one in layers_of(app)),
    }


def _imported(module: str) -> Any:
    """The module; whatever it does when it is imported is said in a sentence."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as fault:
        ours = f"{module}.".startswith(f"{fault.name}.")
        raise Unseen(_first_line(fault), NOWHERE if ours else NO_PACKAGE) from None
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever an app does, it is said in a sentence
        raise Unseen(_first_line(fault), FAILED) from None


def _standing(app: Any) -> dict[str, object]:
    """Where Hardening stands; to know that takes long, and nothing can stand where nobody has loaded it."""
    if "mahavishnu.asgi" not in sys.modules and not _lists_any(app):
        nothing = dict.fromkeys(("outside", "mounts", "hardened", "nameless"), ())
        return {"where": "nowhere", "cors": [*cors_in(app)], **nothing}
    from mahavishnu.inspection.hardened import hardened_in
    from mahavishnu.inspection.nameless import nameless_in
    from mahavishnu.inspection.standing import standing_of

    hardened, nameless = [*hardened_in(app)], nameless_in(app)
    return {**standing_of(app)._asdict(), "hardened": hardened, "nameless": nameless}


def _lists_any(app: Any) -> bool:
    """Whether an app, or one that is mounted in it, lists a middleware: what makes that may load one of ours."""
    *_, last = layers_of(app)
    return bool(listed(last)) or any(_lists_any(one) for _, one in mounted(resolved_routes(last)))


def _made(app: Any) -> Any:
    """The app, or what a factory makes: as uvicorn, which calls whatever needs no arguments."""
    try:
        inspect.signature(app).bind()
    except (TypeError, ValueError):
        return app
    return app()


def _no_app(app: Any, name: str) -> str:
    """Why nobody can call it with scope, receive and send; nothing where one can, or who knows."""
    if not callable(app):
        makes = (f": name what `{name}.{one}()` makes" for one in _MAKERS if hasattr(app, one))
        return f"it cannot be called{next(makes, '')}"
    try:
        takes = inspect.signature(app)
    except (TypeError, ValueError):
        return ""
    try:
        takes.bind("scope", "receive", "send")
    except TypeError:
        ways = "a factory is called without arguments, and an app of WSGI needs an adapter"
        return f"it takes ({', '.join(takes.parameters)}), not (scope, receive, send): {ways}"
    return ""


def _first_line(fault: BaseException) -> str:
    """What a fault says first: after that come places, links and advice, of SQLAlchemy's or pydantic's for example."""
    said = "".join(traceback.format_exception_only(fault)).splitlines()
    return next(line for line in said if line[:1].strip())


def say(target: str) -> NoReturn:
    """Write what is seen, or why nothing is, and end the process: no thread of the app's holds it."""
    try:
        said, stream, code = json.dumps(seen(target)), sys.stdout, 0
    except Unseen as end:
        said, stream, code = str(end), sys.stderr, end.code
    print(said, file=stream, flush=True)
    if any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
        os._exit(code)  # an exit would wait for it
    sys.exit(code)


if __name__ == "__main__":
    if UNWRITTEN in sys.argv:
        from mahavishnu.runtime.unwritten import expect_anything

        expect_anything()
    say(sys.argv[-1])
