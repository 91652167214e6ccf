"""Generated YAML as two independent readers see it: PyYAML is YAML 1.1, ruamel is YAML 1.2."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any, cast

import yaml
from ruamel.yaml import YAML


def read_11(text: str) -> Any:
    """One document under YAML 1.1."""
    return yaml.safe_load(text)


def read_12(text: str) -> Any:
    """One document under YAML 1.2."""
    return cast("Any", YAML(typ="safe", pure=True)).load(StringIO(text))


READERS: tuple[Callable[[str], Any], ...] = (read_11, read_12)


def read(text: str) -> Any:
    """One document; both readers must see the same."""
    one, other = read_11(text), read_12(text)
    assert one == other
    return one
