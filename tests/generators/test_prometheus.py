"""Rules that promtool accepts, each proved to fire and to clear, and no proof that a wrong number passes."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from mahavishnu.agreement.proof import agreement
from mahavishnu.alerts.handful import LEAST, parts
from mahavishnu.contract import Contract, agree
from mahavishnu.promql import Call, Expr, Number, total
from mahavishnu.queries import written as query
from mahavishnu.series import HTTP_DURATION, LIMIT_DECISIONS, LIMIT_IN_FLIGHT, LIMIT_QUOTA
from mahavishnu.signals import AgreementError, Alert, Severity
from mahavishnu.units import MINUTE, Duration
from tests.figures import FULL, figure
from tests.judges import of_both
from tests.monitoring import MINIMAL, accepts, artifacts, ask, made, shop, texts, written
from tests.reading import read
from tests.strategies import specs

prove: Any = import_module("mahavishnu.generators._prove")
steady: Any = import_module("mahavishnu.queries.steady")
go: Any = import_module("mahavishnu.generators._go")

# One of each kind of alert that has a window, a hold, or an absence of its own.
EVERYTHING: dict[str, Any] = {
    **MINIMAL,
    "service": {"name": "my_shop", "app": "shop.main:app", "owner": "payments"},
    "limits": {
        "per_client": {"rate": "100/minute"},
        "reports": {"concurrency": 4, "queue": 8},
        "side": {"concurrency": "adaptive", "match": {"path": "/side"}},
        "uploads": {"body": "1MiB"},
        "request": {"timeout": "10s", "mode": "observe"},
    },
    "dependencies": {
        "stripe": {
            "timeout": "1s",
            "retry": {"attempts": 2},
            "breaker": {"failure_rate": "50%", "slow_call": "500ms"},
            "bulkhead": {"concurrency": 8},
        }
    },
    "slos": {
        "latency": {"objective": "95%", "under": "300ms", "match": {"path": "/orders/*", "method": "GET"}},
    },
    "alerts": {
        "runbooks": "https://runbooks.example.com/shop/",
        "dashboards": "https://grafana.example.com/",
        "thresholds": {
            "memory": {"when": "memory > 90%", "for": "10m", "severity": "P2"},
            "bytes": {"when": "memory >= 400Mi", "severity": "P3"},
            "cpu": {"when": "cpu > 85%", "for": "2h", "severity": "P3"},
            "errors": {"when": "error_rate > 5%", "severity": "P2"},
            "slow": {"when": "latency.p95 > 800ms", "severity": "P3"},
            "slowest": {"when": "latency.p99 > 20s", "severity": "P3"},
            "idle": {"when": "limits.reports.utilisation < 10%", "severity": "P4"},
            "refused": {"when": "limits.per_client.refused > 20%", "severity": "P4"},
            "queue": {"when": "queue.reports > 4", "severity": "P3"},
            "failures": {"when": "dependencies.stripe.failures > 20%", "severity": "P2"},
            "sluggish": {"when": "dependencies.stripe.slow > 20%", "severity": "P3"},
            "timeouts": {
                "query": 'sum(rate(mahavishnu_dependency_calls_total{outcome="timeout"}[5m])) > 3',
                "severity": "P3",
            },
            "old": {"query": "time() - mahavishnu_spec_reload_timestamp_seconds > 86400", "severity": "P4"},
            # What is greatest or least of a window changes at once, or only when all of it is new.
            "peak": {
                "query": "max_over_time(process_resident_memory_bytes[20m]) > 1e9",
                "for": "2m",
                "severity": "P4",
            },
            "never_below": {
                "query": "min_over_time(process_resident_memory_bytes[20m]) > 1e9",
                "severity": "P4",
            },
            # An average over samples that are above their bound by as much as others are below it.
            "half_away": {"query": "avg_over_time(up[5m]) <= 0.5", "severity": "P3"},
            "dip": {
                "query": 'min_over_time(mahavishnu_limit_in_flight{limit="reports"}[20m]) < 3',
                "for": "2m",
                "severity": "P4",
            },
            "never_above": {
                "query": 'max_over_time(mahavishnu_limit_in_flight{limit="reports"}[20m]) < 3',
                "severity": "P4",
            },
        },
    },
}


# Objectives on queries: events with a guard, and time.
QUERIED: dict[str, Any] = {
    **MINIMAL,
    "limits": {},
    "dependencies": {"stripe": {"timeout": "1s"}},
    "slos": {
        "stripe": {
            "objective": "99%",
            "query": {
                "total": 'mahavishnu_dependency_calls_total{dependency="stripe"}',
                "bad": 'mahavishnu_dependency_calls_total{dependency="stripe",outcome=~"failure|timeout"}',
            },
            "window": "28d",
            "min_requests": "auto",
        },
        "reread": {
            "objective": "98%",
            "fresh": "2h",
            "query": {"age": "time() - mahavishnu_spec_reload_timestamp_seconds"},
            "window": "7d",
        },
    },
    "alerts": {
        "thresholds": {
            "slow": {
                "query": "histogram_quantile(0.99, sum by (le) "
                "(rate(http_server_request_duration_seconds_bucket[5m]))) > 0.5",
                "severity": "P3",
            },
        }
    },
}


def rules(of: Contract) -> list[dict[str, Any]]:
    """The rules that are written, read back."""
    groups = read(texts(of)["prometheus/rules.yml"])["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exprs(of: Contract) -> list[Expr]:
    """Every query of the rules."""
    return [*(one.expr for one in of.recordings), *(one.expr for one in of.alerts)]


def proofs(folder: Path) -> Iterator[Path]:
    """The test files, the quick one first."""
    yield from sorted((folder / "prometheus").glob("*.test.yml"), reverse=True)


@pytest.mark.proof
@pytest.mark.judge
@pytest.mark.parametrize("window", ["7d", "28d", "30d", "90d"])
def test_every_window_is_proved(window: str, tmp_path: Path) -> None:
    """The shortest windows of a period are seen at a pace of their own, however long the period is; so is time."""
    age = {"query": {"age": "time() - mahavishnu_spec_reload_timestamp_seconds"}}
    objectives = {
        "a": {"objective": "99.999%", "window": window, "under": "1s"},
        "b": {"objective": "99%", "window": window, "fresh": "26h", "severities": ["P4"], **age},
    }
    folder = written(made(MINIMAL | {"slos": objectives, "retention": {"metrics": "120d"}}), tmp_path)
    accepts("promtool", "test", "rules", *proofs(folder))


@pytest.mark.judge
@pytest.mark.parametrize(("least", "spent"), [("auto", 0), (None, 1)])
def test_one_failure_among_few_requests_spends_no_budget(
    least: str | None, spent: int, tmp_path: Path
) -> None:
    """As it raises no burn rate; without `min_requests` it is what the arithmetic says."""
    objective = {"objective": "99.9%"} | ({"min_requests": least} if least else {})
    folder = written(made(MINIMAL | {"slos": {"a": objective}}), tmp_path)
    counted = 'mahavishnu_slo_requests_total{job="shop",instance="a",slo="a",outcome="%s"}'
    fires = 'count(ALERTS{alertname="ShopSloABudgetExhausted",alertstate="firing"}) or vector(0)'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": counted % "good", "values": "0+5x40"},
            {"series": counted % "bad", "values": "0x14 1x26"},
        ],
        "promql_expr_test": [
            {"expr": fires, "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": spent}]}
        ],
    }
    asked = folder / "prometheus/few.yml"
    said = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    asked.write_text(json.dumps(said))
    accepts("promtool", "test", "rules", asked)


# Objectives over the very series that an alert waits for, longer than promtool loads samples of a minute.
LONG: dict[str, Any] = {
    **MINIMAL,
    "slos": {
        "conflicts": {
            "objective": "99%",
            "severities": [],
            "query": {
                "total": "http_server_request_duration_seconds_count",
                "bad": 'http_server_request_duration_seconds_count{http_response_status_code="409"}',
            },
        }
    },
    "alerts": {"thresholds": {"errors": {"when": "error_rate > 1%", "for": "2d", "severity": "P3"}}},
}
LONGEST: dict[str, Any] = {
    **LONG,
    "dependencies": {"p": {"timeout": "1s"}},
    "slos": {
        **LONG["slos"],
        "calls": {
            "objective": "99%",
            "window": "90d",
            "query": {
                "total": "mahavishnu_dependency_calls_total",
                "bad": 'mahavishnu_dependency_calls_total{outcome="timeout"}',
            },
        },
    },
    "alerts": {
        "thresholds": {
            "slow": {"when": "latency.p99 > 1s", "for": "7d", "severity": "P3"},
            **{
                f"within_{window}": {
                    "query": f'increase(mahavishnu_dependency_calls_total{{outcome="{outcome}"}}[{window}]) > 3',
                    "for": hold,
                    "severity": "P3",
                }
                for window, hold, outcome in (
                    ("2m", "7d", "timeout"),
                    ("7m", "3d", "failure"),
                    ("45m", "6d", "rejected"),
                    ("6h", "7d", "cancelled"),
                )[:: 1 if FULL else 3]
            },
            "gone": {
                "query": 'absent(rate(mahavishnu_dependency_calls_total{outcome="success"}[5m]) > 1)',
                "for": "7d",
                "severity": "P3",
            },
        }
    },
}


@pytest.mark.parametrize("of", [made(LONG), made(LONGEST)], ids=["long", "longest"])
def test_no_series_of_a_test_has_more_samples_than_promtool_loads(of: Contract) -> None:
    """An objective over a month looks at all of them at once, whatever the test is about."""
    for name in ("rules.test.yml", "rules.slow.test.yml"):
        for test in read(texts(of)[f"prometheus/{name}"])["tests"]:
            for series in test["input_series"]:
                runs = re.findall(r"(?<![_\d])[\d.]+\+[\d.]+x(\d+)", series["values"])
                assert sum(int(one) + 1 for one in runs) < 10_000, (test["name"], series["series"])


@pytest.mark.proof
@pytest.mark.judge
@pytest.mark.parametrize("said", [LONG, LONGEST] if FULL else [LONG])
def test_what_is_waited_for_is_proved_however_long(said: dict[str, Any], tmp_path: Path) -> None:
    """With the samples that its windows look at; and a hold that is a step longer or shorter is noticed."""
    folder = written(made(said), tmp_path)
    slow = folder / "prometheus/rules.slow.test.yml"
    accepts("promtool", "test", "rules", slow)
    rules = folder / "prometheus/rules.yml"
    text = rules.read_text(encoding="utf-8")
    if said is LONG:
        for hold in ("47h30m", "48h30m"):
            rules.write_text(text.replace("for: 2d", f"for: {hold}"), encoding="utf-8")
            assert ask("promtool", "test", "rules", slow).returncode == 1, hold


@pytest.mark.judge
@pytest.mark.parametrize(
    "of",
    [made(MINIMAL), *(pytest.param(made(one), marks=pytest.mark.proof) for one in (EVERYTHING, QUERIED))],
    ids=["minimal", "everything", "queried"],
)
@of_both
def test_promtool_accepts_rules_configuration_and_tests(of: Contract, tmp_path: Path) -> None:
    """And the tests really pass: every alert fires and clears when the arithmetic says so."""
    folder = written(of, tmp_path)
    accepts("promtool", "check", "rules", "--lint-fatal", folder / "prometheus/rules.yml")
    accepts("promtool", "check", "config", folder / "prometheus/prometheus.yml")
    accepts("promtool", "test", "rules", *proofs(folder))


@pytest.mark.parametrize(
    "of",
    [made(MINIMAL), made(EVERYTHING), made(QUERIED), shop()],
    ids=["minimal", "everything", "queried", "shop"],
)
def test_every_alert_is_tested_both_ways(of: Contract) -> None:
    """Silent when healthy, firing on its fault, silent again afterwards; nothing else is tested."""
    tests = [*prove.fast(of), *prove.slow(of)]
    for alert in of.alerts:
        said = [check for test in tests for check in test.checks if check.alert is alert]
        assert {check.firing for check in said} == {False, True}, alert.name
        clears = [
            test
            for test in tests
            if (found := [check.firing for check in test.checks if check.alert is alert])
            and not found[0]
            and any(found)
            and not found[max(index for index, firing in enumerate(found[:-1]) if firing) + 1]
        ]
        assert clears, f"{alert.name} is never seen to clear"


def test_generating_twice_gives_the_same_bytes() -> None:
    """A pure function of the contract."""
    assert artifacts(made(EVERYTHING)) == artifacts(made(EVERYTHING))


# --- mutation: a number that is off by one step must not pass ----------------------------------------------


class Mutation(NamedTuple):
    """One rule changed in one place."""

    alert: Alert
    what: str
    old: str
    new: str


def mutations(of: Contract) -> Iterator[Mutation]:
    """Every threshold one step up and down, every hold halved and doubled, every window of a handful a minute off.

    A threshold of nothing at all has no number below it.
    """
    for alert in of.alerts:
        text = alert.expr.render()
        for number in dict.fromkeys(re.findall(r"(?:[<>]=?|==) ([0-9.]+)", text)):
            for new in steps(number):
                yield Mutation(
                    alert,
                    "threshold",
                    text,
                    re.sub(rf"([<>]=?|==) {re.escape(number)}\b", rf"\1 {new}", text),
                )
        if alert.hold is not None and alert.hold >= Duration.parse("2m"):
            for hold in (Duration(alert.hold // 2), Duration(alert.hold * 2)):
                yield Mutation(alert, "hold", f"for: {alert.hold}", f"for: {hold}")
        _, enough = parts(alert)
        if enough is not None:
            for other in (Duration(enough.window - MINUTE), Duration(enough.window + MINUTE)):
                yield Mutation(alert, "window", text, text.replace(f"[{enough.window}]", f"[{other}]"))


def steps(number: str) -> Iterator[str]:
    """The next number up and down in its last digit, in the fourth one where there are more."""
    value = Decimal(number)
    digits = len(value.as_tuple().digits)
    place = value.adjusted() - min(digits, 4) + 1 if value else 0
    for new in (value + Decimal(1).scaleb(place), value - Decimal(1).scaleb(place)):
        if new >= 0:
            yield f"{new:f}"


def unnoticed(of: Contract, chosen: list[Mutation], folder: Path) -> list[str]:
    """The mutations under which every generated test of the alert still passes."""
    written(of, folder)
    whole = (folder / "prometheus/rules.yml").read_text(encoding="utf-8")
    missed: list[str] = []
    for one in chosen:
        start = whole.index(f"- alert: {one.alert.name}\n")
        assert one.old in whole[start:], one
        changed = whole[:start] + whole[start:].replace(one.old, one.new, 1)
        (folder / "prometheus/rules.yml").write_text(changed, encoding="utf-8")
        if all(ask("promtool", "test", "rules", path).returncode == 0 for path in alone(folder, one.alert)):
            missed.append(f"{one.alert.name}: {one.what} {one.old!r} -> {one.new!r}")
    return missed


_read_once = lru_cache(maxsize=8)(read)  # the tests are the same for every mutation of the rules


def alone(folder: Path, alert: Alert) -> Iterator[Path]:
    """The test files, reduced to the tests in which this alert is checked."""
    for path in proofs(folder):
        whole = _read_once(path.read_text(encoding="utf-8"))
        name = f'alertname="{alert.name}"'
        tests = [
            test for test in whole["tests"] if any(name in one["expr"] for one in test["promql_expr_test"])
        ]
        if tests:
            reduced = path.with_name(f"alone.{path.name}.json")
            reduced.write_text(json.dumps({**whole, "tests": tests}), encoding="utf-8")
            yield reduced


@pytest.mark.judge
def test_a_threshold_off_by_one_step_is_noticed(tmp_path: Path) -> None:
    """A sample over every kind of alert; `make proof` does them all."""
    for spec, step in ((EVERYTHING, 20), (QUERIED, 40)):
        of = made(spec)
        chosen = {one.alert.name: one for one in mutations(of)}
        assert len(chosen) == len(of.alerts)
        assert unnoticed(of, list(chosen.values())[::step], tmp_path) == []


@pytest.mark.judge
@pytest.mark.proof
@pytest.mark.parametrize(
    "of", [made(EVERYTHING), made(QUERIED), shop()], ids=["everything", "queried", "shop"]
)
def test_every_threshold_and_hold_off_by_one_step_is_noticed(of: Contract, tmp_path: Path) -> None:
    """Up and down, for every alert; a sample of twelve at less than full length."""
    every = list(mutations(of))
    chosen = every if FULL else random.Random(of.job).sample(every, min(12, len(every)))
    missed = unnoticed(of, chosen, tmp_path)
    caught = len(chosen) - len(missed)
    told = f"{caught} of {len(chosen)}" + (f", drawn from {len(every)}" if len(chosen) < len(every) else "")
    figure(f"mutated thresholds and holds caught ({of.job})", "all", told)
    assert missed == []


@pytest.mark.judge
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[1h]", "[2h]"),
        ("[6h]", "[5h]"),
        *(pytest.param(*one, marks=pytest.mark.proof) for one in (("[5m]", "[10m]"), ("[3d]", "[2d]"))),
    ],
)
def test_a_recording_over_another_window_is_noticed(old: str, new: str, tmp_path: Path) -> None:
    """The timing tests know when each window must be full."""
    of = made({**MINIMAL, "limits": {}})
    folder = written(of, tmp_path)
    path = folder / "prometheus/rules.yml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    slow_first = reversed([*proofs(folder)])  # it has few tests, and the other one need not be asked after it
    assert any(ask("promtool", "test", "rules", one).returncode == 1 for one in slow_first)


# --- what the rules say ------------------------------------------------------------------------------------


def test_labels_say_severity_service_and_tier() -> None:
    """What Alertmanager routes and inhibits by."""
    labels = {rule["alert"]: rule["labels"] for rule in rules(made(EVERYTHING)) if "alert" in rule}
    assert labels["MyShopSloLatencyBurnP2"] == {
        "severity": "P2",
        "service": "my_shop",
        "slo": "latency",
        "tier": "medium",
        "short": "30m",
        "long": "6h",
    }


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("runbook_url", "https://runbooks.example.com/shop/MyShopDown.md"),
        ("panel_url", r"https://grafana.example.com/d/my-shop-service?viewPanel=24"),
    ],
)
def test_what_is_served_is_linked(kind: str, first: str) -> None:
    """Each alert links its page and its panel, where the spec says who serves them; else nothing."""
    linked = [rule["annotations"].get(kind) for rule in rules(made(EVERYTHING)) if "alert" in rule]
    assert first in linked
    assert len({*linked} - {None}) == len(linked)
    assert all(kind not in rule["annotations"] for rule in rules(made(MINIMAL)) if "alert" in rule)


def test_no_number_carries_the_dirt_of_a_float() -> None:
    """At most twelve significant digits, however odd the objective is."""
    for objective in ("99.9%", "99.95%", "98.7%", "99.999999%", "70.3%"):
        for window in ("7d", "28d", "30d", "90d"):
            of = made({**MINIMAL, "slos": {"odd": {"objective": objective, "window": window}}})
            assert dirty(exprs(of)) == []


@pytest.mark.parametrize("number", ["0.30000000000000004", "1e-7", "0.1000000000000000055", "1E+3"])
def test_the_dirt_of_a_float_would_be_found(number: str) -> None:
    """As it is, and within a query."""
    one = Number(Decimal(number))
    assert dirty([one > 0]) == ([number] if len(number) > 12 else [])
    assert dirty([Written(f"up > {number}")]) == [number]


class Written(Expr):
    """A query that is text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def render(self) -> str:
        return self.text


def dirty(of: Iterable[Expr]) -> list[str]:
    """Numbers in the text of queries that nobody would write: of more than twelve digits, or with an exponent."""
    bare = (re.sub(r'"[^"]*"', "", str(expr)) for expr in of)
    numbers = (
        found for text in bare for found in re.findall(r"(?<![\w.])[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?", text)
    )
    return [one for one in numbers if len(one.replace(".", "").strip("0")) > 12 or "e" in one.lower()]


def test_the_scrape_job_is_the_one_the_rules_select() -> None:
    """Job, path and port are the service's own, under the name it has in the compose file."""
    spec = {**EVERYTHING, "observability": {"metrics": {"path": "/internal/metrics"}}}
    spec["service"] = {**EVERYTHING["service"], "port": 9999}
    of = made(spec)
    (scrape,) = read(texts(of)["prometheus/prometheus.yml"])["scrape_configs"]
    assert scrape["job_name"] == "my_shop"
    assert scrape["metrics_path"] == "/internal/metrics"
    assert scrape["dns_sd_configs"][0] == {
        "names": ["my-shop"],
        "type": "A",
        "port": 9999,
        "refresh_interval": "15s",
    }
    selected = {
        m.value for one in of.alerts for s in one.expr.selectors() for m in s.matchers if m.label == "job"
    }
    assert selected == {"my_shop"}


def test_a_clusters_prometheus_finds_the_pods_of_the_deployment() -> None:
    """Namespace, label and port of the scrape job are those of the generated pods."""
    of = made({**EVERYTHING, "deploy": {"targets": {"kubernetes": {"namespace": "prod"}}}})
    kubernetes: Any = import_module("mahavishnu.generators.kubernetes")
    objects = {one.path: one.text for one in kubernetes.generate(of)}
    deployment = read(objects["kubernetes/deployment.yaml"])
    pod = deployment["spec"]["template"]
    (port,) = [port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]]
    files = texts(of)
    (job,) = read(files["prometheus/scrape.kubernetes.yml"])
    own = read(files["prometheus/prometheus.yml"])["global"]
    for key in ("scrape_interval", "scrape_timeout"):
        assert job[key] == own[key], "a cluster asks every minute, unless it is told otherwise"
    assert own["evaluation_interval"] == own["scrape_interval"]
    keep = job["relabel_configs"][0]
    assert job["job_name"] == of.job
    assert job["kubernetes_sd_configs"][0]["namespaces"]["names"] == [deployment["metadata"]["namespace"]]
    assert re.fullmatch(keep["regex"], f"{pod['metadata']['labels']['app.kubernetes.io/name']};{port}")
    assert keep["source_labels"][0].endswith("pod_label_app_kubernetes_io_name")
    (drop,) = [one for one in job["relabel_configs"] if one.get("action") == "drop"]
    assert drop["source_labels"] == ["__meta_kubernetes_pod_phase"]
    dropped = [
        one for one in ("Pending", "Running", "Succeeded", "Failed") if re.fullmatch(drop["regex"], one)
    ]
    assert dropped == ["Succeeded", "Failed"], "a pod that was evicted would be one that is down, for days"


def test_every_group_says_how_often_it_is_evaluated() -> None:
    """As often as its series are new, whatever the Prometheus does by itself that reads it."""
    groups = read(texts(shop())["prometheus/rules.yml"])["groups"]
    assert {one["name"]: one["interval"] for one in groups if one["interval"] != "15s"} == {
        "shop-recordings-costly": "2m"
    }


@pytest.mark.judge
@pytest.mark.parametrize(("staging", "code"), [("shop", 1), ("shop_staging", 0)])
def test_one_prometheus_watches_environments_that_have_names_of_their_own(
    staging: str, code: int, tmp_path: Path
) -> None:
    """The way out that `check` names works, and without it there is none."""
    jobs = list[Any]()
    for name in ("shop", staging):
        service, kubernetes = {**MINIMAL["service"], "name": name}, {"namespace": f"prod-{len(jobs)}"}
        of = made({**MINIMAL, "service": service, "deploy": {"targets": {"kubernetes": kubernetes}}})
        (job,) = read(texts(of)["prometheus/scrape.kubernetes.yml"])
        del job["kubernetes_sd_configs"]  # which Debian builds Prometheus without
        jobs.append(job)
        (tmp_path / f"{len(jobs)}.yml").write_text(texts(of)["prometheus/rules.yml"], encoding="utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text(
        json.dumps({"rule_files": ["1.yml", "2.yml"], "scrape_configs": jobs}), encoding="utf-8"
    )
    assert ask("promtool", "check", "config", config).returncode == code


# --- the budget -------------------------------------------------------------------------------------------

COUNT = 'mahavishnu_slo_requests_total{job="shop",slo="availability",outcome="%s"}'
OK, FAILED = COUNT % "good", COUNT % "bad"
LEFT = 'slo:error_budget:remaining_ratio{slo="availability"}'
RATIO = 'slo:sli_error:ratio_rate5m{slo="availability"}'


@pytest.mark.judge
@pytest.mark.parametrize(
    ("series", "expr", "value"),
    [
        # A busy time without errors, then a hundredth of the traffic, half of it errors: 300 of 60,600 requests.
        ({OK: "0+6000x10 60030+30x9", FAILED: "0+0x10 30+30x9"}, LEFT, 1 - (300 / 60_600) / 0.001),
        ({OK: "0+600x20", FAILED: "0+0x20"}, LEFT, 1),
        ({OK: "0+600x20", FAILED: "0+0x20"}, RATIO, 0),
        ({OK: "0+0x20", FAILED: "0+600x20"}, RATIO, 1),
        ({OK: "7+0x20", FAILED: "7+0x20"}, RATIO, None),
        ({OK: "7+0x20", FAILED: "7+0x20"}, LEFT, None),
        ({}, RATIO, None),
    ],
)
def test_budgets_weigh_requests_and_silence_is_no_number(
    series: dict[str, str], expr: str, value: float | None, tmp_path: Path
) -> None:
    """Never an average of ratios, never NaN: without traffic there is no sample that could poison a month."""
    checked = f"count({expr}) or vector(0)" if value is None else f"abs({expr} - {value!r}) < bool 1e-9"
    sample = {"labels": "{}", "value": 0} if value is None else None
    found = {"labels": '{service="shop", slo="availability"}', "value": 1}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": checked, "eval_time": "20m", "exp_samples": [sample or found]}],
    }
    path = written(made(MINIMAL), tmp_path) / "prometheus/budget.test.yml"
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    path.write_text(json.dumps(whole), encoding="utf-8")
    accepts("promtool", "test", "rules", path)


# --- agreement ---------------------------------------------------------------------------------------------


def test_a_rule_that_names_an_unknown_series_is_refused() -> None:
    """Take any series out of the contract, and the rules that need it no longer agree."""
    of = made(EVERYTHING)
    used = {s.signal.name for expr in exprs(of) for s in expr.selectors()}
    assert len(used) > 15
    for name in used:
        with pytest.raises(AgreementError, match="no such series"):
            agree(replace(of, signals={key: value for key, value in of.signals.items() if key != name}))


def test_a_rule_that_names_an_unknown_value_or_boundary_is_refused() -> None:
    """A limit that is not there, an outcome nobody counts, a bucket that is none."""
    of = made(EVERYTHING)
    window = Duration.parse("5m")
    with pytest.raises(AgreementError):
        HTTP_DURATION.bucket_rate(window, Decimal("0.123"))
    for wrong in (
        total(LIMIT_DECISIONS.rate(window, limit="nobody")),
        LIMIT_IN_FLIGHT.select(limit="per_client"),
    ):
        with pytest.raises(AgreementError):
            agree(replace(of, alerts=(replace(of.alerts[0], expr=wrong, proof=()),)))


# --- text of other people ----------------------------------------------------------------------------------

HOSTILE = (
    '"} or vector(1) #',
    "{{ 1 }}",
    "$value",
    "{{",
    "}}{",
    "a: b # c",
    "'",
    '{{"x"}}',
    "{{{ .Labels }}}",
    "{%",
)


def leaves(node: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], object]]:
    """Every scalar of a document with its path."""
    if isinstance(node, dict):
        for key, value in cast("dict[str, object]", node).items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(cast("list[object]", node)):
            yield from leaves(value, (*path, index))
    else:
        yield path, node


@cache
def _before() -> dict[str, str]:
    """Those of everything, while its owner is nobody's trick."""
    return _unhashed(made(EVERYTHING))


def _unhashed(of: Contract) -> dict[str, str]:
    """The texts, but for the hash of the whole spec, which every string of it changes."""
    return {path: text.replace(of.hash, "the-hash-of-it") for path, text in texts(of).items()}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_owner_changes_only_its_own_leaf(text: str) -> None:
    """Everything else in the rules, the tests and the routes stays as it was, byte by byte."""
    other = {**EVERYTHING, "service": {**EVERYTHING["service"], "owner": text}}
    before, after = _before(), _unhashed(made(other))
    for path, old in before.items():
        if path != "prometheus/rules.yml":
            assert after[path] == old
    old_leaves, new_leaves = (dict(leaves(read(one["prometheus/rules.yml"]))) for one in (before, after))
    changed = {path for path in old_leaves | new_leaves if old_leaves.get(path) != new_leaves.get(path)}
    assert {path[-1] for path in changed} == {"owner"}


@pytest.mark.judge
def test_hostile_text_is_printed_as_it_is(tmp_path: Path) -> None:
    """Prometheus itself renders the annotation: what a person reads is what the spec says."""
    for index, text in enumerate(HOSTILE):
        spec = {**MINIMAL, "limits": {}, "slos": {}, "service": {**MINIMAL["service"], "owner": text}}
        folder = written(made(spec), tmp_path / str(index))
        (down,) = [rule for rule in rules(made(spec)) if rule.get("alert") == "ShopDown"]
        expected = {**down["annotations"], "owner": text}
        labels = down["labels"]
        test = {
            "interval": "1m",
            "input_series": [{"series": 'up{job="shop"}', "values": "0x9"}],
            "alert_rule_test": [
                {
                    "eval_time": "5m",
                    "alertname": "ShopDown",
                    "exp_alerts": [{"exp_labels": labels, "exp_annotations": expected}],
                }
            ],
        }
        path = folder / "prometheus/rendered.test.yml"
        whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
        path.write_text(json.dumps(whole), encoding="utf-8")
        accepts("promtool", "test", "rules", path)


@pytest.mark.judge
def test_a_summary_shows_the_measured_value_in_its_unit(tmp_path: Path) -> None:
    """`$value` of a share reads as a percentage, of a size as bytes, of a time as seconds."""
    wanted = {
        "MyShopThresholdMemory": "95%",
        "MyShopThresholdBytes": "800Mi",
        "MyShopThresholdQueue": "is 9;",
        "MyShopThresholdSlow": "ms",
    }
    of = made(EVERYTHING)
    written(of, tmp_path)
    for alert in of.alerts:
        if alert.name not in wanted:
            continue
        series = [
            {
                "series": str(feed.series),
                "values": f"0+{feed.faulty}x30" if grows(feed) else f"{feed.faulty}+0x30",
            }
            for feed in alert.proof
        ]
        test: dict[str, Any] = {
            "interval": "1m",
            "input_series": series,
            "alert_rule_test": [{"eval_time": "25m", "alertname": alert.name, "exp_alerts": []}],
        }
        path = tmp_path / "prometheus/summary.test.yml"
        whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
        path.write_text(json.dumps(whole), encoding="utf-8")
        said = ask("promtool", "test", "rules", path)
        (summary,) = re.findall(r'summary="([^"]*)"', said.stderr)
        assert wanted[alert.name] in summary, summary
        assert "$" not in summary


@pytest.mark.judge
def test_what_is_left_of_a_budget_that_is_just_spent_reads_as_a_share(tmp_path: Path) -> None:
    """Not as `-59.56m times`: what lies between -1 and 0 would be written in thousandths, which read as millions."""
    folder = written(made({**MINIMAL, "limits": {}}), tmp_path)
    series = 'mahavishnu_slo_requests_total{job="shop",slo="availability",outcome="%s"}'
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [
            {"series": series % "good", "values": "0+9989.4x30"},
            {"series": series % "bad", "values": "0+10.6x30"},
        ],
        "alert_rule_test": [
            {"eval_time": "25m", "alertname": "ShopSloAvailabilityBudgetExhausted", "exp_alerts": []}
        ],
    }
    path = folder / "prometheus/left.test.yml"
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    path.write_text(json.dumps(whole), encoding="utf-8")
    (summary,) = re.findall(r'summary="([^"]*)"', ask("promtool", "test", "rules", path).stderr)
    assert summary.endswith("is spent; -6% of the budget is left.")


def grows(feed: Any) -> bool:
    return str(feed.series.signal.kind) != "gauge"


# --- the arithmetic itself ---------------------------------------------------------------------------------


def test_the_arithmetic_answers_as_prometheus_does() -> None:
    """Known answers: shares, nothing by nothing, quantiles within a bucket, sets."""
    used, quota = LIMIT_IN_FLIGHT.select(limit="a"), LIMIT_QUOTA.select(limit="a")
    world = steady.Steady((steady.moving(used, Fraction(3)), steady.moving(quota, Fraction(4))))
    assert list(world.vector(used / quota).values()) == [Fraction(3, 4)]
    assert not world.fires(used / quota > 1)
    assert not world.fires(LIMIT_QUOTA.select(limit="b"))
    nothing = steady.Steady((steady.moving(used, Fraction(0)), steady.moving(quota, Fraction(0))))
    assert not nothing.fires(used / quota >= 0)
    with pytest.raises(AgreementError, match="steady"):
        world.value(Call("predict_linear", (quota,)))


def test_a_proof_that_proves_nothing_is_refused() -> None:
    """An alert whose own faulty state does not fire it stops the generator."""
    of = made(MINIMAL)
    alert = of.alerts[1]
    idle = tuple(replace(feed, faulty=feed.healthy) for feed in alert.proof)
    with pytest.raises(AgreementError, match="does not show"):
        artifacts(replace(of, alerts=(replace(alert, proof=idle),)))


def test_a_proof_of_fewer_bad_events_than_are_waited_for_is_refused() -> None:
    """What decides would be their number, and no test would notice another share."""
    of = made(EVERYTHING)
    alert = next(one for one in of.alerts if one.name == "MyShopLimitPerClientRefusing")
    few = tuple(
        replace(feed, healthy=Decimal(feed.healthy or 0) / 1000, faulty=Decimal(feed.faulty or 0) / 150)
        for feed in alert.proof
    )
    with pytest.raises(AgreementError, match="fewer bad events"):
        artifacts(replace(of, alerts=(replace(alert, proof=few),)))


@pytest.mark.judge
def test_one_bad_event_more_or_less_is_noticed(tmp_path: Path) -> None:
    """Of every alert on a share: of two that wait for as many, one bound may be wrong."""
    of = made(MINIMAL)
    least = f">= {LEAST}"
    shares = [one for one in of.alerts if one.bad is not None]
    chosen = [
        Mutation(one, "least", least, f">= {other}") for one in shares for other in (LEAST - 1, LEAST + 1)
    ]
    assert len(chosen) == 4
    assert unnoticed(of, chosen, tmp_path) == []


# --- random specs ------------------------------------------------------------------------------------------


AT_ONCE = 20  # promtool takes seconds for each, and nobody waits half an hour for one answer


def drawn(count: int) -> list[dict[str, Any]]:
    """So many random specs, the same ones every time."""
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(specs())
    def collect(spec: dict[str, Any]) -> None:
        found.append(spec)

    collect()
    return found[:count]


def judged(count: int, folder: Path) -> tuple[int, int]:
    """Every file of so many random specs, accepted by promtool and amtool; how many specs and alerts."""
    every, alerts = [made(spec) for spec in drawn(count)], 0
    for first in range(0, count, AT_ONCE):
        alerts += accepted(every[first : first + AT_ONCE], folder / str(first))
    return len(every), alerts


def accepted(contracts: list[Contract], folder: Path) -> int:
    """Some of them, as many alerts as it returns.

    Their queries agree with the contract, and promql-parser reads them back to the very trees that were resolved.
    """
    for of in contracts:
        assert agreement(of, artifacts(of)).faults == ()
        assert dirty(exprs(of)) == []
        for expr in exprs(of):
            assert str(query.read(str(expr), of.signals, of.job)) == str(expr)
    folders = [written(of, folder / str(index)) for index, of in enumerate(contracts)]
    accepts("promtool", "check", "rules", "--lint-fatal", *(one / "prometheus/rules.yml" for one in folders))
    accepts("promtool", "check", "config", *(one / "prometheus/prometheus.yml" for one in folders))
    accepts("amtool", "check-config", *(one / "alertmanager/alertmanager.yml" for one in folders))
    accepts("promtool", "test", "rules", *(path for one in folders for path in proofs(one)))
    for of, one in zip(contracts, folders, strict=True):
        config = one / "alertmanager/alertmanager.yml"
        for severity in Severity if of.spec.channels else ():
            verify = f"--verify.receivers={of.job}-{severity.value}"
            accepts(
                "amtool",
                "config",
                "routes",
                "test",
                f"--config.file={config}",
                verify,
                f"severity={severity}",
                f"service={of.job}",
            )
    shutil.rmtree(folder)
    return sum(len(of.alerts) for of in contracts)


@pytest.mark.judge
def test_random_specs_give_files_that_the_tools_accept(tmp_path: Path) -> None:
    """A few here; `make proof` does more, five hundred at full length."""
    assert judged(2, tmp_path)[0] == 2


@pytest.mark.judge
@pytest.mark.proof
def test_many_random_specs_give_files_that_the_tools_accept(tmp_path: Path) -> None:
    """Rules, configuration, derived tests, routes: all of them, for all severities."""
    wanted = 500 if FULL else 4
    count, alerts = judged(wanted, tmp_path)
    figure("random specs accepted by promtool, amtool, promql-parser, closure", wanted, count)
    figure("alerts of theirs seen to fire and to clear", "all", alerts)
    assert count == wanted


@settings(max_examples=10)
@given(specs())
def test_any_spec_generates_the_same_bytes_twice(spec: dict[str, Any]) -> None:
    """Whatever the spec is."""
    assert artifacts(made(spec)) == artifacts(made(spec))
