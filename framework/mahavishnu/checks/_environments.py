"""What a spec says in each environment, as plain data, before any of them is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from mahavishnu.spec import Spec

_SAID = {"service", "channels", "alerts", "deploy"}


class World(NamedTuple):
    """What the spec says in one environment; without any its name is None."""

    name: str | None
    said: Mapping[str, Any]

    def at(self, *path: str) -> Any:
        """The value at a path; None where there is none."""
        value: Any = self.said
        for key in path:
            value = None if value is None else value.get(key)
        return value

    def below(self, *path: str) -> dict[str, Any]:
        """The entries of a section; none where there is no such section."""
        return self.at(*path) or {}


def deployed(spec: Spec) -> Iterator[World]:
    """The spec itself and every environment that has a target; one that changes nothing is the spec itself.

    Nothing when one environment was asked for: the others are not known then.
    """
    if spec.environment is not None:
        return
    said = spec.model_dump(mode="json", include=_SAID)
    patches = {name: patch for name, patch in spec.environments.items() if patch}
    for world in (World(None, said), *(World(name, _merged(said, patch)) for name, patch in patches.items())):
        if any(one is not None for one in world.below("deploy", "targets").values()):
            yield world


def _merged(value: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """As RFC 7396 says."""
    made: dict[str, Any] = {**value} if isinstance(value, Mapping) else {}
    for key, one in patch.items():
        made[key] = (
            _merged(made.get(key), cast("Mapping[str, Any]", one)) if isinstance(one, Mapping) else one
        )
    return {key: one for key, one in made.items() if one is not None}
