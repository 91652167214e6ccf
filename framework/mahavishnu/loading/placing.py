"""What the format says of each step of a path, where the tree tells which of several policies is meant."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.errors import Path
from mahavishnu.loading.nodes import Node, at, entries_of
from mahavishnu.loading.shape import ROOT, Place


def place_at(path: Path, tree: Node, place: Place = ROOT) -> Place | None:
    """What the format says of a path of this tree; the tree says which of several policies is meant."""
    *_, last = (place, *along(path, tree, place))
    return last


def along(path: Path, tree: Node, place: Place) -> Iterator[Place | None]:
    """What the format says of each step of a path."""
    if path[:1] == ("environments",) and len(path) > 2:
        path = path[2:]
    here: Place | None = place
    node: Node | None = tree
    for step in path:
        here = here.below(step, entries_of(node)) if here else None
        node = at(node, (step,)) if node else None
        yield here
