"""`mahavishnu backup`: make, list, verify, drill, prune and restore backups."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mahavishnu.backup import by_hand, evidence, on_schedule, pruning, saving, verifying
from mahavishnu.backup import drill as drills
from mahavishnu.backup.capture import CaptureFailed
from mahavishnu.backup.job import SCHEDULED, TYPED, Failed, Job
from mahavishnu.backup.job import job as job_of
from mahavishnu.backup.restic import ResticFailed
from mahavishnu.backup.restored import NotRestored
from mahavishnu.cli import _told
from mahavishnu.cli._exit import CANNOT_RUN, FINDINGS, FINE, said
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.derived.history import promises
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground import variables
from mahavishnu.load import Loaded, accept
from mahavishnu.units import Duration

backup = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)
NameArgument = Annotated[str | None, typer.Argument(help="Which one; all of the spec when absent.")]
_FAILURES = (Failed, NotRestored, CaptureFailed, ResticFailed)
"""How a step ends that was begun; whatever else is wrong kept it from that."""
OneArgument = Annotated[str, typer.Argument(help="Which one.")]
WaitOption = Annotated[
    str,
    typer.Option(
        "--wait", metavar="DURATION", help="So long at the most, while another command works on the same."
    ),
]
_SCHEDULED, _TYPED = str(SCHEDULED), str(TYPED)


@backup.callback()
def stoppable(context: typer.Context) -> None:
    """Make, verify and restore backups."""
    context.with_resource(_ended_alike())


@contextmanager
def _ended_alike() -> Generator[None]:
    """SIGTERM ends a step as Ctrl-C does: restic is asked to stop, and removes its lock.

    The first process of a container would not even hear it, and be killed with restic in the end.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@backup.command("run")
def run(
    name: NameArgument = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    prune: Annotated[bool, typer.Option("--prune", help="Then remove what the retention lets go.")] = False,
    scheduled: Annotated[
        bool,
        typer.Option(
            "--on-schedule", help="Stay, and do everything when it is due: run, prune, verify, drill."
        ),
    ] = False,
    wait: WaitOption = _SCHEDULED,
) -> None:
    """Capture a source, and save it to its repositories.

    Exit code 0: all of it was saved; 1: it was not; 2: it could not begin. Where another command is
    at it, this one says so and waits.
    """
    if scheduled:
        loaded, words = _loaded(spec, env), _words(spec, env, str(_patience(wait)))
        on_schedule.forever(loaded, evidence.folder(loaded.path.resolve()), words, _told.teller())
        return

    def both(job: Job) -> None:
        saving.run(job)
        if prune:
            pruning.prune(job)

    _each(name, spec, env, both, wait)


@backup.command("list")
def list_(name: NameArgument = None, spec: SpecOption = None, env: EnvOption = None) -> None:
    """Show every snapshot, and what was last proved of each repository."""
    _each(name, spec, env, _told.listed, _TYPED)


@backup.command("plan")
def plan(name: NameArgument = None, spec: SpecOption = None, env: EnvOption = None) -> None:
    """Show which snapshots the retention keeps and why, and what `prune` would remove; nothing is removed."""
    for line in promises(_loaded(spec, env).spec):
        print(line, file=sys.stderr)
    _each(name, spec, env, _told.planned, _TYPED)


@backup.command("verify")
def verify(
    name: NameArgument = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Read all data now, not the next part of it.")
    ] = False,
    wait: WaitOption = _SCHEDULED,
) -> None:
    """Read the repositories back, a seventh in each run; all of it was read when it is called verified."""
    _each(name, spec, env, lambda job: verifying.verify(job, everything=everything), wait)


@backup.command("drill")
def drill(
    name: NameArgument = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    wait: WaitOption = _SCHEDULED,
) -> None:
    """Restore the newest snapshot to a scratch place, look into it, and measure how long that takes."""
    _each(name, spec, env, drills.drill, wait)


@backup.command("prune")
def prune(
    name: NameArgument = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm", help="Also when more go than usual, or times are odd; look at `plan` first."
        ),
    ] = False,
    wait: WaitOption = _SCHEDULED,
) -> None:
    """Remove the snapshots that both our plan and restic's let go; never the last ones."""
    _each(name, spec, env, lambda job: pruning.prune(job, confirmed=confirm), wait)


@backup.command("restore")
def restore(  # noqa: PLR0913, PLR0917 - one for each option
    name: OneArgument,
    to: Annotated[Path | None, typer.Option("--to", help="An empty folder to restore to.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Restore over the source itself: its data are replaced.")
    ] = False,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", help="Its id; the newest when absent.")
    ] = None,
    copy: Annotated[str, typer.Option("--copy", help="From which repository: its place in `to`.")] = "1",
    confirm: Annotated[
        bool, typer.Option("--confirm", help="In place also when the spec's `assert` does not hold in it.")
    ] = False,
    spec: SpecOption = None,
    env: EnvOption = None,
    wait: WaitOption = _TYPED,
) -> None:
    """Get a backup back, to a folder or in the place of its source; it is compared with what was saved."""
    if (to is None) != in_place:
        raise typer.BadParameter("say either --to FOLDER or --in-place")
    one = _job(_loaded(spec, env), name, wait)
    _leave(
        _attempted(one, lambda job: drills.restore(job, to, copy=copy, snapshot=snapshot, confirmed=confirm))
    )


@backup.command("restic")
def restic_(
    name: OneArgument,
    words: Annotated[list[str], typer.Argument(help="What restic is told, after `--`: key list.")],
    copy: Annotated[str, typer.Option("--copy", help="Which repository: its place in `to`.")] = "1",
    spec: SpecOption = None,
    env: EnvOption = None,
    wait: WaitOption = _TYPED,
) -> None:
    """Run restic itself on a repository, with the password and the credentials of the spec."""
    # Never a terminal, which would stop it: it is not in the group of processes that may read there.
    stdin = None if sys.stdin.isatty() else sys.stdin.buffer
    one = _job(_loaded(spec, env), name, wait)
    _leave(_attempted(one, lambda job: by_hand.restic(job, copy, words, stdin, sys.stdout.write)))


def _loaded(spec: Path | None, env: str | None) -> Loaded:
    return accept(spec_path(spec), env or variables.environment(), runtime=True)


def _job(loaded: Loaded, name: str, wait: str) -> Job:
    return replace(job_of(loaded, name, _told.teller(name)), patience=_patience(wait))


def _patience(wait: str) -> Duration:
    try:
        return Duration.parse(wait)
    except ValueError as fault:
        raise typer.BadParameter(f"{fault}; {Duration.advice(wait)}", param_hint="--wait") from None


def _each(
    name: str | None,
    spec: Path | None,
    env: str | None,
    do: Callable[[Job], object],
    wait: str = _SCHEDULED,
) -> None:
    """Do something with one backup, or with all of them, also when one fails; exits with the worst code of any."""
    loaded = _loaded(spec, env)
    names = [name] if name else [*loaded.spec.backups]
    if not names:
        raise MahavishnuError("the spec has no `backups`; say there what is backed up")
    _leave(max(_attempted(_job(loaded, one, wait), do) for one in names))


def _attempted(job: Job, do: Callable[[Job], object]) -> int:
    """Do it, and say why where that fails; the exit code."""
    try:
        do(job)
    except BrokenPipeError:
        raise
    except (MahavishnuError, OSError) as fault:
        print(f"mahavishnu: {said(fault) if isinstance(fault, OSError) else fault}", file=sys.stderr)
        return FINDINGS if isinstance(fault, _FAILURES) else CANNOT_RUN
    return FINE


def _leave(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _words(spec: Path | None, env: str | None, wait: str) -> list[str]:
    """The options that a child needs to mean the same spec."""
    options = {"--spec": spec and str(spec), "--env": env, "--wait": wait}
    return [word for option, value in options.items() if value for word in (option, value)]
