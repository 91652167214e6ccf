"""The generated files read back, as a stranger would: every reference in them that leads nowhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mahavishnu.contract import Contract
from mahavishnu.queries.written import QueryError, read
from mahavishnu.signals import Alert
from mahavishnu.units import Duration
from tests.judges import judge
from tests.reading import read as yaml

Files = Mapping[str, str]
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"(.*)"')
_ANNOTATION, _LABEL = re.compile(r"\.(?:Common)?Annotations\.(\w+)"), re.compile(r"\.CommonLabels\.(\w+)")
_STATE, _UNSAID = re.compile(r"\.Alerts\.(\w+)"), re.compile(r"stringSlice ([^)]*)\)")


def disagreements(files: Files, made: Contract) -> Iterator[str]:
    """What in the text of the files is not what the contract says; files that cannot be read raise."""
    yield from _rules(yaml(files["prometheus/rules.yml"]), _panels(files, made), made)
    yield from _scraping(yaml(files["prometheus/prometheus.yml"]), files, made)
    yield from _alerting(yaml(files["alertmanager/alertmanager.yml"]), made)
    yield from _tested(files["alertmanager/routes.test.sh"], made)
    wanted = {"rules.yml", "rules.test.yml", "rules.slow.test.yml", "prometheus.yml", "scrape.kubernetes.yml"}
    if missing := {f"prometheus/{name}" for name in wanted} ^ {
        name for name in files if name.startswith("prometheus/")
    }:
        yield f"there is no {missing}"


def judged(files: Files, folder: Path) -> Iterator[str]:
    """What Prometheus' and Alertmanager's own tools say against the files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    prometheus, alertmanager = folder / "prometheus", folder / "alertmanager"
    commands: list[list[str | Path]] = [
        [judge("promtool"), "check", "config", prometheus / "prometheus.yml"],
        [judge("amtool"), "check-config", alertmanager / "alertmanager.yml"],
        ["sh", alertmanager / "routes.test.sh"],
        [judge("promtool"), "test", "rules", prometheus / "rules.test.yml"],
    ]
    for command in commands:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={"PATH": f"{judge('amtool').parent}:/usr/bin:/bin"},
        )
        if done.returncode:
            yield f"{command[-1]}: {(done.stdout + done.stderr).strip()[-300:]}"


def _tested(script: str, made: Contract) -> Iterator[str]:
    """The route of every alert is asked for with all its labels."""
    wanted = {
        f"reaches {made.job}-{one.severity} "
        + " ".join(f"{name}={value}" for name, value in {"alertname": one.name, **_labels(one, made)}.items())
        for one in made.alerts
    }
    name = f"{made.alerts[0].name.removesuffix('Down')}Heartbeat"
    wanted.add(f"reaches {made.job}-heartbeat alertname={name} severity=heartbeat service={made.job}")
    wanted.add(f"reaches {made.job}-unrouted service={made.job}")
    wanted |= {
        f"reaches nobody severity={one} service={made.job}-other"
        for one in ("P1", "P2", "P3", "P4", "heartbeat")
    }
    if {line for line in script.splitlines() if line.startswith("reaches ")} != wanted:
        yield "the routes of other alerts are tested"


def _panels(files: Files, made: Contract) -> dict[str, str]:
    """What is shown where Grafana's links lead."""
    boards = [json.loads(text) for name, text in files.items() if name.startswith("grafana/dashboards/")]
    base = made.spec.alerts.dashboards
    return {
        f"{base}/d/{board['uid']}?viewPanel={one['id']}": one["title"]
        for board in boards
        for one in board["panels"]
    }


def _rules(said: Any, panels: Mapping[str, str], made: Contract) -> Iterator[str]:
    rules = [rule for group in said["groups"] for rule in group["rules"]]
    wanted = {
        str(query) for query in (*(one.expr for one in made.recordings), *(one.expr for one in made.alerts))
    }
    for rule in rules:
        name = rule.get("alert") or rule.get("record")
        try:
            text = str(read(rule["expr"], made.signals, made.job))
            if text not in wanted | {"vector(1)"}:
                yield f"rule {name} asks {text}"
        except QueryError as fault:
            yield f"rule {name}: {fault}"
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    recorded = [(rule["record"], sorted(rule["labels"].items())) for rule in rules if "record" in rule]
    if sorted(recorded) != sorted((one.signal.name, sorted(one.labels)) for one in made.recordings):
        yield "the recordings are others"
    for alert in made.alerts:
        yield from _alert(alert, alerts.get(alert.name), panels, made)
    beat = alerts.get(f"{made.alerts[0].name.removesuffix('Down')}Heartbeat", {})
    if beat.get("labels") != {"severity": "heartbeat", "service": made.job}:
        yield f"the heartbeat has the labels {beat.get('labels')}"
    if {*beat.get("annotations", ())} != {"summary", "description"}:
        yield f"the heartbeat says {beat.get('annotations')}"
    for group in said["groups"]:
        if Duration.parse(group["interval"]) > Duration.parse("5m"):
            yield f"group {group['name']} is forgotten before it is evaluated again"


def _alert(alert: Alert, rule: Any, panels: Mapping[str, str], made: Contract) -> Iterator[str]:
    if rule is None:
        yield f"alert {alert.name} is not there"
        return
    if rule["labels"] != _labels(alert, made):
        yield f"alert {alert.name} has the labels {rule['labels']}"
    if (Duration.parse(rule["for"]) if "for" in rule else None) != alert.hold:
        yield f"alert {alert.name} waits for {rule.get('for')}"
    said, runbooks = rule["annotations"], made.spec.alerts.runbooks
    if runbooks and said.get("runbook_url") != f"{runbooks}/{alert.name}.md":
        yield f"alert {alert.name} links {said.get('runbook_url')}"
    panel = said.get("panel_url", "").partition("&from=")[0]  # how far back it is opened
    if made.spec.alerts.dashboards and panels.get(panel) != alert.name:
        yield f"alert {alert.name} is not shown at {said.get('panel_url')}"
    if made.spec.service.owner and said.get("owner") != made.spec.service.owner:
        yield f"alert {alert.name} is owned by {said.get('owner')}"
    for key in ("summary", "description", "action"):
        if not said.get(key):
            yield f"alert {alert.name} has no {key}"
    if "$value" in alert.summary and "$value" not in said["summary"]:
        yield f"alert {alert.name} does not show what was measured"


def _labels(alert: Alert, made: Contract) -> dict[str, str]:
    return {"severity": alert.severity.value, "service": made.job, **dict(alert.labels)}


def _scraping(said: Any, files: Files, made: Contract) -> Iterator[str]:
    services: dict[str, Any] = yaml(files["compose/compose.yaml"])["services"]
    for file in said["rule_files"]:
        if f"prometheus/{file}" not in files:
            yield f"there is no {file}"
    (job,) = said["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    if (job["job_name"], job["metrics_path"]) != (made.job, made.spec.observability.metrics.path):
        yield f"it scrapes {job['job_name']} at {job['metrics_path']}"
    if (
        not {*found["names"]} <= services.keys()
        or found["port"] != made.spec.service.port
        or found["type"] != "A"
    ):
        yield f"it looks for {found}"
    for one in said["alerting"]["alertmanagers"]:
        for target in one["static_configs"][0]["targets"]:
            host, _, port = target.partition(":")
            if host not in services or not any(
                f":{port}" in place for place in services[host].get("ports", ())
            ):
                yield f"no Alertmanager is at {target}"
    windows = [one.window for query in made.recordings for one in query.expr.selectors() if one.window]
    for key in ("scrape_interval", "evaluation_interval"):
        if 4 * Duration.parse(said["global"][key]) > min(windows):
            yield f"{key} is too long for a window of {min(windows)}"


def _alerting(said: Any, made: Contract) -> Iterator[str]:
    receivers = {one["name"]: one for one in said["receivers"]}
    labels = [{"alertname": alert.name, **_labels(alert, made)} for alert in made.alerts]
    known = {key for one in labels for key in one}
    yield from _routes(said["route"], receivers, labels, made)
    yield from _inhibited(said["inhibit_rules"], labels, known)
    for route in said["route"]["routes"][0]["routes"]:
        for name in route.get("mute_time_intervals", ()):
            if name not in {one["name"] for one in said.get("time_intervals", ())}:
                yield f"there are no times {name}"
    text = str(said)
    annotated = {"summary", "description", "action", "owner", "runbook_url", "panel_url"}
    if wrong := {*_ANNOTATION.findall(text)} - annotated | {*_LABEL.findall(text)} - known:
        yield f"messages show {wrong}, which no alert has"
    if {*_STATE.findall(text)} != {"Firing", "Resolved"}:
        yield f"messages tell of alerts that are {_STATE.findall(text)}"
    unsaid = {name.strip('"') for names in _UNSAID.findall(text) for name in names.split()}
    if unsaid != {*known, "job"}:
        yield f"messages leave out {unsaid}"
    for receiver in receivers.values():
        yield from _sent(receiver)
    files = {*re.findall(r"/run/secrets/(\w+)", text)}
    if files - {*made.spec.secrets} or re.search(r"_file': '(?!/run/secrets/)", text):
        yield f"secrets are read from {files}"


def _inhibited(rules: Any, labels: list[dict[str, str]], known: set[str]) -> Iterator[str]:
    for rule in rules:
        for side in ("source_matchers", "target_matchers"):
            if not any(_matches(rule[side], one) for one in labels):
                yield f"inhibition by {rule[side]} is about no alert"
        if missing := {*rule["equal"]} - known:
            yield f"inhibition compares {missing}"


def _sent(receiver: Any) -> Iterator[str]:
    """What others than Alertmanager read, and so it does not check."""
    for one in receiver.get("pagerduty_configs", ()):
        if one["severity"] not in ("critical", "error", "warning", "info") or {*one["details"]} != {"what"}:
            yield f"PagerDuty is told {one['severity']}"
    for one in receiver.get("email_configs", ()):
        if {*one["headers"]} != {"Subject"}:
            yield f"mail has the headers {one['headers']}"
    for one in receiver.get("webhook_configs", ()):
        if one.get("http_config", {}).get("authorization", {}).get("type", "Bearer") != "Bearer":
            yield "a webhook is sent no bearer token"


def _routes(root: Any, receivers: Any, alerts: list[dict[str, str]], made: Contract) -> Iterator[str]:
    for at in (root, root["routes"][0]):
        if at["receiver"] not in receivers or {*at["group_by"]} - {key for one in alerts for key in one}:
            yield f"a default route is {at['receiver']}, by {at['group_by']}"
    beat = {"alertname": f"{made.alerts[0].name.removesuffix('Down')}Heartbeat", "severity": "heartbeat"}
    for one in (*alerts, {**beat, "service": made.job}):
        if (reached := _reached(root, one)) != f"{made.job}-{one['severity']}":
            yield f"{one['alertname']} reaches {reached}"
        if (reached := _reached(root, {**one, "service": "another"})) != "nobody":
            yield f"{one['alertname']} of another service reaches {reached}"
    if (reached := _reached(root, {})) != f"{made.job}-unrouted":
        yield f"what is of no service reaches {reached}"
    for severity, names in made.spec.alerts.route.items():
        kinds = sorted(made.spec.channels[name].keyword for name in names)
        found = sorted(
            key.removesuffix("_configs")
            for key, several in receivers[f"{made.job}-{severity.value}"].items()
            if key != "name"
            for _ in several
        )
        if kinds != found:
            yield f"{severity} is told by {found}"


def _reached(route: Any, labels: Mapping[str, str]) -> str:
    """The receiver in which alerts with these labels end."""
    for one in route.get("routes", ()):
        if _matches(one["matchers"], labels):
            return _reached(one, labels)
    return str(route["receiver"])


def _matches(matchers: list[str], labels: Mapping[str, str]) -> bool:
    return all(_holds(matcher, labels) for matcher in matchers)


def _holds(matcher: str, labels: Mapping[str, str]) -> bool:
    found = _MATCHER.fullmatch(matcher)
    assert found is not None, matcher
    name, op, value = found.groups()
    label = labels.get(name, "")
    return {"=": label == value, "!=": label != value, "=~": re.fullmatch(value, label) is not None}[op]
