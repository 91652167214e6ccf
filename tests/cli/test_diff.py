"""`mahavishnu diff`: what runs as the spec says is passed over, and each way in which it does not is told."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from starlette.applications import Starlette

from mahavishnu import live
from mahavishnu.asgi import Hardening
from mahavishnu.backup import evidence
from mahavishnu.backup.evidence import Copy, Evidence
from mahavishnu.cli import run
from mahavishnu.contract import Contract, contract
from mahavishnu.live import fetch
from mahavishnu.live.fetch import Site
from mahavishnu.live.normal import normal
from mahavishnu.live.note import Note
from mahavishnu.load import load
from mahavishnu.runtime import current
from mahavishnu.series import HTTP_DURATION
from mahavishnu.signals import Source, exposed
from tests.judges import judge, of_both
from tests.monitoring import MINIMAL, texts
from tests.monitoring import made as contract_of
from tests.otlp_receiver import dripping
from tests.stack import alertmanager, prometheus, serving

SPEC = {
    **MINIMAL,
    "limits": {"per_client": {"rate": "100/minute", "scope": "process"}},
    "slos": {"latency": {"objective": "95%", "under": "300ms"}},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in its folder."""
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(SPEC), encoding="utf-8")
    current.forget()
    yield tmp_path
    current.forget()


def shown(home: Path) -> str:
    """What the service of that spec shows."""
    service = Hardening(Starlette(), spec=home / "mahavishnu.yaml").service
    return service.metrics.expose()[0].decode()


def test_a_service_that_runs_the_spec_has_no_differences(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and one line."""
    with serving(shown(home)) as url:
        assert run(["diff", "--live", url]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["service", url, "no", "differences"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('hash="', 'hash="0', "the spec at work is 0"),
        ("# EOF", "", "it shows shop_baskets"),
        ('outcome="refused"', 'outcome="denied"', "says outcome=denied"),
        ('limit="per_client"', 'limits="per_client"', "has the labels limits"),
        ('_quota{limit="per_client"} 100', '_quota{limit="per_client"} 10', "is enforced as 10"),
        ("mahavishnu_limit_quota", "mahavishnu_limit_quotas", "there is no mahavishnu_limit_quota"),
        ('le="0.001"', 'le="0.002"', "has a boundary at 0.002"),
    ],
)
def test_each_way_to_differ_is_told(
    old: str, new: str, says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1: another spec, another series, label, value, number or boundary."""
    text = shown(home) + "# EOF\n"
    assert old in text
    more = "shop_baskets 4\n" if not new else ""
    with serving(text.replace(old, new) + more) as url:
        assert run(["diff", "--live", url]) == 1
    assert says in capsys.readouterr().out


def test_places_are_those_of_all_workers_together(home: Path) -> None:
    """What each of them has for itself is shown as a sum; a number that each enforces for itself is shown once."""
    said = SPEC | {
        "service": {**SPEC["service"], "workers": 2},
        "limits": {"reports": {"concurrency": 4}, "uploads": {"body": "1KiB"}},
    }
    (home / "mahavishnu.yaml").write_text(json.dumps(said), encoding="utf-8")
    made = contract(load(home / "mahavishnu.yaml").declared)
    one, two = '_quota{limit="reports"} 4.0', '_quota{limit="reports"} 8.0'
    text = shown(home)
    assert one in text
    for shows, says in ((two, []), (one, ["limit reports is enforced as 4, and this spec says 8"])):
        with serving(text.replace(one, shows)) as url:
            assert [
                line for line in live.service.differences(Site(url), made) if line.startswith("limit ")
            ] == says


BACKED_UP = {
    **SPEC,
    "secrets": [*SPEC["secrets"], "KEY"],
    "limits": {"reports": {"concurrency": 4, "queue": 2}, "pages": {"concurrency": "adaptive"}},
    "dependencies": {
        "bank": {
            "timeout": "1s",
            "breaker": {},
            "bulkhead": {"concurrency": 4},
            "throttle": {"accepts": "50%"},
            "retry": {"attempts": 2},
            "fallback": "dead_letter",
        }
    },
    "backups": {
        "orders": {
            "source": {"sqlite": "orders.db"},
            "to": "/mnt/backups",
            "password": "${KEY}",
            "schedule": "0 3 * * *",
            "rpo": "25h",
        }
    },
}
RUN = Copy(
    first=10.0, success=10.0, snapshot="ab", duration=1.0, sizes=[9], snapshots=1, oldest=10.0, newest=10.0
)
REPORTS = {
    "nothing yet": None,
    "a run": Evidence({"1": RUN}, {"run": True}),
    "a run that failed": Evidence({}, {"run": False}),
    "a drill": Evidence(
        {"1": replace(RUN, verified=11.0, drilled=11.0, restore=2.0)}, {"run": True, "drill": True}
    ),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_backup_that_has_not_reported_yet_is_no_difference(report: Evidence | None, home: Path) -> None:
    """Neither to a service nor to its Prometheus; the alerts know how long that may be so."""
    (home / "mahavishnu.yaml").write_text(json.dumps(BACKED_UP), encoding="utf-8")
    if report is not None:
        evidence.write(home / ".mahavishnu/backups", "shop.orders", report)
    made = contract(load(home / "mahavishnu.yaml").declared)
    text = shown(home)
    with serving(text) as url:
        assert [*live.service.differences(Site(url), made)] == []
    names = {re.split("[{ ]", line)[0] for line in text.splitlines() if line[0] != "#"}
    assert unseen(names, made) == []
    for gone in ("mahavishnu_dead_letters", "mahavishnu_slo_requests_total"):
        assert unseen(names - {gone}, made) == [f"there is no {gone}"]
    assert unseen((), made) == []


def answers(**said: object) -> str:
    """What a Prometheus says that says all at once, whatever it is asked."""
    empty: dict[str, object] = {
        "groups": [],
        "activeTargets": [],
        "activeAlertmanagers": [],
        "result": [],
        "yaml": "",
    }
    return json.dumps({"data": empty | said})


def unseen(names: Iterable[str], made: Contract) -> list[str]:
    """What is missed in a Prometheus that has lately scraped these series."""
    with serving(answers(result=[{"metric": {"__name__": name}} for name in names])) as url:
        return [
            one
            for one in live.prometheus.differences(Site(url), made, "groups: []", ())
            if one.startswith("there is no")
        ]


def test_what_is_reported_is_all_that_is_not_there_from_the_start(home: Path) -> None:
    """Any other series is missed where it is not shown, but one with labels whose values nobody knows before."""
    (home / "mahavishnu.yaml").write_text(json.dumps(BACKED_UP), encoding="utf-8")
    made, text = contract(load(home / "mahavishnu.yaml").declared), shown(home)
    own = [one for one in made.signals.values() if one.source is Source.RUNTIME]
    names = {re.split("[{ ]", line)[0] for line in text.splitlines() if line[0] != "#"}
    later = {one.name for one in own if not names & exposed([one]).keys()}

    assert later == {one.name for one in own if one.reported} | {HTTP_DURATION.name}
    assert len(later) == 15


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "say what to compare with"),
        (["--live", "http://127.0.0.1:9/"], "cannot be reached"),
        (["--live", "file:///etc/passwd"], "is no URL"),
        (["--prometheus", "http://127.0.0.1:9"], "cannot be reached"),
        (["--live", "http://["], "is no URL"),
        (["--live", "http://a:b"], "is no URL"),
        (["--live", "http://me:hunter2@127.0.0.1:9"], "is no URL"),
    ],
)
def test_who_does_not_answer_is_no_agreement(
    words: list[str], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: nothing is known; and a password that was written there is not said again."""
    assert run(["diff", *words]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert says in said
    assert "hunter2" not in said


def test_each_is_asked_though_another_does_not_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what was found before somebody stopped to answer is told; exit code 2, for not all is known."""
    (home / "mahavishnu.yaml").write_text(json.dumps(SPEC), encoding="utf-8")
    half = json.dumps({"data": {"groups": []}})
    with serving(half) as url:
        assert run(["diff", "--live", "http://127.0.0.1:9", "--prometheus", url, "--alertmanager", url]) == 2
    told = capsys.readouterr()
    assert re.search(rf"prometheus +{url}  \d+ differences, and not all was compared\n", told.out)
    assert "rule ShopDown is not loaded" in told.out
    assert [line.split(": ")[-1] for line in told.err.splitlines()] == [
        "[Errno 111] Connection refused",
        f"what answers at {url} is no Prometheus".split(": ")[-1],
        f"what answers at {url} is no Alertmanager".split(": ")[-1],
    ]


def test_a_login_is_read_from_a_file_and_shown_to_nobody(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is sent with each question; one that cannot be read is not said again."""
    (home / "login").write_text("Authorization: Bearer hunter2\n\nX-Scope-OrgID: a b\n")
    (home / "torn").write_text("X-Scope-OrgID: a\nhunter2\n")
    with asking(shown(home)) as (url, asked):
        assert run(["diff", "--live", url]) == 2
        assert run(["diff", "--live", url, "--header-file", "login"]) == 0
        assert run(["diff", "--live", url, "--header-file", "torn"]) == 2
        assert run(["diff", "--live", url, "--header-file", "none"]) == 2
    assert asked == [None, "a b"]
    told = " ".join(capsys.readouterr().err.split())
    assert "answers 401 Unauthorized: say a login by --header-file" in told
    assert "torn:2 is no header" in told
    assert "none cannot be read" in told
    assert "hunter2" not in told


@contextmanager
def asking(text: str) -> Generator[tuple[str, list[str | None]]]:
    """A server that answers to whoever knows the password; its URL, and the tenant in each question."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["X-Scope-OrgID"])
            self.send_response(200 if self.headers["Authorization"] == "Bearer hunter2" else 401)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


@pytest.mark.parametrize("status", [301, 308])
def test_a_redirect_is_told_and_not_followed(
    status: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A login would go with it, wherever it leads."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "https://elsewhere.example.com/")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert run(["diff", "--live", f"http://127.0.0.1:{server.server_address[1]}"]) == 2
        server.shutdown()
    assert "ask where that leads, https://elsewhere.example.com/" in capsys.readouterr().err


def test_who_drips_has_no_more_time_than_who_is_silent(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one time for the whole of an answer."""
    monkeypatch.setattr(fetch, "_LONGEST", 0.2)
    with dripping() as url:
        assert run(["diff", "--live", url]) == 2
    assert "timed out" in capsys.readouterr().err


def test_lines_are_short_and_show_where_texts_part(home: Path) -> None:
    """Receivers have whole templates in them."""
    assert run(["generate"]) == 0
    made = contract(load(home / "mahavishnu.yaml").declared)
    config = (home / "deploy/alertmanager/alertmanager.yml").read_text()
    for loaded, said in (
        ("route: {receiver: a}\nreceivers: [{name: a}]", "receivers.shop-P1 is not there"),
        (
            config.replace("{{ with .CommonAnnotations.action", "{{ with .CommonAnnotations.doing"),
            "ns.doing }}",
        ),
    ):
        with serving(json.dumps({"config": {"original": loaded}})) as url:
            found = list(live.alertmanager.differences(Site(url), made, config))
        assert any(said in one for one in found), found
        assert max(map(len, found)) < 400


def _databases(listener: socket.socket) -> None:
    """What a server says that speaks another protocol."""
    with listener.accept()[0] as asked:
        asked.recv(99)
        asked.sendall(b"-ERR what?\r\n")


def test_who_speaks_no_http_does_not_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a database does, when its port is given by mistake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = Thread(target=_databases, args=(listener,))
        answering.start()
        assert run(["diff", "--live", f"http://127.0.0.1:{listener.getsockname()[1]}"]) == 2
        answering.join()
    assert "cannot be reached" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_page_that_is_no_service_of_ours_is_said_to_be_none(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is it one that differs in everything."""
    with serving("<html>hello</html>") as url:
        assert run(["diff", "--live", url]) == 2
        assert run(["diff", "--prometheus", url]) == 2
    assert "is no service of mahavishnu" in capsys.readouterr().err


@pytest.mark.judge
def test_a_prometheus_that_was_told_nothing_forgets_after_15_days(home: Path) -> None:
    """Its default, which no flag says."""
    (home / "prometheus.yml").write_text("{}")
    made = contract(load(home / "mahavishnu.yaml").declared)
    with prometheus(home / "prometheus.yml", home) as asked:
        found = list(live.prometheus.differences(Site(asked), made, "groups: []", ()))
    assert "it keeps its series for 15d, and retention.metrics is 45d" in found


@pytest.mark.judge
@of_both
def test_what_prometheus_and_alertmanager_have_loaded_is_compared(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real ones, with the generated files: rules and routes agree; that nothing is scraped is told."""
    assert run(["generate"]) == 0
    rules = home / "deploy/prometheus/rules.yml"
    config = home / "deploy/alertmanager/alertmanager.yml"
    with (
        prometheus(rules.with_name("prometheus.yml"), home, "--storage.tsdb.retention.time=45d") as asked,
        alertmanager(config, home) as told,
    ):
        capsys.readouterr()
        assert run(["diff", "--alertmanager", told]) == 0
        assert run(["diff", "--prometheus", asked]) == 1
        said = capsys.readouterr().out
        assert "it scrapes nothing as job shop" in said
        assert "rule" not in said
        made = contract(load(home / "mahavishnu.yaml").declared)
        text, scraping = rules.read_text(), [rules.with_name("prometheus.yml").read_text()]
        for old, new, says in (
            ("interval: 15s", "interval: 30s", "is evaluated every 15 s, and this spec says 30s"),
            ("summary: 'Shop: ", "summary: 'Shops: ", "rule ShopDown is told with another summary"),
            ("description: ", "more: ", "rule ShopDown is told with another description, more"),
            ("> 0.72 and", "> 0.73 and", "rule ShopSloLatencyBurnP1 asks"),
            ("for: 2m", "for: 3m", "rule ShopDown waits for 120 s"),
            ("alert: ShopDown", "alert: ShopAway", "rule ShopAway is not loaded"),
            ("tier: fast", "tier: slow", "rule ShopSloLatencyBurnP1 is not loaded, or with other labels"),
        ):
            assert old in text
            found = list(live.prometheus.differences(Site(asked), made, text.replace(old, new, 1), scraping))
            assert any(says in one for one in found), found
        changes = {
            "receiver: shop-P2": "receiver: shop-P1",
            "wait: 30s": "wait: 31s",
            "[service, slo]": "[slo]",
        }
        for old, new in changes.items():
            wanted = config.read_text().replace(old, new, 1)
            assert list(live.alertmanager.differences(Site(told), made, wanted)) != []


@pytest.mark.judge
def test_an_older_copy_of_the_rules_beside_the_right_one_is_told(home: Path) -> None:
    """Of a real Prometheus, which evaluates both, in whatever order it has read them."""
    assert run(["generate"]) == 0
    rules = home / "deploy/prometheus/rules.yml"
    text = rules.read_text()
    old = text.replace("- name: shop-", "- name: old-shop-").replace(
        "for: 2m", "for: 2h\n        keep_firing_for: 1d", 1
    )
    rules.with_name("rules-old.yml").write_text(old)
    config = rules.with_name("both.yml")
    config.write_text("rule_files: [rules*.yml]")
    rules.with_name("rules.test.yml").unlink()
    rules.with_name("rules.slow.test.yml").unlink()
    made = contract(load(home / "mahavishnu.yaml").declared)
    with prometheus(config, home) as asked:
        found = [one for one in live.prometheus.differences(Site(asked), made, text, ()) if "ShopDown" in one]
    twice, *others = sorted(found)
    assert re.fullmatch(r"rule ShopDown is loaded 2 times, in group \S+ of \S+ and group \S+ of \S+", twice)
    assert others == ["rule ShopDown keeps firing for 86400 s", "rule ShopDown waits for 7200 s"]


@pytest.mark.judge
def test_what_never_leaves_prometheus_and_what_it_only_remembers_are_told(home: Path) -> None:
    """Of a real one: alerts and series are dropped, and the series were there yesterday."""
    yesterday = time.time() - 86400
    text = "".join(
        re.sub(r"^(?!#)(\w+)(?:\{(.*)\})? (\S+)$", rf'\1{{job="shop",\2}} \3 {yesterday}', line) + "\n"
        for line in shown(home).splitlines()
    ).replace(",}", "}")
    (home / "old.txt").write_text(text + "# EOF\n")
    promtool = str(judge("promtool"))
    command = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(home / "old.txt"),
        str(home / "tsdb"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    drop = {"source_labels": ["severity"], "regex": "P1", "action": "drop"}
    config: dict[str, object] = {"alerting": {"alert_relabel_configs": [drop]}, "scrape_configs": []}
    (home / "prometheus.yml").write_text(json.dumps(config))
    made = contract(load(home / "mahavishnu.yaml").declared)
    rules = texts(made)["prometheus/rules.yml"]
    with prometheus(home / "prometheus.yml", home, "--storage.tsdb.retention.time=45d") as asked:
        assert "mahavishnu_slo_requests_total" in read(f"{asked}/api/v1/label/__name__/values")
        found = list(live.prometheus.differences(Site(asked), made, rules, ()))
    assert "it has no series of job shop from the last 2m" in found
    assert any(
        re.fullmatch(r"alert_relabel_configs drop Shop\w+ and \d+ more: nobody .*", one) for one in found
    )


def read(url: str) -> str:
    """The text at a URL."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_note_is_printed_and_is_no_difference(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0: rules of one's own turn no pipeline red."""

    def noted(*_: object) -> Iterator[str]:
        yield Note("a rule is somebody's own")

    monkeypatch.setattr(live.prometheus, "differences", noted)
    assert run(["diff", "--prometheus", "http://a"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "prometheus    http://a  no differences",
        "  note: a rule is somebody's own",
    ]


def scraped(home: Path, **said: str) -> list[str]:
    """What is said of a target's pace, of a Prometheus that says this of it."""
    made = contract(load(home / "mahavishnu.yaml").declared)
    url = "http://shop:8000/metrics"
    target = {"labels": {"job": "shop"}, "health": "up", "scrapeUrl": url, **said}
    folder = home / "deploy/prometheus"
    scraping = [(folder / name).read_text() for name in ("prometheus.yml", "scrape.kubernetes.yml")]
    with serving(answers(activeTargets=[target])) as url:
        return [
            one
            for one in live.prometheus.differences(Site(url), made, "groups: []", scraping)
            if one.startswith("target ")
        ]


def test_how_often_a_target_is_asked_is_compared(home: Path) -> None:
    """The rules live on that: a window holds so many scrapes. What an old Prometheus does not say is not judged."""
    targets = '"deploy": {"targets": {"kubernetes": {}}}'
    (home / "mahavishnu.yaml").write_text(f"{json.dumps(SPEC)[:-1]}, {targets}}}", encoding="utf-8")
    assert run(["generate"]) == 0
    assert scraped(home) == []
    assert scraped(home, scrapeInterval="15s", scrapeTimeout="10s") == []
    assert scraped(home, scrapeInterval="1m30s", scrapeTimeout="10s") == [
        "target http://shop:8000/metrics is scraped every 1m30s, and this spec says 15s"
    ]
    assert scraped(home, scrapeInterval="15s", scrapeTimeout="2s") == [
        "target http://shop:8000/metrics must answer within 2s, and this spec says 10s"
    ]


@pytest.mark.parametrize(
    ("config", "interval", "timeout"),
    [
        ("scrape_configs: [{job_name: shop}]", "1m", "10s"),
        ("global: {scrape_interval: 30s}\nscrape_configs: [{job_name: shop}]", "30s", "10s"),
        ("global: {scrape_interval: 5s}\nscrape_configs: [{job_name: shop}]", "5s", "5s"),
        ("global: {scrape_timeout: 3s}\nscrape_configs: [{job_name: shop, scrape_interval: 2s}]", "2s", "2s"),
        ("[{job_name: other}, {job_name: shop, scrape_interval: 45s, scrape_timeout: 40s}]", "45s", "40s"),
    ],
)
def test_a_pace_of_ones_own_template_is_read_as_prometheus_reads_it(
    config: str, interval: str, timeout: str, home: Path
) -> None:
    """With its defaults: a minute, ten seconds, and no longer to answer than until the next time."""
    folder = home / "deploy/prometheus"
    folder.mkdir(parents=True)
    for name in ("prometheus.yml", "scrape.kubernetes.yml"):
        (folder / name).write_text(config)
    assert scraped(home, scrapeInterval=interval, scrapeTimeout=timeout) == []
    assert len(scraped(home, scrapeInterval="59s", scrapeTimeout="1s")) == 2


ROUTED = """
route:
  receiver: nobody
  routes:
    - matchers: ['service="shop"']
      receiver: unrouted
      routes:
        - {matchers: ['severity="P1"'], receiver: P1}
    - {matchers: ['service=""'], receiver: unrouted}
inhibit_rules:
  - {source_matchers: ['alertname="ShopDown"'], target_matchers: ['severity="P2"']}
receivers:
  - {name: unrouted}
  - {name: P1, webhook_configs: [{url: 'https://x.example.com/'}]}
  - {name: nobody}
"""
MORE = "and this spec says nothing of it"
OWN = "    - matchers: ['service=\"shop\"']\n"
RULES = "inhibit_rules:\n"


def added(old: str, new: str) -> list[str]:
    """What is said of a configuration in which somebody wrote this instead of that."""
    assert ROUTED.count(old) == 1
    status = {"config": {"original": ROUTED.replace(old, new)}}
    with serving(json.dumps(status)) as url:
        return list(live.alertmanager.differences(Site(url), contract_of(SPEC), ROUTED))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("receiver: P1}", "receiver: P1, continue: false}", []),
        ("receivers:", "global: {resolve_timeout: 5m}\ntemplates: []\nreceivers:", []),
        ("url: '", "max_alerts: 0, url: '", []),
        ("receiver: P1}", "receiver: P1, match: {team: other}}", ["route.routes[0].routes[0].match is"]),
        (
            "receiver: P1}",
            "receiver: P1, mute_time_intervals: [always]}",
            ["route.routes[0].routes[0].mute_time_intervals"],
        ),
        ("receiver: P1}", "receiver: P1, continue: true}", ["route.routes[0].routes[0].continue is `True`"]),
        (
            "receiver: P1}",
            "receiver: P1, routes: [{receiver: unrouted}]}",
            ["route.routes[0].routes[0].routes is"],
        ),
        ("unrouted\n", "unrouted\n      active_time_intervals: [never]\n", ["route.routes[0].active_time"]),
        ("P2\"']}", "P2\"'], equal: [service]}", ["inhibit_rules[0].equal"]),
        (
            "unrouted}\n  - {name: P1",
            "unrouted, email_configs: [{to: a@example.com}]}\n  - {name: P1",
            ["receivers.unrouted.email_configs is"],
        ),
    ],
)
def test_what_was_added_by_hand_is_told(old: str, new: str, says: list[str]) -> None:
    """Whatever decides who is told; not what Alertmanager fills in by itself."""
    found = added(old, new)
    assert len(found) == len(says)
    assert all(one.startswith(said) for one, said in zip(found, says, strict=True))
    assert all(one.endswith(MORE) for one in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("receivers:", "time_intervals: [{name: always}]\nreceivers:\n  - {name: shop_staging-P1}"),
        ("receiver: nobody", "receiver: P1"),
        ("  - {name: nobody}\n", ""),
        ("'service=\"\"'], receiver: unrouted", "'service=\"\"'], receiver: P1"),
        (RULES, f"    - {{receiver: P1}}\n{RULES}"),
        *(
            (OWN, f"    - {{receiver: P1, {matchers}}}\n{OWN}")
            for matchers in (
                "matchers: ['service=\"shop_staging\"']",
                "matchers: ['service=~\"db|cache\"', 'severity=\"P1\"']",
                "matchers: ['service!~\"shop|db\"'], continue: true",
                "matchers: [severity=critical]",
                "match: {service: db}",
                "match_re: {severity: 'critical|warning'}",
            )
        ),
        *(
            (RULES, f"{RULES}  - {{{matchers}}}\n")
            for matchers in (
                "source_matchers: ['severity=\"P1\"'], target_matchers: ['service=\"db\"']",
                "source_matchers: ['service=\"db\"'], target_matchers: ['severity=\"P2\"'], equal: [service]",
                "source_match: {severity: critical}, target_match: {severity: warning}",
            )
        ),
    ],
)
def test_what_another_service_added_is_passed_over(old: str, new: str) -> None:
    """No alert of this one is told otherwise for it, whoever owns the default route."""
    assert added(old, new) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(
            (OWN, f"    - {{receiver: P1, {matchers}}}\n{OWN}")
            for matchers in (
                "matchers: []",
                "matchers: ['service=~\"shop|db\"']",
                "matchers: ['team=\"a\"']",
                "matchers: ['severity!=\"P1\"'], continue: true",
                "match: {severity: P1}",
            )
        ),
        ('service="shop"', 'service="shop_staging"'),
        (OWN, f"{OWN}      continue: true\n"),
        *(
            (RULES, f"{RULES}  - {{{matchers}}}\n")
            for matchers in (
                "source_matchers: ['service=\"db\"'], target_matchers: ['severity=\"P2\"'], equal: [cluster]",
                "source_matchers: ['severity=\"P1\"'], target_matchers: ['severity=~\"P.\"'], equal: [service]",
            )
        ),
        ("{name: P1,", "{name: P2,"),
    ],
)
def test_what_takes_or_silences_alerts_of_this_service_is_told(old: str, new: str) -> None:
    """Also where it is written for others, too."""
    assert added(old, new) != []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('a{x="/a/{x}",b="1"}', 'a{b="1", x="/a/{x}"}', True),
        ('a{x="/a/{x}",b="1"}', 'a{b="1", x="/a/{y}"}', False),
        ('a{x="1,b=2",b="\\"}"}', 'a{b="\\"}", x="1,b=2"}', True),
        ('label_replace(a{b="1",a="2"}, "x", "{b,a}")', 'label_replace(a{a="2",b="1"}, "x", "{b,a}")', True),
        ('label_replace(a, "x", "{b,a}")', 'label_replace(a, "x", "{a,b}")', False),
    ],
)
def test_matchers_have_no_order_and_strings_have(one: str, other: str, same: bool) -> None:
    """Also where a value holds braces, commas or quotes."""
    assert (normal(one) == normal(other)) is same


@pytest.mark.parametrize(
    ("kept", "same"),
    [
        ("1y", True),
        ("365d", True),
        ("1GiB", True),
        ("", True),
        ("1y or 1GiB", True),
        ("1y1d", False),
        ("45d", False),
        ("45d or 1GiB", False),
    ],
)
def test_how_long_prometheus_keeps_its_series_is_compared(home: Path, kept: str, same: bool) -> None:
    """As it spells that: a year has 365 days, and how much time a size holds nobody knows."""
    (home / "mahavishnu.yaml").write_text(json.dumps({**SPEC, "retention": {"metrics": "365d"}}))
    made = contract(load(home / "mahavishnu.yaml").declared)
    with serving(answers(storageRetention=kept)) as url:
        found = list(live.prometheus.differences(Site(url), made, "groups: []", ()))
    assert any("it keeps its series for" in one for one in found) is not same
