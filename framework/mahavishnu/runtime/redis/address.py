"""Where a Redis or Valkey server is, and how to speak to it: redis-py reads the URL."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from redis import connection

from mahavishnu.errors import MahavishnuError
from mahavishnu.units import SECOND

DEADLINE = 20_000_000
"""How long an answer may take, ns; `?socket_timeout=` of the URL, in seconds, says another one."""
_PORT = 6379
_SCHEMES = {"valkey:": "redis:", "valkeys:": "rediss:"}
_TLS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_check_hostname",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_password",
    }
)
# Others are of another client that has the same URL; of what is said of TLS somebody's safety depends.
_OPTIONS = _TLS | {"username", "password", "db", "socket_timeout"}


_parsed: Callable[[str], Mapping[str, Any]] = cast("Any", connection).parse_url


@dataclass(frozen=True, slots=True)
class Address:
    """A server; `path` is that of a socket file, else host and port hold. Secrets never show in its repr."""

    host: str = "localhost"
    port: int = _PORT
    path: str | None = None
    database: int = 0
    login: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    deadline: int = DEADLINE

    def __repr__(self) -> str:
        return f"Address({self.path or f'{self.host}:{self.port}'})"

    def moved(self, host: str, port: int) -> Address:
        """The same, at another node of its cluster; an empty host is the one that said so."""
        return replace(self, host=host or self.host, port=port, path=None)


def address(url: str) -> Address:
    """What a URL says; raises MahavishnuError without its text (it may hold a password)."""
    url = _theirs(url)
    try:
        said: Mapping[str, Any] = _parsed(url)
        _refuse(said)
        return _address(said, secure=url.startswith("rediss:"))
    except (ValueError, TypeError, OSError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else type(fault).__name__
        what = f"the URL of the store cannot be used ({reason})"
        raise MahavishnuError(f"{what}: write one like rediss://user:password@host:6379/0") from None


def options(url: str) -> dict[str, Any]:
    """What a URL that can be used says beside the place, as redis-py takes it."""
    return {name: value for name, value in _parsed(_theirs(url)).items() if name in _OPTIONS}


def _theirs(url: str) -> str:
    """The URL with a scheme that redis-py knows."""
    for ours, theirs in _SCHEMES.items():
        url = theirs + url.removeprefix(ours) if url.startswith(ours) else url
    return url


def _refuse(said: Mapping[str, Any]) -> None:
    """What is asked of TLS and not carried out."""
    for name in said:
        if name.startswith("ssl_") and name not in _TLS:
            known = ", ".join(f"`{each}`" for each in sorted(_TLS))
            raise MahavishnuError(
                f"the URL of the store: `{name}` is not supported: of TLS it may say {known}"
            )


def _address(said: Mapping[str, Any], secure: bool) -> Address:
    user, password = said.get("username"), said.get("password")
    seconds = float(said.get("socket_timeout") or DEADLINE / SECOND)
    if not 0.001 <= seconds <= 10:
        raise ValueError("socket_timeout")
    return Address(
        host=said.get("host") or "localhost",
        port=said.get("port") or _PORT,
        path=said.get("path"),
        database=said.get("db") or 0,
        login=_login(user, password),
        tls=_tls(said) if secure else None,
        deadline=round(seconds * SECOND),
    )


def _login(user: str | None, password: str | None) -> tuple[str, ...]:
    """The words of AUTH, if there are any."""
    if user:
        return user, password or ""
    return (password,) if password else ()


def _tls(said: Mapping[str, Any]) -> ssl.SSLContext:
    """The system's authorities, or the named ones; `ssl_cert_reqs=none` trusts everybody, as in redis-py."""
    context = ssl.create_default_context(cafile=said.get("ssl_ca_certs"), capath=said.get("ssl_ca_path"))
    lax = said.get("ssl_cert_reqs") == "none"
    context.check_hostname = bool(said.get("ssl_check_hostname", True)) and not lax
    if lax:
        context.verify_mode = ssl.CERT_NONE
    if said.get("ssl_certfile"):
        # Without a password, OpenSSL would ask for it at the terminal.
        context.load_cert_chain(said["ssl_certfile"], said.get("ssl_keyfile"), said.get("ssl_password", ""))
    return context
