"""Turns every way in which a command can end into a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mahavishnu.cli._exit import CANNOT_RUN, FINDINGS, FINE, INTERRUPTED, said, unread
from mahavishnu.errors import MahavishnuError, SpecError


def ended(command: Callable[[], int | None], *, debug: bool = False) -> int:
    """Run a command; returns its exit code. With `debug` an unforeseen error gets out."""
    try:
        return command() or FINE
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FINE
    except SpecError as error:
        return refused(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return unread()
    except MahavishnuError as error:
        return _failed(str(error))
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError):
            return _failed(said(error))
        return _failed(f"unforeseen {type(error).__name__}; `mahavishnu --debug …` shows where")


def refused(error: SpecError) -> int:
    """Say what is wrong with a spec; the exit code."""
    from mahavishnu.cli import _output

    _output.report(error.findings)
    return CANNOT_RUN if any(finding.code == "MV001" for finding in error.findings) else FINDINGS


def _failed(sentence: str) -> int:
    print(f"mahavishnu: {sentence}", file=sys.stderr)
    return CANNOT_RUN
