"""Where the state of limits lives: in each process, or on a Redis or Valkey server for all of them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from mahavishnu.addresses import reachable
from mahavishnu.promql import total
from mahavishnu.series import STORE_CALLS, STORE_DURATION, STORE_UP
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.unfit import unfit
from mahavishnu.units import Duration

MEMORY = "memory://"
"""Each process by itself."""
PORT = 6379
_NAME = r"\$\{[A-Z][A-Z0-9_]*\}"
_HOST = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])"
_LOGIN = rf"([A-Za-z0-9._-]*:{_NAME}@)?"
_SECONDS = r"([1-9](\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9]0{0,2})"
_OPTION = rf"(db=[0-9]{{1,3}}|socket_timeout={_SECONDS})"
_OPTIONS = rf"(\?{_OPTION}(&{_OPTION})?)?"
_SERVER = rf"(redis|valkey)s?://{_LOGIN}{_HOST}(:[0-9]{{1,5}})?(/[0-9]{{1,3}})?{_OPTIONS}"
_SOCKET = rf"unix://{_LOGIN}(/[A-Za-z0-9._-]+)+{_OPTIONS}"
_FLAKY = Decimal("0.05")
_WINDOW = Duration.parse("5m")


SHARED = rf"({_NAME}|{_SERVER}|{_SOCKET})"
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


def secrets_of(url: str) -> tuple[str, ...]:
    """The names of the secrets that stand in it."""
    return tuple(re.findall(r"\$\{(\w+)\}", url))


def endpoint(url: str) -> tuple[str, int] | None:
    """The host and port that are asked; None where they are a secret, a socket file, or nobody's."""
    parts = urlsplit(re.sub(r"\$\{\w+\}", "x", url))
    if parts.scheme in ("memory", "unix") or not parts.hostname:
        return None
    return parts.hostname, parts.port or PORT


def signals() -> tuple[Signal, ...]:
    """What a shared store shows of itself."""
    return STORE_CALLS, STORE_DURATION, STORE_UP


def alerts() -> tuple[Alert, ...]:
    """It is lost; or it answers, but not always."""
    impact = (
        "Each limit does what its `on_store_failure` says: `local` counts in every process apart, `open` lets "
        "everything through, `closed` answers 503. `mahavishnu check` says how much that is."
    )
    ok, skipped = STORE_CALLS.select(outcome="ok"), STORE_CALLS.select(outcome="skipped")
    failed = total(STORE_CALLS.rate(_WINDOW, outcome_not="ok"))
    return (
        Alert(
            name="LimitStoreLost",
            severity=Severity.P2,
            expr=STORE_UP.select().equals(0),
            hold=Duration.parse("30s"),
            summary="The shared store of the limits does not answer: they hold for each process alone.",
            meaning="The last calls to the store failed or came too late. It is tried again every few seconds.",
            impact=impact,
            action="The service's log says why (`store lost`). Look at the server, its memory, its password and "
            "the way to it; nothing has to be restarted, the service comes back to it by itself.",
            path=("store",),
            proof=(Feed(STORE_UP.select(), healthy=1, faulty=0),),
        ),
        Alert(
            name="LimitStoreFlaky",
            severity=Severity.P3,
            expr=failed / total(STORE_CALLS.rate(_WINDOW)) > _FLAKY,
            hold=Duration.parse("10m"),
            summary="The shared store of the limits did not decide $value of the requests.",
            unit="ratio",
            meaning="More than 5% of the calls to the store failed, came too late, or were not made after that.",
            impact=impact,
            action="Compare the outcomes of mahavishnu_limit_store_calls_total: `timeout` is a slow server or way, "
            "`error` is in the service's log.",
            path=("store",),
            proof=(Feed(ok, healthy=600, faulty=540), Feed(skipped, healthy=0, faulty=60)),
        ),
    )
