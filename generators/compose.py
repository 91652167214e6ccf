"""Docker Compose: the service, Prometheus and Alertmanager on one host, and the image they are built from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

from mahavishnu.artifact import Artifact
from mahavishnu.contract import Contract
from mahavishnu.errors import MahavishnuError
from mahavishnu.spec import Spec
from mahavishnu.store import endpoint
from mahavishnu.targets import Compose
from mahavishnu.units import Size

from ._render import render
from ._service import SPEC_PATH, UID, alert_secrets, app_secrets, command, host, image, seconds, spec_text

# After the service has had its time, so that a stop is never cut short by the one who asked for it.
_MARGIN = 5
# Python is in the image for sure, curl is not; an answer of 400 and above raises.
_HEALTHY = "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/readyz', timeout=2)"
_SIDECARS = ("prometheus", "alertmanager")
_SERVERS = {
    "redis": ("docker.io/library/redis:7.4.2", "redis"),
    "valkey": ("docker.io/valkey/valkey:8.0.2", "valkey"),
}


def generate(contract: Contract) -> Iterable[Artifact]:
    """compose.yaml, the Dockerfile with its ignore file, and the spec as the container reads it."""
    target = contract.spec.deploy.targets.compose
    if target is None:
        return
    if target.monitoring and host(contract) in _SIDECARS:
        raise MahavishnuError(
            f"a service named `{host(contract)}` cannot run beside Compose's own: "
            "rename it, or set `deploy.targets.compose.monitoring: false`"
        )
    yield Artifact(
        "compose/compose.yaml", render("compose/compose.yaml.j2", **_escaped(_compose(contract, target)))
    )
    yield Artifact("compose/Dockerfile", render("compose/Dockerfile.j2", **_dockerfile(contract)))
    yield Artifact("compose/Dockerfile.dockerignore", render("compose/Dockerfile.dockerignore.j2"))
    yield Artifact("compose/mahavishnu.yaml", spec_text(contract))


def _compose(contract: Contract, target: Compose) -> dict[str, object]:
    spec = contract.spec
    monitoring = target.monitoring
    place = PurePosixPath(contract.place)
    ups = "/".join([".."] * (len(place.parts) + 1))
    return {
        "host": host(contract),
        "image": image(contract),
        "context": ups,
        "dockerfile": (place / "compose/Dockerfile").as_posix(),
        "monitoring": monitoring,
        "user": f"{UID}:{UID}",
        "published": _published(spec.service.port, target),
        "spec_path": SPEC_PATH,
        "app_environment": {name: _required(name) for name in app_secrets(spec)},
        "alert_secrets": {name: _file(name) for name in alert_secrets(spec)} if monitoring else {},
        "cpus": f"{spec.deploy.resources.cpu.cores:f}",
        "memory": _memory(spec.deploy.resources.memory),
        "grace": f"{seconds(spec.deploy.shutdown) + _MARGIN}s",
        "healthy": _HEALTHY.format(port=spec.service.port),
        "store": _store(contract),
        "networks": [
            "front",
            *(["monitoring"] if monitoring else []),
            *(["store"] if _store(contract) else []),
        ],
        "retention": f"--storage.tsdb.retention.time={spec.retention.metrics}",
    }


def _published(port: int, target: Compose) -> str:
    """The port's place on the host; a proxy there is reached by nobody else than through it."""
    return f"127.0.0.1:{port}:{port}" if target.publish == "host" else f"{port}:{port}"


def _store(contract: Contract) -> dict[str, object] | None:
    """The server of the limits, where the spec names one as only a neighbour would be named: `redis://redis:6379`."""
    url = urlsplit(contract.spec.store)
    place = endpoint(contract.spec.store)
    if place is None or url.scheme not in _SERVERS or url.username is not None or url.password is not None:
        return None
    name, port = place
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name in ("localhost", host(contract), *_SIDECARS):
        return None
    image, program = _SERVERS[url.scheme]
    said = {"port": port, "save": "", "maxmemory": "96mb", "maxmemory-policy": "noeviction"}
    said["protected-mode"] = "no"  # nobody but the service is in its network
    return {
        "name": name,
        "image": image,
        "command": [
            f"{program}-server",
            *(word for key, value in said.items() for word in (f"--{key}", str(value))),
        ],
        "healthy": ["CMD", f"{program}-cli", "-p", str(port), "ping"],
    }


def _dockerfile(contract: Contract) -> dict[str, object]:
    folders = dict.fromkeys((PurePosixPath(), PurePosixPath(contract.spec.service.app_dir)))
    return {
        "port": contract.spec.service.port,
        "command": command(contract),
        "packages": ["uvicorn>=0.36,<1", *_extras(contract.spec).values()],
        "imported": ", ".join(("import mahavishnu", "uvicorn", *_extras(contract.spec))),
        "user": f"{UID}:{UID}",
        "requirements": [(folder / "requirements.txt").as_posix() for folder in folders],
    }


def _extras(spec: Spec) -> dict[str, str]:
    """What the service needs on top, by the name it is imported by."""
    shared = {"redis": "redis>=5", "hiredis": "hiredis>=3"} if spec.shared else {}
    pushed = {"opentelemetry.proto": "opentelemetry-proto>=1.20"} if spec.observability.metrics.otlp else {}
    return shared | pushed


class _Reference(str):
    """Text in which Compose is to replace `${NAME}`."""

    __slots__ = ()


def _required(name: str) -> _Reference:
    return _Reference(f"${{{name}:?is a secret of this service and not set}}")


def _file(name: str) -> _Reference:
    # Not from the environment: Compose refuses that in a read-only container, podman-compose everywhere.
    return _Reference(f"${{SECRETS_DIR:?is the folder with one file for each secret and not set}}/{name}")


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
