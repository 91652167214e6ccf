"""What the docstring under each field of a model says, read when somebody asks: a start has no use for it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from textwrap import dedent


@cache
def meanings(model: type) -> Mapping[str, str]:
    """The meaning of each field that has one, by its name, those that are inherited included."""
    ours = (base for base in reversed(model.__mro__) if base.__module__.startswith("mahavishnu."))
    return {name: said for base in ours for name, said in _own(base)}


def _own(model: type) -> Iterator[tuple[str, str]]:
    (found,) = ast.parse(dedent(inspect.getsource(model))).body
    for field, below in pairwise(found.body if isinstance(found, ast.ClassDef) else ()):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, inspect.cleandoc(said)
            case _:
                pass
