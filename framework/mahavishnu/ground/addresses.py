"""Networks as they are compared, IPv4 being IPv4 however it is written; and whether and where a URL leads."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_LABEL = r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def canonical(net: Network) -> Network:
    """A network of IPv4 written inside IPv6 (RFC 4291, section 2.5.5.2) is one of IPv4."""
    mapped = net.network_address.ipv4_mapped if isinstance(net, IPv6Network) and net.prefixlen >= 96 else None
    return ip_network(f"{mapped}/{net.prefixlen - 96}") if mapped else net


def reachable(url: str) -> bool:
    """Whether the host of a URL is a name or an address, and its port, if it has one, a port."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.port != 0 and bool(_HOST.fullmatch(host) or _address(host))
    except ValueError:
        return False


def _address(host: str) -> bool:
    return "%" not in host and bool(ip_address(host))


def leads_back(url: str) -> bool:
    """Whether a URL leads to the machine that asks, or to the container: by loopback, or a Unix socket."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "unix" or host == "localhost" or host.endswith(".localhost") or _own(host)


def _own(host: str) -> bool:
    """Whether it is an address of loopback, or the unspecified one, which leads there too."""
    try:
        net = canonical(ip_network(host))
    except ValueError:
        return False
    return net.is_loopback or net.network_address.is_unspecified
