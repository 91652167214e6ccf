"""What `mahavishnu generate` does, whatever its options were read by: files from a spec, or what differs from them."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from mahavishnu import compile as compiler
from mahavishnu.artifact import Artifact
from mahavishnu.cli import _drifts, _editor, _ends, _output, _unchanged
from mahavishnu.cli._exit import FINDINGS, FINE
from mahavishnu.cli._summary import summary
from mahavishnu.cli._targets import OUT, Target, target, targets
from mahavishnu.compile import OverwriteError
from mahavishnu.contract import Contract, contract
from mahavishnu.errors import MahavishnuError, SpecError
from mahavishnu.files.lock import LOCK
from mahavishnu.load import NAME, Loaded, accept

_TEMPLATES = Path(".mahavishnu/templates")
_IGNORED = ".dockerignore"


class NoSuchFamily(MahavishnuError):
    """A spec asks for no files of that name."""


def generate(
    spec: Path | None = None,
    env: str | None = None,
    out: Path | None = None,
    *,
    check: bool = False,
    only: Iterable[str] = (),
    force: bool = False,
    stdout: bool = False,
) -> int:
    """Write what follows from a spec, compare it with what is there, or print it; returns the exit code."""
    meant = target(spec, out)
    asked = bool(_unchanged.ASKED.get())
    read = _unchanged.seen(_read(meant.spec)) if asked else []
    end, run = _generated(meant, env, check=check, only=only, force=force, stdout=stdout)
    if asked and not stdout and not end.told:
        _remember(run, read)
    return end.code


def generate_each(
    places: Iterable[Path], env: str | None, *, check: bool, only: Iterable[str], force: bool
) -> int:
    """The same for the specs at all of these places, whatever is wrong with one of them; the worst exit code."""
    worst = FINE
    for one in targets(places):
        try:
            code = _generated(one, env, check=check, only=only, force=force)[0].code
        except SpecError as error:
            code = _ends.refused(error)
        worst = max(worst, code)
    return worst


def _generated(
    meant: Target,
    env: str | None,
    *,
    check: bool,
    only: Iterable[str],
    force: bool,
    stdout: bool = False,
) -> tuple[Ended, Run]:
    began = time.monotonic()
    run = prepared(meant, env, only)
    _output.report(run.loaded.findings)
    if stdout:
        _output.as_file("".join(f"--- # {one.path}\n{one.text}" for one in run.artifacts))
        return Ended(FINE), run
    return (_check(run) if check else _write(run, force, began)), run


def _typed(*words: str, **options: str | Sequence[str] | None) -> str:
    """The command that generates, with those of the options that have a value, or several."""
    said: list[str] = []
    for name, value in options.items():
        for one in [value] if isinstance(value, str) else value or ():
            said += (f"--{name}", one)
    return shlex.join(["mahavishnu", "generate", *words, *said])


class Ended(NamedTuple):
    """How a run came out: its exit code, and whether anything was told that is to be told again."""

    code: int
    told: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be written where."""

    loaded: Loaded
    env: str | None
    made: Contract
    artifacts: tuple[Artifact, ...]
    out: Path
    only: frozenset[str] | None
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """What writes them: `mahavishnu generate` with what was said here."""
        return _typed(*self.words, env=self.env, target=sorted(self.only or ()))

    @property
    def apart(self) -> str:
        """What writes them into a folder that is this environment's alone, beside the one that is not."""
        name = (
            f"{OUT}-{self.env}" if self.env else f"{OUT}" if self.out.name != OUT.name else f"{OUT}-default"
        )
        return _typed(spec=self.loaded.file, env=self.env, out=str(self.out.parent / name))

    @property
    def environment(self) -> str:
        """What the folder is for; nothing for no environment."""
        return self.env or ""

    @property
    def families(self) -> dict[str, list[str]]:
        """The paths of each family of files; a family is a folder."""
        found: dict[str, list[str]] = {}
        for one in self.artifacts:
            found.setdefault(one.path.split("/")[0], []).append(one.path)
        return found


def prepared(meant: Target, env: str | None, only: Iterable[str] = ()) -> Run:
    """What a spec asks for, and where it goes; SpecError with every finding where it cannot be used, NoSuchFamily."""
    loaded, out = accept(meant.spec, env), meant.out
    home = loaded.path.parent
    file = None if loaded.path.name == NAME else loaded.path.name
    made = replace(contract(loaded.declared), env=env, file=file, ignored=_ignored(home / _IGNORED))
    made = replace(made, place=_way(home, out), home=_way(out, home))
    run = Run(loaded, env, made, files(loaded, made), out, None, meant.words)
    if not (chosen := frozenset(only)):
        return run
    if unknown := sorted(chosen - {*run.families}):
        raise NoSuchFamily(f"this spec asks for no `{unknown[0]}`; there is {', '.join(run.families)}")
    kept = tuple(one for one in run.artifacts if one.path.split("/")[0] in chosen)
    return replace(run, artifacts=kept, only=chosen)


def files(loaded: Loaded, made: Contract) -> tuple[Artifact, ...]:
    """Every file of a contract; CompileError where one asks for what nothing shows."""
    overrides = loaded.path.parent / _TEMPLATES
    return compiler.compile(made, overrides if overrides.is_dir() else None)


def _way(start: Path, end: Path) -> str:
    """One folder as seen from another."""
    return Path(os.path.relpath(end.resolve(), start.resolve())).as_posix()


def _ignored(file: Path) -> tuple[str, ...]:
    """The patterns in an ignore file; none where there is no such file."""
    text = file.read_text(encoding="utf-8-sig", errors="replace") if file.is_file() else ""
    lines = (line.strip() for line in text.split("\n"))
    return tuple(line for line in lines if line and not line.startswith("#"))


def _check(run: Run) -> Ended:
    drifts = compiler.drift(run.out, run.artifacts, run.made.hash, run.only, run.environment)
    _drifts.show(drifts, run.out)
    if drifts:
        print(_drifts.counted(drifts, run.command, run.apart))
        return Ended(FINDINGS, told=True)
    print(_unmoved(run))
    return Ended(FINE)


def _write(run: Run, force: bool, began: float) -> Ended:
    try:
        done = compiler.write(
            run.out, run.artifacts, run.made.hash, only=run.only, force=force, environment=run.environment
        )
    except OverwriteError as refusal:
        _drifts.tell("nothing was written", refusal.drifts, run.out, run.command, run.apart)
        return Ended(FINDINGS, told=True)
    print(summary(run, done, time.monotonic() - began))
    home = run.loaded.path.parent
    if _editor.refresh(home):
        print(f"{home / _editor.SCHEMA}: anew, for an earlier version wrote it")
    if done.told:
        _drifts.tell("", done.told, run.out, run.command)
    return Ended(FINE, told=bool(done.told))


def _read(spec: Path) -> Iterator[str]:
    """What a run reads: the spec, also one that would be found before it, templates of one's own, what is ignored."""
    home, here = spec.parent, Path.cwd()
    nearer = [folder / NAME for folder in (here, *here.parents) if folder.is_relative_to(home.resolve())]
    return map(
        str,
        (
            spec,
            *nearer,
            home / _IGNORED,
            home / _editor.SCHEMA,
            home / _TEMPLATES,
            *(home / _TEMPLATES).rglob("*"),
        ),
    )


def _remember(run: Run, read: Iterable[str]) -> None:
    """What makes the same words have the same answer: what was read, as it was then, and the files themselves."""
    written = [run.out / path for path in (*(one.path for one in run.artifacts), LOCK)]
    # Whoever puts a file of his own beside ours, or a link in the place of one, changes the answer, too.
    folders = {folder for path in written for folder in path.parents if folder.is_relative_to(run.out)}
    said = _unchanged.Said(_unmoved(run), _output.full(run.loaded.findings, _output.coloured(sys.stderr)))
    _unchanged.remember(said, [*read, *_unchanged.seen(map(str, (*written, *sorted(folders))))])


def _unmoved(run: Run) -> str:
    return f"{_output.count(len(run.artifacts), 'file')} in {run.out}, all as the spec says"
