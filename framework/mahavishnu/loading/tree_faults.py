"""What the tree of a spec shows by itself, before its values are judged: empty values, merge keys, references."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.errors import Path, Problem
from mahavishnu.ground import codes
from mahavishnu.ground.short import short
from mahavishnu.ground.words import nearest
from mahavishnu.loading.broken import HIDING
from mahavishnu.loading.nodes import Mapping, Node, Scalar, Sequence, at, entries_of, scalars
from mahavishnu.loading.placing import place_at
from mahavishnu.loading.secrecy import REFERENCE
from mahavishnu.loading.shape import Place, dotted, keys_of

MERGE = "<<"
_UNMERGED = "write the keys out, or let an alias stand for the whole value, like `b: *a`"


def empty(tree: Mapping) -> Iterator[Problem]:
    """Keys without a value."""
    for path, scalar in scalars(tree):
        removes = path[:1] == ("environments",) and len(path) > 2
        if scalar.value is None and not removes:
            what = f"`{dotted(path)}` is empty"
            help = HIDING if scalar.hidden else _filled(place_at(path, tree))
            yield Problem(codes.KIND.id, path, what, help)


def merge_keys(node: Node, tree: Mapping | None = None, path: Path = ()) -> Iterator[Problem]:
    """Merge keys of YAML 1.1 in mappings of the format."""
    tree = node if tree is None and isinstance(node, Mapping) else tree
    for key, entry in entries_of(node).items():
        here = (*path, key)
        owner = place_at(path, tree) if key == MERGE and tree is not None else None
        if owner is not None and (owner.named or owner.models()):
            where = f"`{dotted(path)}`" if path else "the spec"
            what = f"`{MERGE}` in {where} merges nothing: a spec has no merge keys"
            yield Problem(codes.UNKNOWN_KEY.id, here, what, _UNMERGED, on_key=True)
        yield from merge_keys(entry.node, tree, here)


def _filled(place: Place | None) -> str:
    if (
        place
        and place.model
        and not any(inner.field and inner.field.is_required() for inner in keys_of(place.model).values())
    ):
        return "write `{}` for its defaults, or remove the key"
    return "write a value, or remove the key"


def declared_secrets(tree: Node) -> list[str]:
    """The names listed in `secrets`."""
    listed = at(tree, ("secrets",))
    if not isinstance(listed, Sequence):
        return []
    return [item.text for item in listed.items if isinstance(item, Scalar)]


def references(tree: Mapping) -> Iterator[Problem]:
    """Every `${…}` must be a declared secret, at a place that takes one."""
    declared = declared_secrets(tree)
    for path, scalar in scalars(tree):
        if path[:1] == ("environments",) or not isinstance(scalar.value, str):
            continue
        for name in REFERENCE.findall(scalar.value):
            place = place_at(path, tree)
            if place and not (place.holds_secret or (place.listed and place.item().holds_secret)):
                what = f"`{dotted(path)}` takes no secret; `${{{name}}}` would stay as it is"
                yield Problem(
                    codes.NOT_REPLACED.id, path, what, "write the value itself, where it is no secret"
                )
            elif name not in declared:
                what = f"`{dotted(path)}` asks for the secret `{short(name)}`, which is not declared"
                yield Problem(codes.UNDECLARED.id, path, what, _declare(name, declared, scalar.text))


def _declare(name: str, declared: list[str], text: str) -> str:
    near = nearest(name, declared)
    meant = f"${{{near}}}"
    if REFERENCE.fullmatch(text):
        meant = f'"{meant}"'  # whoever writes it into `{}` needs the quotes
    return f"did you mean `{meant}`?" if near else f"add `{short(name)}` to `secrets`"
