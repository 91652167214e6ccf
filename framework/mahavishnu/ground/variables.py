"""What a process is told by variables that are no settings: which spec, which environment, and whether at all."""

from __future__ import annotations

import os

from mahavishnu.errors import Finding, Level
from mahavishnu.ground import codes

SPEC = "MAHAVISHNU_SPEC"
ENVIRONMENT = "MAHAVISHNU_ENV"
DISABLE = "MAHAVISHNU_DISABLE"
STATE = "MAHAVISHNU_STATE"
RESERVED = frozenset({SPEC, ENVIRONMENT, DISABLE, STATE})
"""No settings of a spec, though they are called like those."""
_OFF = frozenset({"1", "true", "yes", "on"})
_ON = frozenset({"0", "false", "no", "off", ""})


def spec_file() -> str | None:
    """The file of the spec, where one is named."""
    return os.environ.get(SPEC) or None


def environment() -> str | None:
    """The environment of the spec that this process is in, where one is named."""
    return os.environ.get(ENVIRONMENT) or None


def unheeded(name: str, text: str) -> bool:
    """Whether a reserved variable that says something was set in a place where nobody looks for it."""
    return name in RESERVED and text != "" and name not in os.environ


def disabled() -> bool:
    """Whether everything is switched off; a word that nobody understands does not."""
    return _switch() in _OFF


def doubts() -> tuple[Finding, ...]:
    """A warning of a switch that is written in a way that nobody understands."""
    if _switch() in _OFF | _ON:
        return ()
    what = f"{DISABLE} is `{os.environ[DISABLE][:40]}`, which does not switch anything off"
    help = f"write `1` to switch everything off, or remove {DISABLE}"
    return (Finding(Level.WARNING, codes.CHOICE.id, what, None, help),)


def _switch() -> str:
    return os.environ.get(DISABLE, "").strip().lower()
