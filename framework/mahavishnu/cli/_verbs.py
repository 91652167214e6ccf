"""The verbs of the command line, and what `--help` says of them."""

from __future__ import annotations

# Verb -> one line for `--help`, which imports none of them; `cli/<verb>.py`, with `_` for `-`, holds a function of that
# name, or a group of verbs.
VERBS = {
    "init": "Look at an app; write a short spec that refuses nothing yet.",
    "check": "Find every mistake in the spec, and what cannot agree.",
    "generate": "Write everything that follows from the spec.",
    "diff": "Compare what runs with what the spec says.",
    "explain": "Say what a code, a key, a place or an alert means.",
    "config": "Show the settings, and where each value comes from.",
    "schema": "Print the JSON Schema of the spec, for editors.",
    "backup": "Back up, verify and restore what the spec says; drill it.",
    "dead-letters": "See the calls that are kept; try them anew, or drop them.",
    "test": "Prove the generated rules with promtool and amtool.",
}
_PAGE = """\
Usage: mahavishnu [OPTIONS] COMMAND [ARGS]...

  One YAML file says how a service survives: enforced in the process, and
  compiled into all around it.

Options:
  --version  Print the version and exit.
  --debug    Show the traceback of an unforeseen error.
  --help     Show this message and exit.

Commands:"""


def page() -> str:
    """What `--help` says, without the half of its time that the parser of options takes to load."""
    verbs = (f"  {verb:<12}  {line}" for verb, line in VERBS.items())
    return "\n".join((_PAGE, *verbs))
