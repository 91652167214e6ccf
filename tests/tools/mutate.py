"""Change one thing in a module, run its tests, and see whether they notice: what share of the changes is found.

`python -m tests.tools.mutate breaker [--sample N] [--seed N]` prints every change that nobody noticed, and the score.
Each change lives in a forked process of its own: nothing is ever written.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.abc
import importlib.machinery
import io
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LONGEST, PATIENCE = 60, 120
"""Seconds of the processor, or of waiting, after which a change has made the tests hang: that is noticed, too."""


class Subject(NamedTuple):
    """Which parts of which modules are changed, and the tests that must notice: the quickest first."""

    parts: dict[str, tuple[str, ...]]
    tests: tuple[str, ...]


SUBJECTS = {
    "breaker": Subject(
        {
            "mahavishnu.policies.breaker": ("BreakerGuard", "_parts", "_share"),
            "mahavishnu.policies._breaker_states": ("Closed", "HalfOpen"),
            "mahavishnu.policies._window": ("Window",),
        },
        (
            "tests/policies/test_scenarios.py",
            "tests/policies/test_breaker.py",
            "tests/policies/test_throttle.py",
        ),
    ),
    "retry": Subject(
        {"mahavishnu.policies.retry": ("RetryBudget", "Retrier")},
        ("tests/policies/test_retry.py", "tests/runtime/calls/test_dependency.py"),
    ),
    "limiter": Subject(
        {"mahavishnu.algorithms": ("Gcra", "SlidingWindow", "SlidingLog")},
        ("tests/test_algorithms.py", "tests/runtime/limits/test_memory_store.py"),
    ),
}

_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


_AS_GOOD_AS_NONE: tuple[list[str], ...] = ([], ["None"], ["False"])


def changes(tree: ast.Module, parts: Sequence[str]) -> Iterator[tuple[str, ast.Module]]:
    """Every tree that differs in one place, with the line and the change in words."""
    named = _named(tree, parts)
    fields = [one for part in named for one in part.body if isinstance(one, ast.AnnAssign)]
    for index, node in enumerate(ast.walk(tree)):
        if not any(_inside(node, part) for part in named) or any(_inside(node, one) for one in fields):
            continue
        for words, change in _of(node):
            changed = copy.deepcopy(tree)
            change(next(other for at, other in enumerate(ast.walk(changed)) if at == index))
            yield f"{getattr(node, 'lineno', 0)}: {words}", ast.fix_missing_locations(changed)


def _named(tree: ast.Module, parts: Sequence[str]) -> list[ast.ClassDef | ast.FunctionDef]:
    return [
        node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in parts
    ]


def _inside(node: ast.AST, part: ast.stmt) -> bool:
    line: int = getattr(node, "lineno", 0)
    return part.lineno <= line <= (part.end_lineno or 0)


Change = tuple[str, Callable[[Any], None]]


def _of(node: ast.AST) -> Iterator[Change]:
    """What can be changed in this node alone; what only declares a field is not changed."""
    if isinstance(node, ast.Compare):
        yield from (_swapped(node, at) for at, op in enumerate(node.ops) if type(op) in _SWAPS)
    elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in _SWAPS:
        yield f"{ast.unparse(node)} -> {_SWAPS[type(node.op)].__name__}", _other_op
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield f"{node.value!r} changed", _other_constant
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield f"not ({ast.unparse(node.test)})", _negated
    elif isinstance(node, ast.Return) and ast.unparse(node).split(" ")[1:] not in _AS_GOOD_AS_NONE:
        yield f"{ast.unparse(node)} -> return None", _nothing
    if isinstance(node, ast.FunctionDef | ast.If | ast.With | ast.For | ast.While):
        yield from _without(node)


def _swapped(node: ast.Compare, at: int) -> Change:
    other = _SWAPS[type(node.ops[at])]

    def change(found: ast.Compare) -> None:
        found.ops[at] = other()

    return f"{ast.unparse(node)} -> {other.__name__}", change


def _other_op(found: Any) -> None:
    found.op = _SWAPS[type(found.op)]()


def _other_constant(found: ast.Constant) -> None:
    found.value = not found.value if isinstance(found.value, bool) else found.value + 1  # type: ignore[operator]


def _negated(found: Any) -> None:
    found.test = ast.UnaryOp(ast.Not(), found.test)


def _nothing(found: ast.Return) -> None:
    found.value = ast.Constant(None)


def _without(node: Any) -> Iterator[Change]:
    """Each statement of its body taken away, but for docstrings and what only says a type."""
    for at, statement in enumerate(node.body):
        if isinstance(statement, ast.Assign | ast.AugAssign) or (
            isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant)
        ):

            def change(found: Any, at: int = at) -> None:
                found.body[at] = ast.Pass()

            yield f"without `{ast.unparse(statement)}`", change


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a changed tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self._path))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def noticed(name: str, path: Path, tree: ast.Module | None, tests: Sequence[str]) -> bool:
    """Whether the tests fail with this tree as the module; with None, as it is."""
    child = os.fork()
    if child == 0:
        os._exit(_judge(name, path, tree, tests))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status != 0


def _judge(name: str, path: Path, tree: ast.Module | None, tests: Sequence[str]) -> int:
    import pytest

    if tree is not None:
        sys.meta_path.insert(0, _Changed(name, path, tree))
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
    signal.alarm(PATIENCE)
    said = io.StringIO() if tree is not None else sys.stderr  # why they fail as it is must be told
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            options = ["-x", "-q", "-p", "no:cacheprovider"]
            options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
            return int(pytest.main([*options, *(str(ROOT / test) for test in tests)]))
        except BaseException:  # noqa: BLE001 - a module that cannot even be loaded is noticed, too
            return 1


def main(said: Sequence[str] | None = None) -> float:
    """Print what nobody noticed and the score, which is returned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument(
        "--sample", type=int, default=0, help="so many changes, drawn; all of them by default"
    )
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(said)
    subject = SUBJECTS[asked.subject]
    found = list(_all(subject))
    if asked.sample:
        found = random.Random(asked.seed).sample(found, min(asked.sample, len(found)))
    first = next(iter(subject.parts))
    if noticed(first, _path(first), None, subject.tests):
        raise SystemExit("the tests fail before anything is changed")
    missed = 0
    for name, words, tree in found:
        if not noticed(name, _path(name), tree, subject.tests):
            missed += 1
            print(f"not noticed: {name}:{words}", flush=True)
    score = 1 - missed / len(found)
    print(f"{asked.subject}: {len(found) - missed} of {len(found)} changes noticed, {score:.1%}", flush=True)
    return score


def _all(subject: Subject) -> Iterator[tuple[str, str, ast.Module]]:
    for name, parts in subject.parts.items():
        tree = ast.parse(_path(name).read_text())
        yield from ((name, words, changed) for words, changed in changes(tree, parts))


def _path(name: str) -> Path:
    return ROOT / "framework" / Path(*name.split(".")).with_suffix(".py")


if __name__ == "__main__":
    for heavy in ("hypothesis", "pydantic", "httpx"):  # before the forks, so that each begins with it
        importlib.import_module(heavy)
    main()
