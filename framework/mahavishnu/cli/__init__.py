"""The command line: one file per verb, imported only when it is asked for; exit codes 0, 1, 2 and 130."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from mahavishnu.cli import _unchanged

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
FINE, FINDINGS, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130
_PAGE = """\
Usage: mahavishnu [OPTIONS] COMMAND [ARGS]...

  One YAML file says how a service survives: enforced in the process, and
  compiled into all around it.

Options:
  --version  Print the version and exit.
  --debug    Show the traceback of an unforeseen error.
  --help     Show this message and exit.

Commands:"""


def main() -> None:
    """Entry point: run with the process's arguments and exit."""
    # Modules, models and trees stay until the end: to look for cycles among them again and again is of no use.
    gc.set_threshold(100_000)
    _open_streams()
    try:
        code = _asked(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = unread()
    except OSError as error:  # a full disk
        unread()
        print(f"mahavishnu: {said(error)}", file=sys.stderr)
        code = CANNOT_RUN
    gc.freeze()  # at the end all memory goes at once: to take it apart before would take a tenth of the time
    sys.exit(code)


def _open_streams() -> None:
    """What is printed to a closed stdout or stderr is lost, and no file that is opened later comes in its place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 -- until the end


def said(error: OSError) -> str:
    """What the operating system refuses, in a sentence's words."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the folder it was started in is no longer there"
    what = (error.strerror or type(error).__name__).lower()
    return f"{error.filename}: {what}" if error.filename is not None else what


def _asked(words: Sequence[str]) -> int:
    said = _unchanged.Said(page(), "") if words == ["--help"] else _unchanged.told(words)
    if said is None:
        _unchanged.ASKED.set(words)
        return run(words)
    print(said.err, end="", file=sys.stderr)
    print(said.out)
    return FINE


def unread() -> int:
    """Nobody reads what is printed any more: what still waits goes nowhere, without a complaint at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FINDINGS


def page() -> str:
    """What `--help` says, without the half of its time that the parser of options takes to load."""
    verbs = (f"  {verb:<12}  {line}" for verb, line in VERBS.items())
    return "\n".join((_PAGE, *verbs))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Only `--debug` lets an unforeseen error out as a traceback."""
    if [*arguments] == ["generate"]:  # as CI says it: there are no options to be parsed
        from mahavishnu.cli import _ends, _generation

        return _ends.ended(_generation.generate)
    from mahavishnu.cli import _run

    return _run.run(arguments)
