"""How a page is fetched: of a service, of Prometheus, of Alertmanager."""

from __future__ import annotations

import json
import re
from http.client import HTTPException
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mahavishnu.errors import MahavishnuError
from mahavishnu.loading import yaml_tree

_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/\S*)?")
_LONGEST, _LARGEST = 10, 64 * 2**20


class Unreachable(MahavishnuError):
    """Nobody answers there, or not what was asked for: nothing was compared."""


def fetch(url: str) -> str:
    """The text at a URL."""
    if not _URL.fullmatch(url):
        raise Unreachable("what was given is no URL: write one like `http://127.0.0.1:9090`, without a login")
    try:
        with urlopen(Request(url), timeout=_LONGEST) as answer:  # noqa: S310 (http and https alone)
            return str(answer.read(_LARGEST).decode("utf-8", "replace"))
    except HTTPError as fault:
        raise Unreachable(f"{url} answers {fault.code} {fault.reason}") from None
    except (URLError, HTTPException, OSError, ValueError) as fault:
        raise Unreachable(f"{url} cannot be reached: {getattr(fault, 'reason', fault)}") from None


def data(url: str) -> Any:
    """What a Prometheus answers there."""
    try:
        return json.loads(fetch(url))["data"]
    except (ValueError, KeyError, TypeError):
        raise Unreachable(f"what answers at {url} is no Prometheus") from None


def configuration(text: str) -> dict[str, Any]:
    """YAML, as plain data."""
    tree = yaml_tree.read(text.encode(), "").tree
    if not isinstance(tree, yaml_tree.Mapping):
        raise Unreachable("what it says of its configuration cannot be read")
    return cast("dict[str, Any]", yaml_tree.plain(tree))
