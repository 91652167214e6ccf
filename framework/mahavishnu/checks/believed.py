"""MV211: a forwarding header that anybody may write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.addresses import Network
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV211",
    "trusted proxies that are not the proxies' own networks",
    "Whoever is in a trusted network says whom he speaks for, and is a new client with every request. "
    "`0.0.0.0/0` trusts everybody, and so does every limit then.",
    "service: {trusted_proxies: [0.0.0.0/0]}",
    "List the networks that only your proxies have; a CDN publishes its own.",
)
_PATH: Path = ("service", "trusted_proxies")
# The widest network that a CDN publishes as its own is a /13; no operator has all of a wider one to itself.
_WIDEST = {4: 13, 6: 24}
_SHARED = IPv4Network("100.64.0.0/10")


def check(facts: Facts) -> Iterator[Problem]:
    """Networks that hold everybody, alone or together, and those that hold strangers."""
    listed = facts.spec.service.networks()
    nets = [*listed.values()]
    if all(one.prefixlen for one in nets) and any(one.prefixlen == 0 for one in _together(nets)):
        yield error(CODE, _PATH, f"together these networks are everybody: {_ANY}", _HELP)
        return
    for place, one in listed.items():
        if one.prefixlen == 0:
            yield error(CODE, (*_PATH, place), f"`{one}` is everybody: {_ANY}", _HELP)
        elif _strangers(one):
            what = f"`{one}` is public and wider than any operator's own: strangers in it are believed"
            yield warning(CODE, (*_PATH, place), what, _HELP)


_ANY = "any client may choose its address"
_HELP = "list the networks that only your proxies have"


def _strangers(net: Network) -> bool:
    private = net.is_private or (isinstance(net, IPv4Network) and net.subnet_of(_SHARED))
    return not private and net.prefixlen < _WIDEST[net.version]


def _together(nets: Sequence[Network]) -> Iterator[Network]:
    yield from collapse_addresses([one for one in nets if isinstance(one, IPv4Network)])
    yield from collapse_addresses([one for one in nets if isinstance(one, IPv6Network)])
