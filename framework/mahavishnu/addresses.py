"""Networks as they are compared: IPv4 is IPv4 however it is written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def canonical(net: Network) -> Network:
    """A network of IPv4 written inside IPv6 (RFC 4291, section 2.5.5.2) is one of IPv4."""
    mapped = net.network_address.ipv4_mapped if isinstance(net, IPv6Network) and net.prefixlen >= 96 else None
    return ip_network(f"{mapped}/{net.prefixlen - 96}") if mapped else net
