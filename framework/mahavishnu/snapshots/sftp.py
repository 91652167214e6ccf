"""The servers behind `sftp:` repositories, and what lets a job in."""

from __future__ import annotations

from typing import Annotated, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import Field, StringConstraints

from mahavishnu.settings import SecretRef, Settings

_PORT = 22
_HOSTS = r"[A-Za-z0-9._,:\[\]-]+"
_KIND = r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521))"
KnownHost = Annotated[
    str,
    StringConstraints(pattern=rf"^{_HOSTS} {_KIND} [A-Za-z0-9+/]+={{0,2}}$", max_length=1000),
    Field(
        examples=[
            "vault.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHaIl7bkKynPbQ4KYuFHFnSCHlShVq0L4ta+Vx0w8zl"
        ]
    ),
]


class Ssh(Settings):
    """How the servers of `sftp:` repositories are entered; ssh's own files decide where it is absent."""

    key: SecretRef
    """The secret that holds a private key without a passphrase."""
    known_hosts: Annotated[tuple[KnownHost, ...], Field(min_length=1, max_length=20)]
    """The servers' own keys, as `ssh-keyscan` prints them; no other server is believed."""

    def knows(self, server: Server) -> bool:
        """Whether a key of that server is among them."""
        return any(server.known_as in line.partition(" ")[0].split(",") for line in self.known_hosts)


class Server(NamedTuple):
    """Where ssh goes; an empty user is the one who asks."""

    user: str
    host: str
    port: int

    @property
    def known_as(self) -> str:
        """Its name in a file of known hosts."""
        return self.host if self.port == _PORT else f"[{self.host}]:{self.port}"


def server(place: str) -> Server | None:
    """The server of `sftp:user@host:path` or `sftp://user@host:port/path`, None of any other repository.

    Raises ValueError for a port that cannot be.
    """
    kind, _, rest = place.partition(":")
    if kind != "sftp":
        return None
    if rest.startswith("//"):
        url = urlsplit(rest)
        return Server(unquote(url.username or ""), url.hostname or "", url.port or _PORT)
    user, _, host = rest.partition(":")[0].rpartition("@")
    return Server(user, host, _PORT)
