"""What is generated really starts: the Dockerfile is built, the Compose stack and the Deployment run.

Without containers nothing of this is proved, and the table of figures says NOT RUN.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from mahavishnu.cli import run
from tests.figures import figure
from tests.judges import ROOT, find

pytestmark = [pytest.mark.proof, pytest.mark.containers, pytest.mark.alone]

SOURCES = ("framework", "generators", "templates", "examples")
FILES = ("pyproject.toml", "LICENSE", "mahavishnu.yaml")
PORTS = {"shop": 8680, "prometheus": 9090, "alertmanager": 9093}
DATABASE = "postgresql://nobody@127.0.0.1:9/shop"
SERVICES = (*PORTS, "letters")
TREES: dict[str, tuple[str, ...]] = {
    "prometheus": ("/usr/share/zoneinfo:/usr/share/zoneinfo",),
    "prometheus-alertmanager": (
        "/usr/share/zoneinfo:/usr/share/zoneinfo",
        f"{ROOT}/.tools/usr/share/prometheus/alertmanager:/usr/share/prometheus/alertmanager",
    ),
}
# As in the official images: work is done in the folder of data, which belongs to the user; a command may name redis.
OWNED = """FROM {base}
RUN ["/bin/busybox", "mkdir", "{data}"]
RUN ["/bin/busybox", "chown", "{user}", "{data}"]
WORKDIR {data}
"""


def not_run(why: str) -> NoReturn:
    figure("generated containers, really built and started", "yes", f"NOT RUN: {why}")
    pytest.skip(f"NOT RUN: {why}")


@dataclass(frozen=True)
class Podman:
    """The podman of `make containers`."""

    path: Path

    def __call__(self, *words: str | Path, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run([self.path, *words], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"podman {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def compose(self, folder: Path, *words: str, secrets: Path) -> None:
        command: list[str | Path] = [
            Path(sys.executable).parent / "podman-compose",
            "--podman-path",
            self.path,
        ]
        env = {**os.environ, "PATH": f"{self.path.parent}:{os.environ['PATH']}", "SECRETS_DIR": str(secrets)}
        env["DATABASE_URL"] = DATABASE
        done = subprocess.run(
            [*command, "-f", "compose.yaml", *words],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Podman, if it is here and can start a container."""
    found = find("podman")
    if found is None or not found.is_relative_to(ROOT / ".tools"):
        not_run("no containers here; `make containers`, as root")
    base = f"docker.io/library/python:3.{sys.version_info.minor}-slim"
    tried = subprocess.run(
        [found, "run", "--rm", "--pull=never", "--network=none", base, "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        not_run(f"podman cannot start a container: {tried.stderr.strip().splitlines()[-1]}")
    yield Podman(found)
    # Made by `kube play`, which leaves it behind.
    subprocess.run(
        [found, "network", "rm", "-f", "podman-default-kube-network"], capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the repository with freshly generated files."""
    home = tmp_path_factory.mktemp("project")
    for name in SOURCES:
        shutil.copytree(
            ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "deploy")
        )
    for name in FILES:
        shutil.copy(ROOT / name, home / name)
    assert (
        run(
            ["generate", "--spec", str(home / "mahavishnu.yaml"), "--out", str(home / "examples/shop/deploy")]
        )
        == 0
    )
    return home


@pytest.fixture(scope="module")
def deploy(podman: Podman, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of generated files, with every image they name present."""
    folder = project / "examples/shop/deploy"
    file = yaml.safe_load((folder / "compose/compose.yaml").read_text())
    build(podman, project, file["services"]["shop"], tmp_path_factory.mktemp("wheels"))
    for name, data, *programs in (
        ("prometheus", "/prometheus", "prometheus"),
        ("alertmanager", "/alertmanager", "prometheus-alertmanager"),
        ("letters", "/data", "redis-server", "redis-cli"),
    ):
        stand_in(podman, file["services"][name], data, programs)
    return folder


def build(podman: Podman, project: Path, service: dict[str, Any], wheels: Path) -> None:
    """The Dockerfile, as Compose would build it; packages come from the lock, fetched out here."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    asked = wheels / "requirements.txt"
    asked.write_text((ROOT / "requirements/demo.txt").read_text() + "".join(locked("redis", "hiredis")))
    subprocess.run([*pip, "-r", asked, "-d", wheels], check=True, capture_output=True)
    (wheels / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = ("--volume", f"{wheels}:/wheels:ro", "--volume", f"{wheels}/pip.conf:/etc/pip.conf:ro")
    python = f"PYTHON=3.{sys.version_info.minor}"
    dockerfile, target = project / service["build"]["dockerfile"], service["build"]["target"]
    words = ("--pull=never", "--build-arg", python, *mounts, "--file", dockerfile, "--target", target)
    podman("build", *words, "--tag", service["image"], project)


def locked(*names: str) -> Iterator[str]:
    """What the lock of the tests says of packages that the image wants besides."""
    for one in re.split(r"^(?=\S)", (ROOT / "requirements/dev.txt").read_text(), flags=re.MULTILINE):
        if one.partition("==")[0] in names:
            yield one


def stand_in(podman: Podman, service: dict[str, Any], data: str, programs: list[str]) -> None:
    """Programs of Debian under the name of the official image."""
    base = f"localhost/stand-in/{programs[0]}:latest"
    made: list[str | Path] = [sys.executable, ROOT / "tests/tools/containers.py", "image", base]
    made += [ROOT / f".tools/usr/bin/{one}" for one in programs]
    trees = [word for one in TREES.get(programs[0], ()) for word in ("--tree", one)]
    linked = ":".join(map(str, sorted((ROOT / ".tools/usr/lib").glob("*-linux-gnu"))))
    subprocess.run(
        [*made, *trees], check=True, capture_output=True, env={**os.environ, "LD_LIBRARY_PATH": linked}
    )
    said = OWNED.format(base=base, data=data, user=service["user"])
    if service["command"][0] == programs[0]:
        said += "ENTRYPOINT []\n"
    podman("build", "--pull=never", "--tag", service["image"], "--file", "-", stdin=said)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    for name in yaml.safe_load((ROOT / "mahavishnu.yaml").read_text())["secrets"]:
        (folder / name).write_text("http://127.0.0.1:9/secret")
    return folder


@pytest.fixture
def stack(podman: Podman, deploy: Path, secrets: Path) -> Iterator[Path]:
    """The Compose stack, up; taken down afterwards with its volumes and networks."""
    for name, port in PORTS.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                not_run(f"port {port}, which {name} publishes, is taken")
    folder = deploy / "compose"
    try:
        podman.compose(folder, "up", "-d", "--no-build", *SERVICES, secrets=secrets)
        yield deploy
    finally:
        podman.compose(folder, "down", "-v", "-t", "5", secrets=secrets)


def get(url: str, patience: float = 90) -> str:
    """The body of a 200 answer, waited for."""
    ends = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.HTTPError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


def test_the_compose_stack_runs(podman: Podman, stack: Path) -> None:
    """Built, started, healthy, seen by each other, confined as written, enforcing the spec that was compiled."""
    assert get("http://127.0.0.1:8680/readyz") == "ready\n"
    assert "Ready" in get("http://127.0.0.1:9090/-/ready")
    assert get("http://127.0.0.1:9093/-/ready")
    for name in SERVICES:
        podman("healthcheck", "run", f"shop_{name}_1")
    compiled = json.loads((stack / "mahavishnu.lock").read_text())["spec"]
    assert f'mahavishnu_spec_info{{hash="{compiled}"}} 1.0' in get("http://127.0.0.1:8680/metrics")
    assert scraped() == "up"
    found = json.loads(get("http://127.0.0.1:9090/api/v1/alertmanagers"))["data"]
    assert [one["url"] for one in found["activeAlertmanagers"]] == ["http://alertmanager:9093/api/v2/alerts"]
    (one,) = json.loads(podman("inspect", "shop_shop_1"))
    host = one["HostConfig"]
    assert (host["ReadonlyRootfs"], host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (
        True,
        512 * 2**20,
        500_000_000,
        256,
    )
    assert one["Config"]["User"] == "10001:10001"
    assert one["EffectiveCaps"] in (None, [])
    podman("stop", "-t", "35", "shop_shop_1")
    assert podman("inspect", "shop_shop_1", "--format", "{{.State.ExitCode}}") == "0"
    figure("generated containers, really built and started", "yes", "yes (compose)")


def scraped(patience: float = 40) -> str:
    """What Prometheus says of its only target, once it has asked."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        targets = json.loads(get("http://127.0.0.1:9090/api/v1/targets"))["data"]["activeTargets"]
        if targets and targets[0]["health"] != "unknown":
            return str(targets[0]["health"])
        time.sleep(0.5)
    return "never asked"


def test_a_missing_secret_stops_the_stack(podman: Podman, deploy: Path) -> None:
    """The test above can fail: without its secrets the stack does not start."""
    with pytest.raises(AssertionError, match=r"SECRETS_DIR|no such file|not exist|not found"):
        podman.compose(deploy / "compose", "up", "-d", "--no-build", *SERVICES, secrets=Path("/nonexistent"))
    podman.compose(deploy / "compose", "down", "-v", "-t", "0", secrets=Path("/nonexistent"))


@pytest.fixture
def cluster_secrets(podman: Podman) -> Iterator[None]:
    """The Secret that the Deployment names, which a cluster has from elsewhere."""
    # As `podman kube play` of Debian 12 reads a secret, whatever it writes of one.
    said = json.dumps({"DATABASE_URL": b64encode(DATABASE.encode()).decode()})
    swept(podman)
    podman("secret", "create", "shop-secrets", "-", stdin=said)
    yield
    swept(podman)


def swept(podman: Podman) -> None:
    """What `kube down` leaves behind is gone, of this run or of one that was killed."""
    podman("secret", "rm", "shop-secrets", check=False)
    podman("volume", "rm", "-f", "shop-backups", check=False)


@pytest.mark.usefixtures("cluster_secrets")
def test_the_deployment_runs(podman: Podman, deploy: Path, tmp_path: Path) -> None:
    """`podman kube play` starts the Deployment with its ConfigMap: ready, read-only, as a user of its own."""
    manifests = deploy / "kubernetes"
    play = tmp_path / "play.yaml"
    names = ("configmap", "deployment", "backups-pvc")
    play.write_text("---\n".join((manifests / f"{name}.yaml").read_text() for name in names))
    try:
        podman("kube", "play", play)
        (name,) = [one for one in podman("ps", "--format", "{{.Names}}").split() if one.endswith("-app")]
        ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8680/readyz').read().decode())"
        ends = time.monotonic() + 90
        while podman("exec", name, "python", "-c", ask, check=False) != "ready":
            assert time.monotonic() < ends, podman("logs", name)
            time.sleep(0.5)
        assert podman("exec", name, "id", "-u") == "10001"
        assert "Read-only" in podman("exec", name, "sh", "-c", "touch /x 2>&1 || true")
    finally:
        podman("kube", "down", play, check=False)
    figure("generated containers, really built and started", "yes", "yes (kubernetes, by podman)")


@pytest.mark.usefixtures("cluster_secrets")
def test_a_missing_key_stops_the_deployment(podman: Podman, deploy: Path, tmp_path: Path) -> None:
    """The test above can fail: without the ConfigMap it names, the Deployment does not start."""
    play = tmp_path / "play.yaml"
    play.write_text((deploy / "kubernetes/deployment.yaml").read_text())
    try:
        with pytest.raises(AssertionError, match="shop-spec"):
            podman("kube", "play", play)
    finally:
        podman("kube", "down", play, check=False)
