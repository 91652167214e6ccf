"""The decision over the rates of a route, written out rate by rate: as quick as if it had been written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from mahavishnu.algorithms import SHIFT, SPENT
from mahavishnu.runtime.limits.memory_store import LAST

if TYPE_CHECKING:
    from mahavishnu.runtime.limits.admission import Admission

    Charge = Callable[[Admission], bool]

# A piece for each bucket's name, and for each rate: `#` is the number of the rate, `@` that of the first one whose
# bucket has the same name. A loop over the rates would take a third longer.
_BEGIN = f"""\
def charge(admission):
    if store.edition != edition:
        return anew(admission)
    now, caller = admission.entered, admission.caller
    clock = now << {SHIFT}
"""
_NAME = f"""\
    key# = {{name}}
    place# = hash(key#) & {LAST}
"""
_LOOK = f"""\
    if now >= table#.due:
        table#.turn(now)
    young# = shards#[place@].young
    state# = young#.get(key@)
    if state# is None:
        state# = rested(table#, shards#[place@], key@)
        if state# is None:
            return False
    ahead# = cost# + (state# - clock if state# >= clock else state# & {SPENT})
"""
_JUDGE = """\
    if {beyond}:
        return refuse(admission, ({aheads},))
"""
_TAKE = f"""\
    young#[key@] = clock + ahead#
    if not state#:
        table#.size += 1
    allowed#.value += 1
    left# = (most# - ahead# >> {SHIFT}) // interval#
    if left# < margin#.mark:
        margin#.left(left#)
"""
_TELL = """\
    admission.left = ({said})
    return True
"""
_SAID = f"left#, ((ahead# >> {SHIFT}) + 999_999_999) // 1_000_000_000, "


Shape = tuple[str, int, bool]
"""Of a rate: how the name of its bucket is read, the first rate of which that is the same, whether clients are told."""


@lru_cache(maxsize=256)
def maker(shapes: tuple[Shape, ...], names: tuple[str, ...]) -> Callable[..., Charge]:
    """What makes the function of such rates, given what it calls by these names; nothing of a spec is in its text."""
    body = "".join(_written(shapes)).replace("\n", "\n    ")
    text = f"def make({', '.join(names)}):\n    {body}return charge\n"
    known: dict[str, Any] = {}
    exec(compile(text, "<the rates of a route>", "exec"), known)  # noqa: S102
    return cast("Callable[..., Charge]", known["make"])


def _written(shapes: tuple[Shape, ...]) -> Iterator[str]:
    every = range(len(shapes))
    yield _BEGIN
    for number, (name, first, _) in enumerate(shapes):
        if first == number:
            yield _numbered(_NAME.format(name=name), number)
        yield _numbered(_LOOK, number, first)
    beyond = " or ".join(f"ahead{number} > most{number}" for number in every)
    yield _JUDGE.format(beyond=beyond, aheads=", ".join(f"ahead{number}" for number in every))
    for number, (_, first, _) in enumerate(shapes):
        yield _numbered(_TAKE, number, first)
    yield _TELL.format(said="".join(_numbered(_SAID, number) for number in every if shapes[number][2]))


def _numbered(piece: str, number: int, first: int = 0) -> str:
    return piece.replace("#", str(number)).replace("@", str(first))
