"""What is wrong with the shape of a tree, in the words of the format; pydantic judges, this translates."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any, cast

from annotated_types import Ge, Gt, Le
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mahavishnu import codes
from mahavishnu.codes import Code
from mahavishnu.errors import Finding, Level, Path, Problem
from mahavishnu.loading import yaml_tree
from mahavishnu.loading.hiding import SENSITIVE, covered, without_logins, without_tokens, without_values
from mahavishnu.loading.shape import ROOT, Place, dotted, keys_of, places
from mahavishnu.loading.yaml_tree import (
    Mapping,
    Mark,
    Node,
    Scalar,
    Sequence,
    at,
    entries_of,
    find,
    scalars,
    short,
)
from mahavishnu.spec import Spec
from mahavishnu.units import DAY, Duration
from mahavishnu.words import listing, meant, nearest, unaccented

REFERENCE = re.compile(r"\$\{([^}]*)\}")
SECRET_FILE = "secret file"  # noqa: S105  the kind of a layer
_LONG = re.compile("`([^`]{80,})`")
_NAMED = re.compile(r"[A-Z][A-Z0-9_]*|[A-Za-z]+(_[A-Za-z0-9]+)*")
_NO = frozenset({"no", "off", "n", "0", "false"})
_PATTERN = "string_pattern_mismatch"
_MERGE = "<<"
_UNMERGED = "write the keys out, or let an alias stand for the whole value, like `b: *a`"
_INCOMPLETE = frozenset({codes.ONE_OF.id, codes.MISSING.id})


def judge(tree: Mapping) -> list[Problem]:
    """Every fault of the shape of a merged tree, one for each mistake."""
    found = [*_empty(tree), *_merge_keys(tree)]
    said = {problem.path for problem in found}
    unmerged = {path[:-1] for path in said if path[-1:] == (_MERGE,)}
    known = _Known(found)
    for problem in (*_errors(tree), *_references(tree)):
        if problem.path in unmerged and problem.code in _INCOMPLETE:
            continue  # of what `<<` would have brought
        if not _below(said, problem.path) and not known.has(problem):
            known.add(problem)
            found.append(problem)
    return found


class _Known:
    """Faults that have been said: what only repeats one of them, or lies below a value wrong as a whole, is not."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._said = {False: set[tuple[Path, str]](), True: set[tuple[Path, str]]()}
        self._whole: set[Path] = set()
        for problem in problems:
            self.add(problem)

    def add(self, problem: Problem) -> None:
        self._said[problem.on_key].add((problem.path, problem.what))
        if not problem.on_key:
            self._whole.add(problem.path)

    def has(self, problem: Problem) -> bool:
        said = problem.path, problem.what
        if problem.on_key:
            return said in self._said[True] or said in self._said[False]
        return said in self._said[True] or _below(self._whole, problem.path)


def _below(paths: Collection[Path], path: Path) -> bool:
    """Whether it is one of these paths, or below one."""
    return any(path[:length] in paths for length in range(len(path) + 1))


def locate(problem: Problem, tree: Node, lines: tuple[str, ...], file: str) -> Finding:
    """The finding that a person reads: at its place, or with the name of the variable it comes from."""
    mark = find(tree, problem.path, problem.on_key)
    place = yaml_tree.where(file, mark, lines)
    what, help = problem.what, problem.help
    if mark.origin.startswith(SECRET_FILE):
        what, help = f"the value does not fit `{dotted(problem.path)}`", ""
    if place is None and mark.origin:
        what = f"{mark.origin}: {what}"
    return Finding(problem.severity, problem.code, what, place, help)


def masked(lines: Many[str], tree: Node | None) -> tuple[str, ...]:
    """The lines of the file with every secret that is written out, or might be one, hidden."""
    spans = defaultdict[int, list[tuple[int, int]]](list)
    for path, scalar in scalars(tree) if tree else ():
        if isinstance(scalar.value, str) and _secret(scalar, path, tree):
            for number, start, end in _spans(scalar.mark):
                spans[number].append((start, end))
    shown = [covered(line, spans[number]) for number, line in enumerate(lines, 1)]
    # Of a file that cannot be read nobody knows what stands where.
    guess = without_tokens if tree is None else str
    return tuple(guess(without_logins(without_values(line))) for line in shown)


def place_at(path: Path, tree: Node, place: Place = ROOT) -> Place | None:
    """What the format says of a path of this tree; the tree says which of several policies is meant."""
    *_, last = (place, *_along(path, tree, place))
    return last


def _along(path: Path, tree: Node, place: Place) -> Iterator[Place | None]:
    """What the format says of each step of a path."""
    if path[:1] == ("environments",) and len(path) > 2:
        path = path[2:]
    here: Place | None = place
    node: Node | None = tree
    for step in path:
        here = here.below(step, entries_of(node)) if here else None
        node = at(node, (step,)) if node else None
        yield here


def value(scalar: Scalar, path: Path, tree: Node) -> str:
    """The value for a sentence; nothing of it when it might be a secret."""
    if _secret(scalar, path, tree) or scalar.mark.origin.startswith(SECRET_FILE):
        return "the value"
    text = without_logins(short(scalar.text)).replace("\n", "\\n")
    quoted = isinstance(scalar.value, str) and not isinstance(_as_plain(scalar.text), str)
    return f'`"{text}"`' if quoted or not text else f"`{text}`"


def _as_plain(text: str) -> object:
    """What the text would be without quotes."""
    try:
        return yaml_tree.resolve(text)
    except ValueError:
        return 0


# --- what the tree itself shows ---------------------------------------------------------------------


def _empty(tree: Mapping) -> Iterator[Problem]:
    for path, scalar in scalars(tree):
        removes = path[:1] == ("environments",) and len(path) > 2
        if scalar.value is None and not removes:
            what = f"`{dotted(path)}` is empty"
            help = yaml_tree.HIDING if scalar.hidden else _filled(place_at(path, tree))
            yield _problem(codes.KIND, path, what, help)


def _merge_keys(node: Node, tree: Mapping | None = None, path: Path = ()) -> Iterator[Problem]:
    """Merge keys of YAML 1.1 in mappings of the format."""
    tree = node if tree is None and isinstance(node, Mapping) else tree
    for key, entry in entries_of(node).items():
        here = (*path, key)
        owner = place_at(path, tree) if key == _MERGE and tree is not None else None
        if owner is not None and (owner.named or owner.models()):
            where = f"`{dotted(path)}`" if path else "the spec"
            what = f"`{_MERGE}` in {where} merges nothing: a spec has no merge keys"
            yield _problem(codes.UNKNOWN_KEY, here, what, _UNMERGED, on_key=True)
        yield from _merge_keys(entry.node, tree, here)


def _filled(place: Place | None) -> str:
    if (
        place
        and place.model
        and not any(inner.field and inner.field.is_required() for inner in keys_of(place.model).values())
    ):
        return "write `{}` for its defaults, or remove the key"
    return "write a value, or remove the key"


def _declared(tree: Node) -> list[str]:
    listed = at(tree, ("secrets",))
    if not isinstance(listed, Sequence):
        return []
    return [item.text for item in listed.items if isinstance(item, Scalar)]


def _references(tree: Mapping) -> Iterator[Problem]:
    """Every `${…}` must be a declared secret, at a place that takes one."""
    declared = _declared(tree)
    for path, scalar in scalars(tree):
        if path[:1] == ("environments",) or not isinstance(scalar.value, str):
            continue
        for name in REFERENCE.findall(scalar.value):
            place = place_at(path, tree)
            if name not in declared:
                what = f"`{dotted(path)}` asks for the secret `{short(name)}`, which is not declared"
                yield _problem(codes.UNDECLARED, path, what, _declare(name, declared))
            elif place and not (place.holds_secret or (place.listed and place.item().holds_secret)):
                what = f"`{dotted(path)}` takes no secret; `${{{name}}}` would stay as it is"
                yield _problem(
                    codes.NOT_REPLACED, path, what, "write the value itself, where it is no secret"
                )


def _declare(name: str, declared: list[str]) -> str:
    near = nearest(name, declared)
    return f"did you mean `${{{near}}}`?" if near else f"add `{short(name)}` to `secrets`"


# --- what pydantic finds ----------------------------------------------------------------------------


def _errors(tree: Mapping) -> Iterator[Problem]:
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
            key: yaml_tree.plain(entry.node) if key == "environments" else _filled_only(entry.node)
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
        return _problem(codes.LATER, error.path, f"`{key}` in {owner} {_LATER}", _UNTIL, on_key=True)
    words = list(keys_of(model)) if model else []
    help = meant(key, words) if nearest(key, words) else _elsewhere(key) or meant(key, words)
    return _problem(
        codes.UNKNOWN_KEY, error.path, f"unknown key `{short(key)}` in {owner}", help, on_key=True
    )


_UNTIL = "remove it until a version carries it out"
_LATER = "is part of the format, but this version does not carry it out"


def _elsewhere(key: str) -> str:
    """Where a key belongs that is known in another place only."""
    homes = {path[:-1] for path, _ in places() if path and path[-1] == key}
    return (
        f"`{key}` belongs under `{dotted(homes.pop()).replace('*', '<name>')}`"
        if len(homes) == 1 and () not in homes
        else ""
    )


def _later(error: Error) -> Problem:
    said = f"`{error.about['word']}` in `{dotted(error.path)}` {_LATER}"
    return _problem(codes.LATER, error.path, said, _UNTIL)


def _missing(error: Error) -> Problem:
    if not error.path and error.missing == "mahavishnu":
        what = "the line `mahavishnu: 1` is missing, which marks the file and its format"
        return _problem(codes.NOT_A_SPEC, (), what, "make it the first line", on_key=True)
    place = error.place.below(error.missing)
    meaning = place.meaning if place else ""
    return _problem(
        codes.MISSING, error.path, f"{error.here} lacks `{error.missing}`", _lower(meaning), on_key=True
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
    return _problem(codes.QUANTITY, error.path, what, help)


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
    return _problem(codes.CONTRADICTION, error.path, what, help, on_key=whole)


def _one_of(error: Error) -> Problem:
    words = str(error.about["words"]).split(" | ")
    if not isinstance(error.node, Mapping):
        return _wrong_kind(error)
    said = [key for key in error.node.entries if key in words]
    if said:
        what = f"{error.here} is {' and '.join(f'`{word}`' for word in said)}; it can be only one of them"
        return _problem(codes.ONE_OF, (*error.path, said[1]), what, "write two entries", on_key=True)
    near = {key: nearest(key, words) for key in error.node.entries if nearest(key, words)}
    help = next((f"did you mean `{word}` where it says `{key}`?" for key, word in near.items()), "")
    path = (*error.path, next(iter(near))) if near else error.path
    what = f"{error.here} needs exactly one of {listing(words)}"
    return _problem(codes.ONE_OF, path, what, help or "add the one you mean", on_key=True)


def _choice(error: Error) -> Problem:
    place = error.place.item() if error.place.listed else error.place
    words = place.words
    if error.on_key:
        words = tuple(re.findall(r"'([^']*)'", str(error.about.get("expected", ""))))
        what = f"`{short(str(error.path[-1]))}` is no key of `{dotted(error.parent)}`"
        return _problem(codes.CHOICE, error.path, what, meant(error.path[-1], words), on_key=True)
    if not isinstance(error.node, Scalar):
        return _wrong_kind(error)
    if error.path == ("mahavishnu",):
        what = f"format {error.shown} is unknown; this version reads format 1"
        return _problem(codes.CHOICE, error.path, what, "write `mahavishnu: 1`")
    what = f"{error.shown} is not a value of `{dotted(error.path)}`"
    help = meant(error.node.text, words)
    if int in place.types and not nearest(error.node.text, words):
        help = f"write a whole number, or {listing(words)}"
    return _problem(codes.CHOICE, error.path, what, help)


def _wrong_kind(error: Error) -> Problem:
    wanted, help = _wanted(error)
    return _problem(codes.KIND, error.path, f"{error.here} takes {wanted}, not {error.shown}", help)


def _wanted(error: Error) -> tuple[str, str]:
    place, node = error.place, error.node
    written = isinstance(node, Scalar) and error.shown.startswith("`")
    if place.listed:
        return "a list", f"write `[{short(node.text)}]`" if isinstance(
            node, Scalar
        ) and written else "write `[a, b]`"
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
    return "text", f'put it in quotes: `"{short(node.text)}"`' if isinstance(node, Scalar) and written else ""


def _whole_number(place: Place, node: Node) -> int:
    """The one that the value begins with, if it may stand here; else the default, or the least."""
    least, most = _bounds(place)
    said = re.match(r"[0-9]{1,10}", node.text) if isinstance(node, Scalar) else None
    if said and (least or 0) <= int(said[0]) <= (most or sys.maxsize):
        return int(said[0])
    default: object = place.field.default if place.field else None
    return default if type(default) is int else least or 1


def _range(error: Error) -> Problem:
    least, most = _bounds(error.place)
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = " and ".join(f"{text} {error.about[key]}" for key, text in words.items() if key in error.about)
    takes = f"{least} to {most}" if least is not None and most is not None else said
    what = f"{error.shown} is out of range: `{dotted(error.path)}` takes {takes}"
    return _problem(codes.RANGE, error.path, what, f"write {_nearest_bound(error.about)}")


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
        return _problem(codes.NAME, error.path, what, "", on_key=True)
    return _problem(codes.RANGE, error.path, f"{error.here} takes {bound}", "")


def _form(error: Error) -> Problem:
    pattern = str(error.about.get("pattern", ""))
    if error.place.secret and not error.on_key:
        what = f"`{dotted(error.path)}` takes the name of a secret, never the secret itself"
        return _problem(codes.WRITTEN_SECRET, error.path, what, _as_secret(error))
    word = str(error.path[-1]) if error.on_key else error.node.text if isinstance(error.node, Scalar) else ""
    if pattern == _NAME_PATTERN:
        what = f"`{short(word)}` is not a name: lowercase words joined by `_`"
        return _problem(codes.NAME, error.path, what, _as_name(word), on_key=error.on_key)
    example = _example(error.place)
    help = f"{_lower(error.place.meaning)}{example}" if error.place.meaning else example.removeprefix(", ")
    return _problem(codes.FORM, error.path, f"{error.shown} does not fit `{dotted(error.path)}`", help)


_NAME_PATTERN = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"


def _example(place: Place) -> str:
    return f", like {listing(place.examples)}" if place.examples and " like " not in place.meaning else ""


def _as_secret(error: Error) -> str:
    name = "_".join(str(step) for step in error.path[-2:]).upper()
    if isinstance(error.node, Scalar) and (said := error.node.text.strip("${}")) in _declared(error.tree):
        name = said  # of any other word nobody knows whether it is a name
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
    return _problem(codes.FORM, error.path, f"{error.shown} is not a network", help)


def unforeseen(error: Error) -> Problem:
    """What is said of a kind of error that has no translation; the proofs see to it that there is none."""
    return _problem(
        codes.FORM, error.path, f"{error.shown} does not fit {error.here}", _lower(error.place.meaning)
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


def _problem(code: Code, path: Path, what: str, help: str, *, on_key: bool = False) -> Problem:
    return Problem(code.id, path, what, help, Level.ERROR, on_key)


# --- hiding ----------------------------------------------------------------------------------------


def _secret(scalar: Scalar, path: Path, tree: Node | None) -> bool:
    """Whether a value may be a secret: by its key, by what the format takes there, nearly there, or just below."""
    if isinstance(scalar.value, str) and REFERENCE.fullmatch(scalar.value):
        return False
    if path[:1] == ("secrets",):
        return not (isinstance(path[-1], int) and len(path) == 2 and _NAMED.fullmatch(scalar.text))
    if tree is None or _sensitive(path):
        return True
    along = [ROOT, *_along(path, tree, ROOT)]
    if any(place is not None and place.secret for place in along) or _holds(along[-1]):
        return True
    if along[-1] is not None:
        return False
    if any(SENSITIVE.search(step) for step in path if isinstance(step, str)):
        return True
    known = zip(path[len(path) + 1 - len(along) :], along[:-1], along[1:], strict=True)
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
