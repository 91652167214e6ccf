"""What makes Kubernetes objects sound, beyond their schema: Pod Security "restricted", and agreement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and all of `baseline`.
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def restricted(pod: Object) -> Iterator[str]:
    """Every way in which a pod's spec violates the Pod Security Standard `restricted`."""
    shared = pod.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume if kind not in {"name", *_VOLUMES})
    yield from (f"sysctl {one['name']}" for one in shared.get("sysctls", []) if one["name"] not in _SYSCTLS)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, []):
            yield from _restricted(container, shared)


def _restricted(container: Object, shared: Object) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**shared, **own}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield "runAsUser 0"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities not dropped"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities added"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"


def disagreements(objects: Mapping[str, Object]) -> Iterator[str]:
    """Every way in which the objects contradict each other; none of it is a matter of schema."""
    deployment = objects["Deployment"]
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    yield from _selectors(objects, labels)
    yield from _names(objects, template["spec"])
    yield from _scale(objects)
    yield from _reach(objects, ports)
    if template["metadata"]["annotations"].get("prometheus.io/port") != str(ports["http"]):
        yield "Prometheus asks another port"
    yield from _life(template["spec"], container, ports)
    yield from _confined(template["spec"], container)


def _selectors(objects: Mapping[str, Object], labels: Object) -> Iterator[str]:
    chosen = {
        "Deployment": objects["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": objects["Service"]["spec"]["selector"],
        "PodDisruptionBudget": objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    for kind, selector in chosen.items():
        if not selector or not selector.items() <= labels.items():
            yield f"{kind} selects other pods"


def _names(objects: Mapping[str, Object], pod: Object) -> Iterator[str]:
    if len({one["metadata"].get("namespace") for one in objects.values()}) != 1:
        yield "namespaces differ"
    if pod["serviceAccountName"] != objects["ServiceAccount"]["metadata"]["name"]:
        yield "no such service account"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    maps = [one["configMap"]["name"] for one in volumes.values() if "configMap" in one]
    if maps != [objects["ConfigMap"]["metadata"]["name"]]:
        yield "no such config map"
    (container,) = pod["containers"]
    if {mount["name"] for mount in container["volumeMounts"]} != set(volumes):
        yield "mounts and volumes differ"
    (spec,) = [one["value"] for one in container["env"] if one["name"] == "MAHAVISHNU_SPEC"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["spec"]
    if spec not in {f"{mounted}/{key}" for key in objects["ConfigMap"]["data"]}:
        yield "MAHAVISHNU_SPEC names no file"


def _scale(objects: Mapping[str, Object]) -> Iterator[str]:
    deployment, budget = objects["Deployment"]["spec"], objects["PodDisruptionBudget"]["spec"]
    scaler = objects.get("HorizontalPodAutoscaler", {}).get("spec")
    if scaler is not None:
        if not 1 <= scaler["minReplicas"] < scaler["maxReplicas"]:
            yield "min is not below max"
        if scaler["scaleTargetRef"]["name"] != objects["Deployment"]["metadata"]["name"]:
            yield "scales another deployment"
        if "replicas" in deployment:
            yield "replicas are said twice"
    elif "replicas" not in deployment:
        yield "nobody says how many replicas"
    if budget.get("maxUnavailable") != 1 or "minAvailable" in budget:
        yield "the budget can block a drain"
    if budget.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        yield "broken pods can block a drain"


def _reach(objects: Mapping[str, Object], ports: Mapping[str, int]) -> Iterator[str]:
    (port,) = objects["Service"]["spec"]["ports"]
    if port["targetPort"] not in ports:
        yield "the service leads to no port"
    policy = objects["NetworkPolicy"]["spec"]
    if set(policy["policyTypes"]) != {"Ingress", "Egress"} or not policy["ingress"] or not policy["egress"]:
        yield "not closed in both directions"
    if any(not rule.get("from") or not rule.get("ports") for rule in policy["ingress"]):
        yield "open to everybody"
    if {one["port"] for rule in policy["ingress"] for one in rule["ports"]} != set(ports.values()):
        yield "the policy lets another port in"
    if 53 not in {one["port"] for rule in policy["egress"] for one in rule.get("ports", [])}:
        yield "no names can be resolved"
    if any(not rule.get("to") for rule in policy["egress"]):
        yield "may reach everybody"
    if ingress := objects.get("Ingress"):
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        backends = [path["backend"]["service"] for path in paths]
        wanted = {"name": objects["Service"]["metadata"]["name"], "port": {"name": port["name"]}}
        if any(backend != wanted for backend in backends):
            yield "the ingress leads to no service"
        if {rule["host"] for rule in ingress["spec"]["rules"]} != {*ingress["spec"]["tls"][0]["hosts"]}:
            yield "the certificate is for another host"


def _life(pod: Object, container: Object, ports: Mapping[str, int]) -> Iterator[str]:
    probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    if any(probe["httpGet"]["port"] not in ports for probe in probes):
        yield "a probe asks no port"
    if any(one == other for number, one in enumerate(probes) for other in probes[:number]):
        yield "two probes are the same"
    if f"--port={ports['http']}" not in container["command"]:
        yield "the server listens elsewhere"
    (graceful,) = [word for word in container["command"] if word.startswith("--timeout-graceful-shutdown=")]
    drain = int(container["lifecycle"]["preStop"]["exec"]["command"][-1].split("sleep(")[1].rstrip(")"))
    if pod["terminationGracePeriodSeconds"] <= drain + int(graceful.split("=")[1]):
        yield "killed before its time is over"


def crowded(pod: Object) -> bool:
    """Whether a pod is evicted before its volumes are full: they count as its storage, and so do 5 logs of 10 MiB."""
    limits = [one["resources"]["limits"]["ephemeral-storage"] for one in pod["containers"]]
    volumes = [one["emptyDir"]["sizeLimit"] for one in pod["volumes"] if "emptyDir" in one]
    return sum(map(_mebibytes, limits)) < sum(map(_mebibytes, volumes)) + 50


def _mebibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Mi"))


def _confined(pod: Object, container: Object) -> Iterator[str]:
    if container["resources"]["requests"] != container["resources"]["limits"]:
        yield "requests differ from limits"
    if set(container["resources"]["limits"]) != {"cpu", "memory", "ephemeral-storage"}:
        yield "a resource has no limit"
    elif crowded(pod):
        yield "evicted before its volumes are full"
    if pod["securityContext"]["runAsUser"] <= 10000 or pod["securityContext"]["runAsGroup"] <= 10000:
        yield "a user of the host"
    if container["securityContext"].get("readOnlyRootFilesystem") is not True:
        yield "the root can be written"
    if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
        yield "knows more of the cluster than it needs"
    if container["image"].endswith(":latest") or ":" not in container["image"].rsplit("/", 1)[-1]:
        yield "the image is whatever is newest"
