"""What may stand at each place of a spec, read from the models: for findings, variables and `explain`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mahavishnu.errors import Path
from mahavishnu.loading.meanings import meanings
from mahavishnu.settings import Keyed, OneOf, SecretRef, Settings
from mahavishnu.spec import Spec
from mahavishnu.store import HoldsSecret

_SECRET_PATTERN = get_args(SecretRef)[1].pattern


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the format: the bare type of its value, what was annotated, its field and where that is declared."""

    kind: Any
    notes: tuple[Any, ...] = ()
    field: FieldInfo | None = None
    word: tuple[type[BaseModel], str] | None = None

    @property
    def model(self) -> type[Settings] | None:
        """The mapping that stands here, when its keys are words of the format."""
        kind: type[Any] = self.kind if isinstance(self.kind, type) else object
        return kind if issubclass(kind, Settings) and not self.choice else None

    @property
    def choice(self) -> Mapping[str, type[Keyed]]:
        """The kinds of which one stands here, by keyword."""
        none: dict[str, type[Keyed]] = {}
        return next((note.kinds for note in self.notes if isinstance(note, OneOf)), none)

    @property
    def named(self) -> bool:
        """Whether the keys of the mapping here are names of the user's own."""
        return get_origin(self.kind) is dict

    @property
    def listed(self) -> bool:
        """Whether a list stands here."""
        return get_origin(self.kind) is tuple

    @property
    def secret(self) -> bool:
        """Whether the value here must be `${NAME}`."""
        return any(getattr(note, "pattern", None) == _SECRET_PATTERN for note in self.notes)

    @property
    def holds_secret(self) -> bool:
        """Whether `${NAME}` may stand in the value here."""
        return self.secret or any(isinstance(note, HoldsSecret) for note in self.notes)

    @property
    def words(self) -> tuple[str, ...]:
        """The values allowed here, when they can be listed."""
        return tuple(_words(self.kind))

    @property
    def others(self) -> tuple[Place, ...]:
        """What may stand here besides those words."""
        several = get_origin(self.kind) in (Union, UnionType)
        members = [_place(one) for one in get_args(self.kind)] if several else []
        return tuple(one for one in members if not one.words)

    @property
    def types(self) -> tuple[type, ...]:
        """The plain Python types that may stand here; those of the listed words included."""
        kinds = tuple(_kinds(self.kind))
        words: list[object] = [
            word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)
        ]
        return (*(kind for kind in kinds if isinstance(kind, type)), *(word.__class__ for word in words))

    @property
    def meaning(self) -> str:
        """What the key here means, from its docstring."""
        return meanings(self.word[0]).get(self.word[1], "") if self.word else ""

    @property
    def examples(self) -> tuple[str, ...]:
        """How a value here may look, where the models say so."""
        fields = (self.field, *(note for note in self.notes if isinstance(note, FieldInfo)))
        return next((tuple(map(str, one.examples)) for one in fields if one and one.examples), ())

    def item(self) -> Place:
        """The place of one item of a list, which means what the list does; or of one named entry."""
        inner = _place(get_args(self.kind)[1 if self.named else 0])
        return inner if self.named else replace(inner, field=self.field, word=self.word)

    def below(self, step: str | int, keys: Collection[str] = ()) -> Place | None:
        """The place one step down; `keys` of the mapping here choose among policies. None: no such word."""
        if self.named or self.listed:
            return self.item()
        model = self.model or self.chosen(keys)
        return keys_of(model).get(str(step)) if model else None

    def chosen(self, keys: Collection[str]) -> type[Keyed] | None:
        """The one policy whose keyword is among the keys."""
        said = [word for word in self.choice if word in keys]
        return self.choice[said[0]] if len(said) == 1 else None

    def models(self) -> tuple[type[Settings], ...]:
        """Every model that may stand here."""
        return tuple(self.choice.values()) or ((self.model,) if self.model else ())


ROOT = Place(Spec)


@cache
def keys_of(model: type[BaseModel]) -> Mapping[str, Place]:
    """The keys of a mapping of the format, as they are written, and the place below each."""
    fields = model.model_fields.items()
    return MappingProxyType({field.alias or name: _of(model, name, field) for name, field in fields})


def places(place: Place = ROOT, path: Path = ()) -> Iterator[tuple[Path, Place]]:
    """Every place of the format with its path, `*` standing for a name of the user's own; items of lists have none."""
    yield path, place
    if place.named:
        yield from places(place.item(), (*path, "*"))
    for model in (place.item() if place.listed else place).models():
        for word, inner in keys_of(model).items():
            yield from places(inner, (*path, word))


def dotted(path: Path) -> str:
    """`limits.per_client.match`, `alerts.route.P1[0]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _of(model: type[BaseModel], name: str, field: FieldInfo) -> Place:
    inner = _place(field.annotation)
    return Place(inner.kind, (*inner.notes, *field.metadata), field, (model, name))


def _place(annotation: Any) -> Place:
    if get_origin(annotation) is Annotated:
        kind, *notes = get_args(annotation)
        inner = _place(kind)
        return Place(inner.kind, (*inner.notes, *notes))
    if get_origin(annotation) in (Union, UnionType):
        rest = [kind for kind in get_args(annotation) if kind is not NoneType]
        if len(rest) == 1:
            return _place(rest[0])
    return Place(annotation)


def _kinds(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _kinds(_place(one).kind)
    else:
        yield kind


def _words(kind: Any) -> Iterator[str]:
    for one in _kinds(kind):
        if get_origin(one) is Literal:
            yield from (str(word) for word in get_args(one))
        elif isinstance(one, type) and issubclass(one, Enum):
            yield from (str(member.value) for member in one)
