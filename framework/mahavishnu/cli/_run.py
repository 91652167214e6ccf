"""Runs one verb by what its file says, and turns every way to fail into a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from mahavishnu.cli import CANNOT_RUN, FINDINGS, FINE, INTERRUPTED, VERBS, unread
from mahavishnu.errors import MahavishnuError, SpecError


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]
    try:
        _app(words)(args=words, prog_name="mahavishnu")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FINE
    except SpecError as error:
        return _refused(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return unread()
    except MahavishnuError as error:
        return _failed(str(error))
    except Exception as error:
        if debug:
            raise
        return _failed(f"unforeseen {type(error).__name__}; `mahavishnu --debug …` shows where")
    return FINE


def _app(words: Sequence[str]) -> typer.Typer:
    app = typer.Typer(
        add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback()(_root)
    asked = next((word for word in words if not word.startswith("-")), "")
    for verb, line in VERBS.items():
        found = function_of(verb) if verb == asked else _stub
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=verb, help=line)
        else:
            app.command(verb, help=None if verb == asked else line)(found)
    return app


def _version(asked: bool) -> None:
    if asked:
        from mahavishnu import __version__

        print(__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unforeseen error.")
    ] = False,
) -> None:
    """One YAML file says how a service survives: enforced in the process, and compiled into all around it."""


def _stub() -> None:
    raise AssertionError("a verb is imported before it runs")


def function_of(verb: str) -> Callable[..., Any] | typer.Typer:
    """The function behind a verb, or its own verbs; its module is imported now."""
    name = verb.replace("-", "_")
    function: Callable[..., Any] | typer.Typer = getattr(import_module(f"mahavishnu.cli.{name}"), name)
    return function


def _refused(error: SpecError) -> int:
    from mahavishnu.cli import _output

    _output.report(error.findings)
    return CANNOT_RUN if any(finding.code == "MV001" for finding in error.findings) else FINDINGS


def _failed(sentence: str) -> int:
    print(f"mahavishnu: {sentence}", file=sys.stderr)
    return CANNOT_RUN
