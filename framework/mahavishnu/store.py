"""Where the state of limits lives: in each process, or on a Redis or Valkey server for all of them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from mahavishnu.ground.addresses import reachable
from mahavishnu.ground.secret_refs import REFERENCE, replaced
from mahavishnu.ground.unfit import unfit

MEMORY = "memory://"
"""Each process by itself."""
PORT = 6379
_HOST = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])"
_LOGIN = rf"([A-Za-z0-9._-]*:{REFERENCE}@)?"
_SECONDS = r"([1-9](\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9]0{0,2})"
_OPTION = rf"(db=[0-9]{{1,3}}|socket_timeout={_SECONDS})"
_OPTIONS = rf"(\?{_OPTION}(&{_OPTION})?)?"
_SERVER = rf"(redis|valkey)s?://{_LOGIN}{_HOST}(:[0-9]{{1,5}})?(/[0-9]{{1,3}})?{_OPTIONS}"
_SOCKET = rf"unix://{_LOGIN}(/[A-Za-z0-9._-]+)+{_OPTIONS}"


SHARED = rf"({REFERENCE}|{_SERVER}|{_SOCKET})"
"""A server, as a pattern."""


class HoldsSecret:
    """Marks a value in which `${NAME}` may stand."""


def no_password(value: object) -> object:
    """The URL; an error where a password stands in it."""
    if isinstance(value, str) and re.match(r"\w+://[^/@]*:(?!\$\{)[^/@]+@", value):
        what = "the URL of the store holds a password"
        help = 'write `"redis://user:${NAME}@host:6379"`, or the whole URL as `"${NAME}"`'
        raise unfit(what, help)
    return value


def leads_to_a_server(url: str) -> str:
    """The URL, when it names no host, or one that is a name or an address, with a port that is one."""
    if re.match(r"(redis|valkey)s?:", url) and not reachable(url):
        what, help = "the URL of the store leads to no host and port", "write one like `redis://redis:6379`"
        raise unfit(what, help)
    return url


StoreUrl = Annotated[
    str,
    StringConstraints(pattern=rf"^({MEMORY}|{SHARED})$", max_length=400),
    BeforeValidator(no_password),
    AfterValidator(leads_to_a_server),
    HoldsSecret(),
    Field(examples=["memory://", "${REDIS_URL}", "redis://redis:6379"]),
]


def endpoint(url: str) -> tuple[str, int] | None:
    """The host and port that are asked; None where they are a secret, a socket file, or nobody's."""
    parts = urlsplit(replaced(url, lambda _: "x"))
    if parts.scheme in ("memory", "unix") or not parts.hostname:
        return None
    return parts.hostname, parts.port or PORT
