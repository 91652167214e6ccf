"""`mahavishnu generate`: write everything that follows from the spec, or say what on disk does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mahavishnu.cli import _generation
from mahavishnu.cli._options import EnvOption, SpecOption


def generate(
    spec: SpecOption = None,
    env: EnvOption = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")] = _generation.OUT,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when a file is not as the spec says.")
    ] = False,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Only this family of files, like `kubernetes`; may be repeated."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that somebody else has changed, but for notes.")
    ] = False,
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Print the files instead of writing them.")
    ] = False,
) -> None:
    """Write rules, routes, and what Compose and Kubernetes need; all of it agrees with what the app enforces.

    A file that was changed by hand, or that nobody generated, is refused with its diff: nothing is written.
    Templates in .mahavishnu/templates beside the spec go before our own of the same name.
    """
    if check + force + stdout > 1:
        raise typer.BadParameter("--check, --force and --stdout exclude each other")
    try:
        code = _generation.generate(
            spec, env, out, check=check, only=target or (), force=force, stdout=stdout
        )
    except _generation.NoSuchFamily as fault:
        raise typer.BadParameter(str(fault), param_hint="--target") from None
    if code:
        raise typer.Exit(code)
