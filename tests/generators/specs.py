"""Specs for the tests of generators, and what a generator makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from mahavishnu.contract import contract
from mahavishnu.spec import Spec

SMALL: Mapping[str, Any] = {
    "mahavishnu": 1,
    "service": {"name": "shop", "app": "shop.main:app"},
    "deploy": {"targets": {"compose": {}, "kubernetes": {}}},
}
LARGE: Mapping[str, Any] = {
    "mahavishnu": 1,
    "service": {
        "name": "shop_api",
        "owner": "payments team: 24/7",
        "app": "shop.main:app",
        "app_dir": "src/web",
        "port": 8680,
        "trusted_proxies": ["10.0.0.0/8"],
    },
    "secrets": ["DATABASE_URL", "SLACK_WEBHOOK", "HOOK_TOKEN"],
    "limits": {"per_client": {"rate": "300/minute", "burst": 50}, "uploads": {"body": "1MiB"}},
    "dependencies": {
        "stripe": {"url": "https://api.stripe.com", "timeout": "2s", "retry": {"attempts": 3}},
        "catalogue": {"url": "http://catalogue:8080", "timeout": "500ms"},
        "stock": {"url": "http://stock.warehouse.svc.cluster.local:8080"},
        "bank": {"url": "https://10.1.2.3:8443/api"},
        "six": {"url": "http://[2001:db8::1]:8080"},
        "unknown": {"timeout": "1s"},
    },
    "slos": {"availability": {"objective": "99.9%"}},
    "channels": {
        "room": {"slack": "${SLACK_WEBHOOK}", "channel": "#shop"},
        "hook": {"webhook": "https://hooks.example.com/a", "token": "${HOOK_TOKEN}"},
    },
    "retention": {"metrics": "60d"},
    "observability": {"metrics": {"path": "/-/metrics"}},
    "deploy": {
        "image": "ghcr.io/example/shop",
        "resources": {"cpu": "250m", "memory": "256Mi"},
        "replicas": {"min": 3, "max": 12},
        "shutdown": "45s",
        "targets": {"compose": {}, "kubernetes": {"namespace": "shop", "host": "shop.example.com"}},
    },
}


def merged(spec: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with a patch on top, as RFC 7396 says."""
    result = dict(spec)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            inner = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None
            result[key] = value if inner is None else merged(result.get(key) or {}, inner)
    return result


def generated(family: str, spec: Mapping[str, Any] | Spec) -> dict[str, str]:
    """Path -> text of everything that one generator makes of a spec."""
    generator: Any = import_module(f"mahavishnu.generators.{family}")
    return {one.path: one.text for one in generator.generate(contract(Spec.model_validate(spec)))}
