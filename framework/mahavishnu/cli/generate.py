"""`mahavishnu generate`: write everything that follows from the spec, or say what on disk does not."""

from __future__ import annotations

from typing import Annotated

import typer

from mahavishnu.cli import _generation
from mahavishnu.cli._options import EnvOption, OutOption, PlacesArgument, SpecOption, of_one


def generate(  # noqa: PLR0913, PLR0917 - one for each option
    places: PlacesArgument = None,
    spec: SpecOption = None,
    env: EnvOption = None,
    out: OutOption = None,
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

    A file that was changed by hand, or that lies where one of ours goes, is refused with its diff: nothing is written.
    It goes to `deploy`, beside a spec that is found or given as PATH, else where you are; --out says otherwise.
    Templates in .mahavishnu/templates beside the spec go before our own of the same name.
    """
    if check + force + stdout > 1:
        raise typer.BadParameter("--check, --force and --stdout exclude each other")
    of_one(places, spec=spec, out=out, stdout=stdout)
    only = target or ()
    try:
        code = (
            _generation.generate_each(places, env, check=check, only=only, force=force)
            if places
            else _generation.generate(spec, env, out, check=check, only=only, force=force, stdout=stdout)
        )
    except _generation.NoSuchFamily as fault:
        raise typer.BadParameter(str(fault), param_hint="--target") from None
    if code:
        raise typer.Exit(code)
