"""Runbooks: a page for each alert, whose commands name only what is there, and whose text nobody can break out of."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu import cli
from mahavishnu.contract import Contract
from mahavishnu.files.notes import BEGIN, END
from mahavishnu.load import accept
from mahavishnu.units import Duration
from tests.generators.specs import LARGE, SMALL, generated, merged
from tests.hostile import HOSTILE
from tests.monitoring import ROOT, made, shop
from tests.pages import MARKDOWN, commands
from tests.reading import read

_render: Any = import_module("mahavishnu.generators._render")
_places: Any = import_module("mahavishnu.generators._places")
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Notes"]
EVERYTHING = merged(
    LARGE,
    {
        "ops": {"token": "${HOOK_TOKEN}"},
        "alerts": {"quiet": [{"severity": "P2", "from": "22:00", "to": "06:00"}]},
    },
)
BACKED = merged(
    EVERYTHING,
    {
        "secrets": [*EVERYTHING["secrets"], "RESTIC_PASSWORD"],
        "deploy": {"image": "ghcr.io/example/shop:1.2.3", "targets": {"compose": {"monitoring": False}}},
        "backups": {
            "orders": {
                "source": {"sqlite": "data/orders.db"},
                "to": "/mnt/backups/orders",
                "password": "${RESTIC_PASSWORD}",
                "schedule": "0 2 * * *",
                "rpo": "25h",
            }
        },
    },
)
TYPED_HERE = r"(?<!backups )(?<!-- )mahavishnu backup \w+ [^`\n]+"
"""And not where the jobs run, whose spec is another file."""
SPECS = {"small": SMALL, "everything": EVERYTHING, "backed": BACKED}


def pages(of: Contract) -> dict[str, str]:
    """Every page of a contract, by its name."""
    generators: list[Any] = [
        import_module(f"mahavishnu.generators.{name}") for name in ("runbooks", "recovery")
    ]
    return {Path(one.path).name: one.text for each in generators for one in each.generate(of)}


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    return pages(shop())


def headings(page: str) -> list[str]:
    """The titles of a page as a reader of Markdown sees them."""
    tokens = MARKDOWN.parse(page)
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]


def test_every_alert_has_its_page(ours: dict[str, str]) -> None:
    """With all its sections, the number that is in force, and a place for notes."""
    for alert in shop().alerts:
        page = ours[f"{alert.name}.md"]
        assert headings(page) == [alert.name, *SECTIONS]
        assert f"\n{BEGIN}\n{END}\n" in page
        assert alert.expr.render() in page
    assert len(ours) == len(shop().alerts) + 4  # the index and three guides


def test_a_page_has_the_numbers_of_this_service(ours: dict[str, str]) -> None:
    """Who is told, what the spec says, where it is shown."""
    page = ours["ShopLimitReportsSaturated.md"]
    for fact in (
        "**Told**: room (Slack #shop-alerts), hook (POST to alerts.internal)",
        "      concurrency: 4\n      queue: 4\n      wait: 500ms\n",
        "https://grafana.example.com/d/shop-resilience?viewPanel=",
        "where the bound is 0.9:",
    ):
        assert fact in page


def test_every_link_leads_somewhere(ours: dict[str, str]) -> None:
    """To a page that is generated, or to the world."""
    for page in ours.values():
        for token in MARKDOWN.parse(page):
            for inner in token.children or ():
                if inner.type == "link_open":
                    to = str(inner.attrs["href"])
                    assert to.startswith("https://") or to in ours, to


def test_the_index_has_every_page(ours: dict[str, str]) -> None:
    """The most urgent ones first."""
    rows = re.findall(r"^\| (P\d) \| \[(\w+)\]\(<(\w+)\.md>\)", ours["README.md"], re.MULTILINE)
    assert [severity for severity, _, _ in rows] == sorted(alert.severity for alert in shop().alerts)
    assert {name for _, name, file in rows if name == file} == {alert.name for alert in shop().alerts}


def test_the_guide_says_who_is_told() -> None:
    """Of each severity, how soon, and when not."""
    guide = pages(made(EVERYTHING))["incident-response.md"]
    assert "| P2 | within the hour | room (Slack #shop), hook (POST to hooks.example.com) | 30s |" in guide
    assert "| 22:00 to 06:00 (UTC) |" in guide
    nobody = pages(made(dict(SMALL)))["incident-response.md"]
    assert "| P1 | now | nobody: the spec has no channels |" in nobody


def test_the_guides_say_what_nobody_is_told_of(ours: dict[str, str]) -> None:
    """The end of what is held back: what a pager still shows is then no proof of anything."""
    guide = ours["incident-response.md"]
    assert "What ends meanwhile is not told as resolved" in guide
    assert "all but P1 while\n`ShopDown` fires" in guide
    asked = 'curl -fsS "${PROMETHEUS:-http://127.0.0.1:9090}/api/v1/alerts"'
    assert asked in commands(guide.partition("## When it is over")[2])
    assert "not told as resolved" in ours["maintenance.md"].partition("## Silence")[2]


def test_who_is_told_where_nobody_says_so() -> None:
    """All but those that hear the heartbeat alone, as Alertmanager has it."""
    spec = merged(EVERYTHING, {"alerts": {"heartbeat": ["hook"]}})
    assert "| P1 | now | room (Slack #shop) | 10s |" in pages(made(spec))["incident-response.md"]


@pytest.mark.parametrize(
    ("alert", "windows", "log"),
    [
        ("SloAvailabilityBurnP1", {"1h", "5m"}, "15m"),
        ("SloAvailabilityBurnP2", {"6h", "5m"}, "30m"),
        ("SloAvailabilityBurnP4", {"3d", "15m"}, "6h"),
        ("SloLatencyBudgetExhausted", {"30d", "150m"}, "24h"),
        ("LimitLoginRefusing", {"1h", "5m"}, "15m"),
        ("DeadLettersLost", {"1h"}, "1h"),
    ],
)
def test_a_page_looks_as_far_back_as_its_alert(
    ours: dict[str, str], alert: str, windows: set[str], log: str
) -> None:
    """Its queries, and the log as far as its shortest window: what it is about may be over in the last minutes."""
    page = ours[f"Shop{alert}.md"]
    asked = [one for one in commands(page) if "/api/v1/query" in one]
    found = {window for one in asked for window in re.findall(r"\[(\w+)\]", one)}
    assert {Duration.parse(one) for one in found} == {Duration.parse(one) for one in windows}
    assert any("/query_range" in one and "step=" in one for one in asked)
    assert f"logs --since {log} " in page
    assert f"--since={log} " in page


def test_a_page_says_for_how_many_its_alert_waits(ours: dict[str, str]) -> None:
    """Where it is about a share, which a handful must not decide."""
    for alert in shop().alerts:
        (said,) = re.findall(r"waits for at least 10 such (\w+) in (1|6)h", ours[f"{alert.name}.md"]) or [
            None
        ]
        assert (said is not None) is (alert.bad is not None), alert.name
        if said is not None:
            assert said[0] == ("calls" if "dependencies" in alert.path else "requests")


def test_the_guide_finds_what_failed_hours_ago(ours: dict[str, str]) -> None:
    """By route and status, and when."""
    page = ours["incident-response.md"]
    assert "Answered with 5xx in the last 6h, by route and status:" in page
    assert any("/query_range" in one and "http_route" in one for one in commands(page))


# --- commands -----------------------------------------------------------------------------------------------


def typed(of: Mapping[str, str], program: str) -> list[list[str]]:
    """The words of every command of a program, without what is piped to another."""
    found = dict.fromkeys(one for page in of.values() for one in commands(page) if one.startswith(program))
    return [shlex.split(part) for one in found for part in one.split(" | ") if part.startswith(program)]


@pytest.mark.proof
def test_our_own_verbs_work(
    ours: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is carried out in the folder of the spec; `test` is proved by its own tests, `diff` asks where nobody is."""
    shutil.copy(ROOT / "mahavishnu.yaml", tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "mahavishnu.cli.explain.accept", cache(accept)
    )  # one file, and an alert for each page
    every = sorted(typed(ours, "mahavishnu"), key=lambda words: "--check" in words)
    assert {words[1] for words in every} == {"check", "config", "diff", "explain", "generate", "test"}
    for words in every:
        if words[1] == "diff":
            closed = [re.sub(r"\$\{\w+:-(.*)\}", "http://127.0.0.1:9", word) for word in words]
            assert cli.run(closed[1:]) == 2
            assert "http://127.0.0.1:9" in capsys.readouterr().err
        elif words[1] != "test":
            assert cli.run(words[1:]) == 0, words


def test_a_verb_that_is_not_there_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The test above can fail."""
    assert cli.run(["maintenance"]) == 2
    assert cli.run(["explain", "ShopDwn", "--spec", str(ROOT / "mahavishnu.yaml")]) != 0


def unknown_to_compose(words: list[str], file: Mapping[str, Any]) -> Iterator[str]:
    """What a command names that Compose's file does not have."""
    flags = {"ps": ("-aq",), "logs": ("--since", "--no-log-prefix"), "exec": (), "restart": (), "kill": ("-s",),
             "run": ("--rm", "-T"), "up": ("-d", "--build", "--force-recreate")}  # fmt: skip
    assert words[:3] == ["docker", "compose", "-f"]
    if words[3] != "deploy/compose/compose.yaml":
        yield words[3]
    verb, *rest = words[4:]
    if verb in ("exec", "run"):
        rest = rest[: 1 + next(place for place, one in enumerate(rest) if not one.startswith("-"))]
    named = [one for before, one in zip(["", *rest], rest, strict=False) if before not in ("--since", "-s")]
    yield from (one for one in named if one not in (*flags[verb], *file["services"]))


def whole(labels: Mapping[str, str]) -> str:
    """The selector of all that is one service's, its backups' as well, and is nobody else's."""
    ours, name = labels["app.kubernetes.io/managed-by"], labels["app.kubernetes.io/name"]
    names = f"{name},{name}-backups"
    return f"app.kubernetes.io/managed-by={ours},app.kubernetes.io/name in ({names})"


def unknown_to_kubernetes(words: list[str], objects: Mapping[str, Any]) -> Iterator[str]:
    """What a command names that the manifests do not have."""
    pod = objects["deployment"]["spec"]["template"]
    own = objects["deployment"]["metadata"]
    label = "app.kubernetes.io/name"
    jobs = {
        f"{label}={one['metadata']['labels'][label]}" for one in objects.values() if one["kind"] == "CronJob"
    }
    there = {
        "-n": {own["namespace"]},
        "-l": {f"{label}={pod['metadata']['labels'][label]}", *jobs, whole(own["labels"])},
        "-c": {pod["spec"]["containers"][0]["name"]},
        "-k": {"deploy/kubernetes", "$OVERLAY"},
    }
    asked = words[: words.index("--")] if "--" in words else words
    for flag, value in pairwise(asked):
        if flag in there and value not in there[flag]:
            yield f"{flag} {value}"
        if flag == "generic" and value not in str(pod["spec"]["containers"][0]["env"]):
            yield value
    crons = {one["metadata"]["name"] for one in objects.values() if one["kind"] == "CronJob"}
    known = {f"deployment/{own['name']}", *(f"--from=cronjob/{one}" for one in crons)}
    yield from (
        one for one in words if one.startswith(("deployment/", "--from=cronjob/")) and one not in known
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_commands_name_what_is_there(spec: Mapping[str, Any]) -> None:
    """Files, services, namespaces, labels, containers, secrets: those that the other generators write."""
    said = pages(made(dict(spec)))
    file = read(generated("compose", spec)["compose/compose.yaml"])
    objects = {Path(path).stem: read(text) for path, text in generated("kubernetes", spec).items()}
    for words in typed(said, "docker"):
        assert [*unknown_to_compose(words, file)] == [], words
    for words in typed(said, "kubectl"):
        assert [*unknown_to_kubernetes(words, objects)] == [], words
    assert len(typed(said, "docker")) > 5
    assert len(typed(said, "kubectl")) > 5


def test_a_command_that_names_nothing_is_found() -> None:
    """The test above can fail."""
    file = read(generated("compose", SMALL)["compose/compose.yaml"])
    objects = {Path(path).stem: read(text) for path, text in generated("kubernetes", SMALL).items()}
    base = ["docker", "compose", "-f"]
    assert [*unknown_to_compose([*base, "compose.yaml", "ps"], file)] == ["compose.yaml"]
    assert [*unknown_to_compose([*base, "deploy/compose/compose.yaml", "restart", "shap"], file)] == ["shap"]
    assert [*unknown_to_compose([*base, "deploy/compose/compose.yaml", "run", "--rm", "backup"], file)]
    for wrong in (
        ["--from=cronjob/shap"],
        ["-n", "shap"],
        ["-c", "main"],
        ["-l", "app=shop"],
        ["get", "deployment/shap"],
    ):
        assert [*unknown_to_kubernetes(["kubectl", *wrong], objects)] != []


# What one spec asks for and another does not; of the rest each deployment has one, and what holds data stays.
FIXED = merged(
    BACKED, {"deploy": {"replicas": {"max": 3}, "targets": {"kubernetes": {"host": None}}}, "backups": None}
)


def of_the_change(spec: Mapping[str, Any]) -> list[list[str]]:
    page = pages(made(dict(spec)))["maintenance.md"].partition("\n## Reload")[0]
    return typed({"": page}, "kubectl")


def test_what_is_gone_from_the_files_is_deleted_from_the_cluster() -> None:
    """Every kind that may be gone, and only what is the service's; first it is shown, and the service runs anew."""
    more, fewer = (
        {
            str((one["kind"], one["metadata"]["name"])): one
            for one in map(read, of.values())
            if "metadata" in one
        }
        for of in (generated("kubernetes", one) for one in (BACKED, FIXED))
    )
    gone = [one for name, one in more.items() if name not in fewer]
    kept = {"ConfigMap", "PersistentVolumeClaim"}
    kinds = {
        f"{'' if '/' in one['apiVersion'] else 'core/'}{one['apiVersion']}/{one['kind']}" for one in gone
    }
    assert len(kinds) == 7
    for spec in (BACKED, FIXED):
        *before, shown, deleted = of_the_change(spec)
        assert any("rollout" in one for one in before)
        assert shown == [*deleted, "--dry-run=server"]
        assert deleted[:4] == ["kubectl", "apply", "-k", "deploy/kubernetes"]
        allowed = {one.partition("=")[2] for one in deleted if one.startswith("--prune-allowlist=")}
        assert allowed == {one for one in kinds if one.rsplit("/", 1)[-1] not in kept}
    for one in more.values():
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "mahavishnu"
        assert labels["app.kubernetes.io/name"] in {"shop-api", "shop-api-backups"}


def test_an_autoscaler_takes_over_from_as_many_replicas_as_there_are() -> None:
    """What kubectl has set itself it takes back to one; so it is told first that it has not, and only then applies."""
    forgotten = ["kubectl", "-n", "shop", "apply", "edit-last-applied", "deployment/shop-api"]
    assert of_the_change(BACKED)[0] == forgotten
    assert forgotten not in of_the_change(FIXED)
    assert "in maintenance.md comes before" in generated("kubernetes", BACKED)["kubernetes/deployment.yaml"]


def test_a_page_of_an_alert_leads_to_what_else_a_change_may_take() -> None:
    """It has the steps that every change takes; where nothing is applied to a cluster, there are no others."""
    alone = merged(EVERYTHING, {"deploy": {"targets": {"kubernetes": None}}})
    for spec, led in ((EVERYTHING, True), (alone, False)):
        page = pages(made(spec))["ShopApiDown.md"]
        assert ("](maintenance.md)" in page) == led
        assert "--prune" not in page


def test_what_reads_the_spec_is_started_with_the_new_one() -> None:
    """A file that is mounted alone stays the old one for a container until it is made anew."""
    file = read(generated("compose", BACKED)["compose/compose.yaml"])
    readers = {name for name, one in file["services"].items() if "./mahavishnu.yaml" in str(one["volumes"])}
    assert readers == {"shop-api", "backups"}
    page = pages(made(BACKED))["maintenance.md"].partition("\n## Reload")[0]
    ups = [words[5:] for words in typed({"": page}, "docker") if words[4] == "up"]
    assert ups == [["-d", "--build", "--force-recreate", "shop-api", "backups"], ["-d"]]


@pytest.mark.parametrize(
    ("base", "words"),
    [(LARGE, ["-d", "--force-recreate", "shop-api"]),
     (BACKED, ["-d", "--build", "--force-recreate", "shop-api", "backups"])],
)  # fmt: skip
def test_an_image_with_a_digest_is_not_built(base: Mapping[str, Any], words: list[str]) -> None:
    """It is pulled; only that of the jobs is made here."""
    pinned = merged(base, {"deploy": {"image": f"ghcr.io/example/shop@sha256:{'a' * 64}"}})
    page = pages(made(pinned))["maintenance.md"].partition("\n## Reload")[0]
    assert [one[5:] for one in typed({"": page}, "docker") if one[4] == "up"] == [words, ["-d"]]


def test_no_secret_is_lost_when_one_is_rotated() -> None:
    """The Secret is replaced as a whole: by what every pod is told, and not only the service's."""
    page = pages(made(BACKED))["maintenance.md"].partition("\n## Rotate secrets")[2]
    keys = {*re.findall(r"key: (\w+)}", "".join(generated("kubernetes", BACKED).values()))}
    assert keys == {"DATABASE_URL", "HOOK_TOKEN", "RESTIC_PASSWORD"}
    said = re.search(r"a file for each of (.+) in SECRETS_DIR", page)
    assert said is not None
    assert {*said[1].split(", ")} == keys
    (words,) = [words for words in typed({"": page}, "docker") if words[4] == "up"]
    assert words[5:] == ["-d", "--force-recreate", "shop-api", "backups"]
    plain = pages(made(EVERYTHING))["maintenance.md"]
    assert "backup jobs" not in plain


def test_others_who_open_a_repository_are_named_before_its_old_password_goes() -> None:
    """The environments that have the same place, said or not; of others than those it is said that they may be."""
    environments: dict[str, dict[str, Any]] = {
        "canary": {},
        "elsewhere": {"backups": {"orders": {"to": "/mnt/other"}}},
        "listed": {"backups": {"more": {"to": ["/mnt/x", "/mnt/backups/orders"]}}},
        "none": {"backups": {"orders": None}},
        "nothing": {"backups": None},
    }

    def told(environment: str | None) -> str:
        patch = {} if environment is None else environments[environment]
        of = made({**merged(BACKED, patch), "environments": environments})
        chosen = replace(of, spec=of.spec.model_copy(update={"environment": environment}))
        page = pages(chosen)["maintenance.md"].partition("\n## Rotate the password of")[2]
        before, _, after = " ".join(page.split()).partition("Remove the old one; OLD is its id")
        assert "Everyone else who opens the repository has to have the new one first" in before
        assert "key remove" in after
        return before

    for environment, others in ((None, "canary, listed"), ("canary", "listed"), ("elsewhere", "")):
        before = told(environment)
        assert (f"These environments of the spec have the same `to`: {others}." in before) is bool(others)
        assert (f"See that these have it: {others}." in before) is bool(others)
    assert "See that these" not in told("elsewhere")


TWO = merged(BACKED, {"backups": {"orders": {"to": ["/mnt/a", "/mnt/b"]}}})


def test_a_repository_is_told_its_new_password_first() -> None:
    """With a value that it does not know nothing can be read; so the ordinary way leaves the password out."""
    page = pages(made(TWO))["maintenance.md"]
    ordinary, _, rest = page.partition("\n## Rotate secrets")[2].partition("\n## Rotate the password of")
    assert "jobs read RESTIC_PASSWORD" not in ordinary
    assert "RESTIC_PASSWORD: never in this way." in ordinary
    first, last = rest.partition("Only now put it in the place of the old one")[::2]
    begin = ["mahavishnu", "backup", "restic", "orders", "--copy"]
    asked = [
        [words[words.index("mahavishnu") :] for words in typed({"": part}, "docker")]
        for part in (first, last.partition("\n## ")[0])
    ]
    fed = ["<", "$NEW_PASSWORD"]
    assert asked[0] == [
        [*begin, copy, "--", *words, "/dev/stdin", *fed]
        for copy in ("1", "2")
        for words in (["key", "add", "--new-password-file"], ["cat", "config", "--password-file"])
    ]
    assert asked[1] == [
        ["mahavishnu", "backup", "list", "orders"],
        *(
            [*begin, copy, "--", *words]
            for copy in "12"
            for words in (["key", "list"], ["key", "remove", "OLD"])
        ),
    ]


def test_a_pod_that_is_entered_has_been_started() -> None:
    """By the name that it was given, from a CronJob that is there; without a place all is typed here."""
    words = [one for one in typed(pages(made(TWO)), "kubectl") if any("by-hand" in word for word in one)]
    (made_,) = {one[one.index("job") + 1] for one in words if "create" in one}
    assert made_ == "shop-api-backup-orders-by-hand"
    assert {word for one in words for word in one if word.startswith("job/")} == {f"job/{made_}"}
    assert {one[3] for one in words} == {"create", "exec", "delete"}
    nowhere = merged(TWO, {"deploy": {"targets": {"compose": None, "kubernetes": None}}})
    here = [
        one for one in typed({"": pages(made(nowhere))["maintenance.md"]}, "mahavishnu") if "restic" in one
    ]
    assert here[0][:6] == ["mahavishnu", "backup", "restic", "orders", "--copy", "1"]


def test_a_service_without_backups_has_no_password_of_a_repository() -> None:
    assert "Rotate the password" not in pages(made(EVERYTHING))["maintenance.md"]


def test_a_backup_that_fails_is_looked_for_in_the_log_of_its_job() -> None:
    """The service's says nothing of it."""
    page = {"": pages(made(BACKED))["ShopApiBackupOrdersTooOld.md"]}
    logs = [words for words in (*typed(page, "docker"), *typed(page, "kubectl")) if "logs" in words]
    assert [one[-1] for one in logs if one[0] == "docker"] == ["backups"]
    assert ["app.kubernetes.io/name=shop-api-backups" in one for one in logs if one[0] == "kubectl"] == [True]


def test_an_image_without_a_tag_is_not_rolled_out() -> None:
    """Where the spec says none, the overlay that sets it is named, and not the folder that has no such image."""
    plain, pinned = (pages(made(spec))["maintenance.md"] for spec in (EVERYTHING, BACKED))
    assert 'kubectl apply -k "$OVERLAY"\n' in plain
    assert "names deploy/kubernetes and sets the image's tag" in plain
    assert "kubectl apply -k deploy/kubernetes\n" in pinned
    assert "OVERLAY" not in pinned


PARKING = {
    "dead_letters": {"store": "sqlite:data/letters.db"},
    "dependencies": {"payment": {"timeout": "1s", "retry": {"attempts": 2}, "fallback": "dead_letter"}},
}


@pytest.mark.parametrize("verb", ["list", "redrive --all"])
def test_letters_are_seen_where_they_lie(verb: str) -> None:
    """On the host of who types it there may be none, or somebody else's."""
    page = pages(made({**SMALL, **PARKING}))["ShopDeadLettersQuarantined.md"]
    found = [one for one in commands(page) if f"mahavishnu dead-letters {verb}" in one]
    assert found == [
        f"docker compose -f deploy/compose/compose.yaml exec shop mahavishnu dead-letters {verb}",
        f"kubectl -n default exec deployment/shop -c app -- mahavishnu dead-letters {verb}",
    ]


def test_without_a_place_they_are_seen_where_the_service_runs() -> None:
    page = pages(made({**SMALL, **PARKING, "deploy": {"targets": {}}}))["ShopDeadLettersQuarantined.md"]
    assert "mahavishnu dead-letters list" in commands(page)


def test_the_guides_say_where_they_have_no_command() -> None:
    """Where the spec names no place, nothing ends in a colon and then in nothing."""
    said = pages(made({**SMALL, "deploy": {"targets": {}}}))
    for name in ("maintenance.md", "incident-response.md"):
        assert "`deploy.targets`" in said[name]
        assert "`deploy.targets`" not in pages(made(dict(SMALL)))[name]
    assert "come up:" not in said["maintenance.md"]


def test_whether_a_dependency_is_reached() -> None:
    """What is run beside the service says so, and fails where nobody listens."""
    said = [sys.executable, "-c", _places._REACH, "127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert subprocess.run([*said, port], capture_output=True, check=True).stdout == b"reachable\n"
    assert subprocess.run([*said, port], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_what_compose_wants_is_said(spec: Mapping[str, Any]) -> None:
    """Every variable without which it does nothing at all, not even show a log."""
    needed = {*re.findall(r"\$\{(\w+):\?", generated("compose", spec)["compose/compose.yaml"])}
    page = pages(made(dict(spec)))["incident-response.md"]
    said = re.search(r"Compose wants (.+) in the environment", page)
    assert {*(said[1].split(", ") if said else ())} == needed


def test_an_environment_is_named() -> None:
    """What is typed for staging does not write what is for production."""
    said = pages(replace(shop(), env="staging"))
    assert all(words[-2:] == ["--env", "staging"] for words in typed(said, "mahavishnu"))
    assert "--env" not in "".join(pages(shop()).values())


@pytest.mark.parametrize("env", [None, "staging"])
def test_a_spec_by_another_name_is_named(env: str | None) -> None:
    """What is typed for it is not about the one that would be found in its folder."""
    named = ["--spec", "other shop.yaml", *(["--env", env] if env else [])]
    said = pages(replace(made(BACKED), file="other shop.yaml", env=env))
    backups = re.findall(TYPED_HERE, said["disaster-recovery.md"])
    found = [*typed(said, "mahavishnu"), *map(shlex.split, backups)]
    assert {words[1] for words in found} == {
        "backup",
        "check",
        "config",
        "diff",
        "explain",
        "generate",
        "test",
    }
    assert all(named == words[words.index("--spec") :][: len(named)] for words in found), found
    assert f"leave `{shlex.join(named)}` out" in said["disaster-recovery.md"]
    assert "--spec" not in "".join(pages(made(BACKED)).values())


def test_what_is_recovered_is_of_the_environment_that_is_named() -> None:
    """The commands of one do not put its data into the place of another; the jobs' image knows no other."""
    page = pages(replace(made(BACKED), env="staging"))["disaster-recovery.md"]
    typed_ones = re.findall(TYPED_HERE, page)
    assert len(typed_ones) >= 7
    assert all(one.split()[3:6] == ["orders", "--env", "staging"] for one in typed_ones), typed_ones
    assert "leave `--env staging` out" in page
    assert "--env" not in pages(made(BACKED))["disaster-recovery.md"]


def test_what_is_lost_is_recovered_where_the_jobs_run() -> None:
    """Their folder is nobody's to write to: what they restore is on a volume, and is fetched from there."""
    page = {"": pages(made(BACKED))["disaster-recovery.md"]}
    folder = ["/var/lib/mahavishnu/scratch", "recovered-orders"]
    restored = ["mahavishnu", "backup", "restore", "orders"]
    expected = [
        [*restored, "--to", "/".join(folder)],
        ["tar", "-C", folder[0], "-cf", "-", folder[1]],
        [*restored, "--in-place"],
    ]
    docker = typed(page, "docker")
    assert [words[words.index("backups") + 1 :] for words in docker] == expected
    kubectl = [words for words in typed(page, "kubectl") if "exec" in words]
    assert [words[words.index("--") + 1 :] for words in kubectl] == expected
    file = read(generated("compose", BACKED)["compose/compose.yaml"])
    assert folder[0] in [volume["target"] for volume in file["services"]["backups"]["volumes"]]
    nowhere = merged(BACKED, {"deploy": {"targets": {"compose": None, "kubernetes": None}}})
    assert "Where the jobs run" not in pages(made(nowhere))["disaster-recovery.md"]


def test_a_repository_that_is_alone_has_no_other() -> None:
    """The page offers the second where there is one."""
    two = merged(BACKED, {"backups": {"orders": {"to": ["/mnt/a", "/mnt/b"]}}})
    assert "`--copy 2`" in pages(made(two))["disaster-recovery.md"]
    page = pages(made(BACKED))["disaster-recovery.md"]
    assert "--copy" not in page
    assert "with the same `--snapshot`" in page


def test_operators_are_told_whom_the_limits_refuse() -> None:
    """Where there are operators, with the name of their token and nothing of its value."""
    page = pages(made(EVERYTHING))["ShopApiLimitPerClientRefusing.md"]
    assert (
        '-H "Authorization: Bearer ${HOOK_TOKEN}" "${SERVICE:-http://127.0.0.1:8680}/-/mahavishnu/refused"'
        in page
    )
    assert "/refused" not in pages(shop())["ShopLimitPerClientRefusing.md"]


# --- Markdown -----------------------------------------------------------------------------------------------


def words(text: str) -> str:
    """A text as a reader sees it: what cannot be seen is spelled out, and blanks are one."""
    visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return " ".join(visible.split())


def seen(page: str) -> list[str]:
    """The paragraphs of a page as a reader of Markdown sees them; anything that is no text is named."""
    blocks: list[str] = []
    for token in MARKDOWN.parse(page):
        if token.type == "inline":
            kinds = {inner.type for inner in token.children or ()} - {"text", "softbreak", "text_special"}
            blocks.append(
                " ".join("".join(inner.content for inner in token.children or ()).split()) + "".join(kinds)
            )
        elif token.type not in ("paragraph_open", "paragraph_close"):
            blocks.append(token.type)
    return blocks


@given(
    st.one_of(
        st.sampled_from(HOSTILE), st.text(max_size=60), st.text("*_`[]()<>#-+=|~$&!\\.1 \n", max_size=30)
    )
)
def test_a_text_stays_a_text(text: str) -> None:
    """Alone in a line, and within one: no heading, no list, no link, no code, no HTML."""
    written = _render.markdown(text)
    assert "\n" not in written
    if words(text):
        assert seen(written) == [words(text)]
    assert seen(f"before {written} after") == [" ".join(f"before {words(text)} after".split())]


@given(
    st.one_of(
        st.sampled_from(HOSTILE),
        st.text(min_size=1, max_size=60),
        st.text("`\\ a\n", min_size=1, max_size=12),
    )
)
def test_code_stays_code(text: str) -> None:
    """In a block of its own, and within a sentence; a line of it is never a mark."""
    block = str(_render.Code(text))
    lines = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in one) for one in text.split("\n")]
    assert block == "\n".join(f"    {line}" for line in lines)
    inline = str(_render.Code(text, inline=True))
    (token,) = (one for one in MARKDOWN.parse(f"so {inline} is") if one.type == "inline")
    if text:
        assert [one.content for one in token.children or () if one.type == "code_inline"] == [
            "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        ]
