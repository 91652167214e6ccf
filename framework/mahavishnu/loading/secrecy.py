"""Which values of a spec may be secrets, and how they are kept from whoever reads a finding."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

from mahavishnu.errors import Path
from mahavishnu.ground.short import short
from mahavishnu.ground.words import nearest
from mahavishnu.loading.hiding import (
    SENSITIVE,
    covered,
    without_hooks,
    without_logins,
    without_tokens,
    without_values,
)
from mahavishnu.loading.nodes import Mark, Node, Scalar, scalars
from mahavishnu.loading.placing import along
from mahavishnu.loading.plain_scalars import resolve
from mahavishnu.loading.shape import ROOT, Place, keys_of, places

REFERENCE = re.compile(r"\$\{([^}]*)\}")
SECRET_FILE = "secret file"  # noqa: S105  the kind of a layer
_NAMED = re.compile(r"[A-Z][A-Z0-9_]*|[A-Za-z]+(_[A-Za-z0-9]+)*")


def masked(lines: Sequence[str], tree: Node | None) -> tuple[str, ...]:
    """The lines of the file with every secret that is written out, or might be one, hidden."""
    spans = defaultdict[int, list[tuple[int, int]]](list)
    for path, scalar in scalars(tree) if tree else ():
        if isinstance(scalar.value, str) and _secret(scalar, path, tree):
            for number, start, end in _spans(scalar.mark):
                spans[number].append((start, end))
    shown = [covered(line, spans[number]) for number, line in enumerate(lines, 1)]
    # Of a file that cannot be read nobody knows what stands where.
    guess = without_tokens if tree is None else str
    return tuple(guess(without_logins(without_hooks(without_values(line)))) for line in shown)


def value(scalar: Scalar, path: Path, tree: Node) -> str:
    """The value for a sentence; nothing of it when it might be a secret."""
    if _secret(scalar, path, tree) or scalar.mark.origin.startswith(SECRET_FILE):
        return "the value"
    text = without_logins(without_hooks(short(scalar.text))).replace("\n", "\\n")
    quoted = isinstance(scalar.value, str) and not isinstance(_as_plain(scalar.text), str)
    return f'`"{text}"`' if quoted or not text else f"`{text}`"


def _as_plain(text: str) -> object:
    """What the text would be without quotes."""
    try:
        return resolve(text)
    except ValueError:
        return 0


def _secret(scalar: Scalar, path: Path, tree: Node | None) -> bool:
    """Whether a value may be a secret: by its key, by what the format takes there, nearly there, or just below."""
    if isinstance(scalar.value, str) and REFERENCE.fullmatch(scalar.value):
        return False
    if path[:1] == ("secrets",):
        return not (isinstance(path[-1], int) and len(path) == 2 and _NAMED.fullmatch(scalar.text))
    if tree is None or _sensitive(path):
        return True
    steps = [ROOT, *along(path, tree, ROOT)]
    if any(place is not None and place.secret for place in steps) or _holds(steps[-1]):
        return True
    if steps[-1] is not None:
        return False
    if any(SENSITIVE.search(step) for step in path if isinstance(step, str)):
        return True
    known = zip(path[len(path) + 1 - len(steps) :], steps[:-1], steps[1:], strict=True)
    return any(
        _like_a_secret(step, owner) for step, owner, here in known if here is None and isinstance(step, str)
    )


def _like_a_secret(word: str, owner: Place | None) -> bool:
    """Whether an unknown word may be meant for a key that takes a secret: of those of its place, else of any place."""
    own = {key: place for model in (owner.models() if owner else ()) for key, place in keys_of(model).items()}
    secret = [key for key, place in own.items() if place.secret or _lists(place)]
    if nearest(word, own) and not nearest(word, secret):
        return False
    return bool(nearest(word, _SECRET_KEYS))


def _holds(place: Place | None) -> bool:
    """Whether a mapping belongs here of which a value is a secret."""
    models = place.models() if place else ()
    return any(inner.secret for model in models for inner in keys_of(model).values())


def _lists(place: Place) -> bool:
    return place.listed and place.item().secret


_SECRET_KEYS = sorted({str(path[-1]) for path, place in places() if place.secret or _lists(place)})


def _sensitive(path: Path) -> bool:
    key = next((step for step in reversed(path) if isinstance(step, str)), "")
    return key != "secrets" and bool(SENSITIVE.search(key))


def _spans(mark: Mark) -> Iterator[tuple[int, int, int]]:
    """Where in each of its lines a scalar stands; one of several lines has them to their ends."""
    for number in range(mark.line, mark.last + 1):
        start = mark.column - 1 if number == mark.line else 0
        yield number, start, start + mark.width if mark.last == mark.line else sys.maxsize
