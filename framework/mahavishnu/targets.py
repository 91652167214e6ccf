"""What only deploys: image, resources, replicas, and the places a service runs in."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StrictBool, StringConstraints, model_validator

from mahavishnu.ground.unfit import unfit
from mahavishnu.settings import SecretRef, Settings
from mahavishnu.units import DAY, Cpu, Duration, Percent, Size

SCALED_TO = Percent.parse("70%")
"""How busy the autoscaler keeps the processors of the replicas, on the average."""
SCALED_ABOVE = Percent.parse("77%")
"""From where it adds one: by Kubernetes' default a tenth above its target is still on target."""

GOOGLE = (IPv4Network("35.191.0.0/16"), IPv4Network("130.211.0.0/22"))
"""From where Google asks how a pod is, and its public load balancers reach one; the same everywhere."""

Replicas = Annotated[int, Field(strict=True, ge=1, le=1000)]
Host = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$", max_length=253
    ),
    Field(examples=["shop.example.com"]),
]
DnsLabel = Annotated[
    str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"), Field(examples=["shop-eu"])
]
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_REGISTRY = rf"({_LABEL}(\.{_LABEL})*:[0-9]{{1,5}}|{_LABEL}(\.{_LABEL})+)"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
Image = Annotated[
    str,
    StringConstraints(
        pattern=rf"^({_REGISTRY}/)?{_PART}(/{_PART})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha256:[0-9a-f]{{64}})?$",
        max_length=255,
    ),
    Field(examples=["ghcr.io/example/shop"]),
]


def _at_most_a_day(startup: Duration) -> Duration:
    if startup > DAY:
        what = f"a replica that may take {startup} to start"
        raise unfit(what, "take `1d` or less; one that never starts is to be seen")
    return startup


class Resources(Settings):
    """What one replica gets: requested and limited alike, so that it is never starved nor evicted first."""

    cpu: Cpu = Cpu.parse("500m")
    """Thousandths of a core."""
    memory: Size = Size.parse("512Mi")
    """Working memory; more than this kills the replica."""


class Scale(Settings):
    """How many replicas run."""

    min: Replicas = 1
    """In quiet times."""
    max: Replicas = 1
    """Under load."""

    @property
    def vary(self) -> bool:
        """Whether there are more of them under load."""
        return self.min < self.max

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.min > self.max:
            what = f"at least {self.min} replicas, but at most {self.max}"
            raise unfit(what, "make `max` at least `min`")
        return self


class Compose(Settings):
    """Docker Compose on one host."""

    monitoring: StrictBool = True
    """Whether Prometheus, Alertmanager and Grafana run beside the service."""
    grafana_password: SecretRef | None = None
    """The secret that holds the password of Grafana's `admin`; without it nobody logs in, and all on this host look."""
    publish: Literal["all", "host"] = "all"
    """Who reaches the port, and with it the series: everybody, or this host alone, where a proxy runs before it."""


class Kubernetes(Settings):
    """A Kubernetes cluster, through kustomize."""

    namespace: DnsLabel = "default"
    """Where every object lives."""
    host: Host | None = None
    """The public name; without it there is no Ingress."""
    ingress_class: DnsLabel = "nginx"
    """Which ingress controller serves it, and may reach the pods: `contour`, `haproxy`, `istio`, `kong`, `nginx` and
    `traefik` from where their documentation puts them; the load balancers `alb`, `azure-application-gateway`, `gce` and
    `gce-internal` from the networks of `service.trusted_proxies`. Of any other it is not known: everybody may.
    Behind Google's no response lasts longer than 30 s; `alb` takes its certificate from AWS Certificate Manager."""
    ingress_namespace: DnsLabel | None = None
    """Where that controller runs, if not where its documentation puts it."""
    ipv6: StrictBool = False
    """Whether a pod's first address is of IPv6: several workers then listen at `::`, at which the app sees a client of
    IPv4 as `::ffff:203.0.113.9`. One worker listens at both kinds anyway."""
    monitoring_namespace: DnsLabel = "monitoring"
    """Where Prometheus runs, which reads the series of each pod: the NetworkPolicy lets it in from there alone."""


class Targets(Settings):
    """Where the service runs."""

    later: ClassVar[frozenset[str]] = frozenset({"cloud_run"})

    compose: Compose | None = None
    """Docker Compose."""
    kubernetes: Kubernetes | None = None
    """Kubernetes."""

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.compose is not None or self.kubernetes is not None


class Deploy(Settings):
    """What is deployed, how large, how often, and where."""

    later: ClassVar[frozenset[str]] = frozenset({"rollout"})

    image: Image | None = None
    """The image, without a tag, or pinned by tag or digest; the service's name when absent. Compose pulls one with a
    digest, and builds any other."""
    resources: Resources = Resources.model_construct()
    """What one replica gets."""
    replicas: Scale = Scale.model_construct()
    """How many of them."""
    startup: Annotated[Duration, AfterValidator(_at_most_a_day)] = Duration.parse("60s")
    """How long a replica may take to start, as to import or to load a model: one that does not answer by then is killed
    and started anew on Kubernetes, and `unhealthy` on Compose."""
    shutdown: Duration = Duration.parse("30s")
    """How long a replica may take to end what it has begun."""
    targets: Targets = Targets.model_construct()
    """Where it runs."""
