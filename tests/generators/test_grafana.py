"""The dashboards and their provisioning: sound in themselves, in agreement with what stands beside them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import combinations, cycle
from typing import Any, cast, get_args

import promql_parser
import pytest
from hypothesis import given, settings

from mahavishnu.contract import contract
from mahavishnu.derived.dashboards import dashboards
from mahavishnu.derived.panels import Unit
from mahavishnu.series import EXEMPLIFIED
from mahavishnu.spec import Spec
from tests.generators.specs import LARGE, SMALL, generated, merged
from tests.hostile import HOSTILE
from tests.monitoring import shop
from tests.reading import read
from tests.strategies import specs

_grafana: Any = import_module("mahavishnu.generators.grafana")
VARIABLES = {"datasource", "instance", "__rate_interval"}


def boards(spec: Mapping[str, Any]) -> dict[str, Any]:
    files = generated("grafana", spec).items()
    return {path: json.loads(text) for path, text in files if path.endswith(".json")}


def ours() -> dict[str, Any]:
    made = {one.path: one.text for one in _grafana.generate(shop())}
    return {path: json.loads(text) for path, text in made.items() if path.endswith(".json")}


def overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def faults(board: Any) -> Iterator[str]:
    """What Grafana would not say, and show wrong or not at all."""
    panels = board["panels"]
    if len({one["id"] for one in panels}) != len(panels):
        yield "two panels of one number"
    for one, other in combinations(panels, 2):
        if overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} lies over {other['title']}"
    for one in panels:
        if not 0 <= one["gridPos"]["x"] <= 24 - one["gridPos"]["w"]:
            yield f"{one['title']} lies outside"
        if one["type"] != "row":
            yield from (f"{one['title']}: {fault}" for fault in panel_faults(one))
    asked = set(re.findall(r"\$\{?(\w+)", json.dumps([one.get("targets") for one in panels])))
    if unknown := asked - VARIABLES:
        yield f"unknown variables {unknown}"


def panel_faults(panel: Any) -> Iterator[str]:
    if panel["type"] not in ("timeseries", "stat"):
        yield "no such panel"
    if not panel["targets"]:
        yield "asks for nothing"
    if panel["fieldConfig"]["defaults"]["unit"] not in get_args(Unit):
        yield "no such unit"
    names = [one["refId"] for one in panel["targets"]]
    if len({*names}) != len(names):
        yield "two queries of one name"
    levels = [one["value"] for one in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
    if levels != sorted(levels):
        yield "bounds in no order"
    for target in panel["targets"]:
        try:
            promql_parser.parse(target["expr"].replace("$__rate_interval", "5m"))
        except ValueError as fault:
            yield f"no PromQL: {fault}"
        if (
            'job="' not in target["expr"]
            and 'service="' not in target["expr"]
            and target["expr"] != "vector(1)"
        ):
            yield "asks for every service"


def test_the_dashboards_of_the_shop_are_sound() -> None:
    """Numbers, places, queries, units, variables."""
    found = ours()
    assert [*found] == [
        f"grafana/dashboards/{name}.json" for name in ("service", "resilience", "slos", "backups")
    ]
    assert [fault for board in found.values() for fault in faults(board)] == []


@settings(max_examples=15)
@given(specs())
def test_random_dashboards_are_sound(spec: dict[str, Any]) -> None:
    """Whatever a valid spec says."""
    assert [fault for board in boards(spec).values() for fault in faults(board)] == []


Break = Callable[[Any], object]
PLANTED: Mapping[str, Break] = {
    "two panels of one number": lambda panels: panels[2].update(id=panels[1]["id"]),
    "lies over": lambda panels: panels[2]["gridPos"].update(x=4),
    "lies outside": lambda panels: panels[3]["gridPos"].update(w=12),
    "no such panel": lambda panels: panels[1].update(type="graph"),
    "asks for nothing": lambda panels: panels[1].update(targets=[]),
    "no such unit": lambda panels: panels[1]["fieldConfig"]["defaults"].update(unit="percentages"),
    "two queries of one name": lambda panels: panels[1]["targets"].append(panels[1]["targets"][0]),
    "bounds in no order": lambda panels: panels[1]["fieldConfig"]["defaults"]["thresholds"]["steps"].extend(
        [{"value": 2}, {"value": 1}]
    ),
    "no PromQL": lambda panels: panels[1]["targets"][0].update(expr='sum(rate(up{job="shop"}))'),
    "asks for every service": lambda panels: panels[1]["targets"][0].update(expr="sum(up)"),
    "unknown variables": lambda panels: panels[1]["targets"][0].update(expr='up{job="shop",a="$pod"}'),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    """Each check is seen to refuse what it is for."""
    board = copy.deepcopy(ours()["grafana/dashboards/service.json"])
    PLANTED[fault](board["panels"])
    assert any(fault in found for found in faults(board))


def test_an_alert_is_shown_as_its_rule_measures_it() -> None:
    """No replica chosen, no window that follows the zoom; all other panels have both, but for what rules record."""
    panels = [one for board in ours().values() for one in board["panels"] if one["type"] != "row"]
    alerts = {alert.name for alert in shop().alerts}
    for panel in panels:
        asked = " ".join(target["expr"] for target in panel["targets"])
        recorded = "slo:" in asked or "job:" in asked
        follows = "$instance" in asked or recorded
        assert follows is (panel["title"] not in alerts or recorded)
        assert ("[5m]" in asked) <= (panel["title"] in alerts)


def asked_for_exemplars(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """The queries of each panel that ask for the traces behind what they draw."""
    panels = [one for board in boards(spec).values() for one in board["panels"] if one["type"] != "row"]
    asked = {
        one["title"]: [target["expr"] for target in one["targets"] if target.get("exemplar") is True]
        for one in panels
    }
    return {title: exprs for title, exprs in asked.items() if exprs}


def test_panels_of_latencies_ask_for_traces_where_there_are_any() -> None:
    """Of series that remember them, drawn in seconds: all queries of a panel, of which Grafana asks the first."""
    slow = {"slow": {"when": "latency.p95 > 1s", "severity": "P3"}}
    spec = merged(LARGE, {"alerts": {"thresholds": slow}})
    assert asked_for_exemplars(spec) == {}
    found = asked_for_exemplars(
        merged(spec, {"observability": {"traces": {"otlp": "http://collector:4318"}}})
    )
    assert {"Duration", "Duration by route (p95)", "Dependency duration"} <= found.keys()
    assert len(found["Duration"]) == 3
    assert any("ThresholdSlow" in title for title in found)
    series = {
        name for exprs in found.values() for expr in exprs for name in re.findall(r"(\w+)_bucket", expr)
    }
    assert series == EXEMPLIFIED
    assert not [expr for exprs in found.values() for expr in exprs if "histogram_quantile" not in expr]


@pytest.mark.proof
def test_hostile_names_leave_the_shape_alone() -> None:
    """Texts of a contract that no loader would let through change the texts of the dashboards, nothing else."""
    before, made = shape(ours()), shop()
    for texts in (HOSTILE[::2], HOSTILE[1::2]):
        alerts = tuple(
            replace(alert, meaning=text) for alert, text in zip(made.alerts, cycle(texts), strict=False)
        )
        files = _grafana.generate(replace(made, alerts=alerts))
        after = {one.path: json.loads(one.text) for one in files if one.path.endswith(".json")}
        assert shape(after) == before


def shape(tree: object) -> object:
    """A tree without its texts."""
    if isinstance(tree, dict):
        return {key: shape(one) for key, one in cast("Mapping[str, object]", tree).items()}
    if isinstance(tree, list):
        return [shape(one) for one in cast("Sequence[object]", tree)]
    return type(tree).__name__


# --- what stands beside them --------------------------------------------------------------------------------


def test_grafana_finds_everything() -> None:
    """Prometheus and Alertmanager by the names and ports that Compose gives them, the dashboards where it puts them."""
    made = {**generated("grafana", LARGE), **generated("compose", LARGE), **generated("prometheus", LARGE)}
    file = read(made["compose/compose.yaml"])
    sources = read(made["grafana/provisioning/datasources/prometheus.yaml"])["datasources"]
    for one in sources:
        host, port = one["url"].removeprefix("http://").split(":")
        assert f"127.0.0.1:{port}:{port}" in file["services"][host]["ports"]
    scraped = read(made["prometheus/prometheus.yml"])["global"]["scrape_interval"]
    assert sources[0]["jsonData"]["timeInterval"] == scraped
    (provider,) = read(made["grafana/provisioning/dashboards/dashboards.yaml"])["providers"]
    mounted = {one["target"]: one["source"] for one in file["services"]["grafana"]["volumes"]}
    assert mounted[provider["options"]["path"]] == "../grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "../grafana/provisioning"


def test_the_password_is_a_file() -> None:
    """Of the secret that the spec names; then nobody looks without it, and the service is not told."""
    said = {
        "secrets": [*LARGE["secrets"], "WORD"],
        "deploy": {"targets": {"compose": {"grafana_password": "${WORD}"}}},
    }
    file = read(generated("compose", merged(LARGE, said))["compose/compose.yaml"])
    grafana = file["services"]["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/WORD"
    assert grafana["secrets"] == ["WORD"]
    assert file["secrets"]["WORD"]["file"].endswith("/WORD")
    assert "GF_AUTH_ANONYMOUS_ENABLED" not in grafana["environment"]
    assert "WORD" not in file["services"]["shop-api"]["environment"]


def test_without_a_password_nobody_logs_in() -> None:
    """Whoever is on this host may look, and change nothing; there is no admin with a password that all know."""
    said = read(generated("compose", SMALL)["compose/compose.yaml"])["services"]["grafana"]["environment"]
    assert said["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert said["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in said if "PASSWORD" in name]


def test_links_lead_to_what_is_there() -> None:
    """The address that a rule gives names a dashboard and a panel of the generated files, and the panel is its own."""
    made = {
        one.path: one.text for name in ("grafana", "prometheus") for one in generator(name).generate(shop())
    }
    files = {
        json.loads(text)["uid"]: json.loads(text) for path, text in made.items() if path.endswith(".json")
    }
    rules = [
        rule
        for group in read(made["prometheus/rules.yml"])["groups"]
        for rule in group["rules"]
        if rule.get("alert") in {one.name for one in shop().alerts}  # not the heartbeat
    ]
    for rule in rules:
        uid, number = re.findall(
            r"/d/([\w-]+)\?viewPanel=(\d+)(?:&from=now-\d+h&to=now)?$", rule["annotations"]["panel_url"]
        )[0]
        (panel,) = (one for one in files[uid]["panels"] if one["id"] == int(number))
        assert panel["title"] == rule["alert"]
    assert len(rules) == len(shop().alerts)


def generator(name: str) -> Any:
    return import_module(f"mahavishnu.generators.{name}")


def test_a_long_name_has_a_short_uid() -> None:
    """Grafana takes forty signs; different names stay different."""
    names = ("a" * 40, "a" * 39 + "b")
    made = [contract(Spec.model_validate(merged(SMALL, {"service": {"name": name}}))) for name in names]
    uids = [one.uid for of in made for one in dashboards(of)]
    assert len({*uids}) == len(uids)
    assert max(map(len, uids)) == 40
