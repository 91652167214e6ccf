"""The catalogue: the shape of mahavishnu.yaml, nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from decimal import Decimal
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    StrictBool,
    StringConstraints,
    model_validator,
)

from mahavishnu.errors import Path
from mahavishnu.ground.addresses import Network, canonical, reachable
from mahavishnu.ground.environments import called
from mahavishnu.ground.unfit import unfit
from mahavishnu.notify import Alerts, AnyChannel, Text, Url
from mahavishnu.policies.backup import Backup
from mahavishnu.policies.body import Body
from mahavishnu.policies.breaker import Breaker
from mahavishnu.policies.bulkhead import Bulkhead
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policies.dead_letters import DeadLetters
from mahavishnu.policies.fallback import AnyFallback, DeadLetter
from mahavishnu.policies.rate import Rate
from mahavishnu.policies.retry import Retry
from mahavishnu.policies.slo import Slo
from mahavishnu.policies.throttle import Throttle
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit, Policy
from mahavishnu.settings import BudgetHeader, Name, OneOf, SecretRef, Settings, exactly, listed
from mahavishnu.snapshots.retention import Keep
from mahavishnu.store import MEMORY, StoreUrl
from mahavishnu.targets import Deploy
from mahavishnu.units import DAY, SECOND, Duration, Percent
from mahavishnu.units import Rate as Traffic

Keeper = Literal["journald", "files", "loki", "elasticsearch", "opensearch"]
AnyLimit = Annotated[Limit, OneOf(Rate, Concurrency, Body, Timeout)]
_TAKEN = re.compile(r"MAHAVISHNU_.*|PYTHON.*|PATH|HOME|SECRETS_DIR")
"""Variables that say how the service is run."""
RoutePath = Annotated[
    str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]*$", max_length=100), Field(examples=["/metrics"])
]


def _free(name: str) -> str:
    if _TAKEN.fullmatch(name):
        what = f"`{name}` is a variable that says how the service is run"
        raise unfit(what, f"give the secret another name, like `SHOP_{name}`")
    return name


SecretName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,62}$"),
    AfterValidator(_free),
    Field(examples=["SLACK_WEBHOOK"]),
]


def _as_sent(origin: str) -> str:
    """The origin itself, when a browser says it so."""
    if not reachable(origin):
        what, help = f"`{origin}` leads to no host and port", "write one like `https://shop.example.com`"
    elif origin != (sent := _origin(origin)):
        what, help = f"no browser sends the origin `{origin}`", f'write `"{sent}"`'
    else:
        return origin
    raise unfit(what, help)


def _origin(url: str) -> str:
    """The origin of a URL: lowercase, without the port that is the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{ip_address(host)}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


def _a_second(every: Duration) -> Duration:
    if every < SECOND:
        what = f"series pushed every {every}"
        raise unfit(what, "take `1s` or more; `15s` is usual")
    return every


def _whole_day(length: Duration) -> Duration:
    if length < DAY:
        what = f"logs kept for {length}: what keeps them forgets whole files, of hours or days"
        raise unfit(what, "write `1d` or more")
    return length


class Service(Settings):
    """Which service this is and how it is started."""

    name: Name
    """The service's name: a metric label, the job in Prometheus, a name in Kubernetes."""
    owner: Text | None = None
    """Who answers for it."""
    tier: Literal["critical", "standard", "experimental"] = "standard"
    """How much depends on it."""
    app: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"), Field(examples=["shop.main:app"])
    ]
    """The ASGI app as `module:attribute`."""
    app_dir: Annotated[
        str,
        StringConstraints(pattern=r"^(\.|\w[\w.-]*(/\w[\w.-]*)*)$", max_length=200),
        Field(examples=["src"]),
    ] = "."
    """The folder in which the module is found, from the spec's own folder."""
    hardening: Literal["app", "elsewhere"] = "app"
    """Where `Hardening` is put around the app: in what `app` names, as `check` makes sure, or `elsewhere`, as in the
    file that starts a server of your own, which no target of `deploy` can start."""
    outside: tuple[
        Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=100), Field(examples=["Tenants"])], ...
    ] = ()
    """Middlewares that are meant to stand outside of `Hardening`, by the names that `check` tells: what they answer
    themselves passes no limit, log or series."""
    port: Annotated[int, Field(strict=True, ge=1024, le=65535)] = 8000
    """The port the service listens on."""
    workers: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """Processes per replica: uvicorn's `--workers`. They are scraped as one; what is counted in a process, like places
    and a rate without a `store`, each has for itself."""
    head_timeout: Duration = Duration.parse("10s")
    """How long a client may take to send the head of a request, where uvicorn is started with
    `--http mahavishnu.server:HeadDeadline`, as the generated files do."""
    traffic: Traffic | None = None
    """The expected load, by which checks judge whether numbers can be reached."""
    trusted_proxies: tuple[
        Annotated[IPvAnyNetwork, exactly(str), Field(examples=["10.0.0.0/8"])] | Literal["unix"], ...
    ] = ()
    """Networks whose forwarding header is believed; `unix`: whoever reaches a Unix socket at which the server listens;
    empty: nobody's."""
    forwarded: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The one header in which they tell whom they speak for; the other one is never read. By which scheme the client
    came is read from `X-Forwarded-Proto`, or from `proto=` of `Forwarded`."""

    def networks(self) -> dict[int, Network]:
        """The networks among `trusted_proxies`, by their places there."""
        listed = enumerate(self.trusted_proxies)
        return {place: canonical(one) for place, one in listed if one != "unix"}


class Dependency(Settings):
    """What happens when another service fails; `timeout` is that of one attempt."""

    url: Url | None = None
    """Where it is."""
    timeout: Duration | None = None
    """How long one attempt may take. It ends those of `async` code, and requests of `httpx_client()`; nothing can end
    any other call of synchronous code: give its client the same timeout."""
    retry: Retry | None = None
    """Whether and how a failed attempt is repeated."""
    breaker: Breaker | None = None
    """When to stop calling it."""
    throttle: Throttle | None = None
    """When to send it less than it is asked for."""
    bulkhead: Bulkhead | None = None
    """How many calls run at once."""
    fallback: AnyFallback | None = None
    """What stands in for a call that may be repeated and failed: `dead_letter`, `stale_cache`, or a mapping that
    begins with `static` or `stale_cache`."""
    propagate: BudgetHeader | None = None
    """The header in which its httpx clients tell it how long they still wait: `grpc-timeout` in gRPC's form,
    names that end in `-ms` in milliseconds, all others in seconds."""

    def policies(self) -> Iterator[tuple[str, Policy]]:
        """Its policies with their keys, from the outermost to the innermost."""
        for key in type(self).model_fields:
            if isinstance(value := getattr(self, key), Policy):
                yield key, value


class Retention(Settings):
    """How long each kind of data lives."""

    backups: Keep | None = None
    """Which snapshots of each backup are kept; all of them when absent."""
    metrics: Duration = Duration.parse("45d")
    """How long Prometheus keeps its series; at least the longest SLO window."""
    dead_letters: Duration = Duration.parse("14d")
    """How long a dead letter is kept at the most, quarantined or not."""
    logs: Annotated[Duration, AfterValidator(_whole_day), Field(examples=["30d"])] | None = None
    """How old a line of the log becomes at the most, in every place of `observability.logs.kept_in`; at least a day."""


class Metrics(Settings):
    """Where the series are shown."""

    path: RoutePath = "/metrics"
    """The path Prometheus scrapes."""
    otlp: Url | None = None
    """A collector to which they are pushed as well, by OTLP over HTTP: `http://collector:4318`."""
    every: Annotated[Duration, AfterValidator(_a_second)] = Duration.parse("15s")
    """How often they are pushed."""

    @model_validator(mode="after")
    def _pushed(self) -> Metrics:
        if "every" in self.model_fields_set and self.otlp is None:
            what = "`every` without `otlp`: the series are pushed nowhere"
            help = "name a collector, like `otlp: http://collector:4318`, or remove `every`"
            raise unfit(what, help)
        return self


class Traces(Settings):
    """Where the spans of requests, and of the calls made for them, are sent."""

    otlp: Url
    """A collector that takes them by OTLP over HTTP: `http://collector:4318`."""
    sample: Percent = Percent(Decimal(1))
    """The share of traces that is kept, decided once for each by its id; where a trusted proxy has decided, that holds.
    Every request has its ids, in the log and for those it calls, kept or not."""


class Logs(Settings):
    """One line for each request, on standard output."""

    format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is written: this and worse."""
    redact: tuple[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"), Field(examples=["card_number"])],
        ...,
    ] = ()
    """Fields whose values are never written, besides those that are secret anyway; dead letters hold no headers of
    these names, for the client that makes a request again adds its own."""
    kept_in: Annotated[
        tuple[Keeper, ...],
        BeforeValidator(listed, json_schema_input_type=Keeper | list[Keeper]),
    ] = ()
    """Where the lines lie, and are forgotten as `retention.logs` says: `journald` (Compose then writes to it), `files`
    (below `/var/log`; also where nothing is said), or the store to which a collector ships them."""


class Observability(Settings):
    """What the service shows of itself."""

    metrics: Metrics = Metrics.model_construct()
    """The series."""
    logs: Logs = Logs.model_construct()
    """The log."""
    traces: Traces | None = None
    """The spans; none are made when absent."""

    @property
    def collectors(self) -> tuple[str, ...]:
        """Whom the process itself sends what it shows."""
        said = (self.metrics.otlp, self.traces and self.traces.otlp)
        return tuple(dict.fromkeys(one for one in said if one))


class Cors(Settings):
    """Which other origins may call from a browser, with any method and header."""

    origins: Annotated[
        tuple[
            Annotated[
                str,
                StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$"),
                AfterValidator(_as_sent),
                Field(examples=["https://shop.example.com"]),
            ],
            ...,
        ],
        Field(min_length=1),
    ]
    """Their origins, like `https://shop.example.com`."""
    credentials: StrictBool = False
    """Whether their pages may send cookies, as that of a session, and read the answers."""
    expose: tuple[
        Annotated[
            str,
            StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"),
            Field(examples=["X-Total-Count"]),
        ],
        ...,
    ] = ()
    """Headers of the app's answers that their scripts may read; those of a refusal they may read anyway."""


class Security(Settings):
    """What every response says to browsers."""

    later: ClassVar[frozenset[str]] = frozenset({"scan"})

    headers: Literal["strict"] | None = None
    """`strict`: HSTS, CSP, nosniff, no referrer, no framing. Pages load scripts and styles from the service alone, so
    FastAPI's `/docs` and `/redoc` stay blank. A header that an answer of the app has is left as it is."""
    cors: Cors | None = None
    """Cross-origin requests."""


class Ops(Settings):
    """What operators are shown, who have the token; never anybody who comes through a proxy."""

    later: ClassVar[frozenset[str]] = frozenset({"actions"})

    path: RoutePath = "/-/mahavishnu"
    """The path it lies below: `<path>/refused` are the clients that are refused most, as JSON."""
    token: SecretRef
    """The secret that is asked for as bearer token; at least 16 characters."""


class Spec(Settings):
    """How a service survives."""

    later: ClassVar[frozenset[str]] = frozenset({"smoke", "readiness"})

    mahavishnu: Annotated[Literal[1], exactly(int)]
    """The version of the format, and the mark of the file."""
    service: Service
    """Which service this is and how it is started."""
    secrets: tuple[SecretName, ...] = ()
    """The names of the secrets that `${NAME}` may stand for."""
    store: StoreUrl = MEMORY
    """Where limits are counted: `memory://` in each process, `redis://`, `valkey://`, `unix://` for all together."""
    limits: dict[Name, AnyLimit] = Field(default_factory=dict)
    """Inbound: who may ask how much."""
    dependencies: dict[Name, Dependency] = Field(default_factory=dict)
    """Outbound: what happens when others fail."""
    dead_letters: DeadLetters = DeadLetters.model_construct()
    """Failed calls that are kept to be made again: those of every dependency with `fallback: dead_letter`."""
    slos: dict[Name, Slo] = Field(default_factory=dict)
    """What is promised."""
    channels: dict[Name, AnyChannel] = Field(default_factory=dict)
    """Ways to tell a person."""
    alerts: Alerts = Alerts.model_construct()
    """Who is told what."""
    retention: Retention = Retention.model_construct()
    """How long each kind of data lives."""
    backups: dict[Name, Backup] = Field(default_factory=dict)
    """What is backed up, and how it is proved that it restores."""
    observability: Observability = Observability.model_construct()
    """What the service shows of itself."""
    security: Security = Security.model_construct()
    """What every response says to browsers."""
    ops: Ops | None = None
    """What operators are shown."""
    deploy: Deploy = Deploy.model_construct()
    """What is deployed, and where."""
    environment: Name | None = None
    """Which environment this is the spec of: `--env` says it, and it is written into what is generated for that."""
    environments: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """What differs in each environment: a JSON merge patch over everything above."""

    @property
    def full_name(self) -> str:
        """What the service is called among those of all environments: so its keys on a shared server are named."""
        return called(self.service.name, self.environment)

    @property
    def shared(self) -> bool:
        """Whether all processes count together."""
        return self.store != MEMORY

    @property
    def fleet_rates(self) -> dict[str, Rate]:
        """The rates that all processes should count together, by name; but for those that are off."""
        rates = ((name, one) for name, one in self.limits.items() if isinstance(one, Rate))
        return {name: one for name, one in rates if one.scope == "fleet" and one.mode != "off"}

    @property
    def deadlines(self) -> dict[str, Timeout]:
        """The deadlines of requests that are enforced, by name."""
        limits = self.limits.items()
        return {name: one for name, one in limits if isinstance(one, Timeout) and one.mode == "enforce"}

    @property
    def fleet_breakers(self) -> tuple[str, ...]:
        """The dependencies whose breakers should tell those of all processes; but for those that are off."""
        breakers = ((name, one.breaker) for name, one in self.dependencies.items())
        return tuple(name for name, one in breakers if one and one.scope == "fleet" and one.mode != "off")

    def awaited(self, tool: str) -> tuple[str, ...]:
        """The limits of a tool's calls that the shared store decides: its answer must be awaited."""
        rates = self.fleet_rates.items() if self.shared else ()
        return tuple(name for name, one in rates if one.match is not None and one.match.calls(tool))

    @property
    def heard(self) -> tuple[str, ...]:
        """The channels that hear of alerts where no route says otherwise: all but those of the heartbeat alone."""
        routed = {name for names in self.alerts.route.values() for name in names}
        return tuple(name for name in self.channels if name not in {*self.alerts.heartbeat} - routed)

    @property
    def processes(self) -> int:
        """How many processes may run at the same time."""
        return self.service.workers * self.deploy.replicas.max

    def keeps(self, backup: str) -> Keep | None:
        """Which snapshots of a backup are kept; None: all of them."""
        return self.backups[backup].retention or self.retention.backups

    @property
    def parking(self) -> tuple[str, ...]:
        """The dependencies whose failed calls become dead letters."""
        return tuple(name for name, one in self.dependencies.items() if isinstance(one.fallback, DeadLetter))

    @property
    def stores(self) -> tuple[str, ...]:
        """The servers and files that the process itself reads and writes: of limits, and of dead letters."""
        return (self.store, *((self.dead_letters.store,) if self.parking else ()))

    @property
    def asks_redis(self) -> bool:
        """Whether the process needs a client of Redis."""
        return self.shared or bool(self.parking and self.dead_letters.file is None)

    def policies(self) -> Iterator[tuple[Path, str, Policy]]:
        """Every policy of the spec: its path, the name it goes by, and its settings."""
        yield from ((("limits", name), name, limit) for name, limit in self.limits.items())
        for name, dependency in self.dependencies.items():
            yield from ((("dependencies", name, key), name, policy) for key, policy in dependency.policies())
        yield from ((("slos", name), name, slo) for name, slo in self.slos.items())
        yield from ((("backups", name), name, backup) for name, backup in self.backups.items())
        yield from (
            (("alerts", "thresholds", name), name, one) for name, one in self.alerts.thresholds.items()
        )


def spec_hash(spec: Spec) -> str:
    """Sixteen hex digits that differ for specs that differ; secrets stay symbolic in it."""
    text = spec.model_dump_json(by_alias=True, exclude={"environment", "environments"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]
