"""Random specs that `check` has no error for: every section and policy, with and without its options."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Mapping = dict[str, Any]
Draw = st.DrawFn

_WORDS = (
    "shop",
    "login",
    "a1",
    "per_client",
    "x",
    "search_v2",
    "reports",
    "orders",
    "long_name_of_a_part",
    "b2_c3",
)
names = st.sampled_from(_WORDS) | st.from_regex(
    r"[a-z][a-z0-9]{0,8}(_[a-z][a-z0-9]{0,4}){0,2}", fullmatch=True
)
severities = st.sampled_from(["P1", "P2", "P3", "P4"])
paths = st.sampled_from(["/", "/login", "/orders/{id}", "/orders/*", "/a.b-c~d/*/e", "/{path:path}"])
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
modes = st.sampled_from(["observe", "enforce", "off"])
percents = st.sampled_from(["0.1%", "1%", "5%", "33.3%", "50%", "90%", "99.5%"])
times = st.sampled_from(["100ms", "500ms", "1s", "2s", "5s", "10s"])
holds = st.sampled_from(["1m", "90s", "5m", "30m", "45m", "2h"])
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30).map(
    lambda text: text if text.strip() else "team"
)


def _some(draw: Draw, required: Mapping, **optional: st.SearchStrategy[Any]) -> Mapping:
    """The required keys, and each optional one or not."""
    chosen = {key: draw(value) for key, value in optional.items() if draw(st.booleans())}
    return {**required, **chosen}


@st.composite
def matches(draw: Draw) -> Mapping:
    """Which requests a policy is about."""
    return _some(draw, {}, path=paths, method=methods)


@st.composite
def limits(draw: Draw) -> Mapping:
    """One limit of any kind."""
    shared: Mapping = {"match": matches(), "mode": modes}
    kind = draw(st.sampled_from(["rate", "concurrency", "body", "timeout"]))
    if kind == "rate":
        count = draw(st.integers(1, 1000))
        period = draw(st.sampled_from(["second", "minute", "15m", "hour", "1d"]))
        algorithm = draw(st.sampled_from(["gcra", "sliding_window", "sliding_log"]))
        burst: Mapping = {"burst": st.integers(1, 500)} if algorithm == "gcra" else {}
        required: Mapping = {}
        kinds = ["client", "ip", "network", "user", "api_key", "session", "route", "header:X-Tenant"]
        if draw(st.integers(0, 3)) == 0:
            kinds = [*kinds, "tool"]
            shared = {
                **shared,
                "match": st.fixed_dictionaries({"tool": st.sampled_from(["search*", "build_report"])}),
            }
            required = {"match": draw(shared.pop("match"))}
        dimensions = st.lists(st.sampled_from(kinds), min_size=1, max_size=4, unique=True)
        said = {"rate": f"{count}/{period}", "algorithm": algorithm, **required}
        fleet = {"on_store_failure": st.sampled_from(["local", "open", "closed"])}
        where: Mapping = draw(st.sampled_from([fleet, {"scope": st.just("process")}]))
        return _some(draw, said, per=dimensions | st.just("global"), **burst, **where, **shared)
    if kind == "concurrency":
        places = draw(st.integers(1, 500) | st.just("adaptive"))
        most: Mapping = {"max": st.integers(1, 500)} if places == "adaptive" else {}
        ranks = st.lists(matches(), max_size=3)
        queued = st.fixed_dictionaries({"queue": st.integers(1, 100)}, optional={"wait": times})
        return _some(
            draw,
            {"concurrency": places, **(draw(queued) if draw(st.booleans()) else {})},
            critical=ranks,
            sheddable=ranks,
            **most,
            **shared,
        )
    if kind == "body":
        size = draw(st.sampled_from(["1kB", "64KiB", "1MiB", "5MB"]))
        paces: Mapping = {"within": times, "min_rate": st.sampled_from(["1KiB/s", "10kB/s"])}
        return _some(draw, {"body": size}, **paces, **shared)
    return _some(
        draw,
        {"timeout": draw(st.sampled_from(["15s", "20s", "30s"]))},
        idle=st.sampled_from(["10s", "30s"]),
        inherit=st.sampled_from(["grpc-timeout", ["x-request-timeout-ms", "request-timeout"]]),
        **shared,
    )


@st.composite
def dependencies(draw: Draw) -> Mapping:
    """One dependency with any of its policies."""
    retry = st.fixed_dictionaries(
        {"attempts": st.integers(1, 4), "base": st.just("50ms"), "max": st.just("200ms")},
        optional={
            "budget": percents,
            "within": st.sampled_from(["5s", "10s"]),
            "retry_on": st.sampled_from([["timeout", "connect", 503], ["result", "shop.errors.Busy"]]),
        },
    )
    window = {"window": st.sampled_from(["10s", "30s", "1m"]), "min_calls": st.integers(1, 30)}
    failures = st.sampled_from([[404], ["ValueError", "timeout"], ["shop.errors.Declined", 503, "connect"]])
    ignored = st.sampled_from([[409], ["timeout"], ["shop.errors.Busy", "connect", 503]])
    opens = {
        "open_for": st.sampled_from(["5s", "30s"]),
        "max_open_for": st.sampled_from(["30s", "5m"]),
        "probes": st.integers(1, 10),
        "failure_on": failures,
        "ignore": ignored,
        "mode": st.one_of(modes, st.sampled_from(["open", "closed"])),
    }
    failing = {"failure_rate": percents, **window}
    slow = {"slow_call": times, "slow_rate": percents, **window}
    breaker = st.one_of(
        st.fixed_dictionaries(failing, optional=opens),
        st.fixed_dictionaries({**failing, "slow_call": times}, optional=opens),
        st.fixed_dictionaries(slow, optional=opens),
        st.fixed_dictionaries({"consecutive_failures": st.integers(2, 20)}, optional=opens),
    )
    throttle = st.fixed_dictionaries(
        {},
        optional={
            "accepts": st.sampled_from(["25%", "50%", "90%"]),
            "window": st.sampled_from(["30s", "2m"]),
            "min_calls": st.integers(1, 100),
            "most": st.sampled_from(["50%", "99.9%"]),
            "refused_on": st.sampled_from([[429], ["timeout", 503]]),
            "mode": modes,
        },
    )
    waits = st.sampled_from(["50ms", "500ms"])
    bulkhead = st.fixed_dictionaries({"concurrency": st.integers(1, 100)}, optional={"wait": waits})
    said = {"timeout": draw(st.sampled_from(["100ms", "250ms", "1s"]))}
    url = st.sampled_from(["https://api.example.com", "http://catalogue:8080/v1"])
    told = st.sampled_from(["grpc-timeout", "x-request-timeout-ms", "request-timeout"])
    stale = st.fixed_dictionaries(
        {"stale_cache": st.sampled_from(["30s", "1h"])},
        optional={"entries": st.integers(1, 100), "size": st.just("1MiB")},
    )
    static = st.sampled_from([0, "none", [1, "two"], False]).map(lambda value: {"static": value})
    fallback = st.one_of(st.sampled_from(["dead_letter", "stale_cache"]), stale, static)
    return _some(
        draw,
        said,
        url=url,
        retry=retry,
        breaker=breaker,
        throttle=throttle,
        bulkhead=bulkhead,
        fallback=fallback,
        propagate=told,
    )


letters = st.fixed_dictionaries(
    {
        "store": st.sampled_from(
            ["${REDIS_URL}", "redis://letters:6379", "rediss://:${REDIS_URL}@letters:6380"]
        )
    },
    optional={
        "redrive": st.just({"attempts": 4, "base": "30s", "max": "10m"}),
        "entries": st.integers(1, 100_000),
        "size": st.just("8MiB"),
        "when_full": st.sampled_from(["refuse", "displace"]),
    },
)
"""Where dead letters are kept, and how many."""


@st.composite
def slos(draw: Draw) -> Mapping:
    """One promise whose alerts can all fire."""
    said: Mapping = {
        "objective": draw(st.sampled_from(["99%", "99.5%", "99.9%", "99.95%", "99.999%", "98.7%"]))
    }
    if draw(st.booleans()) and draw(st.booleans()):
        said = {"objective": "80%", "severities": ["P4"]}
    kinds = st.lists(severities, unique=True, min_size=1, max_size=4)
    more: Mapping = {} if "severities" in said else {"severities": kinds}
    return _some(
        draw,
        said,
        under=st.sampled_from(["5ms", "300ms", "1s", "1234ms", "30s"]),
        window=st.sampled_from(["7d", "28d", "30d", "90d"]),
        match=matches(),
        min_requests=st.sampled_from(["auto", 50]),
        **more,
    )


CHANNELS: tuple[Mapping, ...] = (
    {"slack": "${SLACK_WEBHOOK}", "channel": "#alerts"},
    {"pagerduty": "${PAGERDUTY_KEY}"},
    {"webhook": "http://alerts.internal:9000/hook?x=1&y=%20"},
    {"webhook": "https://hooks.example.com/a", "token": "${HOOK_TOKEN}"},
    {"email": "oncall@example.com", "smtp": "smtp.example.com:587"},
    {
        "email": "o'ncall+x@example.com",
        "smtp": "smtp.example.com:465",
        "sender": "me@example.com",
        "password": "${SMTP_PASSWORD}",
    },
    {"email": "oncall@example.com", "smtp": "relay.internal:25", "require_tls": False},
)
SECRETS = [
    "SLACK_WEBHOOK",
    "PAGERDUTY_KEY",
    "HOOK_TOKEN",
    "SMTP_PASSWORD",
    "OPS_TOKEN",
    "REDIS_URL",
    "DATABASE_URL",
    "RESTIC_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "BACKUP_SSH_KEY",
]


@st.composite
def backups(draw: Draw) -> Mapping:
    """A backup that any target can make."""
    sources: list[Mapping] = [
        {"postgres": "${DATABASE_URL}"},
        {"command": ["mysqldump", "shop"], "secrets": ["${DATABASE_URL}"]},
    ]
    source = draw(st.sampled_from(sources))
    places = ["s3:https://s3.example.com/shop/orders", "rest:https://me:${RESTIC_PASSWORD}@b.example.com/"]
    vault = "[vault.example.org]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHaIl7bkKynPbQ4KYuFHFnSCHlShVq0L4ta+Vx0w8zl"
    if ssh := draw(st.booleans()):
        places[1] = "sftp://me@vault.example.org:2222//srv/orders"
    claim: Mapping = {"assert": "select count(*) > 0 from orders"} if "postgres" in source else {}
    verify: Mapping = {"restore": draw(st.sampled_from(["daily", "weekly", "monthly"])), **claim}
    counts = st.integers(1, 100)
    keep = st.fixed_dictionaries(
        {}, optional={"daily": counts, "weekly": counts, "monthly": counts, "last": counts}
    )
    schedule, rpo = draw(
        st.sampled_from([("0 2 * * *", "25h"), ("*/30 * * * *", "2h"), ("15 3 * * sun", "8d")])
    )
    return _some(
        draw,
        {"source": source, "to": places, "password": "${RESTIC_PASSWORD}", "schedule": schedule, "rpo": rpo},
        credentials=st.just(["${AWS_SECRET_ACCESS_KEY}"]),
        rto=st.sampled_from(["10m", "1h"]),
        verify=st.just(verify),
        hooks=st.just({"before": ["sync"], "after": ["sh", "-c", "echo done"]}),
        retention=keep,
        scratch=st.just("1GiB"),
    ) | ({"ssh": {"key": "${BACKUP_SSH_KEY}", "known_hosts": [vault]}} if ssh else {})


def parks(spec: Mapping) -> bool:
    """Whether any call becomes a dead letter."""
    return any(one.get("fallback") == "dead_letter" for one in spec["dependencies"].values())


@st.composite
def conditions(draw: Draw, spec: Mapping) -> str:
    """One condition over what the spec has."""
    on = {name: one for name, one in spec["limits"].items() if one.get("mode") != "off"}
    gates = [name for name, one in on.items() if "concurrency" in one]
    rates = [name for name in on if name not in gates]
    slow = [
        name
        for name, one in spec["dependencies"].items()
        if "slow_call" in one.get("breaker", {}) and one["breaker"].get("mode") != "off"
    ]
    if parks(spec):
        thresholds = ["dead_letters.depth >= 1", "dead_letters.age >= 10m"]
        if draw(st.booleans()):
            return draw(st.sampled_from(thresholds))
    shares = ["memory", "cpu", "error_rate"]
    shares += [f"limits.{name}.refused" for name in (*gates, *rates)]
    shares += [f"limits.{name}.utilisation" for name in gates]
    shares += [f"dependencies.{name}.failures" for name in spec["dependencies"]]
    shares += [f"dependencies.{name}.slow" for name in slow]
    choices: list[st.SearchStrategy[str]] = [
        st.builds("{} > {}".format, st.sampled_from(shares), percents),
        st.builds("{} > {}".format, st.sampled_from(["latency.p50", "latency.p95", "latency.p99"]), times),
        st.sampled_from(["memory > 100Mi", "memory >= 64Mi", "cpu >= 100%", "latency.p99 > 20s", "cpu < 5%"]),
    ]
    queues = [
        f"queue.{name} > {spec['limits'][name]['queue'] // 2}"
        for name in gates
        if spec["limits"][name].get("queue")
    ]
    if spec["backups"]:
        ages = [f"backups.{name}.age > 1d6h" for name in spec["backups"]]
        choices.append(st.sampled_from(ages))
    if queues:
        choices.append(st.sampled_from(queues))
    return draw(st.one_of(choices))


@st.composite
def alerting(draw: Draw, spec: Mapping) -> Mapping:
    """Routes, thresholds and quiet hours over what the spec has."""
    said: Mapping = {}
    if spec["channels"]:
        known = st.lists(st.sampled_from(sorted(spec["channels"])), min_size=1, max_size=3, unique=True)
        if draw(st.booleans()):
            said["route"] = {severity: draw(known) for severity in ("P1", "P2", "P3", "P4")}
    threshold = st.fixed_dictionaries(
        {"when": conditions(spec), "severity": severities}, optional={"for": holds}
    )
    hours = st.sampled_from(["00:00", "06:30", "12:00", "22:00", "23:59"])
    quiet = st.fixed_dictionaries(
        {"severity": severities, "from": hours, "to": hours},
        optional={"timezone": st.sampled_from(["UTC", "Europe/London", "Asia/Kolkata"])},
    ).filter(lambda one: one["from"] != one["to"])
    return _some(
        draw,
        said,
        runbooks=st.sampled_from(["https://runbooks.example.com/shop", "http://r/"]),
        dashboards=st.sampled_from(["https://grafana.example.com", "http://g/sub/"]),
        thresholds=st.dictionaries(names, threshold, max_size=4),
        quiet=st.lists(quiet, max_size=3),
    )


@st.composite
def deployments(draw: Draw) -> Mapping:
    """Where and how large."""
    least = draw(st.integers(1, 5))
    kubernetes = st.fixed_dictionaries(
        {},
        optional={
            "namespace": st.sampled_from(["shop", "a-b"]),
            "host": st.just("shop.example.com"),
            "monitoring_namespace": st.just("observability"),
            "ipv6": st.booleans(),
        },
    )
    publish = st.sampled_from(["all", "host"])
    compose = st.fixed_dictionaries({}, optional={"monitoring": st.booleans(), "publish": publish})
    targets = st.fixed_dictionaries({}, optional={"compose": compose, "kubernetes": kubernetes})
    return _some(
        draw,
        {"shutdown": "45s"},
        startup=st.sampled_from(["1500ms", "5m"]),
        image=st.sampled_from(["ghcr.io/example/shop", "shop"]),
        resources=st.fixed_dictionaries(
            {"cpu": st.sampled_from(["250m", "2000m"]), "memory": st.just("256Mi")}
        ),
        replicas=st.integers(least, 12).map(lambda most: {"min": least, "max": most}),
        targets=targets,
    )


PROXIES = ["10.0.0.0/8", "fd00::/8"]


@st.composite
def services(draw: Draw) -> Mapping:
    """A service."""
    return _some(
        draw,
        {"name": draw(names), "app": "shop.main:app"},
        owner=texts,
        tier=st.sampled_from(["critical", "standard", "experimental"]),
        port=st.integers(1024, 65535),
        workers=st.sampled_from([2, 4]),
        head_timeout=st.sampled_from(["500ms", "10s"]),
        traffic=st.sampled_from(["50/second", "1000/minute"]),
        trusted_proxies=st.just(PROXIES),
    )


STORES = (
    "memory://",
    "${REDIS_URL}",
    "redis://redis:6379",
    "valkeys://shop:${REDIS_URL}@cache.example.com:6380/2?socket_timeout=0.05",
    "unix:///run/redis/redis.sock?db=1",
)


def _alone(limit: Mapping) -> Mapping:
    """A rate that is right without a shared store, however many processes there are."""
    if "rate" not in limit:
        return limit
    return {**{key: one for key, one in limit.items() if key != "on_store_failure"}, "scope": "process"}


@st.composite
def specs(draw: Draw) -> Mapping:
    """A whole spec, as the mapping that a file would hold."""
    spec: Mapping = {
        "mahavishnu": 1,
        "service": draw(services()),
        "secrets": SECRETS,
        "limits": draw(st.dictionaries(names, limits(), max_size=5)),
        "store": draw(st.sampled_from(STORES)),
        "dependencies": draw(st.dictionaries(names, dependencies(), max_size=3)),
        "slos": draw(st.dictionaries(names, slos(), max_size=2)),
        "backups": draw(st.dictionaries(names, backups(), max_size=2)),
        "channels": draw(st.dictionaries(names, st.sampled_from(CHANNELS), max_size=4)),
        "retention": {"metrics": "100d"},
    }
    if spec["backups"] and draw(st.booleans()):
        spec["retention"]["backups"] = {"daily": 30, "weekly": 12, "monthly": 6, "retain_at_least": "6d"}
    if spec["store"].startswith(("memory:", "unix:")):
        spec["limits"] = {name: _alone(one) for name, one in spec["limits"].items()}
    if parks(spec):
        spec["dead_letters"] = draw(letters)
        spec["retention"]["dead_letters"] = draw(st.sampled_from(["2d", "14d"]))
    spec["alerts"] = draw(alerting(spec))
    spec["deploy"] = draw(deployments())
    targets: Mapping = spec["deploy"].get("targets", {})
    ingress = "host" in targets.get("kubernetes", {})
    if ingress or targets.get("compose", {}).get("publish") == "host" or "header:" in str(spec["limits"]):
        spec["service"]["trusted_proxies"] = PROXIES
    if "trusted_proxies" in spec["service"] and not ingress and draw(st.booleans()):
        spec["service"]["forwarded"] = "forwarded"
    return _some(
        draw,
        spec,
        observability=st.fixed_dictionaries(
            {},
            optional={
                "metrics": st.sampled_from(
                    [{"path": "/internal/metrics"}, {"otlp": "http://collector:4318", "every": "30s"}]
                ),
                "traces": st.just({"otlp": "http://collector:4318", "sample": "10%"}),
                "logs": st.just({"format": "console", "level": "debug", "redact": ["card"]}),
            },
        ),
        ops=st.fixed_dictionaries(
            {"token": st.sampled_from(["${OPS_TOKEN}", "${HOOK_TOKEN}"])},
            optional={"path": st.just("/-/ops")},
        ),
        security=st.fixed_dictionaries(
            {
                "headers": st.just("strict"),
                "cors": st.fixed_dictionaries(
                    {"origins": st.just(["https://shop.example.com"])},
                    optional={"credentials": st.booleans(), "expose": st.just(["X-Total-Count"])},
                ),
            }
        ),
    )
