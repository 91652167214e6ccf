"""Kubernetes: every object a service needs to be run, reached, scaled, drained and fenced, for kustomize."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from mahavishnu.artifact import Artifact
from mahavishnu.container import SPEC_PATH, STATE_PATH, letters_folder
from mahavishnu.contract import Contract
from mahavishnu.derived import uploads
from mahavishnu.policies.backup import Backup, Postgres
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.spec import Spec
from mahavishnu.store import PORT, endpoint, secrets_of
from mahavishnu.targets import Kubernetes
from mahavishnu.units import Size

from ._jobs import jobs, reached
from ._render import Block, render
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
_POSTGRES = 5432
# Where an ingress controller lives when it is installed as its own documentation says.
_INGRESS_NAMESPACES = {"nginx": "ingress-nginx"}
# What it takes at the most, in bytes, and how many seconds it waits for a word, where nobody says so.
_NGINX_BODY, _NGINX_SILENCE = 2**20, 60
# Every address but the link-local ones: there clouds keep their metadata, whose answers are credentials.
_ELSEWHERE = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
]


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
    if _scales(spec):
        yield "hpa"
    if target.host is not None:
        yield "ingress"
    yield from ("networkpolicy", "pdb", "service", "serviceaccount")


def _scales(spec: Spec) -> bool:
    return spec.deploy.replicas.min < spec.deploy.replicas.max


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
        "told": _told(spec, target),
        "forwarded": spec.service.forwarded,
        "proxies": [str(one) for one in spec.service.trusted_proxies],
        "port": spec.service.port,
        "spec_text": Block(text, 4),
        # A pod reads its spec once, so another spec is another pod; and to go back to a pod is to go back to its spec.
        "spec_name": f"{host(contract)}-spec-{hashlib.sha256(text.encode()).hexdigest()[:10]}",
        "secret_name": f"{host(contract)}-secrets",
        "tls_name": f"{host(contract)}-tls",
        **_pod(contract),
        **_backups(contract),
        "all_secrets": sorted({*app_secrets(spec), *jobs_secrets(spec)}),
        **_flows(spec, target),
    }


def _told(spec: Spec, target: Kubernetes) -> dict[str, str]:
    """What ingress-nginx must be told, so that it ends nothing that the service lets live."""
    limits = [one for one in spec.limits.values() if one.mode != "off"]
    body = max((int(one.body) for one in limits if isinstance(one, Body)), default=0)
    silent = [
        length for one in limits if isinstance(one, Timeout) for length in (one.timeout, one.idle) if length
    ]
    longest = max(map(seconds, silent), default=0) + _MARGIN
    said = {
        "proxy-body-size": str(body) if body > _NGINX_BODY else "",
        "proxy-read-timeout": str(longest) if longest > _NGINX_SILENCE else "",
    }
    nginx = target.ingress_class == "nginx"
    return {f"nginx.ingress.kubernetes.io/{key}": value for key, value in said.items() if value and nginx}


def _pod(contract: Contract) -> dict[str, object]:
    spec = contract.spec
    size = {
        "cpu": str(spec.deploy.resources.cpu),
        "memory": _bytes(spec.deploy.resources.memory),
        "ephemeral-storage": "256Mi",
    }
    return {
        "image": image(contract),
        "command": command(contract),
        "replicas": None if _scales(spec) else spec.deploy.replicas.min,
        "min": spec.deploy.replicas.min,
        "max": spec.deploy.replicas.max,
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
        "temporary_room": f"{-(-uploads.room(spec) // 2**20)}Mi",
        # Pages, and the log of what is being written, are beside what is counted.
        "letters_room": f"{64 + 2 * (int(spec.dead_letters.size) // 2**20)}Mi",
        "drain": ["python", "-c", f"import time; time.sleep({_DRAIN})"],
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
        "job_flows": [
            flow for one, backup in contract.spec.backups.items() for flow in _job_flows(one, backup)
        ],
        "state_path": STATE_PATH,
        "scratch_path": f"{STATE_PATH}/scratch",
    }


def _job_flows(name: str, backup: Backup) -> Iterator[dict[str, object]]:
    """Whom the jobs of a backup may reach: its repositories, and its database wherever the secret says."""
    for place, port in reached(backup):
        ports = [{"protocol": "TCP", "port": port}]
        yield {"name": name, **(_flow(place, port) if place else {"peers": _ELSEWHERE, "ports": ports})}
    if isinstance(backup.source, Postgres):
        ports = [{"protocol": "TCP", "port": _POSTGRES}]
        yield {"name": name, "peers": [*_ELSEWHERE, {"namespaceSelector": {}}], "ports": ports}


def _bytes(size: Size) -> str:
    """A number of bytes as Kubernetes writes it: `Mi` where it can be, else plain."""
    text = str(size)
    return text if text.endswith("i") else str(int(size))


def _flows(spec: Spec, target: Kubernetes) -> dict[str, object]:
    """Who may reach the pods, and whom they may reach."""
    named = spec.dependencies.items()
    controller = _INGRESS_NAMESPACES.get(target.ingress_class, target.ingress_class)
    return {
        "callers": [_namespace(controller)] if target.host else [{"podSelector": {}}],
        "reached": [{"name": name, **_reached(one.url)} for name, one in named if one.url],
        "stores": [one for store in dict.fromkeys(spec.stores) for one in _stores(store)],
        "collectors": [_reached(url) for url in spec.observability.collectors],
        "unknown": [name for name, one in named if not one.url],
    }


def _reached(url: str) -> dict[str, object]:
    """The peers and ports of one dependency: pods for a name inside the cluster, else every address but ours.

    A Service's port says nothing of the port its pods listen on, and that is what a policy sees; so inside
    the cluster all ports of the namespace are open. Outside, a policy knows no names, only addresses.
    """
    address = urlsplit(url)
    return _flow(address.hostname or "", address.port or (443 if address.scheme == "https" else 80))


def _stores(url: str) -> Iterator[dict[str, object]]:
    """A store of limits or dead letters. Where its host is a secret: whoever listens on a port that Redis has."""
    if place := endpoint(url):
        yield {"secret": None, **_flow(*place)}
    elif secrets_of(url) and not url.startswith("unix:"):
        ports = [{"protocol": "TCP", "port": port} for port in (PORT, PORT + 1)]
        everywhere: dict[str, object] = {"namespaceSelector": {}}
        peers: list[object] = [*_ELSEWHERE, everywhere]
        yield {"secret": secrets_of(url)[0], "peers": peers, "ports": ports}


def _flow(name: str, port: int) -> dict[str, object]:
    ports = [{"protocol": "TCP", "port": port}]
    if literal := _literal(name):
        return {"peers": [{"ipBlock": {"cidr": literal}}], "ports": ports}
    service, namespace, kind = (*name.split("."), "", "")[:3]
    if service == name:
        return {"peers": [{"podSelector": {}}], "ports": None}
    if kind == "svc":
        return {"peers": [_namespace(namespace)], "ports": None}
    return {"peers": _ELSEWHERE, "ports": ports}


def _literal(name: str) -> str | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return f"{address}/{address.max_prefixlen}"


def _namespace(name: str) -> dict[str, object]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
