"""Routes that amtool accepts and that end where the spec says; nothing ends unnoticed."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mahavishnu.signals import Severity
from tests.generators.specs import LARGE, generated
from tests.judges import judge, of_both
from tests.monitoring import MINIMAL, accepts, ask, made, shop, texts, written
from tests.reading import read
from tests.strategies import CHANNELS, SECRETS

SPEC: dict[str, Any] = {
    **MINIMAL,
    "secrets": SECRETS,
    "channels": {f"c{index}": channel for index, channel in enumerate(CHANNELS)},
    "alerts": {
        "route": {"P1": ["c1", "c0"], "P2": ["c3"], "P4": ["c5"]},
        "quiet": [
            {"severity": "P3", "from": "22:00", "to": "07:00", "timezone": "Europe/London"},
            {"severity": "P3", "from": "12:00", "to": "13:00"},
            {"severity": "P4", "from": "18:30", "to": "00:00"},
        ],
    },
}


def config(spec: dict[str, Any]) -> Any:
    return read(texts(made(spec))["alertmanager/alertmanager.yml"])


def kinds(receiver: dict[str, Any]) -> set[str]:
    return receiver.keys() - {"name"}


@pytest.mark.judge
@pytest.mark.parametrize(
    "of",
    [made(MINIMAL), made(SPEC), made({**MINIMAL, "channels": {}}), shop()],
    ids=["minimal", "all", "none", "shop"],
)
@of_both
def test_amtool_accepts_it_and_every_severity_reaches_its_receiver(of: Any, tmp_path: Path) -> None:
    """And the judge can say no: the same question about another receiver is refused."""
    path = written(of, tmp_path) / "alertmanager/alertmanager.yml"
    accepts("amtool", "check-config", path)
    for severity in Severity:
        wanted = f"shop-{severity.value}" if of.spec.channels else "nobody"
        words = [
            "config",
            "routes",
            "test",
            f"--config.file={path}",
            f"severity={severity.value}",
            "service=shop",
        ]
        accepts("amtool", *words, f"--verify.receivers={wanted}")
        assert ask("amtool", *words, "--verify.receivers=shop-unrouted").returncode == 1


@pytest.mark.judge
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("receiver: shop-P2", "receiver: shop-P5"),
        ("'24:00'", "'25:00'"),
        ("quiet-P3]", "quiet-P9]"),
        ("equal:", "equals:"),
    ],
)
def test_amtool_refuses_a_spoilt_configuration(old: str, new: str, tmp_path: Path) -> None:
    """The judge is awake."""
    path = written(made(SPEC), tmp_path) / "alertmanager/alertmanager.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert ask("amtool", "check-config", path).returncode == 1


@pytest.mark.judge
def test_its_script_is_clean(tmp_path: Path) -> None:
    """shellcheck has nothing to say; and it would, of a word that is not quoted."""
    script = tmp_path / "routes.test.sh"
    text = generated("alertmanager", LARGE)["alertmanager/routes.test.sh"]
    for told, code in ((text, 0), (text.replace('="$config"', "=$config"), 1)):
        script.write_text(told, encoding="utf-8")
        judged = subprocess.run([judge("shellcheck"), script], capture_output=True, check=False)
        assert judged.returncode == code


def test_each_severity_has_the_channels_of_its_route() -> None:
    """A severity without a route of its own reaches everybody, and so does an alert without a severity."""
    receivers = {one["name"]: one for one in config(SPEC)["receivers"]}
    everybody = {"slack_configs", "pagerduty_configs", "webhook_configs", "email_configs"}
    assert kinds(receivers["shop-P1"]) == {"pagerduty_configs", "slack_configs"}
    assert kinds(receivers["shop-P2"]) == {"webhook_configs"}
    assert kinds(receivers["shop-P3"]) == everybody
    assert kinds(receivers["shop-P4"]) == {"email_configs"}
    assert kinds(receivers["shop-unrouted"]) == everybody
    (own, _) = config(SPEC)["route"]["routes"]
    assert own["receiver"] == "shop-unrouted"


def test_without_channels_the_receiver_says_that_nobody_hears_it() -> None:
    """An empty receiver under an honest name; `check` says it too."""
    assert config({**MINIMAL, "channels": {}})["receivers"] == [{"name": "nobody"}]


def test_secrets_are_files_and_stand_nowhere_else() -> None:
    """Every secret by the file that the stack mounts; no `${…}` that nothing would expand."""
    text = texts(made(SPEC))["alertmanager/alertmanager.yml"]
    assert "${" not in text
    found = config(SPEC)
    receivers = {one["name"]: one for one in found["receivers"]}
    assert receivers["shop-P1"]["pagerduty_configs"][0]["routing_key_file"] == "/run/secrets/PAGERDUTY_KEY"
    assert receivers["shop-P1"]["slack_configs"][0]["api_url_file"] == "/run/secrets/SLACK_WEBHOOK"
    assert receivers["shop-P4"]["email_configs"][0]["auth_password_file"] == "/run/secrets/SMTP_PASSWORD"
    credentials = receivers["shop-P2"]["webhook_configs"][0]["http_config"]["authorization"]
    assert credentials == {"type": "Bearer", "credentials_file": "/run/secrets/HOOK_TOKEN"}


def test_a_webhook_that_is_a_secret_is_a_file_of_alertmanager_alone() -> None:
    """Its name stands there alone: the service is told nothing of it."""
    hook = {"webhook": "${HEARTBEAT_URL}"}
    spec = {**MINIMAL, "secrets": ["HEARTBEAT_URL"], "channels": {"watch": hook}}
    spec["deploy"] = {"targets": {"compose": {}}}
    (found,) = {str(one["webhook_configs"]) for one in config(spec)["receivers"] if "webhook_configs" in one}
    assert found == str([{"url_file": "/run/secrets/HEARTBEAT_URL", "send_resolved": True}])
    services = read(generated("compose", spec)["compose/compose.yaml"])["services"]
    assert [name for name, one in services.items() if "HEARTBEAT_URL" in str(one)] == ["alertmanager"]


def test_every_destination_hears_of_the_end_too() -> None:
    """`send_resolved` is on everywhere; Alertmanager's own default differs by kind."""
    for receiver in config(SPEC)["receivers"]:
        for kind in kinds(receiver):
            assert all(one["send_resolved"] is True for one in receiver[kind])


def test_the_faster_burn_silences_the_slower_ones_of_the_same_promise_only() -> None:
    """An alert without an SLO is never silenced by another one without: both would have `equal` labels. `Down` speaks
    for all but pages: the end of what is held back is not told, and a page stayed open for good."""
    rules = config(SPEC)["inhibit_rules"]
    alerts = [
        {"alertname": "ShopSloABurnP1", "severity": "P1", "service": "shop", "slo": "a", "tier": "x"},
        {"alertname": "ShopSloABurnP3", "severity": "P3", "service": "shop", "slo": "a", "tier": "x"},
        {"alertname": "ShopSloBBurnP3", "severity": "P3", "service": "shop", "slo": "b", "tier": "x"},
        {"alertname": "ShopLimitXRefusing", "severity": "P3", "service": "shop"},
        {"alertname": "ShopThresholdY", "severity": "P1", "service": "shop"},
    ]
    assert [one["alertname"] for one in alerts if inhibited(one, alerts, rules)] == ["ShopSloABurnP3"]
    down = {"alertname": "ShopDown", "severity": "P1", "service": "shop"}
    told = [one for one in (down, *alerts) if not inhibited(one, [down, *alerts], rules)]
    assert {one["severity"] for one in told} == {"P1"}
    assert len(told) == 3


def inhibited(target: dict[str, str], sources: list[dict[str, str]], rules: list[dict[str, Any]]) -> bool:
    """Alertmanager's own rule, in five lines: an alert never inhibits itself by matching both sides."""
    return any(
        matches(rule["target_matchers"], target)
        and not matches(rule["source_matchers"], target)
        and matches(rule["source_matchers"], source)
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in rules
        for source in sources
    )


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    for matcher in matchers:
        name, op, value = re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        label = labels.get(name, "")
        if not {"=": label == value, "!=": label != value, "=~": re.fullmatch(value, label) is not None}[op]:
            return False
    return True


def quiet(found: dict[str, Any], severity: str, at: datetime) -> bool:
    """Whether the written intervals mute a severity at a moment, as Alertmanager reads them."""
    (own, _) = found["route"]["routes"]
    (route,) = [one for one in own["routes"] if one["receiver"] == f"shop-{severity}"]
    parts = [
        (part, one)
        for interval in found.get("time_intervals", ())
        if interval["name"] in route.get("mute_time_intervals", ())
        for one in interval["time_intervals"]
        for part in one["times"]
    ]
    for part, one in parts:
        local = at.astimezone(ZoneInfo(one["location"])).strftime("%H:%M")
        if part["start_time"] <= local < part["end_time"]:
            return True
    return False


@pytest.mark.parametrize("month", [1, 7])
def test_quiet_hours_hold_at_every_quarter_of_an_hour(month: int) -> None:
    """Over midnight and over noon, in summer and in winter, in its own zone; and for nobody else."""
    found, london = config(SPEC), ZoneInfo("Europe/London")
    start = datetime(2026, month, 10, tzinfo=ZoneInfo("UTC"))
    for quarter in range(24 * 4):
        at = start + timedelta(minutes=15 * quarter)
        local, utc = at.astimezone(london).strftime("%H:%M"), at.strftime("%H:%M")
        assert quiet(found, "P3", at) is (local >= "22:00" or local < "07:00" or "12:00" <= utc < "13:00")
        assert quiet(found, "P4", at) is (utc >= "18:30")
        assert not quiet(found, "P1", at)


HOSTILE = ("#{{1}}", "#$value", '#"', "#a'b", "#\\", "#{{", "#:x", "@{%x%}", "#]}")


@pytest.mark.judge
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_channel_changes_only_its_own_leaf(text: str, tmp_path: Path) -> None:
    """And amtool reads the rest as before."""
    other = {**MINIMAL, "channels": {"room": {"slack": "${SLACK_WEBHOOK}", "channel": text}}}
    before, after = (json.dumps(config(one)) for one in (MINIMAL, other))
    said = json.dumps(
        read(texts(made(other))["alertmanager/alertmanager.yml"])["receivers"][0]["slack_configs"]
    )
    (channel,) = {one["channel"] for one in json.loads(said)}
    assert before == after.replace(json.dumps(channel), json.dumps("#shop"))
    accepts("amtool", "check-config", written(made(other), tmp_path) / "alertmanager/alertmanager.yml")
    assert channel.replace('{{"{"}}', "{") == text
