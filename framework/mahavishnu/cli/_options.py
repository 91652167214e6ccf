"""The options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

SpecOption = Annotated[
    Path | None,
    typer.Option("--spec", help="The spec; else MAHAVISHNU_SPEC, else mahavishnu.yaml from here upwards."),
]
PlacesArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="PATH", help="Specs, and folders with specs in them; else as --spec says."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="The folder of what is generated; else `deploy`, beside a spec that is found."
    ),
]
EnvOption = Annotated[
    str | None, typer.Option("--env", help="The environment whose settings lie on top of the spec.")
]


def of_one(places: Sequence[Path] | None, **options: object) -> None:
    """Refuse an option that is about one spec beside a list of places."""
    said = [option for option, value in options.items() if value]
    if places and said:
        raise typer.BadParameter(f"--{said[0]} is about one spec: name it with --spec, and no PATH")


def spec_path(said: Path | None) -> Path:
    """The spec that is meant."""
    from mahavishnu.load import IN_A_COMMAND, find_spec

    return said or find_spec(help=IN_A_COMMAND)
