"""The options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecOption = Annotated[
    Path | None,
    typer.Option("--spec", help="The spec; else MAHAVISHNU_SPEC, else mahavishnu.yaml from here upwards."),
]
EnvOption = Annotated[
    str | None, typer.Option("--env", help="The environment whose settings lie on top of the spec.")
]


def spec_path(said: Path | None) -> Path:
    """The spec that is meant."""
    from mahavishnu.load import find_spec

    return said or find_spec()
