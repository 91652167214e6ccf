"""A real Alertmanager with the generated file: who is told, who is silenced, and that the end is told too."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, Queue
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from tests.generators.specs import generated
from tests.judges import judge
from tests.monitoring import MINIMAL, made, texts
from tests.pages import commands
from tests.scaled import impatient
from tests.stack import LONGEST, Heard, alertmanager, heard

SEVERITIES = ("P1", "P2", "P3", "P4")


def told(heard: Heard, status: str) -> dict[str, set[str]]:
    """The names of the alerts that were told with that status, by path, until each path was told once."""
    found: dict[str, set[str]] = {}

    def enough(path: str, message: dict[str, Any]) -> bool:
        if message["status"] == status:
            found.setdefault(path, set()).update(one["labels"]["alertname"] for one in message["alerts"])
        return len(found) == len(SEVERITIES)

    heard.until(enough)
    return found


class Alertmanager:
    """The server, and its API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def tell(self, alerts: list[dict[str, str]], ends: timedelta) -> None:
        """What Prometheus posts: alerts that end then, from now."""
        text = {"summary": "something is wrong"}
        self.post([{"labels": labels, "annotations": text} for labels in alerts], ends)

    def post(self, alerts: list[dict[str, Any]], ends: timedelta) -> None:
        """The same, with what they say."""
        at = (datetime.now(UTC) + ends).isoformat()
        body = [{**one, "endsAt": at} for one in alerts]
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200

    def inhibited(self) -> set[str]:
        return self._held("inhibitedBy")

    def awaits(self, silenced: set[str]) -> None:
        """Until these are silenced, and no others."""
        until = time.monotonic() + LONGEST
        while self._held("silencedBy") != silenced:
            assert time.monotonic() < until, self._held("silencedBy")
            time.sleep(0.05)

    def _held(self, why: str) -> set[str]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as answer:
            found = json.loads(answer.read())
        return {one["labels"]["alertname"] for one in found if one["status"][why]}


@pytest.fixture(name="heard")
def _heard() -> Iterator[Heard]:
    """Where every channel of the spec leads."""
    with heard() as here:
        yield here


@pytest.fixture(name="alertmanager")
def _alertmanager(heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alertmanager]:
    """Alertmanager with the generated configuration, its patience shortened to a second."""
    impatient(monkeypatch)
    spec: dict[str, Any] = {
        **MINIMAL,
        "secrets": [],
        "channels": {one.lower(): {"webhook": f"http://127.0.0.1:{heard.port}/{one}"} for one in SEVERITIES},
        "alerts": {"route": {one: [one.lower()] for one in SEVERITIES}},
    }
    config = tmp_path / "alertmanager.yml"
    config.write_text(texts(made(spec))["alertmanager/alertmanager.yml"], encoding="utf-8")
    with alertmanager(config, tmp_path) as url:
        yield Alertmanager(url)


def alert(name: str, severity: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "service": "shop", **labels}


@pytest.mark.judge
def test_each_severity_is_told_where_the_spec_says_of_the_beginning_and_of_the_end(
    alertmanager: Alertmanager, heard: Heard
) -> None:
    """The faster burn speaks for the slower ones of its promise, for no other promise and no other alert."""
    burns = [alert(f"ShopSloAvailabilityBurn{one}", one, slo="availability", tier="x") for one in SEVERITIES]
    others = [
        alert("ShopSloLatencyBurnP2", "P2", slo="latency", tier="x"),
        alert("ShopLimitPerClientRefusing", "P3"),
        alert("ShopThresholdSize", "P4"),
    ]
    alertmanager.tell([*burns, *others], timedelta(minutes=5))
    assert told(heard, "firing") == {
        "P1": {"ShopSloAvailabilityBurnP1"},
        "P2": {"ShopSloLatencyBurnP2"},
        "P3": {"ShopLimitPerClientRefusing"},
        "P4": {"ShopThresholdSize"},
    }
    assert alertmanager.inhibited() == {one["alertname"] for one in burns[1:]}
    alertmanager.tell([*burns, *others], timedelta(seconds=-1))
    ended = told(heard, "resolved")
    assert ended["P1"] == {"ShopSloAvailabilityBurnP1"}
    assert "ShopLimitPerClientRefusing" in ended["P3"]


@pytest.mark.judge
def test_planned_work_wakes_nobody_and_its_silence_can_be_ended(alertmanager: Alertmanager) -> None:
    """What the page says before it holds back every alert of the service and nothing else; the rest of it ends that."""
    alerts = [alert(f"Shop{one}", one) for one in SEVERITIES]
    others = [alert("ShopHeartbeat", "heartbeat"), {**alert("OtherDown", "P1"), "service": "other"}]
    alertmanager.tell([*alerts, *others], timedelta(minutes=5))
    page = generated("runbooks", MINIMAL)["runbooks/maintenance.md"].partition("\n## Silence")[2]
    hold, shown, end = (one for one in commands(page) if "amtool" in one)
    first = typed(hold, alertmanager.url).strip()
    alertmanager.awaits(silenced={one["alertname"] for one in alerts})
    assert first in typed(shown, alertmanager.url)
    typed(f"{hold}\n{end}", alertmanager.url)  # in a shell of its own, which knows no other one
    assert first in typed(shown, alertmanager.url)
    typed(f"SILENCE={first}\n{end}", alertmanager.url)
    alertmanager.awaits(silenced=set())


def typed(text: str, url: str) -> str:
    """What a shell answers, in which that is typed."""
    env = {
        **os.environ,
        "ALERTMANAGER": url,
        "PATH": f"{Path(judge('amtool')).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ran = subprocess.run(["bash", "-e", "-c", text], env=env, capture_output=True, text=True, check=True)
    return ran.stdout


class MailServer:
    """Takes mails: in plain text, as it knows no STARTTLS, or with a certificate from the first byte."""

    def __init__(self, port: int = 0, certificate: Path | None = None) -> None:
        mails: Queue[str] = Queue()

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.say("220 mail.test")
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    self.say("354 go on" if word == b"DATA" else "221 bye" if word == b"QUIT" else "250 ok")
                    if word == b"DATA":
                        mails.put(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                        self.say("250 taken")

            def say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

        class Server(ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True

        self.mails = mails
        self.server = Server(("127.0.0.1", port), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def mailed(server: MailServer, folder: Path, **said: bool) -> str:
    """The mail that a real Alertmanager sends there; empty where it says that STARTTLS is missing."""
    channel = {"email": "oncall@example.com", "smtp": server.address, **said}
    spec: dict[str, Any] = {**MINIMAL, "secrets": [], "channels": {"mail": channel}}
    config = folder / "alertmanager.yml"
    config.write_text(texts(made(spec))["alertmanager/alertmanager.yml"], encoding="utf-8")
    try:
        with alertmanager(config, folder) as url:
            Alertmanager(url).tell([alert("ShopDown", "P1")], timedelta(minutes=5))
            until = time.monotonic() + LONGEST
            while time.monotonic() < until:
                with suppress(Empty):
                    return server.mails.get(timeout=0.1)
                if "does not advertise the STARTTLS" in (folder / "prometheus-alertmanager.log").read_text():
                    return ""
    finally:
        server.close()
    raise AssertionError("neither sent nor refused")


@pytest.mark.judge
@pytest.mark.parametrize("required", [True, False])
def test_a_relay_without_tls_gets_mail_where_that_is_said(
    required: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by itself no alert is sent in plain text."""
    impatient(monkeypatch)
    mail = mailed(MailServer(), tmp_path, **({} if required else {"require_tls": False}))
    assert ("ShopDown" in mail) is not required


@pytest.mark.judge
def test_a_server_at_the_port_of_tls_gets_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the first byte is TLS already, and STARTTLS, which Alertmanager asks for by itself, is not offered."""
    impatient(monkeypatch)
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    try:
        server = MailServer(465, certificate)
    except PermissionError:
        pytest.skip("port 465 is for root here")
    assert "ShopDown" in mailed(server, tmp_path)


def self_signed(folder: Path) -> Path:
    """A key and a certificate of 127.0.0.1, in one file."""
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "certificate.pem", "-subj",
             "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run([judge("openssl"), *words], cwd=folder, capture_output=True, check=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    return both


@pytest.mark.judge
def test_a_service_that_is_down_has_no_other_news(alertmanager: Alertmanager, heard: Heard) -> None:
    """But of pages, whose end is told too; and what another service says is neither told nor silenced."""
    burning = [alert("ShopSloAvailabilityBurnP1", "P1", slo="availability", tier="x")]
    rest = [alert("ShopSloLatencyBurnP2", "P2", slo="latency", tier="x"), alert("ShopThresholdSize", "P4")]
    strangers = [{**alert(f"Other{one}", one), "service": "other"} for one in SEVERITIES]
    alertmanager.tell(burning, timedelta(minutes=5))
    heard.until(named("firing", burning))
    down = [alert("ShopDown", "P1")]
    alertmanager.tell(down, timedelta(minutes=5))
    alertmanager.tell([*rest, *strangers], timedelta(minutes=5))
    heard.until(named("firing", down))
    assert alertmanager.inhibited() == {one["alertname"] for one in rest}
    alertmanager.tell(burning, timedelta(seconds=-1))
    heard.until(named("resolved", burning))
    alertmanager.tell(down, timedelta(seconds=-1))
    heard.until(named("firing", rest))


def named(status: str, alerts: list[dict[str, str]]) -> Callable[[str, dict[str, Any]], bool]:
    """Whether each of these has been told with that status, and until then nothing of another service."""
    missing = {one["alertname"] for one in alerts}

    def told_of(_: str, message: dict[str, Any]) -> bool:
        names = {one["labels"]["alertname"] for one in message["alerts"]}
        assert all(one["labels"]["service"] == "shop" for one in message["alerts"])
        if message["status"] == status:
            missing.difference_update(names)
        return not missing

    return told_of


REPLICAS = ("10.0.0.1:8680", "10.0.0.2:8680")


@pytest.fixture(name="room")
def _room(heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alertmanager]:
    """Alertmanager whose messages to Slack lead here."""
    impatient(monkeypatch)
    addresses = {"runbooks": "https://runbooks.example.com/shop", "dashboards": "https://grafana.example.com"}
    text = texts(made({**MINIMAL, "alerts": addresses}))["alertmanager/alertmanager.yml"]
    secret, config = tmp_path / "SLACK_WEBHOOK", tmp_path / "alertmanager.yml"
    secret.write_text(f"http://127.0.0.1:{heard.port}/room")
    config.write_text(text.replace("/run/secrets/SLACK_WEBHOOK", str(secret)), encoding="utf-8")
    with alertmanager(config, tmp_path) as url:
        yield Alertmanager(url)


def lost(*replicas: str) -> list[dict[str, Any]]:
    """The alert on each of these replicas, as Prometheus posts it."""
    links = {
        "runbook_url": "https://runbooks.example.com/shop/ShopReplicaDown.md",
        "panel_url": "https://grafana.example.com/d/shop-service?viewPanel=34",
    }
    said = {"summary": "Shop: a replica does not answer.", "action": "Look at its log.", **links}
    labels = {**alert("ShopReplicaDown", "P3"), "job": "shop"}
    return [{"labels": {**labels, "instance": one}, "annotations": said} for one in replicas]


def message(heard: Heard, enough: str) -> dict[str, str]:
    """The first one in Slack whose text has that."""
    found: list[dict[str, str]] = []

    def seen(_: str, said: dict[str, Any]) -> bool:
        found.append(said["attachments"][0])
        return enough in found[-1]["text"]

    heard.until(seen)
    return found[-1]


@pytest.mark.judge
def test_a_message_says_which_ones_and_which_of_them_are_well_again(room: Alertmanager, heard: Heard) -> None:
    """By the labels that a rule measures; what all of them have in common is said once."""
    room.post(lost(*REPLICAS), timedelta(minutes=5))
    both = message(heard, REPLICAS[1])
    assert both["title"] == "P3 ShopReplicaDown: firing"
    assert both["text"].splitlines() == [
        f"Shop: a replica does not answer. instance={REPLICAS[0]}",
        f"Shop: a replica does not answer. instance={REPLICAS[1]}",
        "Look at its log.",
        "https://grafana.example.com/d/shop-service?viewPanel=34",
        "https://runbooks.example.com/shop/ShopReplicaDown.md",
    ]
    room.post(lost(REPLICAS[0]), timedelta(seconds=-1))
    one = message(heard, "Resolved")
    assert one["text"].splitlines()[:2] == [
        f"Shop: a replica does not answer. instance={REPLICAS[1]}",
        f"Resolved: Shop: a replica does not answer. instance={REPLICAS[0]}",
    ]


@pytest.mark.judge
def test_the_title_of_a_message_leads_to_the_page_of_its_alert(room: Alertmanager, heard: Heard) -> None:
    """And not to an Alertmanager that only its own container knows."""
    room.post(lost(REPLICAS[0]), timedelta(minutes=5))
    said = message(heard, REPLICAS[0])
    assert said["title_link"] == "https://runbooks.example.com/shop/ShopReplicaDown.md"
    assert said["fallback"] == said["title"]
