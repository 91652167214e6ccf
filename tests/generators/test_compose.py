"""The Compose file and the Dockerfile: valid, confined, in agreement, and told no secret."""

from __future__ import annotations

import copy
import json
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from mahavishnu.contract import contract
from mahavishnu.errors import MahavishnuError
from mahavishnu.spec import Spec
from tests.generators.specs import LARGE, SMALL, generated, merged
from tests.judges import judge
from tests.reading import read
from tests.strategies import specs
from tests.test_layers import ROOT

QUIET = merged(LARGE, {"deploy": {"targets": {"compose": {"monitoring": False}}}})
SHARED = merged(LARGE, {"store": "valkey://limits:7000"})
BACKED: Mapping[str, Any] = merged(
    LARGE,
    {
        "secrets": ["DATABASE_URL", "SLACK_WEBHOOK", "HOOK_TOKEN", "RESTIC_PASSWORD"],
        "deploy": {"targets": {"kubernetes": None}},
        "backups": {
            "orders": {
                "source": {"sqlite": "/var/lib/shop/orders.db"},
                "to": ["sftp:me@vault.example.com:/srv/shop", "/mnt/backups/orders"],
                "password": "${RESTIC_PASSWORD}",
                "schedule": "0 2 * * *",
                "rpo": "25h",
            }
        },
    },
)
SPECS = {"small": SMALL, "large": LARGE, "quiet": QUIET, "shared": SHARED, "backed": BACKED}
OF_REDIS = 999  # who owns /data in its image, and so a volume there
YAMLLINT = "{extends: default, rules: {line-length: disable, document-start: disable}}"


def compose(spec: Mapping[str, Any]) -> Any:
    return read(generated("compose", spec)["compose/compose.yaml"])


def dangling(file: Mapping[str, Any]) -> Iterator[str]:
    """Names of networks, volumes and secrets that are used and not defined, or defined and not used."""
    for kind in ("networks", "volumes", "secrets"):
        used: set[str] = set()
        for service in file["services"].values():
            for one in service.get(kind, []):
                if isinstance(one, str) or one["type"] == "volume":
                    used.add(one if isinstance(one, str) else one["source"])
        yield from (f"{kind}: {name}" for name in sorted(used ^ {*file.get(kind, {})}))


def unconfined(file: Mapping[str, Any]) -> Iterator[str]:
    """What Docker's own benchmark (its section 5) would find, and what a service must have besides.

    Of restarts it wants `on-failure:5`, with which nothing is up again after a reboot (docs.docker.com, "Start
    containers automatically"); what fails again at once is started again ever later, in the end once a minute.
    """
    for name, service in file["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        user = int(service.get("user", "0").split(":")[0])
        wrong = {
            "capabilities": service.get("cap_drop") != ["ALL"] or "cap_add" in service,
            "privileges": service.get("security_opt") != ["no-new-privileges:true"]
            or service.get("privileged"),
            "root": user <= 10000 and user != OF_REDIS,
            "writable": service.get("read_only") is not True,
            "processes": not 0 < service.get("pids_limit", 0) <= 64 + 64 * 64,
            "memory": not re.fullmatch(r"[0-9]+[bkmg]", limits.get("memory", "")),
            "cpu": not float(limits.get("cpus", 0)) > 0,
            "restart": service.get("restart") != "unless-stopped",
            "health": service.get("healthcheck", {}).get("test", [""])[0] != "CMD",
            "logs": not service.get("logging", {}).get("options", {}).get("max-size")
            and service.get("logging") != {"driver": "journald"},
            "grace": "stop_grace_period" not in service,
            "socket": "docker.sock" in str(service.get("volumes")),
            "host": any(key in service for key in ("network_mode", "pid", "ipc", "userns_mode", "devices")),
            "newest": service["image"].endswith(":latest") or ":" not in service["image"].rsplit("/", 1)[-1],
            "public": name in ("prometheus", "alertmanager", "grafana")
            and not all(port.startswith("127.0.0.1:") for port in service["ports"]),
            "unneeded mounts": any(
                one["type"] == "bind" and one.get("read_only") is not True
                for one in service.get("volumes", [])
            ),
        }
        yield from (f"{name}: {fault}" for fault, found in wrong.items() if found)


@pytest.mark.parametrize(("said", "port"), [({}, "8000:8000"), ({"publish": "all"}, "8000:8000"),
    ({"publish": "host"}, "127.0.0.1:8000:8000")])  # fmt: skip
def test_who_reaches_the_port(said: Mapping[str, Any], port: str) -> None:
    """Everybody, or the proxy on the host alone: then nobody else can speak for clients."""
    file = compose(merged(SMALL, {"deploy": {"targets": {"compose": said}}}))
    assert file["services"]["shop"]["ports"] == [port]


def test_the_server_leaves_the_walk_to_the_middleware() -> None:
    """Both would take a hop away: uvicorn believes 127.0.0.1 unless it is told not to."""
    image = generated("compose", LARGE)["compose/Dockerfile"]
    assert "--no-proxy-headers" in image.splitlines()[-1]
    assert "FORWARDED_ALLOW_IPS" not in image


STARTED = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from mahavishnu.asgi import Hardening

app = Starlette(middleware=[Middleware(Hardening)])
"""


def test_a_server_that_cannot_enforce_the_spec_does_not_start(tmp_path: Path) -> None:
    """Starlette makes its middlewares only once it is asked something: the lifespan asks first, and is insisted on."""
    told = {"store": "${REDIS_URL}", "secrets": ["REDIS_URL"], "limits": {"calls": {"rate": "9/minute"}}}
    spec = merged(SMALL, {**told, "service": {"app": "main:app"}})
    (tmp_path / "main.py").write_text(STARTED)
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec))
    done = subprocess.run(
        [sys.executable, "-m", *_started(spec)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3
    assert "REDIS_URL" in done.stderr
    assert "Application startup complete" not in done.stderr


def _started(spec: Mapping[str, Any]) -> list[str]:
    """The command of the image."""
    words: list[str] = json.loads(
        generated("compose", spec)["compose/Dockerfile"].splitlines()[-1].removeprefix("CMD ")
    )
    return words


@pytest.mark.parametrize("name", SPECS)
def test_the_words_that_start_the_service_are_the_same_everywhere(name: str) -> None:
    """Of the image, of Compose and of Kubernetes, whose proxies alone decide how long a connection is kept."""
    spec = merged(SPECS[name], {"deploy": {"targets": {"kubernetes": {}}}})
    image = re.findall("^CMD (.+)", generated("compose", spec)["compose/Dockerfile"], re.MULTILINE)[0]
    pod = read(generated("kubernetes", spec)["kubernetes/deployment.yaml"])["spec"]["template"]["spec"]
    words = compose(spec)["services"][spec["service"]["name"].replace("_", "-")]["command"]
    assert words == json.loads(image)
    assert [*map(_kept, words)] == [*map(_kept, pod["containers"][0]["command"])]


def _kept(word: str) -> str:
    return re.sub("(?<=^--timeout-keep-alive=).*", "…", word)


def test_one_image_serves_environments_that_differ() -> None:
    """Each says what it runs: the image may have been built, or pulled, for another port and other workers."""
    digest = merged(LARGE, {"deploy": {"image": f"ghcr.io/example/shop@sha256:{'a' * 64}"}})
    staging = merged(digest, {"service": {"port": 28011, "workers": 2}, "deploy": {"shutdown": "7s"}})
    one, other = (compose(spec)["services"]["shop-api"] for spec in (digest, staging))
    assert one["image"] == other["image"]
    assert {*other["command"]} - {*one["command"]} == {
        "--host=0.0.0.0",
        "--port=28011",
        "--workers=2",
        "--timeout-worker-healthcheck=30",
        "--timeout-graceful-shutdown=7",
    }
    assert other["ports"] == ["28011:28011"]


@pytest.mark.parametrize("name", SPECS)
def test_the_compose_file_is_sound(name: str) -> None:
    """Every name is defined, every service is confined."""
    file = compose(SPECS[name])
    assert [*dangling(file), *unconfined(file)] == []


@settings(max_examples=10)
@given(specs())
def test_random_specs_give_a_sound_compose_file(spec: dict[str, Any]) -> None:
    """Whatever a valid spec says."""
    file = compose(merged(spec, {"deploy": {"targets": {"compose": {"monitoring": True}}}}))
    assert [*dangling(file), *unconfined(file)] == []


Break = Callable[[Any], object]
PLANTED: Mapping[str, Break] = {
    "networks: nowhere": lambda f: f["services"]["prometheus"].update(networks=["monitoring", "nowhere"]),
    "volumes: nothing": lambda f: f["volumes"].update(nothing={}),
    "secrets: HOOK_TOKEN": lambda f: f["secrets"].pop("HOOK_TOKEN"),
    "prometheus: capabilities": lambda f: f["services"]["prometheus"].update(cap_add=["SYS_ADMIN"]),
    "prometheus: privileges": lambda f: f["services"]["prometheus"].pop("security_opt"),
    "shop-api: root": lambda f: f["services"]["shop-api"].pop("user"),
    "shop-api: writable": lambda f: f["services"]["shop-api"].pop("read_only"),
    "shop-api: processes": lambda f: f["services"]["shop-api"].pop("pids_limit"),
    "shop-api: memory": lambda f: f["services"]["shop-api"]["deploy"]["resources"]["limits"].update(
        memory="256Mi"
    ),
    "shop-api: cpu": lambda f: f["services"]["shop-api"]["deploy"]["resources"]["limits"].pop("cpus"),
    "shop-api: restart": lambda f: f["services"]["shop-api"].update(restart="on-failure:5"),
    "shop-api: health": lambda f: f["services"]["shop-api"]["healthcheck"].update(test=["curl", "x"]),
    "shop-api: logs": lambda f: f["services"]["shop-api"].pop("logging"),
    "shop-api: grace": lambda f: f["services"]["shop-api"].pop("stop_grace_period"),
    "shop-api: socket": lambda f: f["services"]["shop-api"]["volumes"].append(
        {"type": "bind", "source": "/var/run/docker.sock", "target": "/x", "read_only": True}
    ),
    "shop-api: host": lambda f: f["services"]["shop-api"].update(network_mode="host"),
    "prometheus: newest": lambda f: f["services"]["prometheus"].update(image="docker.io/prom/prometheus"),
    "prometheus: public": lambda f: f["services"]["prometheus"].update(ports=["9090:9090"]),
    "grafana: public": lambda f: f["services"]["grafana"].update(ports=["3000:3000"]),
    "grafana: writable": lambda f: f["services"]["grafana"].pop("read_only"),
    "shop-api: unneeded mounts": lambda f: f["services"]["shop-api"]["volumes"][0].pop("read_only"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    """Each check is seen to refuse what it is for."""
    file = copy.deepcopy(compose(LARGE))
    PLANTED[fault](file)
    assert [*dangling(file), *unconfined(file)] == [fault]


# --- outside judges -------------------------------------------------------------------------------


def verdict(name: str, *words: str | Path) -> int:
    return subprocess.run([judge(name), *words], capture_output=True, check=False).returncode


@pytest.mark.judge
@pytest.mark.parametrize("name", SPECS)
def test_the_judges_accept(name: str, tmp_path: Path) -> None:
    """compose-spec's schema, hadolint and yamllint have nothing to say, not even a warning."""
    for path, text in generated("compose", SPECS[name]).items():
        (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
    file = tmp_path / "compose.yaml"
    assert verdict("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file) == 0
    assert verdict("yamllint", "--strict", "-d", YAMLLINT, file, tmp_path / "mahavishnu.yaml") == 0
    assert verdict("hadolint", tmp_path / "Dockerfile") == 0


@pytest.mark.judge
def test_the_judges_can_refuse(tmp_path: Path) -> None:
    """Each of them sees its planted fault."""
    made = generated("compose", LARGE)
    file, docker = tmp_path / "compose.yaml", tmp_path / "Dockerfile"
    file.write_text(made["compose/compose.yaml"].replace("restart:", "restrat:"), encoding="utf-8")
    assert verdict("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file) != 0
    file.write_text(made["compose/compose.yaml"] + "name: again\n", encoding="utf-8")
    assert verdict("yamllint", "--strict", "-d", YAMLLINT, file) != 0
    docker.write_text(
        made["compose/Dockerfile"].replace("--no-cache-dir 'uvicorn>=0.37,<1'", "uvicorn"), encoding="utf-8"
    )
    assert verdict("hadolint", docker) != 0


# --- what the files say ---------------------------------------------------------------------------


def test_the_container_reads_the_spec_that_was_compiled() -> None:
    """The mounted file is the spec itself, environments merged: same values, same hash."""
    again = Spec.model_validate(read(generated("compose", LARGE)["compose/mahavishnu.yaml"]))
    assert contract(again).hash == contract(Spec.model_validate(LARGE)).hash
    service = compose(LARGE)["services"]["shop-api"]
    assert service["volumes"][0]["source"] == "./mahavishnu.yaml"
    assert service["volumes"][0]["target"] == service["environment"]["MAHAVISHNU_SPEC"]


def test_secrets_are_names() -> None:
    """Alertmanager gets its secrets as files, the service its own as variables; no file holds a value."""
    file = compose(LARGE)
    assert file["services"]["alertmanager"]["secrets"] == ["HOOK_TOKEN", "SLACK_WEBHOOK"]
    assert re.fullmatch(r"\$\{SECRETS_DIR:\?[a-z ]+\}/HOOK_TOKEN", file["secrets"]["HOOK_TOKEN"]["file"])
    environment = file["services"]["shop-api"]["environment"]
    assert {*environment} == {"MAHAVISHNU_SPEC", "DATABASE_URL"}
    assert environment["DATABASE_URL"].startswith("${DATABASE_URL:?")


def test_the_operators_token_is_the_services() -> None:
    """Also where a channel has the same."""
    spec = merged(LARGE, {"ops": {"token": "${HOOK_TOKEN}"}})
    environment = compose(spec)["services"]["shop-api"]["environment"]
    assert environment["HOOK_TOKEN"].startswith("${HOOK_TOKEN:?")


def test_alertmanager_finds_its_secrets_where_compose_puts_them() -> None:
    """The two generators agree on the folder of secrets."""
    alertmanager = generated("alertmanager", LARGE)["alertmanager/alertmanager.yml"]
    files = set(re.findall(r"/run/secrets/([A-Z_]+)", alertmanager))
    assert files == {*compose(LARGE)["secrets"]}


def test_the_monitoring_finds_the_service_and_each_other() -> None:
    """prometheus.yml asks a name, a port and a path that this Compose file provides."""
    file = compose(LARGE)
    prometheus = read(generated("prometheus", LARGE)["prometheus/prometheus.yml"])
    (job,) = prometheus["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["shop-api"]
    assert f"{found['port']}:{found['port']}" in file["services"]["shop-api"]["ports"]
    assert "monitoring" in file["services"]["shop-api"]["networks"]
    (target,) = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in file["services"]


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_what_links_to_the_monitoring_leads_to_a_published_port(name: str) -> None:
    """Their own guess would be the id of their container."""
    one = compose(LARGE)["services"][name]
    (url,) = [word.partition("=")[2] for word in one["command"] if word.startswith("--web.external-url=")]
    (published,) = one["ports"]
    assert published.startswith(f"{url.removeprefix('http://')}:")


def test_every_mounted_folder_is_generated() -> None:
    """What Compose mounts from beside itself is there."""
    made = {
        path
        for family in ("compose", "prometheus", "alertmanager", "grafana")
        for path in generated(family, LARGE)
    }
    for service in compose(LARGE)["services"].values():
        for one in service["volumes"]:
            if one["type"] == "bind":
                source = Path("compose", one["source"]).as_posix().replace("compose/../", "")
                assert any(path == source or path.startswith(f"{source}/") for path in made), source


def test_an_image_with_a_digest_is_pulled() -> None:
    """No build makes an image of that digest, and Docker refuses to tag one with it; the jobs' image is built."""
    image = f"ghcr.io/example/shop@sha256:{'a' * 64}"
    pinned = merged(SMALL, {"deploy": {"image": image}})
    service = compose(pinned)["services"]["shop"]
    assert (service["image"], service.get("build")) == (image, None)
    told = [generated("compose", one)["compose/compose.yaml"].splitlines()[0] for one in (SMALL, pinned)]
    assert [line.partition(" up")[2] for line in told] == [" --build", ""]
    jobs = compose(merged(BACKED, {"deploy": {"image": image}}))["services"]["backups"]
    assert (jobs["image"], jobs["build"]["target"]) == ("ghcr.io/example/shop-backups:unreleased", "backups")


def test_backups_are_made_beside_the_service() -> None:
    """By a container of their own image, which shares the database's folder, and alone is told the password."""
    file, image = compose(BACKED), generated("compose", BACKED)["compose/Dockerfile"]
    service, jobs = file["services"]["shop-api"], file["services"]["backups"]
    assert (service["build"]["target"], jobs["build"]["target"]) == ("service", "backups")
    assert jobs["secrets"] == ["RESTIC_PASSWORD"]
    assert {*service["environment"]} == {"MAHAVISHNU_SPEC", "MAHAVISHNU_STATE", "DATABASE_URL"}
    assert "RESTIC_PASSWORD" not in str(jobs["environment"])
    shared = {one["source"]: one.get("read_only") for one in service["volumes"] if one["type"] == "volume"}
    assert shared == {"backup-reports": True, "data-var-lib-shop": None}
    places = {one["target"] for one in jobs["volumes"]}
    assert {"/var/lib/mahavishnu", "/var/lib/shop", "/mnt/backups/orders"} <= places
    made = [line for line in image.splitlines() if "install -d -o 10001" in line]
    assert all(any(place in line for line in made) for place in places - {"/etc/mahavishnu/mahavishnu.yaml"})
    assert "ca-certificates openssh-client restic" in image
    assert "--uid 10001 mahavishnu" in image.partition(" AS backups")[2]  # nobody without a name may use ssh
    assert image.rstrip().splitlines()[-1] == "FROM service"
    assert jobs["command"] == ["mahavishnu", "backup", "run", "--on-schedule"]


def volumes(service: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """The volumes of a service, by where they are mounted."""
    mounted = compose(spec)["services"][service]["volumes"]
    return {one["target"]: one["source"] for one in mounted if one["type"] == "volume"}


def backing(*folders: str, to: str = "/mnt/backups/orders") -> dict[str, Any]:
    """A spec that backs these folders up, beside the database."""
    said = {**BACKED["backups"]["orders"], "to": to}
    more = {f"folder_{at}": {**said, "source": {"directory": one}} for at, one in enumerate(folders)}
    return merged(BACKED, {"backups": more})


@pytest.mark.parametrize("folder", ["/srv/avatars", "/zoo", "/var/lib/shop-2", "/var/lib-shop"])
def test_another_backup_leaves_each_volume_where_it_was(folder: str) -> None:
    """Whatever comes before it in an order of names: a volume is called by its place alone."""
    for service in ("shop-api", "backups"):
        before, after = volumes(service, BACKED), volumes(service, backing(folder, to="/a/repository"))
        assert before.items() <= after.items()
        assert after[folder] not in before.values()
    assert volumes("backups", BACKED)["/mnt/backups/orders"] == "repository-mnt-backups-orders"


def test_a_folder_in_another_lies_on_its_volume() -> None:
    """A volume of its own would hide what the other one has there."""
    spec = backing("/var/lib/shop/uploads", "/var/lib/shop/uploads/big")
    for service in ("shop-api", "backups"):
        assert volumes(service, spec) == volumes(service, BACKED)
    assert " /var/lib/shop/uploads/big" in generated("compose", spec)["compose/Dockerfile"]


def test_time_to_start() -> None:
    """A check that fails meanwhile is none."""
    for startup, period in ((None, "60s"), ("90s", "90s"), ("1m1ms", "61s"), ("1h", "3600s")):
        spec = LARGE if startup is None else merged(LARGE, {"deploy": {"startup": startup}})
        check = compose(spec)["services"]["shop-api"]["healthcheck"]
        assert check["start_period"] == period


def test_time_to_stop() -> None:
    """Compose waits longer than the server, which waits as long as the spec says."""
    made = generated("compose", LARGE)
    assert "--timeout-graceful-shutdown=45" in made["compose/Dockerfile"]
    assert read(made["compose/compose.yaml"])["services"]["shop-api"]["stop_grace_period"] == "50s"


def test_numbers_are_those_of_the_spec() -> None:
    """Retention, processor and memory."""
    services = compose(LARGE)["services"]
    assert "--storage.tsdb.retention.time=60d" in services["prometheus"]["command"]
    assert services["shop-api"]["deploy"]["resources"]["limits"] == {"cpus": "0.25", "memory": "256m"}


@pytest.mark.parametrize(
    ("body", "memory", "written"),
    [
        ("1MiB", "512Mi", "64m"),
        ("20MiB", "512Mi", "192m"),
        ("20MiB", "256Mi", "128m"),
        ("20MiB", "64Mi", "64m"),
    ],
)
def test_uploads_have_room(body: str, memory: str, written: str) -> None:
    """In /tmp, which is memory of the container: half of it is left for the service, whatever comes."""
    deploy = {"resources": {"memory": memory}}
    services = compose(merged(LARGE, {"limits": {"uploads": {"body": body}}, "deploy": deploy}))["services"]
    assert services["shop-api"]["tmpfs"] == [f"/tmp:size={written},mode=1777"]


@pytest.mark.parametrize(("workers", "most"), [(1, 256), (3, 256), (4, 320), (64, 4160)])
def test_every_worker_has_room_for_its_threads(workers: int, most: int) -> None:
    """A plain `def` handler runs in one of the forty that each may start: without room it answers 500."""
    service = compose(merged(LARGE, {"service": {"workers": workers}}))["services"]["shop-api"]
    assert service["pids_limit"] == most


@pytest.mark.parametrize(
    ("said", "written"), [("512Mi", "512m"), ("2Gi", "2g"), ("1000kB", "1000000b"), ("100KiB", "100k")]
)
def test_sizes_are_written_as_compose_reads_them(said: str, written: str) -> None:
    """Its `m` is 1024 times 1024; what is no multiple is written in bytes."""
    spec = merged(SMALL, {"deploy": {"resources": {"memory": said}}})
    assert compose(spec)["services"]["shop"]["deploy"]["resources"]["limits"]["memory"] == written


@pytest.mark.parametrize(
    ("place", "home", "context"),
    [
        ("deploy", "..", "../.."),
        ("examples/shop/deploy", "../../..", "../../../.."),
        (".", ".", ".."),
        ("a $b/c", "../..", "../../.."),
        ("../deploy/shop", "../../project", "../../../project"),
    ],
)
def test_the_build_finds_the_project(place: str, home: str, context: str, tmp_path: Path) -> None:
    """From wherever the files are, the context is the folder of the spec, from which the Dockerfile is found."""
    text = written(SMALL, place=place, home=home)["compose/compose.yaml"].replace("$$", "$")
    build = read(text)["services"]["shop"]["build"]
    assert build == {"context": context, "dockerfile": Path(place, "compose/Dockerfile").as_posix()}
    folder = tmp_path / "project" / place / "compose"
    assert (folder / context).resolve() == tmp_path / "project"
    assert (tmp_path / "project" / build["dockerfile"]).parent == folder


def test_without_monitoring_there_is_only_the_service() -> None:
    """Nothing of Prometheus, Alertmanager or their secrets is left."""
    file = compose(QUIET)
    assert {*file["services"]} == {"shop-api"}
    assert {*file} == {"name", "services", "networks"}


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "grafana"])
def test_a_service_with_the_name_of_a_sidecar_is_refused(name: str) -> None:
    """Two services of one name would be one; without the sidecars the name is free."""
    spec = merged(SMALL, {"service": {"name": name}})
    with pytest.raises(MahavishnuError, match=f"a service named `{name}`"):
        compose(spec)
    assert (
        name in compose(merged(spec, {"deploy": {"targets": {"compose": {"monitoring": False}}}}))["services"]
    )


def test_a_store_that_is_a_neighbour_is_brought_along() -> None:
    """Under its name and port, in a network of its own that leads nowhere; it keeps nothing and forgets nobody."""
    file = compose(SHARED)
    store = file["services"]["limits"]
    assert store["image"].startswith("docker.io/valkey/valkey:")
    assert store["command"][:3] == ["valkey-server", "--port", "7000"]
    assert store["command"][-4:] == ["--maxmemory-policy", "noeviction", "--protected-mode", "no"]
    assert "ports" not in store
    assert file["networks"]["store"] == {"internal": True}
    assert [name for name, one in file["services"].items() if "store" in one["networks"]] == [
        "shop-api",
        "limits",
    ]


@pytest.mark.parametrize(
    "store",
    [
        *(
            "memory://",
            "${REDIS_URL}",
            "redis://:${REDIS_URL}@limits",
            "rediss://limits",
            "redis://a.example.com",
        ),
        *("redis://10.0.0.1", "redis://localhost", "redis://prometheus", "unix:///run/redis.sock"),
    ],
)
def test_a_store_that_is_elsewhere_is_left_alone(store: str) -> None:
    """With a password, with TLS, with a name of the world: it is there already; its secret is the service's."""
    file = compose(merged(LARGE, {"store": store, "secrets": ["DATABASE_URL", "HOOK_TOKEN", "REDIS_URL"]}))
    assert {*file["services"]} == {"shop-api", "prometheus", "alertmanager", "grafana"}
    assert "store" not in file["networks"]
    assert "REDIS_URL" in file["services"]["shop-api"]["environment"]


def test_a_store_with_the_name_of_the_jobs_is_elsewhere() -> None:
    """Two services of one name would be one."""
    file = compose(merged(BACKED, {"store": "redis://backups"}))
    assert file["services"]["backups"]["image"] == "ghcr.io/example/shop-backups:unreleased"
    assert "backups" in compose(merged(LARGE, {"store": "redis://backups"}))["services"]


def test_one_host_with_two_ports_is_refused() -> None:
    """A server beside the service listens on one: the other store would never answer."""
    spec = merged(parking("redis://cache:6380"), {"store": "redis://cache:6379"})
    with pytest.raises(MahavishnuError, match="`cache` would have to listen on 6379 and 6380"):
        compose(spec)
    assert "cache" in compose(merged(spec, {"store": "redis://cache:6380/1"}))["services"]


def test_the_image_has_what_the_package_asks_for() -> None:
    """Its extras are no older there than where pip resolves them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {one for group in project["optional-dependencies"].values() for one in group}
    told = {"metrics": {"otlp": "http://collector:4318"}, "traces": {"otlp": "http://collector:4318"}}
    file = generated("compose", merged(SHARED, {"observability": told}))["compose/Dockerfile"]
    (installed,) = re.findall(r"pip install --no-cache-dir (.+>=.+)", file)
    bounds = {one.removesuffix(",<1") for one in shlex.split(installed)}
    assert len(bounds) == 6
    assert bounds <= asked


def test_the_image_can_speak_to_the_store() -> None:
    """Two packages more, and a build that fails without them."""
    file = generated("compose", SHARED)["compose/Dockerfile"]
    assert "import mahavishnu, uvicorn, redis, hiredis" in file
    assert "redis" not in generated("compose", LARGE)["compose/Dockerfile"]


def parking(store: str) -> dict[str, Any]:
    """A spec whose failed calls are kept there."""
    failing = {"stripe": {"fallback": "dead_letter"}}
    return merged(LARGE, {"dependencies": failing, "dead_letters": {"store": store}})


def test_dead_letters_in_a_file_outlive_the_container() -> None:
    """In a volume of their own, whose folder in the image is the service's alone."""
    made = generated("compose", parking("sqlite:data/letters.db"))
    file = read(made["compose/compose.yaml"])
    (volume,) = [one for one in file["services"]["shop-api"]["volumes"] if one["type"] == "volume"]
    assert (volume["source"], volume["target"]) == ("data-srv-data", "/srv/data")
    assert file["volumes"]["data-srv-data"] == {}
    assert "install -d -m 700 -o 10001 -g 10001 /srv/data" in made["compose/Dockerfile"]
    assert "data-" not in generated("compose", LARGE)["compose/compose.yaml"]


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("/data/uploads/of.db", "/data/uploads"),
        ("/data/uploads/letters/of.db", "/data/uploads"),
        ("/data/of.db", "/data"),
    ],
)
def test_dead_letters_and_what_is_backed_up_share_a_volume(file: str, place: str) -> None:
    """In the same folder, or one in the other."""
    letters = parking(f"sqlite:{file}")
    both = merged(backing("/data/uploads"), {key: letters[key] for key in ("dependencies", "dead_letters")})
    for service in ("shop-api", "backups"):
        shared = volumes(service, both)
        assert {at: name for at, name in shared.items() if name.startswith("data-")} == {
            "/var/lib/shop": "data-var-lib-shop",
            place: f"data-{place[1:].replace('/', '-')}",
        }


def test_the_jobs_see_no_dead_letters_that_are_not_backed_up() -> None:
    """Their folder is the service's alone."""
    letters = parking("sqlite:/var/lib/letters/of.db")
    both = merged(BACKED, {key: letters[key] for key in ("dependencies", "dead_letters")})
    assert "/var/lib/letters" in volumes("shop-api", both)
    assert "/var/lib/letters" not in volumes("backups", both)


def test_no_dead_letter_of_the_builder_enters_the_image() -> None:
    """A new volume begins as what the image has in its place: somebody else's calls would be made again."""

    def ignored(store: str) -> list[str]:
        lines = generated("compose", parking(store))["compose/Dockerfile.dockerignore"].splitlines()
        return [line for line in lines if "letters.db" in line or ".mahavishnu" in line]

    assert "**/.mahavishnu" in ignored("sqlite:.mahavishnu/dead_letters.db")
    assert {"data/letters.db", "data/letters.db-wal", "data/letters.db-shm"} < {
        *ignored("sqlite:data/letters.db")
    }
    assert ignored("redis://letters") == ["**/.mahavishnu"]


def written(spec: Mapping[str, Any], **where: Any) -> dict[str, str]:
    """What is made of a spec where its files are, or its project is, like this."""
    made = replace(contract(Spec.model_validate(spec)), **where)
    generator: Any = import_module("mahavishnu.generators.compose")
    return {one.path: one.text for one in generator.generate(made)}


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("deploy", "deploy"),
        ("examples/deploy", "examples/deploy"),
        ("a #b", r"a \#b"),
        ("src", None),
        ("../deploy", None),
        ("src/web", None),
        ("src/web/deploy", "src/web/deploy"),
    ],
)
def test_what_is_generated_stays_out_of_the_image(place: str, line: str | None) -> None:
    """A folder beside the package would be one more package to setuptools; one that holds the app is needed."""

    def ignored(place: str) -> set[str]:
        return {*written(LARGE, place=place)["compose/Dockerfile.dockerignore"].splitlines()}

    assert ignored(place) - ignored("nowhere") == ({line} if line else set())


def test_what_a_project_ignores_stays_out_of_the_image() -> None:
    """Its own .dockerignore is not read any more; whatever it lets in, secrets and history it does not."""
    said = ("data", "!dist", "!.env", "docs/*[0-9]")
    lines = written(LARGE, ignored=said)["compose/Dockerfile.dockerignore"].splitlines()
    assert [line for line in lines if line in said] == [*said]
    assert lines.index("dist") < lines.index("!dist")
    assert {".git", ".env", "**/*.key", "secrets", "deploy", "**/.mahavishnu"} <= {
        *lines[lines.index(said[-1]) :]
    }
    assert ".dockerignore" not in generated("compose", LARGE)["compose/Dockerfile.dockerignore"]


@pytest.mark.parametrize(
    ("file", "enters"), [("cacert.pem", True), ("server-key.pem", False), ("key.pem", False)]
)
def test_keys_stay_out_of_the_image_and_certificates_do_not(file: str, enters: bool) -> None:
    """Whom the service trusts is no secret, and without it every call by TLS fails."""
    lines = generated("compose", LARGE)["compose/Dockerfile.dockerignore"].splitlines()
    assert enters != any(fnmatch(file, line.removeprefix("**/")) for line in lines)


def installed(folder: Path, image: str) -> list[str]:
    """What a build of the image installs of a project, as words for pip."""
    run = re.findall(r"^RUN (.*?[^\\])\n", image.partition("COPY . .")[2], re.MULTILINE | re.DOTALL)[0]
    for name, does in (("pip", 'echo "$@"'), ("python", ":")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", run], cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_what_the_builder_s_umask_kept_from_others_can_be_read(tmp_path: Path) -> None:
    """The service is not who built the image; and what is well already is not copied once more into a layer."""
    for name in ("shop", "requirements.txt"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o640)
    (tmp_path / "package").mkdir(mode=0o750)
    (tmp_path / "package/tool").write_text("")
    (tmp_path / "package/tool").chmod(0o750)
    installed(tmp_path, generated("compose", LARGE)["compose/Dockerfile"])
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.rglob("*")}
    assert (modes["shop"], modes["package"], modes["tool"]) == (0o644, 0o755, 0o755)


@pytest.mark.parametrize(
    ("files", "builds"),
    [
        ({}, False),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}, False),
        ({"pyproject.toml": "[tool.ruff]\n\n[project]\nname = 'shop'\n"}, True),
        ({"pyproject.toml": "[ build-system ]\nrequires = ['poetry-core']\n"}, True),
        ({"setup.py": ""}, True),
    ],
)
def test_only_what_can_be_built_is_installed(files: Mapping[str, str], builds: bool, tmp_path: Path) -> None:
    """Many a pyproject.toml only says how to lint: pip would make a package of whatever lies beside it."""
    for name, text in {**files, "requirements.txt": ""}.items():
        (tmp_path / name).write_text(text)
    words = installed(tmp_path, generated("compose", LARGE)["compose/Dockerfile"])
    own = ["install --no-cache-dir ."] if builds else []
    assert words == ["install --no-cache-dir -r requirements.txt", *own]


def test_a_server_of_dead_letters_forgets_nothing() -> None:
    """It writes down all it is told before it says so, into a volume; one that counts limits too is the same one."""
    file = compose(merged(parking("redis://letters:7000"), {"dead_letters": {"size": "32MiB"}}))
    server = file["services"]["letters"]
    said = dict(zip(server["command"][1::2], server["command"][2::2], strict=True))
    assert (said["--appendonly"], said["--appendfsync"]) == ("yes", "always")
    assert (said["--maxmemory"], said["--maxmemory-policy"], said["--port"]) == (
        "128mb",
        "noeviction",
        "7000",
    )
    assert server["volumes"] == [{"type": "volume", "source": "letters", "target": "/data"}]
    assert file["volumes"]["letters"] == {}
    assert file["networks"]["store"] == {"internal": True}
    shared = compose(merged(parking("redis://limits"), {"store": "redis://limits"}))["services"]
    assert {*shared} - {"prometheus", "alertmanager", "grafana"} == {"shop-api", "limits"}
    assert "--appendonly" in shared["limits"]["command"]


def test_the_image_can_speak_to_the_collector_and_starts_all_workers() -> None:
    """One package more where series are pushed, and uvicorn's own option."""
    patch = {"service": {"workers": 4}, "observability": {"metrics": {"otlp": "http://collector:4318"}}}
    file = generated("compose", merged(LARGE, patch))["compose/Dockerfile"]
    assert "opentelemetry-proto>=1.33" in file
    assert "import mahavishnu, uvicorn, opentelemetry.proto" in file
    assert "--workers=4" in file
    assert "opentelemetry-sdk" not in file
    traced = generated(
        "compose", merged(LARGE, {"observability": {"traces": {"otlp": "http://collector:4318"}}})
    )
    file = traced["compose/Dockerfile"]
    for package in ("opentelemetry-proto", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-common"):
        assert f"{package}>=1.33" in file
    assert "opentelemetry.sdk, opentelemetry.exporter.otlp.proto.common" in file
    plain = generated("compose", LARGE)["compose/Dockerfile"]
    assert "opentelemetry" not in plain
    assert "--workers" not in plain


def test_nothing_is_written_for_a_target_not_asked_for() -> None:
    """No `compose`, no files."""
    assert generated("compose", merged(SMALL, {"deploy": {"targets": {"compose": None}}})) == {}
