"""Every file around a service, from its contract: one module for each family of files."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from traceback import extract_tb
from typing import cast

from mahavishnu.artifact import Artifact
from mahavishnu.artifact import Generator as Maker
from mahavishnu.contract import Contract
from mahavishnu.errors import MahavishnuError

from ._render import blaming, overriding, refuse_strays

GROUP = "mahavishnu.generators"
_OWN = sorted(one.name for one in iter_modules(__path__) if not one.name.startswith("_"))


def generate(contract: Contract, templates: Path | None = None) -> Iterator[tuple[str, Artifact]]:
    """Each generator's name with each file it makes; `templates` is a folder looked into before our own.

    Raises MahavishnuError for a template there that cannot be filled in, or that none of ours is replaced by, and for a
    generator of somebody else that fails.
    """
    with overriding(templates), blaming(templates):
        if templates is not None:
            refuse_strays(templates)
        for name, generator in discover().items():
            with _theirs(name) if name not in _OWN else nullcontext():
                for artifact in generator.generate(contract):
                    if not isinstance(artifact, Artifact):  # pyright: ignore[reportUnnecessaryIsInstance]
                        raise TypeError(f"{artifact!r} is no Artifact")
                    yield name, artifact


def discover() -> dict[str, Maker]:
    """Every generator by its name: the modules of this package, and the entry points of its group.

    Raises MahavishnuError for one that cannot be imported, and when two carry the same name: neither would be the
    one a reader expects.
    """
    found = {name: cast("Maker", import_module(f".{name}", __name__)) for name in _OWN}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found:
            raise MahavishnuError(
                f"two generators are named `{point.name}`: rename the one at `{point.value}`"
            )
        with _theirs(point.name):
            found[point.name] = cast("Maker", point.load())
    return found


@contextmanager
def _theirs(name: str) -> Generator[None]:
    """A fault in a generator of somebody else is told as that: MahavishnuError, with its place."""
    try:
        yield
    except MahavishnuError:
        raise
    except Exception as fault:
        place = extract_tb(fault.__traceback__)[-1]
        what = f"generator `{name}` cannot be used: {type(fault).__name__}: {fault}"
        raise MahavishnuError(f"{what} (`{place.filename}`, line {place.lineno})") from fault
