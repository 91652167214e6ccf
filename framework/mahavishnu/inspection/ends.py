"""How the process that imports an app ends, by what is at fault, and what a person can do about it."""

from __future__ import annotations

NOWHERE = 64
"""The name leads nowhere."""
NO_APP = 65
"""What it names is no app."""
NO_PACKAGE = 69
"""A package that the app needs is not there."""
FAILED = 70
"""The app's own code."""

MAIN = 'what starts a server belongs below `if __name__ == "__main__":`'
_NEEDS = "that is its own code: give it what it needs when it is imported, like an environment variable"


def help_for(code: int, named: str) -> str:
    """What to do; `named` says where the name stands, which is wrong in some cases only."""
    wrong = f"correct {named}"
    known = {NOWHERE: wrong, NO_APP: wrong, NO_PACKAGE: "install it beside mahavishnu"}
    return known.get(code, _NEEDS)
