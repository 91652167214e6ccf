"""What the files of every target say alike: how the service is named, started, and told its secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mahavishnu.contract import Contract
from mahavishnu.spec import Spec
from mahavishnu.store import secrets_of
from mahavishnu.units import Duration

from ._render import yaml_document

UID = 10001
"""Above 10000: no user of a host has it, so an escaped process owns nothing there."""
SPEC_PATH = "/etc/mahavishnu/mahavishnu.yaml"
UNRELEASED = "unreleased"
_SECRET = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


def host(contract: Contract) -> str:
    """The service's name where only letters, digits and hyphens may be."""
    return contract.job.replace("_", "-")


def image(contract: Contract) -> str:
    """The image with its tag or digest; what the spec does not pin is `unreleased`, never `latest`."""
    name = contract.spec.deploy.image or host(contract)
    return name if re.search(r"[:@]", name.rsplit("/", 1)[-1]) else f"{name}:{UNRELEASED}"


def command(contract: Contract) -> list[str]:
    """How uvicorn starts the service; the middleware resolves clients and writes the log itself."""
    service = contract.spec.service
    return [
        "uvicorn",
        service.app,
        "--host=0.0.0.0",
        f"--port={service.port}",
        f"--app-dir={service.app_dir}",
        "--http=mahavishnu.server:HeadDeadline",
        *([f"--workers={service.workers}"] if service.workers > 1 else []),
        "--no-proxy-headers",
        "--no-server-header",
        "--no-access-log",
        f"--timeout-graceful-shutdown={seconds(contract.spec.deploy.shutdown)}",
    ]


def seconds(duration: Duration) -> int:
    """Whole seconds, rounded up."""
    return -(-int(duration) // 10**9)


def alert_secrets(spec: Spec) -> list[str]:
    """The secrets that channels use: Alertmanager's, and not the service's."""
    return sorted({name for channel in spec.channels.values() for name in _named(channel.model_dump())})


def app_secrets(spec: Spec) -> list[str]:
    """The secrets that the service itself is told: its store's, its operators', and all that no channel uses."""
    own = {*secrets_of(spec.store), *(secrets_of(spec.ops.token) if spec.ops else ())}
    return sorted({*spec.secrets} - {*alert_secrets(spec)} | own)


def spec_text(contract: Contract) -> str:
    """The spec as compiled, environment merged in: what the running service reads, so that both agree."""
    said = contract.spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"environments"})
    return yaml_document(said)


def _named(channel: dict[str, object]) -> Iterator[str]:
    for value in channel.values():
        if isinstance(value, str) and (match := _SECRET.fullmatch(value)):
            yield match[1]
