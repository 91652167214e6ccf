"""What every cross-check is given, and how it says what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from mahavishnu.burn_rates import Burn
from mahavishnu.contract import Contract, contract
from mahavishnu.errors import Level, Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.rate import Rate as RateLimit
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Match
from mahavishnu.spec import Spec
from mahavishnu.units import Rate

Routes = tuple[tuple[str, frozenset[str] | None], ...]
Deadlines = dict[Match | None, list[tuple[str, Timeout]]]


class App(NamedTuple):
    """What an app has and names when it is imported.

    Hardening stands `around` it, only in what is `mounted` in it at `mounts`, `aside` around something else, or
    `nowhere`; `outside` are the middlewares that requests meet before it, `cors` the paths at which a CORSMiddleware
    stands inside of it, or of an app that it is not seen around. `tools` have a limit in the code; those
    that are `plain` functions are named with the function. Each Hardening is `hardened` with its path, the spec that
    the code names for it if that is another one, and whether it stands inside of another Hardening. Of
    users, API keys and sessions, those are `nameless` that nothing can name before a request is counted. Its class
    `adds` middlewares by `add_middleware`, or has no such method. Of `pages` the browser loads scripts from elsewhere.
    At `sessions` it serves MCP with sessions, which live in one process.
    """

    routes: Routes
    where: Literal["around", "mounted", "aside", "nowhere"]
    outside: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    plain: tuple[tuple[str, str], ...] = ()
    cors: tuple[str, ...] = ()
    hardened: tuple[tuple[str, str, bool], ...] = ()
    nameless: tuple[str, ...] = ()
    adds: bool = True
    pages: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """A spec whose shape holds, and its app (None: nobody looked)."""

    spec: Spec
    app: App | None = None

    @property
    def routes(self) -> Routes | None:
        """The routes of the app."""
        return None if self.app is None else self.app.routes

    def contract(self) -> Contract:
        """What follows from the spec; raises AgreementError when a condition names what is not there."""
        return contract(self.spec)

    def last_deadline(self) -> tuple[str, Timeout] | None:
        """The one after which no request waits any more; None where some have no deadline at all."""
        deadlines = self.spec.deadlines
        if all(limit.match is not None for limit in deadlines.values()):
            return None
        return max(deadlines.items(), key=lambda one: one[1].timeout)

    def deadlines_by_match(self) -> Deadlines:
        """All of them, by the requests that they are for; None: for all."""
        found: Deadlines = {}
        for name, limit in self.spec.deadlines.items():
            found.setdefault(limit.match, []).append((name, limit))
        return found

    def counted_by_address(self) -> Iterator[str]:
        """The limits that count who is not verified, or everybody, by address."""
        for name, limit in self.spec.limits.items():
            if isinstance(limit, RateLimit) and limit.mode != "off" and {*limit.per} - {"route", "global"}:
                yield name


def requests(traffic: Rate, burn: Burn) -> int:
    """How many requests the long window of a burn rate holds."""
    return int(Fraction(traffic.count, int(traffic.period)) * int(burn.tier.long))


def error(code: Code, path: Path, what: str, help: str) -> Problem:
    """A contradiction that cannot be carried out."""
    return Problem(code.id, path, what, help, Level.ERROR)


def warning(code: Code, path: Path, what: str, help: str) -> Problem:
    """Something that works, but hardly as it was meant."""
    return Problem(code.id, path, what, help, Level.WARNING)
