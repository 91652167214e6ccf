"""`mahavishnu schema`: the JSON Schema of the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it to this file instead of stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of mahavishnu.yaml (2020-12), for completion and hints in an editor.

    Editors find it by the first line of the spec: # yaml-language-server: $schema=.mahavishnu/schema.json
    """
    from mahavishnu.cli import _output
    from mahavishnu.cli._editor import text

    if out is None:
        _output.as_file(text())
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text(), encoding="utf-8")
