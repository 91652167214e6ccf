"""What pydantic finds in a tree, in the words of the format: a sentence for each of its kinds of error."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from annotated_types import Ge, Gt, Le
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mahavishnu.errors import Path, Problem
from mahavishnu.ground import codes
from mahavishnu.ground.short import short
from mahavishnu.ground.words import listing, meant, nearest, unaccented
from mahavishnu.loading import advice, nodes
from mahavishnu.loading.nodes import Mapping, Node, Scalar, Sequence, at
from mahavishnu.loading.placing import place_at
from mahavishnu.loading.plain_scalars import in_yaml
from mahavishnu.loading.secrecy import value
from mahavishnu.loading.shape import ROOT, Place, dotted, keys_of, places
from mahavishnu.loading.tree_faults import declared_secrets
from mahavishnu.spec import Spec
from mahavishnu.units import DAY, Duration

_LONG = re.compile("`([^`]{80,})`")
_NO = frozenset({"no", "off", "n", "0", "false"})
_PATTERN = "string_pattern_mismatch"


def errors(tree: Mapping) -> Iterator[Problem]:
    """What the models refuse, one finding for each place."""
    try:
        Spec.model_validate(_filled_only(tree))
    except ValidationError as fault:
        groups: dict[tuple[Path, bool, str], list[Error]] = {}
        for details in fault.errors(include_url=False):
            error = Error(details, tree)
            if not error.repeats:
                groups.setdefault((error.path, error.on_key, error.missing), []).append(error)
        yield from (_problem_of(errors) for errors in groups.values())


def _filled_only(node: Node) -> Any:
    """The data without empty values, which are a finding of their own; `environments` keeps its nulls."""
    if isinstance(node, Mapping):
        entries = node.entries.items()
        return {
            key: nodes.plain(entry.node) if key == "environments" else _filled_only(entry.node)
            for key, entry in entries
            if not (isinstance(entry.node, Scalar) and entry.node.value is None)
        }
    return [_filled_only(item) for item in node.items] if isinstance(node, Sequence) else node.value


class Error:
    """One of pydantic's errors, brought back to the file: path, node and place."""

    def __init__(self, details: ErrorDetails, tree: Mapping) -> None:
        self.kind: str = details["type"]
        self.about: dict[str, Any] = details.get("ctx", {})
        self.said = details["msg"]
        self.tree = tree
        self.on_key = False
        self.missing = ""
        self.path: Path = ()
        self.place: Place = ROOT
        self.node: Node = tree
        self._walk(list(details["loc"]))

    def _walk(self, loc: list[str | int]) -> None:
        while loc:
            step = loc.pop(0)
            if self.kind == "missing" and not loc:
                self.missing = str(step)
            elif step == "[key]" and not loc:
                self.on_key = True
            elif isinstance(step, str) and step.startswith("~") and self.place.choice:
                self.place = replace(self.place, kind=self.place.choice[step[1:]], notes=())
            elif at(self.node, (step,)) is None:
                return
            else:
                self._down(step)

    def _down(self, step: str | int) -> None:
        below = self.place.below(step)
        self.path = (*self.path, step)
        self.on_key = self.kind == "extra_forbidden" and below is None
        self.node = at(self.node, (step,)) or self.node
        self.place = below or self.place

    @property
    def repeats(self) -> bool:
        """Whether it only follows from another finding: an empty value, or wrong items."""
        if self.kind == "too_short" and isinstance(self.node, Sequence):
            return len(self.node.items) > 0
        words = str(self.about.get("words", self.missing)).split(" | ")
        empty = (at(self.node, (word,)) for word in words) if self.kind in ("missing", "one_of") else ()
        return any(isinstance(node, Scalar) and node.value is None for node in empty)

    @property
    def parent(self) -> Path:
        return self.path[:-1]

    @property
    def shown(self) -> str:
        if isinstance(self.node, Scalar):
            return value(self.node, self.path, self.tree)
        return "a mapping" if isinstance(self.node, Mapping) else "a list"

    @property
    def here(self) -> str:
        """The path, for a sentence."""
        return f"`{dotted(self.path)}`" if self.path else "the spec"


def _problem_of(errors: list[Error]) -> Problem:
    """One finding for all that pydantic says of one place: what fits the kind of the value best."""
    number = isinstance(errors[0].node, Scalar) and type(errors[0].node.value) is int
    no_word = number or any(error.kind == "policy" for error in errors)
    ranked = sorted(
        errors, key=lambda error: (error.kind.endswith("_type"), error.kind == "literal_error" and no_word)
    )
    error = ranked[0]
    return _TRANSLATIONS.get(error.kind, unforeseen)(error)


def _unknown(error: Error) -> Problem:
    key = str(error.path[-1])
    model = error.place.model
    owner = f"`{dotted(error.parent)}`" if error.parent else "the spec"
    if model and key in model.later:
        return Problem(codes.LATER.id, error.path, f"`{key}` in {owner} {_LATER}", _UNTIL, on_key=True)
    words = list(keys_of(model)) if model else []
    help = meant(key, words) if nearest(key, words) else _elsewhere(key, error) or meant(key, words)
    return Problem(
        codes.UNKNOWN_KEY.id, error.path, f"unknown key `{short(key)}` in {owner}", help, on_key=True
    )


_UNTIL = "remove it until a version carries it out"
_LATER = "is part of the format, but this version does not carry it out"


def _elsewhere(key: str, error: Error) -> str:
    """Where a key belongs that is known in another place, and only in one where its value may stand."""
    node = error.node
    homes = {path[:-1] for path, place in places() if path and path[-1] == key and _takes(place, key, node)}
    kinds = _kinds_with(key, error)
    if kinds:
        return f"`{key}` goes with {listing(kinds)}"
    return (
        f"`{key}` belongs under `{dotted(homes.pop()).replace('*', '<name>')}`"
        if len(homes) == 1 and () not in homes
        else ""
    )


def _kinds_with(key: str, error: Error) -> list[str]:
    """The other kinds of entry that could stand in this place, and have this key."""
    owner = place_at(error.parent, error.tree)
    return [word for word, kind in (owner.choice.items() if owner else ()) if key in keys_of(kind)]


def _beside(error: Error) -> str:
    """The help where a key beside this one, whose name is nearly the same, takes what stands here."""
    if error.place.word is None:
        return ""
    key, keys = error.path[-1], keys_of(error.place.word[0])
    near = nearest(key, [word for word in keys if word != key])
    return f"did you mean `{near}`?" if near and _takes(keys[near], near, error.node) else ""


def _takes(place: Place, key: str, node: Node) -> bool:
    """Whether a value may stand below this key; what is wrong or lacks within it is told there."""
    if place.word is None:
        return False
    try:
        place.word[0].model_validate({key: _filled_only(node)})
    except ValidationError as fault:
        return not any(_of_itself(error, key, node) for error in fault.errors(include_url=False))
    return True


def _of_itself(error: ErrorDetails, key: str, node: Node) -> bool:
    """Whether this is an error of the whole value below the key: its kind, or its form."""
    first, *within = error["loc"] or ("",)
    return first == key and error["type"] != "missing" and (not within or at(node, (within[0],)) is None)


def _later(error: Error) -> Problem:
    said = f"`{error.about['word']}` in `{dotted(error.path)}` {_LATER}"
    return Problem(codes.LATER.id, error.path, said, _UNTIL)


def _missing(error: Error) -> Problem:
    if not error.path and error.missing == "mahavishnu":
        what = "the line `mahavishnu: 1` is missing, which marks the file and its format"
        return Problem(codes.NOT_A_SPEC.id, (), what, "make it the first line", on_key=True)
    place = error.place.below(error.missing)
    meaning = place.meaning if place else ""
    return Problem(
        codes.MISSING.id, error.path, f"{error.here} lacks `{error.missing}`", _lower(meaning), on_key=True
    )


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].removesuffix(".")


def _quantity(error: Error) -> Problem:
    what, help = _said(error)
    if _in_days(error.place):
        bare = isinstance(error.node, Scalar) and type(error.node.value) is int and error.node.value > 0
        said = error.shown.strip("`") if bare else r"\1"
        help = re.sub(
            r"its unit is missing: .*|write [^`]*`([0-9]+)s`$", f"write {Duration.form}, like `{said}d`", help
        )
    return Problem(codes.QUANTITY.id, error.path, what, help)


def _in_days(place: Place) -> bool:
    """Whether a time here is usually one of days."""
    usual = place.field.default if place.field else None
    if place.kind is Duration and place.examples:
        usual = Duration.parse(place.examples[0])
    return isinstance(usual, Duration) and usual >= DAY


def _said(error: Error) -> tuple[str, str]:
    """What the value's own type says of it, and its help; of a long value the beginning."""
    what, help = (_LONG.sub(_shortened, str(error.about[one])) for one in ("what", "help"))
    return what, help


def _shortened(quoted: re.Match[str]) -> str:
    return f"`{short(quoted[1])}`"


def _policy(error: Error) -> Problem:
    whole = isinstance(error.node, Mapping)
    what, help = _said(error)
    return Problem(codes.CONTRADICTION.id, error.path, what, help, on_key=whole)


def _one_of(error: Error) -> Problem:
    words = str(error.about["words"]).split(" | ")
    if not isinstance(error.node, Mapping):
        return _wrong_kind(error)
    said = [key for key in error.node.entries if key in words]
    if said:
        what = f"{error.here} is {' and '.join(f'`{word}`' for word in said)}; it can be only one of them"
        return Problem(codes.ONE_OF.id, (*error.path, said[1]), what, "write two entries", on_key=True)
    near = {key: nearest(key, words) for key in error.node.entries if nearest(key, words)}
    help = next((f"did you mean `{word}` where it says `{key}`?" for key, word in near.items()), "")
    path = (*error.path, next(iter(near))) if near else error.path
    what = f"{error.here} needs exactly one of {listing(words)}"
    return Problem(codes.ONE_OF.id, path, what, help or "add the one you mean", on_key=True)


def _choice(error: Error) -> Problem:
    place = error.place.item() if error.place.listed else error.place
    words = place.words
    if error.on_key:
        words = tuple(re.findall(r"'([^']*)'", str(error.about.get("expected", ""))))
        what = f"`{short(str(error.path[-1]))}` is no key of `{dotted(error.parent)}`"
        return Problem(codes.CHOICE.id, error.path, what, meant(error.path[-1], words), on_key=True)
    if not isinstance(error.node, Scalar):
        return _wrong_kind(error)
    if error.path == ("mahavishnu",):
        what = f"format {error.shown} is unknown; this version reads format 1"
        return Problem(codes.CHOICE.id, error.path, what, "write `1`")
    what = f"{error.shown} is not a value of `{dotted(error.path)}`"
    same = advice.same(error.node.text, words)
    help = f"write `{same}`" if same else meant(error.node.text, words)
    if int in place.types and not nearest(error.node.text, words):
        help = f"write a whole number, or {listing(words)}"
    return Problem(codes.CHOICE.id, error.path, what, help)


def _wrong_kind(error: Error) -> Problem:
    wanted, help = _wanted(error)
    return Problem(codes.KIND.id, error.path, f"{error.here} takes {wanted}, not {error.shown}", help)


def _wanted(error: Error) -> tuple[str, str]:
    place, node = error.place, error.node
    written = isinstance(node, Scalar) and error.shown.startswith("`")
    if place.listed:
        return "a list", advice.as_list(place, error.path, node if written else None)
    if place.model or place.choice or place.named:
        return "a mapping", "write `key: value` pairs below it, or inside `{}`"
    kind = place.kind if isinstance(place.kind, type) else str
    if kind is bool:
        no = isinstance(node, Scalar) and node.text.lower() in _NO
        return "`true` or `false`", f"write `{'false' if no else 'true'}`"
    if kind is int:
        return "a whole number", f"write a whole number, like `{_whole_number(place, node)}`"
    if place.words:
        return listing(place.words), f"write `{place.words[0]}`" if len(place.words) == 1 else ""
    if isinstance(node, Scalar):
        return "text", (written and advice.quoted(place, error.path, node.text)) or _shape(place)
    return "text", _beside(error)


def _whole_number(place: Place, node: Node) -> int:
    """The one that the value begins with, if it may stand here; else the default, or the least."""
    least, most = _bounds(place)
    text = node.text if isinstance(node, Scalar) else ""
    begins = re.match(r"[0-9]{1,10}", text)
    said = advice.whole(text)
    if said is None and begins:
        said = int(begins[0])
    if said is not None and (least or 0) <= said <= (most or sys.maxsize):
        return said
    default: object = place.field.default if place.field else None
    return default if type(default) is int else least or 1


def _range(error: Error) -> Problem:
    least, most = _bounds(error.place)
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = " and ".join(f"{text} {error.about[key]}" for key, text in words.items() if key in error.about)
    takes = f"{least} to {most}" if least is not None and most is not None else said
    what = f"{error.shown} is out of range: `{dotted(error.path)}` takes {takes}"
    return Problem(codes.RANGE.id, error.path, what, f"write {_nearest_bound(error.about)}")


def _nearest_bound(about: dict[str, Any]) -> str:
    """What may just stand there, where one bound is passed."""
    beyond = {"ge": 0, "gt": 1, "le": 0, "lt": -1}
    (bound,) = (int(about[key]) + step for key, step in beyond.items() if key in about)
    return f"`{bound}` or {'more' if about.keys() & {'ge', 'gt'} else 'less'}"


def _bounds(place: Place) -> tuple[int | None, int | None]:
    """The least and the largest whole number that may stand here."""
    least = [note.ge for note in place.notes if isinstance(note, Ge)] + [
        cast("int", note.gt) + 1 for note in place.notes if isinstance(note, Gt)
    ]
    most = [note.le for note in place.notes if isinstance(note, Le)]
    return (cast("int", least[0]) if least else None), (cast("int", most[0]) if most else None)


def _length(error: Error) -> Problem:
    least, most = error.about.get("min_length"), error.about.get("max_length")
    unit = "character" if error.kind.startswith("string") else "entry"
    bound = f"at most {most} {unit}s" if most else f"at least {'one' if least == 1 else least} {unit}"
    if error.on_key:
        what = f"the name `{short(str(error.path[-1]))}` is too long: names have {bound}"
        return Problem(codes.NAME.id, error.path, what, "", on_key=True)
    return Problem(codes.RANGE.id, error.path, f"{error.here} takes {bound}", "")


def _form(error: Error) -> Problem:
    pattern = str(error.about.get("pattern", ""))
    if error.place.secret and not error.on_key:
        what = f"`{dotted(error.path)}` takes the name of a secret, never the secret itself"
        return Problem(codes.WRITTEN_SECRET.id, error.path, what, _as_secret(error))
    word = str(error.path[-1]) if error.on_key else error.node.text if isinstance(error.node, Scalar) else ""
    if pattern == _NAME_PATTERN:
        what = f"`{short(word)}` is not a name: lowercase words joined by `_`"
        return Problem(codes.NAME.id, error.path, what, _as_name(word), on_key=error.on_key)
    upper = word.upper()
    if error.shown.startswith("`") and upper != word and advice.accepted(error.place, error.path, upper):
        help = f"write `{in_yaml(upper)}`"
    else:
        help = _shape(error.place)
    return Problem(codes.FORM.id, error.path, f"{error.shown} does not fit `{dotted(error.path)}`", help)


_NAME_PATTERN = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"


def _shape(place: Place) -> str:
    """What belongs there, and how it may look."""
    return f"{_lower(place.meaning)}{advice.like(place)}".removeprefix(", ")


def _as_secret(error: Error) -> str:
    said = error.node.text.strip("${}") if isinstance(error.node, Scalar) else ""
    # Of any other word nobody knows whether it is a name.
    known = said in declared_secrets(error.tree) and re.fullmatch(r"[A-Za-z]\w*", said)
    name = (said if known else "_".join(str(step) for step in error.path[-2:])).upper()
    return f'write `"${{{name}}}"` and list `{name}` in `secrets`'


def _as_name(word: str) -> str:
    """The nearest name in the right form."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", unaccented(word)).lower()
    name = re.sub(r"[^a-z0-9]+", "_", spaced).strip("_").lstrip("0123456789_")
    return f"write `{name[:40]}`" if name else "begin with a letter"


def _network(error: Error) -> Problem:
    node = error.node
    help = "write a network like `10.0.0.0/8`, or `unix`"
    if isinstance(node, Scalar) and re.fullmatch(r"([0-9]+[.]){3}[0-9]+/[0-9]{1,2}", node.text):
        help = "the address part may have no bits beyond the prefix, as in `10.0.0.0/8`"
    return Problem(codes.FORM.id, error.path, f"{error.shown} is not a network", help)


def unforeseen(error: Error) -> Problem:
    """What is said of a kind of error that has no translation; the proofs see to it that there is none."""
    return Problem(
        codes.FORM.id, error.path, f"{error.shown} does not fit {error.here}", _lower(error.place.meaning)
    )


_TRANSLATIONS: dict[str, Callable[[Error], Problem]] = {
    "extra_forbidden": _unknown,
    "later": _later,
    "missing": _missing,
    "quantity": _quantity,
    "policy": _policy,
    "one_of": _one_of,
    "literal_error": _choice,
    "enum": _choice,
    _PATTERN: _form,
    "ip_any_network": _network,
    "string_unicode": unforeseen,
    **dict.fromkeys(
        (
            "kind",
            "string_type",
            "int_type",
            "bool_type",
            "tuple_type",
            "list_type",
            "dict_type",
            "model_type",
        ),
        _wrong_kind,
    ),
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), _range),
    **dict.fromkeys(("too_short", "too_long", "string_too_short", "string_too_long"), _length),
}
"""Pydantic's kinds of error that the models can raise; a test finds any that is not here."""
