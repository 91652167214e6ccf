"""What the files of every target say alike: how the service is named, started, and told its secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from mahavishnu.contract import Contract
from mahavishnu.ground.secret_refs import names_in
from mahavishnu.notify import Channel
from mahavishnu.policies.backup import Backup, Command, Postgres, Source
from mahavishnu.policy import camel
from mahavishnu.spec import Spec
from mahavishnu.units import SECOND, Duration

from ._render import yaml_document

UID = 10001
"""Above 10000: no user of a host has it, so an escaped process owns nothing there."""
# As long as the liveness probe allows: a handler that holds the GIL for some seconds is slow, not dead.
_HANGS = 30
KEEP_ALIVE = 65
"""Seconds for which a connection is kept on which nothing is asked, longer than nginx does, with its minute: whoever
closes first loses what the other one has just sent. Other proxies of a cluster keep it longer; see `_ingress`."""
UNRELEASED = "unreleased"


def host(contract: Contract) -> str:
    """The service's name where only letters, digits and hyphens may be."""
    return contract.job.replace("_", "-")


def heartbeat(contract: Contract) -> str:
    """The name of the alert that always fires."""
    return f"{camel(contract.job)}Heartbeat"


def image(contract: Contract) -> str:
    """The image with its tag or digest; what the spec does not pin is `unreleased`, never `latest`."""
    name = contract.spec.deploy.image or host(contract)
    return name if re.search(r"[:@]", name.rsplit("/", 1)[-1]) else f"{name}:{UNRELEASED}"


def released(contract: Contract) -> bool:
    """Whether the spec says which image runs, by tag or digest."""
    return not image(contract).endswith(f":{UNRELEASED}")


def pinned(contract: Contract) -> bool:
    """Whether the spec says by its digest which image runs: that one is pulled, and never built."""
    return "@" in image(contract)


def jobs_name(contract: Contract) -> str:
    """What the pods of the backup jobs, and all that is theirs, are named."""
    return f"{host(contract)}-backups"


def backup_image(contract: Contract) -> str:
    """The image of the jobs: the service's, with restic; a digest is that of one image only."""
    folder, slash, name = image(contract).rpartition("/")
    name, colon, tag = name.partition("@")[0].partition(":")
    return f"{folder}{slash}{name}-backups:{tag if colon else UNRELEASED}"


def command(contract: Contract, keep_alive: int = KEEP_ALIVE, *, ipv6: bool = False) -> list[str]:
    """How uvicorn starts the service; the middleware resolves clients and writes the log itself.

    It answers a lifespan for every app, so a server that insists on one does not start with a spec, a secret or an app
    that cannot be used; by itself uvicorn would take the fault for an app without lifespan, and answer all with 500.
    """
    service = contract.spec.service
    return [
        "uvicorn",
        service.app,
        _host(service.workers, ipv6=ipv6),
        f"--port={service.port}",
        f"--app-dir={service.app_dir}",
        "--http=mahavishnu.server:HeadDeadline",
        "--lifespan=on",
        *_workers(service.workers),
        "--no-proxy-headers",
        "--no-server-header",
        "--no-access-log",
        f"--timeout-keep-alive={keep_alive}",
        f"--timeout-graceful-shutdown={seconds(contract.spec.deploy.shutdown)}",
    ]


def _host(workers: int, *, ipv6: bool) -> str:
    """Every address. One worker opens a socket of IPv4 and one of IPv6, if it has both; several share one.

    At `::` it takes both, but cannot be opened without IPv6, and for a client of IPv4 the app sees
    `::ffff:203.0.113.9`: so the spec has to say it.
    """
    if workers == 1:
        return "--host="
    return "--host=::" if ipv6 else "--host=0.0.0.0"


def _workers(count: int) -> list[str]:
    """Several of them, whose parent kills one that does not answer, with all of its requests; by itself after 5 s."""
    return [f"--workers={count}", f"--timeout-worker-healthcheck={_HANGS}"] if count > 1 else []


def seconds(duration: Duration) -> int:
    """Whole seconds, rounded up."""
    return -(-int(duration) // SECOND)


def alert_secrets(spec: Spec) -> list[str]:
    """The secrets that channels use: Alertmanager's, and not the service's."""
    return sorted({name for channel in spec.channels.values() for name in _named(channel)})


def sidecar_secrets(spec: Spec) -> dict[str, list[str]]:
    """The secrets of each program that runs beside the service on Compose, as files."""
    target = spec.deploy.targets.compose
    if target is None or not target.monitoring:
        return {}
    password = names_in(target.grafana_password or "")
    return {"alertmanager": alert_secrets(spec), "grafana": [*password]}


def app_secrets(spec: Spec) -> list[str]:
    """The secrets that the service is told: its stores', its operators', and all that nobody else uses."""
    stores = {name for store in spec.stores for name in names_in(store)}
    own = {*stores, *(names_in(spec.ops.token) if spec.ops else ())}
    others = {*alert_secrets(spec), *sidecar_secrets(spec).get("grafana", ()), *_repository_secrets(spec)}
    return sorted({*spec.secrets} - others | own)


def job_secrets(backup: Backup) -> list[str]:
    """The secrets that the jobs of a backup are told: its repositories' and its source's."""
    return sorted({*_of_repositories(backup), *_of_source(backup.source)})


def jobs_secrets(spec: Spec) -> list[str]:
    """The secrets that the jobs of all backups are told."""
    return sorted({name for backup in spec.backups.values() for name in job_secrets(backup)})


def passwords_of_repositories(spec: Spec) -> list[str]:
    """The secrets that a repository has to be told before they change."""
    return sorted({name for backup in spec.backups.values() for name in names_in(backup.password)})


def sharers(spec: Spec) -> list[str]:
    """The other environments whose jobs open a repository of this one, so far as its spec says what they have."""
    own = {place for backup in spec.backups.values() for place in backup.to}
    changed = _patches(spec.environments.get(spec.environment or "", {}))
    unchanged = {name: one.to for name, one in spec.backups.items() if "to" not in (changed.get(name) or {})}
    others = {name: patch for name, patch in spec.environments.items() if name != spec.environment}
    return sorted(name for name, patch in others.items() if own.intersection(_opened(unchanged, patch)))


def _opened(unchanged: Mapping[str, Sequence[str]], patch: Mapping[str, Any]) -> Iterator[str]:
    """The repositories of an environment: its own, and those that it does not change."""
    patches = _patches(patch)
    for name in {} if patch.get("backups", patches) is None else {**unchanged, **patches}:
        one = patches.get(name, {})
        to = () if one is None else one.get("to", unchanged.get(name, ()))
        yield from (to,) if isinstance(to, str) else to


def _patches(patch: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """What an environment changes of each backup; None: there is none in it."""
    return patch.get("backups") or {}


def _repository_secrets(spec: Spec) -> set[str]:
    """What opens the backups: not for the service, whose intruder must not reach them, unless it has it anyway."""
    sources = {name for backup in spec.backups.values() for name in _of_source(backup.source)}
    return {name for backup in spec.backups.values() for name in _of_repositories(backup)} - sources


def _of_repositories(backup: Backup) -> set[str]:
    key = backup.ssh.key if backup.ssh else ""
    said = (backup.password, *backup.to, *backup.credentials, backup.verify.scratch or "", key)
    return {name for text in said for name in names_in(text)}


def _of_source(source: Source) -> set[str]:
    match source:
        case Postgres():
            return {*names_in(source.postgres)}
        case Command():
            return {name for text in source.secrets for name in names_in(text)}
        case _:
            return set()


def spec_text(contract: Contract) -> str:
    """The spec as compiled, environment merged in: what the running service reads, so that both agree."""
    return yaml_document(said(contract.spec))


def said(spec: Spec, **options: Any) -> dict[str, Any]:
    """What a spec says of itself, environment merged in; a number with a fraction is the one that was written."""
    text = spec.model_dump_json(by_alias=True, exclude_unset=True, exclude={"environments"}, **options)
    return cast("dict[str, Any]", json.loads(text, parse_float=_fraction))


def _fraction(text: str) -> Decimal:
    """What is read again as a number with a fraction: 1e3 would be a whole one, and another spec."""
    plain = f"{Decimal(text):f}"
    return Decimal(plain if "." in plain else f"{plain}.0")


def _named(channel: Channel) -> Iterator[str]:
    for _, value in channel:
        if isinstance(value, str):
            yield from names_in(value)
