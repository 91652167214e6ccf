"""Who hears of an alert: channels, routes by severity, and quiet hours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar
from zoneinfo import TZPATH, available_timezones

from pydantic import AfterValidator, Field, StrictBool, StringConstraints, model_validator

from mahavishnu.ground.addresses import reachable
from mahavishnu.ground.secret_refs import REFERENCE, stands_for_all
from mahavishnu.ground.unfit import unfit
from mahavishnu.policies.queried import Queried
from mahavishnu.policies.threshold import Threshold
from mahavishnu.settings import Keyed, Name, OneOf, SecretRef, Settings
from mahavishnu.signals import Severity
from mahavishnu.store import HoldsSecret

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
_TWINS = frozenset({"posix", "right", "posixrules"})
"""Where a tz database has all its zones a second and a third time, and one without a name."""


def _reachable(url: str) -> str:
    """The URL itself, when its host is a name or an address and its port a port."""
    if reachable(url):
        return url
    what = "the URL leads to no host and port"  # which is not shown: it may hold a password
    raise unfit(what, "write one like `https://example.com:8443/path`")


def _posted_to(url: str) -> str:
    """The URL itself, when it means the same to every Alertmanager: newer ones expand templates in it."""
    if "{{" not in url:
        return url if stands_for_all(url) else _reachable(url)
    what, help = "the URL would be a template to Alertmanager", "write `%7B` for each `{`"
    raise unfit(what, help)


def _mail_server(place: str) -> str:
    """The host and port themselves, when they are that."""
    if reachable(f"smtp://{place}"):
        return place
    what, help = f"`{place}` is no host and port", "write them like `smtp.example.com:587`"
    raise unfit(what, help)


_URL = r"https?://[^\s/?#@]+([/?#]\S*)?"
Url = Annotated[
    str,
    StringConstraints(pattern=rf"^{_URL}$", max_length=500),
    AfterValidator(_reachable),
    Field(examples=["https://example.com/path"]),
]
HookUrl = Annotated[
    str,
    StringConstraints(pattern=rf"^({REFERENCE}|{_URL})$", max_length=500),
    AfterValidator(_posted_to),
    HoldsSecret(),
    Field(examples=["https://example.com/path", "${HEARTBEAT_URL}"]),
]
Address = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s@,<>]+@[^\s@,<>]+$", max_length=200),
    Field(examples=["oncall@example.com"]),
]
Clock24 = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Slack(Keyed):
    """Messages to a Slack channel."""

    keyword: ClassVar[str] = "slack"
    slack: SecretRef
    """The secret that holds the incoming webhook's URL."""
    channel: Annotated[str, StringConstraints(pattern=r"^[#@][^\s]{1,80}$"), Field(examples=["#shop-alerts"])]
    """The channel, with its `#`."""


class PagerDuty(Keyed):
    """Incidents in PagerDuty."""

    keyword: ClassVar[str] = "pagerduty"
    pagerduty: SecretRef
    """The secret that holds the integration's routing key."""


class Email(Keyed):
    """Mail to an address."""

    keyword: ClassVar[str] = "email"
    email: Address
    """Who gets the mail."""
    smtp: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}$"),
        AfterValidator(_mail_server),
        Field(examples=["smtp.example.com:587"]),
    ]
    """The server that sends it, as host:port; at port 465 it is spoken to in TLS from the first byte."""
    require_tls: StrictBool = True
    """At any other port it must offer STARTTLS, else nothing is sent; `false`: alerts are sent in plain text."""
    sender: Address | None = None
    """The address it comes from; the receiver's own when absent."""
    password: SecretRef | None = None
    """The secret that holds the server's password; the user is the sender."""

    @property
    def starttls(self) -> bool:
        """Whether STARTTLS is demanded: where nothing else makes it TLS, as far as Alertmanager knows."""
        return self.require_tls and not self.smtp.endswith(":465")

    @model_validator(mode="after")
    def _password_is_hidden(self) -> Email:
        if self.password and not self.require_tls:
            what = "a password would be sent in plain text"
            raise unfit(what, "remove `require_tls: false`, or the password")
        return self


class Webhook(Keyed):
    """A POST of Alertmanager's own JSON, to a service that takes that: yours, or one that watches heartbeats."""

    keyword: ClassVar[str] = "webhook"
    webhook: HookUrl
    """The URL it is posted to, which is written into what is generated; or `${NAME}`, a secret that holds the URL, as
    where nothing but the URL keeps others out."""
    token: SecretRef | None = None
    """The secret sent as bearer token."""


Channel = Slack | PagerDuty | Email | Webhook
AnyThreshold = Annotated[Threshold | Queried, OneOf(Threshold, Queried)]
AnyChannel = Annotated[Channel, OneOf(Slack, PagerDuty, Email, Webhook)]


HEARTBEAT = "heartbeat"
"""The severity of the alert that always fires, and who is told of it."""
NOBODY = "nobody"
"""Alertmanager's receiver without any channel."""


def receiver(service: str, what: str) -> str:
    """Alertmanager's receiver of one severity of a service: others may have theirs beside it."""
    return f"{service}-{what}"


def _spelled(root: str, name: str) -> bool:
    """Whether a folder of the tz database has a zone, spelled so also where files are found in any spelling."""
    here = Path(root)
    for part in name.split("/"):
        if not here.is_dir() or part not in {one.name for one in here.iterdir()}:
            return False
        here /= part
    return here.is_file() and here.read_bytes().startswith(b"TZif")


def _known_zone(name: str) -> str:
    # To read all that there are takes tens of milliseconds.
    twin = name.partition("/")[0] in _TWINS
    usual = not twin and any(_spelled(root, name) for root in TZPATH)
    if not usual and name not in available_timezones():
        what = f"`{name}` is no time zone"
        raise unfit(what, "write one like `Europe/London`")
    return name


class Quiet(Settings):
    """Hours in which alerts of one severity are held back."""

    severity: Severity
    """Which alerts are held back."""
    start: Clock24 = Field(alias="from")
    """The first minute, like `22:00`."""
    end: Clock24 = Field(alias="to")
    """The minute in which they are sent again, like `07:00`; may lie on the next day."""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """The time zone of both."""

    @model_validator(mode="after")
    def _ends(self) -> Quiet:
        if self.start == self.end:
            what = f"quiet hours from {self.start} to {self.end} either never begin or never end"
            raise unfit(what, "make `from` and `to` differ")
        return self


class Alerts(Settings):
    """Where alerts go, what they link to, and further alerts on conditions of your own."""

    route: dict[Severity, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        default_factory=dict[Severity, tuple[Name, ...]]
    )
    """The channels of each severity; when absent, for all of them every channel but those of the heartbeat. Where no
    other is left, nobody would be told (MV405)."""
    runbooks: Url | None = None
    """Where the generated runbooks are served, as they are (`<this>/ShopDown.md`); each alert links its page there."""
    dashboards: Url | None = None
    """Where Grafana is, with the generated dashboards; each alert links its panel there."""
    thresholds: dict[Name, AnyThreshold] = Field(default_factory=dict)
    """Further alerts, on top of those derived from limits, dependencies and SLOs."""
    quiet: tuple[Quiet, ...] = ()
    """Hours in which alerts of one severity are held back."""
    heartbeat: tuple[Name, ...] = ()
    """The channels that are told every few minutes that alerts still work: a service there raises the alarm when that
    stops, as nobody else can when Prometheus or Alertmanager is dead."""
