"""What `service.trusted_proxies` has to list for the load balancers of Google."""

from __future__ import annotations

from collections.abc import Mapping

from mahavishnu.targets import GOOGLE

NETWORKS = ", ".join(f"`{one}`" for one in GOOGLE)
WANTED: Mapping[str, str] = {
    "gce": f"{NETWORKS} and the public address of its forwarding rule",
    "gce-internal": "the proxy-only subnet of its region and the address of its forwarding rule",
}
"""By ingress class. The balancer writes its own address behind that of the client, so both have to be listed."""
