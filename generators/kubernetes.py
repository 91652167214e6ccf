"""Kubernetes: every object a service needs to be run, reached, scaled, drained and fenced, for kustomize."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from mahavishnu.artifact import Artifact
from mahavishnu.container import SCRATCH_PATH, SPEC_PATH, STATE_PATH, letters_folder
from mahavishnu.contract import Contract
from mahavishnu.derived import uploads
from mahavishnu.ground.secret_refs import names_in
from mahavishnu.policies.backup import Backup, Postgres
from mahavishnu.spec import Spec
from mahavishnu.store import PORT, endpoint
from mahavishnu.targets import SCALED_TO, Kubernetes
from mahavishnu.units import Size

from ._ingress import kept_alive, told
from ._jobs import jobs, reached
from ._peers import ANY_POD, ELSEWHERE, RESOLVERS, callers, flows, namespace, tcp
from ._render import Block, render
from ._room import TEMPORARY, letters_room, mebibytes, storage
from ._service import (
    UID,
    app_secrets,
    backup_image,
    command,
    host,
    image,
    jobs_name,
    jobs_secrets,
    seconds,
    spec_text,
)

# Seconds in which a pod that is going away still answers, until every proxy has heard of it; and what is left
# over when the service has had its own time.
_DRAIN = 5
_MARGIN = 5
# Seconds between two questions whether a pod has started; and those in which it is to be placed and its image fetched.
_STARTUP_PERIOD = 2
_TO_BE_PLACED = 240
_POSTGRES = 5432


def generate(contract: Contract) -> Iterable[Artifact]:
    """One file for each object, and the kustomization that names them all."""
    target = contract.spec.deploy.targets.kubernetes
    if target is None:
        return
    values = _values(contract, target)
    names = list(_objects(contract.spec, target))
    for name in names:
        yield Artifact(f"kubernetes/{name}.yaml", render(f"kubernetes/{name}.yaml.j2", **values))
    for job in jobs(contract):
        yield Artifact(f"kubernetes/{job.file}.yaml", render("kubernetes/backup.yaml.j2", **values, job=job))
    names += [job.file for job in jobs(contract)]
    files = [f"{name}.yaml" for name in sorted(names)]
    yield Artifact(
        "kubernetes/kustomization.yaml", render("kubernetes/kustomization.yaml.j2", **values, files=files)
    )


def _objects(spec: Spec, target: Kubernetes) -> Iterator[str]:
    if spec.backups:
        yield from ("backups-networkpolicy", "backups-pvc", "backups-serviceaccount")
    yield from ("configmap", "deployment")
    if spec.deploy.replicas.vary:
        yield "hpa"
    if target.host is not None:
        yield "ingress"
    yield from ("networkpolicy", "pdb", "service", "serviceaccount")


def _values(contract: Contract, target: Kubernetes) -> dict[str, object]:
    spec = contract.spec
    text = spec_text(contract)
    return {
        "name": host(contract),
        "namespace": target.namespace,
        "labels": {
            "app.kubernetes.io/name": host(contract),
            "app.kubernetes.io/managed-by": "mahavishnu",
        },
        "selector": {"app.kubernetes.io/name": host(contract)},
        "host": target.host,
        "ingress_class": target.ingress_class,
        "told": told(spec, target.ingress_class),
        "google": target.host is not None and target.ingress_class in ("gce", "gce-internal"),
        "forwarded": spec.service.forwarded,
        "proxies": [str(one) for one in spec.service.trusted_proxies],
        "port": spec.service.port,
        "spec_text": Block(text, 4),
        # A pod reads its spec once, so another spec is another pod; and to go back to a pod is to go back to its spec.
        "spec_name": f"{host(contract)}-spec-{hashlib.sha256(text.encode()).hexdigest()[:10]}",
        "secret_name": f"{host(contract)}-secrets",
        "tls_name": f"{host(contract)}-tls",
        **_pod(contract, target),
        **_backups(contract),
        "all_secrets": sorted({*app_secrets(spec), *jobs_secrets(spec)}),
        **_flows(spec, target),
    }


def _pod(contract: Contract, target: Kubernetes) -> dict[str, object]:
    spec = contract.spec
    temporary, letters = -(-uploads.room(spec) // 2**20), letters_room(spec)
    failures = -(-seconds(spec.deploy.startup) // _STARTUP_PERIOD)
    size = {
        "cpu": str(spec.deploy.resources.cpu),
        "memory": _bytes(spec.deploy.resources.memory),
        "ephemeral-storage": storage(temporary, letters),
    }
    return {
        "image": image(contract),
        "command": command(contract, kept_alive(spec, target), ipv6=target.ipv6),
        "replicas": None if spec.deploy.replicas.vary else spec.deploy.replicas.min,
        "min": spec.deploy.replicas.min,
        "max": spec.deploy.replicas.max,
        "scaled_to": int(SCALED_TO.ratio * 100),
        "uid": UID,
        "size": size,
        "spec_path": SPEC_PATH,
        "annotations": {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(spec.service.port),
            "prometheus.io/path": spec.observability.metrics.path,
        },
        "secrets": app_secrets(spec),
        "letters": letters_folder(contract.spec),
        "letters_room": mebibytes(letters),
        "temporary_room": mebibytes(temporary),
        "drain": ["python", "-c", f"import time; time.sleep({_DRAIN})"],
        "startup_period": _STARTUP_PERIOD,
        "startup_failures": failures,
        "progress": failures * _STARTUP_PERIOD + _TO_BE_PLACED,
        "grace": _DRAIN + seconds(spec.deploy.shutdown) + _MARGIN,
    }


def _backups(contract: Contract) -> dict[str, object]:
    """What the jobs of backups have in common; they are other pods than the service's, whom nobody reaches."""
    name = jobs_name(contract)
    return {
        "backups": bool(contract.spec.backups),
        "backups_name": name,
        "job_labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "mahavishnu"},
        "job_selector": {"app.kubernetes.io/name": name},
        "job_image": backup_image(contract),
        "job_temporary": mebibytes(TEMPORARY),
        "job_flows": [
            flow for one, backup in contract.spec.backups.items() for flow in _job_flows(one, backup)
        ],
        "state_path": STATE_PATH,
        "scratch_path": SCRATCH_PATH,
    }


def _job_flows(name: str, backup: Backup) -> Iterator[dict[str, object]]:
    """Whom the jobs of a backup may reach: its repositories, and its database wherever the secret says."""
    for place, port in reached(backup):
        somewhere: list[dict[str, object]] = [{"peers": ELSEWHERE, "ports": tcp(port)}]
        for flow in flows(place, port) if place else somewhere:
            yield {"name": name, "secret": None, **flow}
    if isinstance(backup.source, Postgres):
        secret = names_in(backup.source.postgres)[0]
        yield {"name": name, "secret": secret, "peers": (*ELSEWHERE, ANY_POD), "ports": tcp(_POSTGRES)}


def _bytes(size: Size) -> str:
    """A number of bytes as Kubernetes writes it: `Mi` where it can be, else plain."""
    text = str(size)
    return text if text.endswith("i") else str(int(size))


def _flows(spec: Spec, target: Kubernetes) -> dict[str, object]:
    """Who may reach the pods, and whom they may reach."""
    named = spec.dependencies.items()
    return {
        "callers": callers(spec, target),
        "prometheus": namespace(target.monitoring_namespace),
        "resolvers": RESOLVERS,
        "reached": [{"name": name, **flow} for name, one in named if one.url for flow in _reached(one.url)],
        "stores": [one for store in dict.fromkeys(spec.stores) for one in _stores(store)],
        "collectors": [flow for url in spec.observability.collectors for flow in _reached(url)],
        "unknown": [name for name, one in named if not one.url],
    }


def _reached(url: str) -> Iterator[dict[str, object]]:
    """The peers and ports of one dependency."""
    address = urlsplit(url)
    return flows(address.hostname or "", address.port or (443 if address.scheme == "https" else 80))


def _stores(url: str) -> Iterator[dict[str, object]]:
    """A store of limits or dead letters. Where its host is a secret: whoever listens on a port that Redis has."""
    if place := endpoint(url):
        yield from ({"secret": None, **flow} for flow in flows(*place))
    elif names_in(url) and not url.startswith("unix:"):
        ports = tcp(PORT, PORT + 1)
        yield {"secret": names_in(url)[0], "peers": (*ELSEWHERE, ANY_POD), "ports": ports}
