"""Runs one verb by what its file says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from mahavishnu.cli._ends import ended
from mahavishnu.cli._verbs import VERBS


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    words = [word for word in arguments if word != "--debug"]
    return ended(lambda: _app(words)(args=words, prog_name="mahavishnu"), debug="--debug" in arguments)


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
