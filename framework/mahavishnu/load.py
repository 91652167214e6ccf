"""A file, and the layers above it -> a Spec; or every fault of it, each with its place in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import NoReturn

from mahavishnu import checks
from mahavishnu.errors import Finding, Level, Path, Problem, SpecError, Where
from mahavishnu.ground import codes, variables
from mahavishnu.ground.codes import Code
from mahavishnu.ground.short import short
from mahavishnu.ground.words import meant
from mahavishnu.loading import faults, nodes, secrecy, yaml_tree
from mahavishnu.loading.guards import LARGEST
from mahavishnu.loading.nodes import Mapping, Mark, Node, Scalar
from mahavishnu.loading.placing import place_at
from mahavishnu.loading.shape import dotted, keys_of
from mahavishnu.spec import Spec

NAME = "mahavishnu.yaml"
IN_A_COMMAND = "name one with --spec, or let `mahavishnu init` write it"
"""What helps who has no spec and runs one of our commands."""
_IN_A_PROGRAM = f"set MAHAVISHNU_SPEC to its path, or start in the folder that has {NAME}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A spec that holds, and where each of its values was said.

    `findings` are warnings only. `declared` is the spec by the file and its environment alone: artifacts and
    the hash rest on it. `spec` has the variables of this machine on top, when they were asked for.
    """

    spec: Spec
    declared: Spec
    findings: tuple[Finding, ...]
    path: File
    text: str
    tree: Mapping
    file: str
    lines: tuple[str, ...] = field(repr=False)

    @property
    def origins(self) -> dict[Path, str]:
        """For every value that was said: its file and line, or its variable. The rest is default."""
        return {path: origin(scalar.mark, self.file) for path, scalar in nodes.scalars(self.tree)}

    @property
    def overridden(self) -> dict[str, str]:
        """The keys whose values this machine has changed, and through which variable."""
        changed = ((path, scalar.mark) for path, scalar in nodes.scalars(self.tree))
        return {dotted(path): mark.origin for path, mark in changed if mark.origin}

    def where(self, place: str) -> str:
        """The file and line of a place like `dependencies.stripe.breaker`, or of the nearest one around it."""
        path: Path = tuple(place.split("."))
        return origin(nodes.find(self.tree, path, on_key=True), self.file)

    def locate(self, problem: Problem) -> Finding:
        """A problem of the spec as a finding at its place in the file."""
        return faults.locate(problem, self.tree, self.lines, self.file)

    def crossed(self, app: checks.App | None = None) -> tuple[Finding, ...]:
        """What the cross-checks find, in the order of the file; where somebody looked at the app, of it too."""
        return _ordered(self.locate(problem) for problem in checks.run(checks.Facts(self.spec, app)))


def load(
    path: File, environment: str | None = None, runtime: bool = False, overrides: Dict[str, str] | None = None
) -> Loaded:
    """Read a spec; with `runtime` also what this machine says. Raises SpecError with every finding."""
    source = _Source(path)
    worlds = _worlds(source.tree, environment)
    chosen = worlds.get(environment, source.tree)
    findings = [*source.reading.findings, *_environment_faults(source, environment), *_judged(source, worlds)]
    final, unplaced = _layered(chosen, path.parent, runtime, overrides or {})
    if final is not chosen:
        findings += source.judged(final)
    if any(finding.severity is Level.ERROR for finding in findings):
        raise SpecError(_ordered(findings))
    declared = _spec(chosen, environment)
    spec = declared if final is chosen else _spec(final, environment)
    warnings = (*_ordered(findings), *unplaced, *(variables.doubts() if runtime else ()))
    return Loaded(spec, declared, warnings, path, source.text, final, source.file, source.lines)


def _spec(tree: Mapping, environment: str | None) -> Spec:
    made = Spec.model_validate(nodes.plain(tree))
    return made if environment is None else made.model_copy(update={"environment": environment})


def accept(path: File, environment: str | None = None, runtime: bool = False) -> Loaded:
    """Like `load`, and refuses what the cross-checks call an error.

    Their warnings join the findings, but not at run time: what a start should say concerns this machine.
    """
    loaded = load(path, environment, runtime)
    findings = loaded.crossed()
    errors = tuple(finding for finding in findings if finding.severity is Level.ERROR)
    if errors:
        raise SpecError(errors if runtime else findings)
    return loaded if runtime else replace(loaded, findings=_ordered([*loaded.findings, *findings]))


def find_spec(start: File | None = None, *, help: str = _IN_A_PROGRAM) -> File:
    """The spec in force: MAHAVISHNU_SPEC, else mahavishnu.yaml from `start` upwards; or SpecError, with this help."""
    if start is None and (named := variables.spec_file()):
        return File(named)
    here = (start or File.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / NAME).is_file():
            return folder / NAME
    what = f"there is no {NAME} in this folder or above it"
    raise SpecError((_error(codes.UNREADABLE, what, help),))


def origin(mark: Mark, file: str) -> str:
    """Where a value comes from, for a person."""
    place = f"{file}:{mark.line}" if mark.line else ""
    return f"{place} ({mark.origin})" if place and mark.origin else place or mark.origin


def environments(tree: Mapping) -> dict[str, Mapping]:
    """The patches under `environments` that are mappings, by name."""
    listed = nodes.at(tree, ("environments",))
    entries = nodes.entries_of(listed).items()
    return {name: entry.node for name, entry in entries if isinstance(entry.node, Mapping)}


class _Source:
    """A file that has been read: its tree, its lines with secrets hidden, and what is wrong with it."""

    def __init__(self, path: File) -> None:
        self.file = shown(path)
        data = _bytes(path, self.file)
        self.text = data.decode("utf-8-sig", "replace")
        reading = yaml_tree.read(data, self.file)
        self.lines = secrecy.masked(reading.lines, reading.tree)
        self.reading = replace(reading, findings=tuple(self._hidden(one) for one in reading.findings))
        self.tree = self._root(reading.tree)

    def judged(self, tree: Mapping) -> list[Finding]:
        """What is wrong with the shape of a merged tree, but for values that could not even be read."""
        unread = {(one.where.line, one.where.column) for one in self.reading.findings if one.where}
        found = (faults.locate(problem, tree, self.lines, self.file) for problem in faults.judge(tree))
        return [one for one in found if one.where is None or (one.where.line, one.where.column) not in unread]

    def located(self, problem: Problem) -> Finding:
        """A problem of the file itself, before anything is merged."""
        return faults.locate(problem, self.tree, self.lines, self.file)

    def _hidden(self, finding: Finding) -> Finding:
        where = finding.where
        text = self.lines[where.line - 1] if where and where.line <= len(self.lines) else ""
        return replace(finding, where=replace(where, text=text)) if where else finding

    def _root(self, raw: Node | None) -> Mapping:
        if raw is None or (isinstance(raw, Scalar) and raw.value is None):
            self._stop(codes.EMPTY, "the file is empty", codes.EMPTY.help)
        if not isinstance(raw, Mapping):
            kind = "a single value" if isinstance(raw, Scalar) else "a list"
            self._stop(
                codes.NOT_A_SPEC, f"the file holds {kind}, not the sections of a spec", codes.NOT_A_SPEC.help
            )
        if not {*raw.entries} & {*keys_of(Spec)}:
            what = "the line `mahavishnu: 1` is missing, and no key is a word of the format"
            self._stop(codes.NOT_A_SPEC, what, "is this the right file?")
        return raw

    def _stop(self, code: Code, what: str, help: str) -> NoReturn:
        first = self.lines[0] if self.lines else ""
        fault = Finding(Level.ERROR, code.id, what, Where(self.file, 1, 1, 1, first), help)
        raise SpecError(_ordered(self.reading.findings) or (fault,))


def _bytes(path: File, shown: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST + 1)
    except (OSError, ValueError) as fault:
        reason = (
            fault.strerror if isinstance(fault, OSError) else None
        ) or "its name is not one a file can have"
        what = f"{shown} cannot be read: {reason.lower()}"
        raise SpecError((_error(codes.UNREADABLE, what, codes.UNREADABLE.help),)) from None


def shown(path: File) -> str:
    """The path as a person in the working directory would write it."""
    try:
        return path.resolve().relative_to(File.cwd()).as_posix()
    except (ValueError, OSError):
        return path.as_posix()


def _worlds(tree: Mapping, environment: str | None) -> dict[str | None, Mapping]:
    """The merged trees that must hold: of the environment asked for, or else without any and with each."""
    patches = environments(tree)
    merged: dict[str | None, Mapping] = {name: _merged(tree, name, patch) for name, patch in patches.items()}
    if environment is None:
        return {None: tree, **merged}
    return {environment: merged[environment]} if environment in merged else {None: tree}


def _merged(tree: Mapping, name: str, patch: Mapping) -> Mapping:
    entries = {key: entry for key, entry in patch.entries.items() if key != "environments"}
    made = nodes.merge(tree, nodes.marked(Mapping(patch.mark, entries), f"environments.{name}"))
    return made if isinstance(made, Mapping) else tree


def _judged(source: _Source, worlds: Dict[str | None, Mapping]) -> Iterator[Finding]:
    """What is wrong in any world, each fault once; what is wrong in one environment only says which."""
    known: set[tuple[str, str, Where | None]] = set()
    for name, tree in worlds.items():
        for finding in source.judged(tree):
            key = (finding.code, finding.what, finding.where)
            if key not in known:
                yield replace(finding, what=f"{finding.what} (environment `{name}`)") if name else finding
            known.add(key)


def _environment_faults(source: _Source, environment: str | None) -> Iterator[Finding]:
    patches = environments(source.tree)
    if environment is not None and environment not in patches:
        what = f"environment `{short(environment)}` is not defined"
        yield _error(codes.ENVIRONMENT, what, meant(environment, [*patches]) or "add it under `environments`")
    for name, patch in patches.items():
        for problem in _idle(patch, source.tree, source.tree, ("environments", name)):
            yield source.located(problem)


def _known(path: Path, tree: Mapping) -> bool:
    """Whether a path of an environment ends in a word of the format: it may be removed unwritten."""
    above = place_at(path[:-1], tree)
    return place_at(path, tree) is not None and not (above and above.named)


def _idle(patch: Mapping, tree: Mapping, under: Node | None, path: Path) -> Iterator[Problem]:
    """Nulls of a patch that remove nothing, and a patch inside the patch."""
    for key, entry in patch.entries.items():
        below = nodes.at(under, (key,)) if under else None
        here = (*path, key)
        if key == "environments":
            what = "an environment holds no `environments` of its own"
            yield Problem(codes.UNKNOWN_KEY.id, here, what, "remove the key", Level.ERROR, on_key=True)
        elif isinstance(entry.node, Mapping):
            yield from _idle(entry.node, tree, below, here)
        elif (
            isinstance(entry.node, Scalar)
            and entry.node.value is None
            and below is None
            and not _known(here, tree)
        ):
            words = [*under.entries] if isinstance(under, Mapping) else []
            what = f"`{dotted(here)}: null` removes nothing"
            yield Problem(codes.REMOVES_NOTHING.id, here, what, meant(key, words), Level.ERROR, on_key=True)


def _layered(
    tree: Mapping, folder: File, runtime: bool, overrides: Dict[str, str]
) -> tuple[Mapping, tuple[Finding, ...]]:
    if not runtime and not overrides:
        return tree, ()
    from mahavishnu.loading import layers

    said = (*(layers.variables(folder) if runtime else ()), *layers.given(overrides))
    return layers.overridden(tree, said)


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Once each, in the order of the file; what has no place in it comes last."""
    unique = dict.fromkeys(findings)
    return tuple(
        sorted(unique, key=lambda one: (one.where.line, one.where.column) if one.where else (2**31, 0))
    )


def _error(code: Code, what: str, help: str) -> Finding:
    return Finding(Level.ERROR, code.id, what, None, help)
