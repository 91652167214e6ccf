"""A wrapper written out for what it wraps: with its very parameters, and without what it never needs."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any, TypeVar, cast

M = TypeVar("M", bound=Callable[..., object])


def fitted(maker: M, function: Callable[..., object], absent: frozenset[str] = frozenset()) -> M:
    """The maker of a wrapper, compiled anew: its one `async def`, which takes `*args, **kwargs`, then takes what
    `function` takes, and hands on just that, by place where it can: nothing is packed and unpacked again. Those
    variables that are `absent` are always None: it neither has them, nor what is done only where they are not.

    It is the maker itself where `function` is no plain one, or takes any number of arguments; where an argument may
    be left out, for only the caller knows whether it was; and where its source is not at hand.
    """
    if not isinstance(function, FunctionType) or function.__defaults__ or function.__kwdefaults__:
        return maker
    code = function.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return maker
    names, count = code.co_varnames, code.co_argcount
    placed, named = names[:count], names[count : count + code.co_kwonlyargcount]
    return cast("M", _compiled(maker, code.co_posonlyargcount, placed, named, absent))


@functools.lru_cache(maxsize=256)
def _compiled(
    maker: Any, unnamed: int, placed: Sequence[str], named: Sequence[str], absent: frozenset[str]
) -> Any:
    text = _text(maker)
    if text is None:
        return maker
    tree = ast.parse(text)
    source = next(node for node in tree.body if getattr(node, "name", "") == maker.__name__)
    fit = _Fit(source, unnamed, placed, named, absent)
    if not fit.foreign.isdisjoint((*placed, *named)):
        return maker
    ast.fix_missing_locations(fit.visit(source))
    return FunctionType(cast("CodeType", _code(maker, tree)), maker.__globals__)


@functools.lru_cache(maxsize=8)
def _text(maker: Any) -> str | None:
    """Its module; None where that is not at hand, or no longer what was loaded."""
    try:
        text = inspect.getsource(sys.modules[maker.__module__])
        return text if _code(maker, ast.parse(text)) == maker.__code__ else None
    except (OSError, SyntaxError):
        return None


def _code(maker: Any, tree: ast.Module) -> CodeType | None:
    """The code of the maker, by this source of its module."""
    found = compile(tree, maker.__code__.co_filename, "exec").co_consts
    return next((one for one in found if isinstance(one, CodeType) and one.co_name == maker.__name__), None)


class _Fit(ast.NodeTransformer):
    """Puts the parameters in the place of `args` and `kwargs`; what is local and has the same name gets another."""

    def __init__(
        self,
        source: ast.AST,
        unnamed: int,
        placed: Sequence[str],
        named: Sequence[str],
        absent: frozenset[str],
    ) -> None:
        self.unnamed, self.placed, self.named, self.absent = unnamed, placed, named, absent
        wrapper = next(node for node in ast.walk(source) if isinstance(node, ast.AsyncFunctionDef))
        self.own, self.foreign = _names(wrapper)
        """The names that it does not own: a parameter that is called so would hide what they stand for."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """The wrapper's parameters."""
        self.generic_visit(node)
        placed = [ast.arg(name) for name in self.placed]
        node.args = ast.arguments(
            posonlyargs=placed[: self.unnamed],
            args=placed[self.unnamed :],
            kwonlyargs=[ast.arg(name) for name in self.named],
            kw_defaults=[None for _ in self.named],
            defaults=[],
        )
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`f(*args, **kwargs)`."""
        self.generic_visit(node)
        if any(isinstance(one, ast.Starred) for one in node.args):
            node.args = [*node.args[:-1], *map(_read, self.placed)]
            node.keywords = [ast.keyword(name, _read(name)) for name in self.named]
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        """Without what is put into an absent variable, or taken from an attribute of that name to be put there."""
        node.elts = [one for one in node.elts if self._named(one) not in self.absent]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """`absent: Any = …`, which is None."""
        if isinstance(node.target, ast.Name) and self._lacks(node.target):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """With what it leads to, where that is certain."""
        self.generic_visit(node)
        if not isinstance(node.test, ast.Constant):
            return node
        return node.body if node.test.value else node.orelse

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Without what cannot decide it."""
        self.generic_visit(node)
        decides = isinstance(node.op, ast.Or)
        values = [
            one for one in node.values if not isinstance(one, ast.Constant) or bool(one.value) is decides
        ]
        certain = next((at for at, one in enumerate(values) if isinstance(one, ast.Constant)), len(values))
        node.values = values[: certain + 1]
        return node if len(node.values) > 1 else node.values[0] if node.values else ast.Constant(not decides)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`absent is None`, or `is not`."""
        if isinstance(node.left, ast.Name) and self._lacks(node.left):
            return ast.Constant(isinstance(node.ops[0], ast.Is))
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """`args` and `kwargs` as such, and what is local."""
        if self._lacks(node):
            return ast.Constant(None) if isinstance(node.ctx, ast.Load) else ast.Name(_UNREAD, ast.Store())
        if node.id == "args":
            return ast.Tuple([*map(_read, self.placed)], ast.Load())
        if node.id == "kwargs":
            return ast.Dict([*map(ast.Constant, self.named)], [*map(_read, self.named)])
        node.id = self._other(node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """`except … as fault`."""
        node.name = node.name and self._other(node.name)
        return self.generic_visit(node)

    def _lacks(self, node: ast.Name) -> bool:
        return node.id in self.absent

    @staticmethod
    def _named(node: ast.expr) -> str | None:
        return (
            node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        )

    def _other(self, name: str) -> str:
        """A name that nobody can write, where a parameter has this one."""
        return f".{name}" if name in self.own and name in (*self.placed, *self.named) else name


_UNREAD = ".unread"
"""What nobody can name: a parameter may be called `_`."""


def _read(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _names(wrapper: ast.AsyncFunctionDef) -> tuple[set[str], set[str]]:
    """Those that are its own, and those of what is outside of it."""
    inner = list(ast.walk(wrapper))
    names = [node for node in inner if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in inner if isinstance(node, ast.ExceptHandler) and node.name}
    own -= {name for node in inner if isinstance(node, ast.Nonlocal) for name in node.names}
    return own, {node.id for node in names} - own - {"args", "kwargs"}


def forget() -> None:
    """Compile anew; for tests."""
    _compiled.cache_clear()
    _text.cache_clear()
