"""Generated YAML as two independent readers see it: PyYAML is YAML 1.1, ruamel is YAML 1.2."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import lru_cache
from io import StringIO
from typing import Any, cast

import yaml
from ruamel.yaml import YAML


def read_11(text: str) -> Any:
    """One document under YAML 1.1."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def read_12(text: str) -> Any:
    """One document under YAML 1.2."""
    return cast("Any", YAML(typ="safe", pure=True)).load(StringIO(text))


READERS: tuple[Callable[[str], Any], ...] = (read_11, read_12)


def read(text: str) -> Any:
    """One document, the caller's own; both readers must see the same."""
    return pickle.loads(_read(text))


@lru_cache(maxsize=4096)
def _read(text: str) -> bytes:
    # Most files of one spec are those of another one, too, and a pure reader takes long.
    one, other = read_11(text), read_12(text)
    assert one == other
    return pickle.dumps(one)
