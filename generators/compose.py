"""Docker Compose: the service, Prometheus, Alertmanager and Grafana on one host, and the image that is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

from mahavishnu.artifact import Artifact
from mahavishnu.backup.due import ALIVE
from mahavishnu.container import SCRATCH_PATH, SPEC_PATH, STATE_PATH, letters_folder
from mahavishnu.contract import Contract
from mahavishnu.derived import uploads
from mahavishnu.derived.forgetting import kept
from mahavishnu.errors import MahavishnuError
from mahavishnu.spec import Spec
from mahavishnu.store import endpoint
from mahavishnu.targets import Compose
from mahavishnu.units import Size

from ._jobs import data_folders, outermost, packages, repository_folders
from ._render import Pattern, render
from ._service import (
    UID,
    app_secrets,
    backup_image,
    command,
    host,
    image,
    jobs_secrets,
    pinned,
    seconds,
    sidecar_secrets,
    spec_text,
)

# After the service has had its time, so that a stop is never cut short by the one who asked for it.
_MARGIN = 5
# A worker starts up to forty threads for plain `def` handlers, and some for what it does besides.
_THREADS, _LEAST = 64, 256
# Python is in the image for sure, curl is not; an answer of 400 and above raises.
_HEALTHY = "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/readyz', timeout=2)"
_ALIVE = f"import os, time; raise SystemExit(time.time() - os.path.getmtime('{STATE_PATH}/{ALIVE}') > 120)"
_TRACING = {
    "opentelemetry.sdk": "opentelemetry-sdk>=1.33",
    "opentelemetry.exporter.otlp.proto.common": "opentelemetry-exporter-otlp-proto-common>=1.33",
}
_SIDECARS = ("prometheus", "alertmanager", "grafana")
_JOBS = ("mahavishnu", "backup", "run", "--on-schedule")
_SERVERS = {
    "redis": ("docker.io/library/redis:7.4.2", "redis"),
    "valkey": ("docker.io/valkey/valkey:8.0.2", "valkey"),
}


def generate(contract: Contract) -> Iterable[Artifact]:
    """compose.yaml, the Dockerfile with its ignore file, and the spec as the container reads it."""
    target = contract.spec.deploy.targets.compose
    if target is None:
        return
    taken = [*(_SIDECARS if target.monitoring else ()), *(["backups"] if contract.spec.backups else [])]
    if host(contract) in taken:
        raise MahavishnuError(
            f"a service named `{host(contract)}` cannot run beside Compose's own: "
            "rename it"
            + (", or set `deploy.targets.compose.monitoring: false`" if host(contract) != "backups" else "")
        )
    yield Artifact(
        "compose/compose.yaml", render("compose/compose.yaml.j2", **_escaped(_compose(contract, target)))
    )
    yield Artifact("compose/Dockerfile", render("compose/Dockerfile.j2", **_dockerfile(contract)))
    yield Artifact(
        "compose/Dockerfile.dockerignore",
        render("compose/Dockerfile.dockerignore.j2", **_ignored(contract)),
    )
    yield Artifact("compose/mahavishnu.yaml", spec_text(contract))


def _compose(contract: Contract, target: Compose) -> dict[str, object]:
    spec = contract.spec
    monitoring, secrets = target.monitoring, sidecar_secrets(spec)
    backups: dict[str, Any] = _backups(contract)
    return {
        "host": host(contract),
        "image": image(contract),
        "built": not pinned(contract),
        "context": PurePosixPath("..", contract.home).as_posix(),
        "dockerfile": PurePosixPath(contract.place, "compose/Dockerfile").as_posix(),
        "monitoring": monitoring,
        "user": f"{UID}:{UID}",
        "command": command(contract),
        "published": _published(spec.service.port, target),
        "spec_path": SPEC_PATH,
        "app_environment": {name: _required(name) for name in app_secrets(spec)},
        "secrets": {name: _file(name) for name in sorted({*jobs_secrets(spec), *_all(secrets)})},
        "alert_secrets": secrets.get("alertmanager", []),
        "password": next(iter(secrets.get("grafana", [])), None),
        "cpus": f"{spec.deploy.resources.cpu.cores:f}",
        "memory": _memory(spec.deploy.resources.memory),
        "temporary": _temporary(spec),
        "threads": max(_LEAST, _THREADS * (1 + spec.service.workers)),
        "startup": f"{seconds(spec.deploy.startup)}s",
        "grace": f"{seconds(spec.deploy.shutdown) + _MARGIN}s",
        "healthy": _HEALTHY.format(port=spec.service.port),
        "stores": (stores := [*_stores(contract)]),
        **backups,
        "volumes": [
            *(["prometheus", "alertmanager"] if monitoring else []),
            *backups["backup_volumes"],
            *(store["name"] for store in stores if store["lasting"]),
        ],
        "networks": [
            "front",
            *(["monitoring"] if monitoring else []),
            *(["store"] if stores else []),
        ],
        "journal": "journald" in kept(spec),
        "retention": f"--storage.tsdb.retention.time={spec.retention.metrics}",
    }


def _backups(contract: Contract) -> dict[str, object]:
    """The service that makes the backups, and the volumes and files that it shares."""
    spec = contract.spec
    backed, letters = data_folders(spec), letters_folder(spec)
    shared = _volumes("data", [*backed, *([letters] if letters else [])])
    needed = [
        one for one in shared if any(PurePosixPath(place).is_relative_to(one["target"]) for place in backed)
    ]
    own = _volumes("repository", repository_folders(spec))
    made = {
        "image": backup_image(contract),
        "command": [*_JOBS],
        "secrets": jobs_secrets(spec),
        "scratch": SCRATCH_PATH,
        "healthy": _ALIVE,
    }
    named = ["backup-reports", "backup-scratch"] if spec.backups else []
    return {
        "jobs": made if spec.backups else None,
        "state_path": STATE_PATH,
        "data_volumes": shared,
        "job_volumes": [*needed, *own],
        "backup_volumes": [*named, *(one["name"] for one in (*shared, *own))],
    }


def _letters(spec: Spec) -> str | None:
    """The folder of dead letters that the image has to have: where they are backed up, it is there for the jobs."""
    folder = letters_folder(spec)
    return None if folder in data_folders(spec) else folder


def _all(secrets: Mapping[str, list[str]]) -> set[str]:
    return {name for names in secrets.values() for name in names}


def _volumes(prefix: str, folders: list[str]) -> list[dict[str, str]]:
    """One for each folder that lies in no other, called by its path: whatever comes or goes, nobody gets another's.

    No two are called alike, since no name in a path begins with a hyphen.
    """
    return [
        {"name": f"{prefix}-{one.removeprefix('/').replace('-', '--').replace('/', '-')}", "target": one}
        for one in outermost(folders)
    ]


def _published(port: int, target: Compose) -> str:
    """The port's place on the host; a proxy there is reached by nobody else than through it."""
    return f"127.0.0.1:{port}:{port}" if target.publish == "host" else f"{port}:{port}"


def _stores(contract: Contract) -> Iterable[dict[str, Any]]:
    """The servers that the spec names as only neighbours would be named, `redis://redis:6379`, each once.

    What keeps dead letters must not forget: it writes down everything, and has room for them and for as much again.
    """
    spec = contract.spec
    lasting = spec.dead_letters.store if spec.parking else ""
    made = {one[:2]: one for url in spec.stores if (one := _neighbour(contract, url))}
    if len(made) > len({name for name, _ in made}):
        (name, port), (_, other) = made
        what = f"beside the service on Compose, `{name}` would have to listen on {port} and {other}"
        raise MahavishnuError(f"{what}: give one of the stores another host")
    for name, port, scheme in made.values():
        image, program = _SERVERS[scheme]
        keeps = bool(lasting) and (endpoint(lasting) or ("", 0))[0] == name
        room = 64 + 2 * (int(spec.dead_letters.size) // 2**20) if keeps else 96
        said = {"port": port, "save": "", "maxmemory": f"{room}mb", "maxmemory-policy": "noeviction"}
        said |= {"appendonly": "yes", "appendfsync": "always"} if keeps else {}
        said["protected-mode"] = "no"  # nobody but the service is in its network
        words = (word for key, value in said.items() for word in (f"--{key}", str(value)))
        yield {
            "name": name,
            "image": image,
            "lasting": keeps,
            # The one who owns the image's /data, and with it the volume; elsewhere nobody that the host knows.
            "user": "999:999" if keeps else f"{UID}:{UID}",
            "command": [f"{program}-server", *words],
            "healthy": ["CMD", f"{program}-cli", "-p", str(port), "ping"],
            "memory": f"{room + 64}m",
        }


def _neighbour(contract: Contract, store: str) -> tuple[str, int, str] | None:
    """The name, port and scheme of a server that is to run beside the service; None: it is elsewhere already."""
    url, place = urlsplit(store), endpoint(store)
    if place is None or url.scheme not in _SERVERS or url.username is not None or url.password is not None:
        return None
    name, port = place
    taken = {"localhost", host(contract), *_SIDECARS, *(["backups"] if contract.spec.backups else [])}
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name in taken:
        return None
    return name, port, url.scheme


def _dockerfile(contract: Contract) -> dict[str, object]:
    folders = dict.fromkeys((PurePosixPath(), PurePosixPath(contract.spec.service.app_dir)))
    return {
        "port": contract.spec.service.port,
        "command": command(contract),
        "packages": ["uvicorn>=0.37,<1", *_extras(contract.spec).values()],
        **_tools(contract),
        "imported": ", ".join(("import mahavishnu", "uvicorn", *_extras(contract.spec))),
        "user": f"{UID}:{UID}",
        "requirements": [(folder / "requirements.txt").as_posix() for folder in folders],
    }


def _ignored(contract: Contract) -> dict[str, object]:
    own = [Pattern(line) for line in contract.ignored]
    return {"own": own, "made": _made(contract), "kept": _kept(contract.spec)}


def _made(contract: Contract) -> list[str]:
    """The folder of these files, unless it is elsewhere, or the app is in it, too."""
    service, place = contract.spec.service, PurePosixPath(contract.place)
    app = PurePosixPath(service.app_dir, *service.app.partition(":")[0].split("."))
    return [] if ".." in place.parts or app.is_relative_to(place) else [place.as_posix()]


def _kept(spec: Spec) -> list[str]:
    """The files in which this machine keeps dead letters of its own."""
    file = spec.dead_letters.file if spec.parking else None
    return [f"{file}{end}" for end in ("", "-wal", "-shm")] if file and not file.startswith("/") else []


def _tools(contract: Contract) -> dict[str, object]:
    spec = contract.spec
    shared = [STATE_PATH, *data_folders(spec)] if spec.backups else []
    return {
        "uid": str(UID),
        "folder": _letters(contract.spec),
        "folders": shared,
        "tools": packages(spec) if spec.backups else [],
        "job_folders": [SCRATCH_PATH, *repository_folders(spec)],
        "job_command": [*_JOBS],
    }


def _extras(spec: Spec) -> dict[str, str]:
    """What the service needs on top, by the name it is imported by."""
    shared = {"redis": "redis>=6", "hiredis": "hiredis>=3"} if spec.asks_redis else {}
    shown = spec.observability
    pushed = {"opentelemetry.proto": "opentelemetry-proto>=1.33"} if shown.collectors else {}
    return shared | pushed | (_TRACING if shown.traces else {})


class _Reference(str):
    """Text in which Compose is to replace `${NAME}`."""

    __slots__ = ()


def _required(name: str) -> _Reference:
    return _Reference(f"${{{name}:?is a secret of this service and not set}}")


def _file(name: str) -> _Reference:
    # Not from the environment: Compose refuses that in a read-only container, podman-compose everywhere.
    return _Reference(f"${{SECRETS_DIR:?is the folder with one file for each secret and not set}}/{name}")


def _temporary(spec: Spec) -> str:
    """The room in /tmp, which is memory of the container: the service keeps half of it, whatever is uploaded."""
    room = min(uploads.room(spec), max(uploads.LEAST, spec.deploy.resources.memory // 2))
    return f"{room // 2**20}m"


def _memory(size: Size) -> str:
    """Bytes as Compose writes them: its `m` and `k` are powers of 1024."""
    for unit, factor in (("g", 2**30), ("m", 2**20), ("k", 2**10)):
        if size % factor == 0:
            return f"{int(size) // factor}{unit}"
    return f"{int(size)}b"


def _escaped(value: Any) -> Any:
    """Every text with `$` doubled, so that Compose replaces nothing in it, except where it is meant to."""
    if isinstance(value, _Reference):
        return str(value)
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _escaped(one) for key, one in cast("Mapping[str, Any]", value).items()}
    return value
