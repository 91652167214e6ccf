"""The command line: one file per verb, imported only when it is asked for; exit codes 0, 1, 2 and 130."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from mahavishnu.cli import _unchanged
from mahavishnu.cli._exit import CANNOT_RUN, FINE, said, unread


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
    """What is printed to a closed stdout or stderr is lost, and no file that is opened later comes in its place.

    A letter that stdout cannot show is escaped, as on stderr.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 -- until the end
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")


def _asked(words: Sequence[str]) -> int:
    if words == ["--help"]:
        from mahavishnu.cli import _verbs

        print(_verbs.page())
        return FINE
    told = _unchanged.told(words)
    if told is None:
        _unchanged.ASKED.set(words)
        return run(words)
    print(told.err, end="", file=sys.stderr)
    print(told.out)
    return FINE


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Only `--debug` lets an unforeseen error out as a traceback."""
    if [*arguments] == ["generate"]:  # as CI says it: there are no options to be parsed
        from mahavishnu.cli import _ends, _generation

        return _ends.ended(_generation.generate)
    from mahavishnu.cli import _run

    return _run.run(arguments)
