"""What a spec promises to show and to raise: series, recording rules and alerts that agree; its hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Generic, Protocol, TypeVar

from mahavishnu.alerts import (
    answering,
    client_memory,
    drift,
    event_loop,
    http_server,
    outbound,
    parking,
    process,
    pushes,
    restarts,
    shared_store,
    spans_lost,
    workers,
)
from mahavishnu.alerts.handful import waiting
from mahavishnu.policy import Expected, Policy, camel
from mahavishnu.promql import Expr, Selector
from mahavishnu.queries import closure
from mahavishnu.queries.recorded import Recorded
from mahavishnu.series import SPEC_INFO
from mahavishnu.signals import (
    AgreementError,
    Alert,
    Label,
    Recording,
    Signal,
    Source,
)
from mahavishnu.spec import Spec, spec_hash

Thing = TypeVar("Thing")


class Concern(Protocol):
    """What a service shows and raises whatever its policies are; nothing of what the spec leaves out."""

    def signals(self, spec: Spec, /) -> Iterable[Signal]:
        """Its series."""
        ...

    def alerts(self, spec: Spec, /) -> Iterable[Alert]:
        """Its alerts."""
        ...


_CONCERNS: tuple[Concern, ...] = (
    http_server,
    process,
    pushes,
    answering,
    restarts,
    event_loop,
    drift,
    client_memory,
    outbound,
    shared_store,
    parking,
    workers,
    spans_lost,
)


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """A spec with everything that follows from it; what generators and the runtime both read. Equal to itself alone.

    `signals` are keyed by name; alert names carry the service's name, and every query is scoped to it.
    `place` is the folder for generated files as seen from the spec's own folder, `home` that one as seen from there.
    `env` is the environment whose values are merged into the spec, `file` the spec's name (None: the one that is found
    unasked), `ignored` the patterns of what a .dockerignore beside it keeps out of an image.
    """

    spec: Spec
    hash: str
    signals: Mapping[str, Signal]
    recordings: tuple[Recording, ...]
    alerts: tuple[Alert, ...]
    place: str = "deploy"
    home: str = ".."
    env: str | None = None
    file: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """The words by which a verb, in the spec's own folder, is about this spec and environment."""
        said = (("--spec", self.file), ("--env", self.env))
        return [word for option, value in said if value is not None for word in (option, value)]

    @property
    def job(self) -> str:
        """The service's name: Prometheus' job."""
        return self.spec.service.name

    @property
    def world(self) -> closure.World:
        """What a query can ask for."""
        return closure.World(self.signals, self.job)

    @property
    def recorded(self) -> Recorded:
        """The recording rules, by what asks for them."""
        return _recorded(self)

    def bases(self, query: Expr) -> tuple[Selector, ...]:
        """What a query rests on, recorded series resolved."""
        return _bases(self, _Itself(query))

    def faults(self, query: Expr) -> tuple[str, ...]:
        """Everything in a query that is not shown, or not what it is taken for."""
        return _faults(self, _Itself(query))


@lru_cache(maxsize=4)
def _recorded(made: Contract) -> Recorded:
    return Recorded(made.recordings)


class _Itself(Generic[Thing]):
    """A key that is equal to itself alone, as nothing about what it holds is compared."""

    __slots__ = ("thing",)

    def __init__(self, thing: Thing) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.thing is self.thing  # pyright: ignore[reportUnknownMemberType]

    def __hash__(self) -> int:
        return id(self.thing)


@lru_cache(maxsize=1024)
def _bases(made: Contract, query: _Itself[Expr]) -> tuple[Selector, ...]:
    return tuple(made.recorded.bases(query.thing))


@lru_cache(maxsize=4096)  # a panel's are asked for when it is made, when files agree, and when that is told
def _faults(made: Contract, query: _Itself[Expr]) -> tuple[str, ...]:
    return tuple(closure.faults(query.thing, made.world))


def contract(spec: Spec) -> Contract:
    """Collect what all policies show and raise; raises AgreementError when a query names what nothing shows."""
    return _contract(_Itself(spec))


@lru_cache(maxsize=2)  # the checks ask for it, and then whoever generates
def _contract(of: _Itself[Spec]) -> Contract:
    spec = of.thing
    bare = shown(spec)
    expected = Expected(spec.service.traffic, spec.service.tier)
    policies = tuple(
        (name, policy.expecting(expected).reading(name, _asked(bare))) for name, policy in _policies(spec)
    )
    job = spec.service.name
    recorded = (
        *restarts.recordings(),
        *(one for name, policy in policies for one in policy.recordings(name)),
    )
    recordings = tuple(
        replace(one, expr=scoped(one.expr, job), labels=(("service", job), *one.labels)) for one in recorded
    )
    alerts = [
        *(alert for concern in _CONCERNS for alert in concern.alerts(spec)),
        *(alert for name, policy in policies for alert in policy.alerts(name)),
    ]
    named = tuple(_named(waiting(alert), job) for alert in alerts)
    signals = merge([*bare.signals.values(), *(one.signal for one in recordings)])
    made = replace(bare, signals={one.name: one for one in signals}, recordings=recordings, alerts=named)
    agree(made)
    return made


def shown(spec: Spec) -> Contract:
    """The part of a contract that a process needs: its series, without the rules over them."""
    common = (one for concern in _CONCERNS for one in concern.signals(spec))
    own = (one for name, policy in _policies(spec) for one in policy.signals(name))
    signals = {one.name: one for one in merge([*common, *own])}
    return Contract(spec, spec_hash(spec), signals, (), ())


def _policies(spec: Spec) -> Iterator[tuple[str, Policy]]:
    """Those that are at work, with the names they go by."""
    for _, name, policy in spec.policies():
        if getattr(policy, "mode", "enforce") != "off":
            yield name, policy


def doubts(name: str, policy: Policy, bare: Contract) -> Iterator[AgreementError]:
    """What keeps the rules of one policy from being made, or from agreeing with the series that there are."""
    try:
        read = policy.reading(name, _asked(bare))
        recordings, alerts = read.recordings(name), read.alerts(name)
    except AgreementError as fault:
        yield fault
        return
    signals = merge([*bare.signals.values(), *(one.signal for one in recordings)])
    world = closure.World({one.name: one for one in signals}, bare.job)
    for expr in (*(one.expr for one in recordings), *(one.expr for one in alerts)):
        yield from map(AgreementError, closure.faults(scoped(expr, bare.job), world))


def _asked(bare: Contract) -> Mapping[str, Signal]:
    """The series that a query of the spec may ask for: of the spec that it is part of, and of no other."""
    return {**bare.signals, SPEC_INFO.name: SPEC_INFO.closed(hash=bare.hash)}


def merge(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    """One signal per name: the union of the label values and of the buckets of all that carry it."""
    alike: dict[str, list[Signal]] = {}
    for one in signals:
        alike.setdefault(one.name, []).append(one)
    return tuple(map(_joined, alike.values()))


def agree(made: Contract) -> None:
    """Resolve every node of every query; raises AgreementError at the first that nothing shows."""
    for expr in _queries(made):
        closure.resolve(expr, made.world)


def _queries(made: Contract) -> Iterator[Expr]:
    yield from (one.expr for one in made.recordings)
    for alert in made.alerts:
        yield alert.expr
        yield from (feed.series for feed in alert.proof)


def _named(alert: Alert, job: str) -> Alert:
    proof = tuple(replace(feed, series=_scope(feed.series, job)) for feed in alert.proof)
    return replace(alert, name=camel(job) + alert.name, expr=scoped(alert.expr, job), proof=proof)


def scoped(expr: Expr, job: str) -> Expr:
    """The same query, of this service alone."""
    return expr.map_selectors(lambda selector: _scope(selector, job))


def _scope(selector: Selector, job: str) -> Selector:
    return selector.scoped("service" if selector.signal.source is Source.RULE else "job", job)


def _joined(alike: Sequence[Signal]) -> Signal:
    first, *others = alike
    if not others:
        return first
    labels = tuple(_union([one.label(label.name) for one in alike]) for label in first.labels)
    return replace(first, labels=labels, buckets=tuple(sorted({le for one in alike for le in one.buckets})))


def _union(alike: Sequence[Label]) -> Label:
    closed = [one.values for one in alike if one.values is not None]
    return Label(alike[0].name, tuple(dict.fromkeys(chain.from_iterable(closed))) if closed else None)
