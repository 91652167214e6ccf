"""The file that remembers what was generated: the digests of every file, from which spec, and by which version."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from mahavishnu.files import notes

LOCK = "mahavishnu.lock"
_PART = r"(?!\.\.?(/|$))(?!\.mahavishnu-new-)[A-Za-z0-9_.-]{1,140}"  # the longest names of a spec make files of 113
_PATH = re.compile(rf"{_PART}(/{_PART}){{0,7}}")


class Lock(NamedTuple):
    """The digests that a file of ours may have at each path, the hash of the spec, the version that wrote it, and the
    environment that it is for: nothing for none, None where nobody has said."""

    digests: Mapping[str, AbstractSet[str]]
    spec: str = ""
    version: str = ""
    environment: str | None = None

    def text(self) -> bytes:
        """The same bytes wherever the same files are."""
        files = {path: sorted(one) if len(one) > 1 else min(one) for path, one in self.digests.items()}
        said = {} if self.environment is None else {"environment": self.environment}
        lock = {**said, "files": files, "spec": self.spec, "version": self.version}
        return (json.dumps(lock, indent=2, sort_keys=True) + "\n").encode()


def read(content: bytes | None) -> Lock:
    """What a lock says: nothing when it cannot be read (a merge), so that nothing is taken for ours."""
    try:
        said: dict[str, Any] = dict(json.loads(content or b"{}"))
        files: dict[str, Any] = dict(said.get("files", {}))
        digests = {path: frozenset([one] if isinstance(one, str) else one) for path, one in files.items()}
    except (ValueError, TypeError, AttributeError):
        return Lock({})
    kept = {path: known for path, known in digests.items() if lawful(path)}
    spec, version, world = (
        one if isinstance(one := said.get(key), str) else None for key in ("spec", "version", "environment")
    )
    return Lock(kept, spec or "", version or "", world)


def lawful(path: str) -> bool:
    """Whether a generated file may have this path: below the folder, and the same for every system."""
    return _PATH.fullmatch(path) is not None


def digest(content: bytes) -> str:
    """Of what was generated: notes are no part of it."""
    return hashlib.sha256(notes.blank(content)).hexdigest()
