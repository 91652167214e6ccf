"""The layers above the file: secrets directory, `.env`, environment; the only door to pydantic-settings."""

# pydantic-settings reads the variables. Where each one belongs is decided here, from the format and the tree:
# its own placing ignores what it does not know, and lets a misspelled name create a second limit. Its YAML
# source is not used either: it reads YAML 1.1, and would see another file than `yaml_tree` does.

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from pathlib import Path as File

from mahavishnu.errors import Finding, Level, Path, SpecError
from mahavishnu.ground import codes
from mahavishnu.ground.variables import RESERVED, unheeded
from mahavishnu.ground.words import nearest
from mahavishnu.loading.nodes import Entry, Mapping, Mark, Node, Scalar, Sequence, entries_of, merge
from mahavishnu.loading.plain_scalars import resolve
from mahavishnu.loading.secrecy import SECRET_FILE
from mahavishnu.loading.shape import ROOT, Place, dotted, keys_of
from mahavishnu.settings import Settings

PREFIX = "MAHAVISHNU_"
_OVERRIDE = "override "
SECRETS = File("/run/secrets")
Found = Dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Variable:
    """One `MAHAVISHNU_…` setting from outside the file; `origin` says where it was found."""

    name: str
    text: str
    origin: str


def variables(folder: File, secrets: File | None = None) -> tuple[Variable, ...]:
    """Every variable of the secrets directory, of `.env` and of the environment, the strongest last.

    Raises SpecError when one of the places cannot be read.
    """
    readers = {
        SECRET_FILE: lambda: _secrets(secrets or SECRETS),
        ".env variable": lambda: _dotenv(folder / ".env"),
        "environment variable": _environment,
    }
    found: list[Variable] = []
    for kind, reader in readers.items():
        try:
            found += _ours(kind, reader())
        except (OSError, UnicodeError) as fault:
            what = f"a {kind} cannot be read: {type(fault).__name__}"
            help = "its file must be readable, and UTF-8 text"
            raise SpecError((Finding(Level.ERROR, codes.VARIABLE.id, what, None, help),)) from None
    return tuple(found)


def _secrets(folder: File) -> Found:
    """What the directory holds for us; other people's secrets, which may be of any kind, are not opened."""
    from pydantic_settings import BaseSettings, NestedSecretsSettingsSource, SecretsSettingsSource

    class Ours(NestedSecretsSettingsSource):
        @classmethod
        def load_secrets(cls, path: File) -> dict[str, str]:
            ours = (
                file for file in path.iterdir() if file.name.upper().startswith(PREFIX) and file.is_file()
            )
            return {file.name: file.read_text(encoding="utf-8").strip() for file in ours}

    if not folder.is_dir():
        return {}
    return Ours(SecretsSettingsSource(BaseSettings), secrets_dir=folder, secrets_dir_max_size=2**62).env_vars


def _dotenv(file: File) -> Found:
    from pydantic_settings import BaseSettings, DotEnvSettingsSource

    return DotEnvSettingsSource(BaseSettings, env_file=file, env_file_encoding="utf-8").env_vars


def _environment() -> Found:
    from pydantic_settings import BaseSettings, EnvSettingsSource

    return EnvSettingsSource(BaseSettings).env_vars


def given(overrides: Dict[str, str]) -> tuple[Variable, ...]:
    """Explicit overrides, `limits.login.rate` -> text, as the strongest of variables."""
    return tuple(
        Variable(variable(tuple(key.split("."))), text, f"{_OVERRIDE}{key}")
        for key, text in overrides.items()
    )


def overridden(tree: Mapping, layers: tuple[Variable, ...]) -> tuple[Mapping, tuple[Finding, ...]]:
    """The tree with every variable put in its place; a warning for each that has none."""
    findings: list[Finding] = []
    for one in layers:
        placed = _placed(one, tree)
        if placed is None:
            findings.append(_unknown(one, tree))
        else:
            merged = merge(tree, placed)
            tree = merged if isinstance(merged, Mapping) else tree
    return tree, tuple(findings)


def variable(path: Path) -> str:
    """The name of the variable that sets a path."""
    return PREFIX + "__".join(str(step) for step in path).upper()


def _ours(kind: str, found: Found) -> Iterator[Variable]:
    for key, text in sorted(found.items()):
        name = key.upper()
        if text is not None and name.startswith(PREFIX) and (name not in RESERVED or unheeded(name, text)):
            yield Variable(name, text, f"{kind} {name}")


def _placed(one: Variable, tree: Mapping) -> Node | None:
    """The variable as a patch of the tree, or None where it belongs nowhere."""
    known = {variable(path): (path, place) for path, place in _settable(tree)}
    if one.name not in known:
        return None
    path, place = known[one.name]
    mark = Mark(0, 0, 0, origin=one.origin)
    node: Node = _value(one.text, place, mark)
    for step in reversed(path):
        node = Mapping(mark, {str(step): Entry(mark, node)})
    return node


def _value(text: str, place: Place, mark: Mark) -> Node:
    if place.listed:
        parts = [
            part.strip().strip("\"'") for part in text.strip().removeprefix("[").removesuffix("]").split(",")
        ]
        return Sequence(mark, tuple(_value(part, place.item(), mark) for part in parts if part))
    if int in place.types or bool in place.types:
        try:
            return Scalar(mark, resolve(text.strip()), text)
        except ValueError:
            return Scalar(mark, text, text)
    return Scalar(mark, text, text)


def _settable(node: Node | None, place: Place = ROOT, path: Path = ()) -> Iterator[tuple[Path, Place]]:
    """Every path that a variable may set: keys of the format, below names and policies that are there."""
    entries = entries_of(node)
    if path == ("environments",):
        return
    if place.named:
        for name in entries:
            yield from _settable(entries[name].node, place.item(), (*path, name))
    elif model := place.model or place.chosen(entries):
        for word, below in keys_of(model).items():
            if word in entries or not below.models() or _given(below):
                yield from _settable(entries[word].node if word in entries else None, below, (*path, word))
    elif not place.choice:
        yield path, place


def _given(place: Place) -> bool:
    """Whether a section is there, with its defaults, when it is not written."""
    return place.field is not None and isinstance(place.field.default, Settings)


def _unknown(one: Variable, tree: Mapping) -> Finding:
    paths = [path for path, _ in _settable(tree)]
    what = f"{one.origin} matches no setting"
    if one.origin.startswith(_OVERRIDE):
        near = nearest(one.origin.removeprefix(_OVERRIDE), [*map(dotted, paths)])
        help = f"did you mean `{near}`?" if near else "no key of the spec has this name"
    elif one.name in RESERVED:
        what = f"{one.origin} is not heeded: it is read from the environment alone"
        help = f"set {one.name} where the process is started, in capitals"
    else:
        near = nearest(one.name, [*map(variable, paths)])
        help = f"did you mean {near}?" if near else "no key of the spec has this name; remove the variable"
    return Finding(Level.WARNING, codes.VARIABLE.id, what, None, help)
