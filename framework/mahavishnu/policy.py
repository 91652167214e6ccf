"""What every policy is: settings that may be said, signals and alerts it shows, and what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mahavishnu.ground.unfit import unfit
from mahavishnu.promql import Expr, total
from mahavishnu.series import LIMIT_DECISIONS, LIMIT_NEAR, LIMIT_QUOTA, LIMIT_UTILISATION
from mahavishnu.settings import Keyed, Settings, listed
from mahavishnu.signals import WINDOW, Alert, Recording, Signal
from mahavishnu.units import Duration, Rate, plain

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Mode = Literal["observe", "enforce", "off"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the spec says of the whole service, as far as the alerts of a policy depend on it."""

    traffic: Rate | None = None
    """All requests together; None: nobody has said."""
    tier: Literal["critical", "standard", "experimental"] = "standard"


class Policy(Keyed):
    """A part of the spec that shows signals and raises alerts; `name` is its key in the spec."""

    def signals(self, name: str) -> tuple[Signal, ...]:
        """The series this policy moves, with its own label values fixed."""
        return ()

    def expecting(self, expected: Expected) -> Self:
        """The same policy as part of a service of which this is expected; rules are made of that one."""
        return self

    def reading(self, name: str, signals: Mapping[str, Signal]) -> Self:
        """The same policy with its own queries read against what is shown; rules are made of that one."""
        return self

    def recordings(self, name: str) -> tuple[Recording, ...]:
        """The recording rules its alerts rest on."""
        return ()

    def alerts(self, name: str) -> tuple[Alert, ...]:
        """One alert for each way in which it can hurt."""
        return ()

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        """The numbers that are drawn beside its series, so that one sees how near they are; base units."""
        return ()


class Match(Settings):
    """Which requests a policy applies to; an absent key matches everything."""

    later: ClassVar[frozenset[str]] = frozenset({"tool"})

    path: Annotated[str, StringConstraints(pattern=r"^/\S*$", max_length=200)] | None = None
    """A route of the app as the router writes it, like `"/orders/{id}"`; `*` stands for anything."""
    method: Method | None = None
    """An HTTP method; `GET` covers HEAD."""

    def fits(self, route: str) -> bool:
        """Whether a route, as the router writes it, is one that `path` names."""
        if self.path is None or self.path == route:
            return True
        return "*" in self.path and fnmatchcase(route, self.path.replace("[", "[[]").replace("?", "[?]"))

    def meets(self, route: str, method: str) -> bool:
        """Whether requests for this route and method are among those named."""
        wanted = self.method
        meant = wanted is None or wanted == method or (wanted == "GET" and method == "HEAD")
        return meant and self.fits(route)


class CallMatch(Match):
    """Which requests a limit applies to, or which calls of a tool."""

    later: ClassVar[frozenset[str]] = frozenset()

    tool: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[A-Za-z0-9_.*/-]+$", max_length=100),
            Field(examples=["search*"]),
        ]
        | None
    ) = None
    """A tool by its name, `*` for anything: the limit applies to calls of it by `limit(tool=…)`, to no request."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> CallMatch:
        if self.tool is not None and (self.path is not None or self.method is not None):
            what = "a call of a tool has no path and no method"
            help = "match either `tool`, or `path` and `method`"
            raise unfit(what, help)
        return self

    def meets(self, route: str, method: str) -> bool:
        """Whether requests for this route and method are among those named."""
        return self.tool is None and super().meets(route, method)

    def calls(self, tool: str) -> bool:
        """Whether calls of this tool are among those named."""
        return self.tool is not None and fnmatchcase(tool, self.tool)


Dimension = (
    Literal["client", "ip", "network", "user", "api_key", "session", "route", "tool", "global"]
    | Annotated[
        str,
        StringConstraints(pattern=r"^header:[A-Za-z][A-Za-z0-9-]{0,63}$"),
        Field(examples=["header:x-tenant"]),
    ]
)
Per = Annotated[
    tuple[Dimension, ...],
    Field(min_length=1, max_length=4),
    BeforeValidator(listed, json_schema_input_type=Dimension | list[Dimension]),
]


class Limit(Policy):
    """What every limit has: which requests it applies to and whether it refuses."""

    match: CallMatch | None = None
    """Which requests it applies to; all of them when absent."""
    mode: Mode = "enforce"
    """`observe` counts what it would refuse, `off` does nothing. One that observes never takes the place of another."""

    @field_validator("match")
    @classmethod
    def _tools_have_rates(cls, match: CallMatch | None) -> CallMatch | None:
        if match is not None and match.tool is not None and cls.keyword != "rate":
            raise PydanticCustomError("later", "{word}", {"word": "tool"})
        return match

    @property
    def exactness(self) -> tuple[int, ...]:
        """Orders limits by how exactly they name their requests: route, exact route, longer route, method."""
        match = self.match or Match()
        return (
            match.path is not None,
            "*" not in (match.path or "*"),
            len(match.path or ""),
            match.method is not None,
        )

    @property
    def denial(self) -> str:
        """The outcome under which a request beyond the limit is counted."""
        return "observed" if self.mode == "observe" else "refused"

    def share(self, name: str, over: Duration = WINDOW) -> Expr:
        """What part of its requests was beyond the limit."""
        return self.denied(name, over) / total(LIMIT_DECISIONS.closed(limit=name).rate(over, limit=name))

    def denied(self, name: str, over: Duration = WINDOW) -> Expr:
        """How many of its requests a second were beyond the limit."""
        return total(LIMIT_DECISIONS.closed(limit=name).rate(over, limit=name, outcome=self.denial))

    def signals(self, name: str) -> tuple[Signal, ...]:
        shown = (LIMIT_DECISIONS, LIMIT_NEAR, LIMIT_QUOTA, LIMIT_UTILISATION)
        return tuple(one.closed(limit=name) for one in shown)

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        return (LIMIT_QUOTA, plain(Decimal(str(float(self.number()))))), (LIMIT_UTILISATION, Decimal(1))

    def number(self) -> float:
        """The enforced number, as it is shown: requests per window or at once, bytes, or seconds."""
        raise NotImplementedError


def camel(name: str) -> str:
    """`per_client` -> `PerClient`: a name of the spec as part of an alert's; different ones stay different."""
    parts = name.split("_")
    # `a_1` must not become what `a1` becomes.
    return "".join(f"_{part}" if part[:1].isdigit() else part.capitalize() for part in parts)
