"""What is wrong with the shape of a tree, one finding for each mistake, and where each is found."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mahavishnu.errors import Finding, Path, Problem
from mahavishnu.ground import codes
from mahavishnu.loading import nodes
from mahavishnu.loading.nodes import Mapping, Node, find
from mahavishnu.loading.secrecy import SECRET_FILE
from mahavishnu.loading.shape import dotted
from mahavishnu.loading.translations import errors
from mahavishnu.loading.tree_faults import MERGE, empty, merge_keys, references

_INCOMPLETE = frozenset({codes.ONE_OF.id, codes.MISSING.id})


def judge(tree: Mapping) -> list[Problem]:
    """Every fault of the shape of a merged tree, one for each mistake."""
    found = [*empty(tree), *merge_keys(tree)]
    said = {problem.path for problem in found}
    unmerged = {path[:-1] for path in said if path[-1:] == (MERGE,)}
    known = _Known(found)
    for problem in (*errors(tree), *references(tree)):
        if problem.path in unmerged and problem.code in _INCOMPLETE:
            continue  # of what `<<` would have brought
        if not _below(said, problem.path) and not known.has(problem):
            known.add(problem)
            found.append(problem)
    return found


class _Known:
    """Faults that have been said: what only repeats one of them, or lies below a value wrong as a whole, is not."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._said = {False: set[tuple[Path, str]](), True: set[tuple[Path, str]]()}
        self._whole: set[Path] = set()
        for problem in problems:
            self.add(problem)

    def add(self, problem: Problem) -> None:
        self._said[problem.on_key].add((problem.path, problem.what))
        if not problem.on_key:
            self._whole.add(problem.path)

    def has(self, problem: Problem) -> bool:
        said = problem.path, problem.what
        if problem.on_key:
            return said in self._said[True] or said in self._said[False]
        return said in self._said[True] or _below(self._whole, problem.path)


def _below(paths: Collection[Path], path: Path) -> bool:
    """Whether it is one of these paths, or below one."""
    return any(path[:length] in paths for length in range(len(path) + 1))


def locate(problem: Problem, tree: Node, lines: tuple[str, ...], file: str) -> Finding:
    """The finding that a person reads: at its place, or with the name of the variable it comes from."""
    mark = find(tree, problem.path, problem.on_key)
    place = nodes.where(file, mark, lines)
    what, help = problem.what, problem.help
    if mark.origin.startswith(SECRET_FILE):
        what, help = f"the value does not fit `{dotted(problem.path)}`", ""
    if place is None and mark.origin:
        what = f"{mark.origin}: {what}"
    return Finding(problem.severity, problem.code, what, place, help)
