"""How a server is asked: a service, a Prometheus, an Alertmanager."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.client import HTTPException
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request

from mahavishnu.errors import MahavishnuError
from mahavishnu.ground import hurried
from mahavishnu.ground.short import short
from mahavishnu.loading import nodes, yaml_tree

_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/\S*)?")
_OPENER = hurried.opener()
_LONGEST, _LARGEST = 30.0, 64 * 2**20
"""Seconds for the whole of an answer, however it drips; bytes of it."""


class Unreachable(MahavishnuError):
    """Nobody answers there, or not what was asked for: nothing more was compared."""


class Site(NamedTuple):
    """A server: where it is, and the headers that let one in, which are shown to nobody else."""

    url: str
    headers: Mapping[str, str] = MappingProxyType({})

    def text(self, path: str) -> str:
        """What it answers at a path."""
        if not _URL.fullmatch(self.url):
            raise Unreachable(
                "what was given is no URL: write one like `http://127.0.0.1:9090`; a login is said by --header-file"
            )
        place = f"{self.url.rstrip('/')}{path}"
        try:
            with _OPENER.open(Request(place, headers={**self.headers}), timeout=_LONGEST) as answer:  # noqa: S310 (http and https alone)
                return str(answer.read(_LARGEST).decode("utf-8", "replace"))
        except HTTPError as fault:
            with fault:
                raise Unreachable(
                    f"{place} answers {fault.code} {fault.reason}{self._advice(fault)}"
                ) from None
        except (URLError, HTTPException, OSError) as fault:
            raise Unreachable(f"{place} cannot be reached: {getattr(fault, 'reason', fault)}") from None
        except ValueError as fault:  # its words may hold a header
            raise Unreachable(f"{place} cannot be reached: {type(fault).__name__}") from None

    def data(self, path: str, key: str = "") -> Any:
        """What a Prometheus answers below `/api/v1`, or what that has under a key."""
        try:
            found = json.loads(self.text(f"/api/v1/{path}"))["data"]
            return found[key] if key else found
        except (ValueError, KeyError, TypeError):
            raise Unreachable(f"what answers at {self.url} is no Prometheus") from None

    def _advice(self, fault: HTTPError) -> str:
        if fault.code in {401, 403}:
            return (
                ": what --header-file says does not let one in"
                if self.headers
                else ": say a login by --header-file"
            )
        place = fault.headers.get("location") or ""
        return f": ask where that leads, {short(place, 200)}" if place else ""


def configuration(text: str) -> dict[str, Any]:
    """YAML, as plain data."""
    tree = yaml_tree.read(text.encode(), "").tree
    if not isinstance(tree, nodes.Mapping):
        raise Unreachable("what it says of its configuration cannot be read")
    return cast("dict[str, Any]", nodes.plain(tree))
