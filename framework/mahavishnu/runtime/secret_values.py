"""What the secrets of a spec are on this machine: environment variables, or files of the secrets directory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.secret_refs import REFERENCE, name_of, replaced
from mahavishnu.loading.layers import SECRETS


def secret(name: str, folder: Path = SECRETS) -> str:
    """The value of a secret; raises MahavishnuError when nothing says it."""
    said = os.environ.get(name, "").strip()  # as of a file: most are written with an end of line
    if said:
        return said
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        what = f"the secret `{name}` is neither an environment variable nor the file {folder / name}"
        raise MahavishnuError(f"{what}") from None


def resolved(url: str, folder: Path = SECRETS) -> str:
    """A URL with its secrets put in: as it is where it is one secret as a whole, else escaped as a part of it."""
    if re.fullmatch(REFERENCE, url):
        return secret(name_of(url), folder)
    return replaced(url, lambda name: quote(secret(name, folder), safe=""))
