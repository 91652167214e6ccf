"""What may be advised in the place of a value: only what the models accept there, written as YAML reads it."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError

from mahavishnu.errors import Path
from mahavishnu.ground.short import short
from mahavishnu.ground.words import listing
from mahavishnu.loading.nodes import Scalar
from mahavishnu.loading.plain_scalars import in_yaml
from mahavishnu.loading.shape import Place
from mahavishnu.units import Duration


def accepted(place: Place, path: Path, said: object) -> bool:
    """Whether a value may stand there; of an entry with a name of the user's own nobody knows."""
    if place.word is None:
        return True
    model, _ = place.word
    key = next(step for step in reversed(path) if isinstance(step, str))
    try:
        model.model_validate({key: said if path[-1] == key else [said]})
    except ValidationError as fault:
        return not any(error["loc"][:1] == (key,) for error in fault.errors(include_url=False))
    return True


def quoted(place: Place, path: Path, text: str) -> str:
    """The help that makes a text of what is none; nothing where that text would be refused, too."""
    return f"put it in quotes: `{in_text(short(text))}`" if accepted(place, path, text) else ""


def in_text(text: str) -> str:
    """The text in quotes, whatever it would be without them."""
    plain = in_yaml(text)
    return plain if plain.startswith(("'", '"')) else f'"{plain}"'


def as_list(place: Place, path: Path, node: object) -> str:
    """The help where a list belongs: the value in brackets, where that is accepted, else a list that is."""
    said = (node.value, node.text) if isinstance(node, Scalar) else ()
    for value in said:
        if accepted(place, path, [value]):
            return f"write `[{in_yaml(short(value)) if isinstance(value, str) else str(value).lower()}]`"
    return as_example(place)


def as_example(place: Place) -> str:
    """A list as it may stand here."""
    item = place.item()
    words = item.words or item.examples
    return f"write `[{in_yaml(words[0])}]`" if words else "write a list of mappings, in `[]`"


def like(place: Place) -> str:
    """`, like …`, where the models have examples and the meaning has none."""
    shown = [in_yaml(one) for one in place.examples]
    return f", like {listing(shown)}" if shown and " like " not in place.meaning else ""


def same(text: str, words: tuple[str, ...]) -> str:
    """The one of these words that is the same length of time; nothing where none is."""
    meant = _length(Duration.fix(text) if Duration.advice(text).startswith("write `") else text)
    return next((word for word in words if meant is not None and _length(word) == meant), "")


def _length(text: str) -> Duration | None:
    try:
        return Duration.parse(text)
    except ValueError:
        return None


def whole(text: str) -> int | None:
    """The whole number that is meant by a text like `1e3`, `8000.0`, `1_000`; None where it is none."""
    with suppress(ValueError, OverflowError):
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 2**53 else None
    return None
