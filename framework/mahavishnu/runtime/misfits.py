"""What of a spec does not fit the code of this process: with such a spec it would not start."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mahavishnu.checks import App, Facts, plain_tools, tools
from mahavishnu.errors import Level, Problem
from mahavishnu.ground.app_names import NAMED
from mahavishnu.ground.codes import UNFIT
from mahavishnu.ground.words import meant
from mahavishnu.runtime.calls.misfit import misfit
from mahavishnu.runtime.guarded_functions import guarded
from mahavishnu.spec import Spec

_MOST = 20
"""So many are told of: code may name a tool for each tenant, and one line of a spec be for all of them."""


def misfits(spec: Spec) -> Iterator[Problem]:
    """The first problems of what the code names and guards; each is refused, too, where code says it."""
    return islice(_all(spec), _MOST)


def _all(spec: Spec) -> Iterator[Problem]:
    yield from _dependencies(spec)
    yield from _functions(spec)
    yield from _tools(spec)


def _dependencies(spec: Spec) -> Iterator[Problem]:
    for name in sorted(NAMED.dependencies - {*spec.dependencies}):
        what = f"the code at work names the dependency `{name}`, and the spec has none of that name"
        help = meant(name, [*spec.dependencies]) or UNFIT.help
        yield Problem(UNFIT.id, ("dependencies",), what, help, on_key=True)


def _functions(spec: Spec) -> Iterator[Problem]:
    for one in sorted(guarded(), key=lambda one: (one.dependency, one.name)):
        settings = spec.dependencies.get(one.dependency)
        fault = None if settings is None else misfit(one, settings.fallback)
        if fault is not None:
            yield Problem(UNFIT.id, ("dependencies", one.dependency, "fallback"), str(fault), UNFIT.help)


def _tools(spec: Spec) -> Iterator[Problem]:
    app = App((), "around", tools=tuple(sorted(NAMED.tools)), plain=tuple(sorted(NAMED.plain)))
    for one in (tools, plain_tools):
        yield from (fault for fault in one.check(Facts(spec, app)) if fault.severity is Level.ERROR)
