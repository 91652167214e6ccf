"""MV608: a server beside the service on Compose that nobody starts."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.store import endpoint

CODE = Code(
    "MV608",
    "a store beside the service that nobody starts",
    "On Compose a server is started for a store that is named like a neighbour, `redis://redis:6379`, in a network "
    "that only the service is in; so it has no password and no TLS. A URL that has them means a server of your own, "
    "and no container of another project has a name there.",
    'store: "redis://:${REDIS_PASSWORD}@redis:6379"\ndeploy: {targets: {compose: {}}}',
    "Leave the password and TLS out, or say where your own server is: its full name or address, or the whole URL as a "
    "secret, `${REDIS_URL}`.",
)

_PLAIN = {"rediss": "redis", "valkeys": "valkey"}


def check(facts: Facts) -> Iterator[Problem]:
    """The stores of limits and of dead letters, where the service runs on Compose."""
    spec = facts.spec
    if spec.deploy.targets.compose is None:
        return
    stores: dict[Path, str] = {("store",): spec.store}
    if spec.parking:
        stores["dead_letters", "store"] = spec.dead_letters.store
    for path, url in stores.items():
        (host, port), address = endpoint(url) or ("", 0), urlsplit(url)
        plain = _PLAIN.get(address.scheme, address.scheme)
        if host and not {".", ":"} & {*host} and ("@" in address.netloc or plain != address.scheme):
            what = f"no server `{host}` is started on Compose for a URL with a password or TLS, and none is named so"
            ours = f"{plain}://{host}:{port}"
            help = f"write `{ours}`, which the service alone can reach, or the full name of your own"
            yield warning(CODE, path, what, help)
