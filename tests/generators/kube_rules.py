"""The default checks of kube-linter and kube-score, told in our own words: only their names are theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tests.generators.kube_objects import (
    Object,
    Objects,
    Pod,
    chosen,
    containers,
    is_served,
    is_zero,
    least,
    of,
    pods,
    scalers,
    secured,
    served,
    target,
    together,
)

# docs/generated/checks.md of stackrox/kube-linter, "Enabled by default: Yes"; README_CHECKS.md of zegl/kube-score,
# "default". Where the documentation asks for less than its words say, the words are what is asked for here.
LINTER, SCORE = "kube-linter", "kube-score"
DEFAULTS = {LINTER: 31, SCORE: 33}
# Kinds that are never written, so their checks have nothing to judge.
UNWRITTEN = {
    "statefulset-has-poddisruptionbudget": "StatefulSet",
    "statefulset-has-host-podantiaffinity": "StatefulSet",
    "statefulset-has-servicename": "StatefulSet",
    "statefulset-pod-selector-labels-match-template-metadata-labels": "StatefulSet",
}
Broken = Callable[[Objects], bool]


class Rule(NamedTuple):
    """Whose check it is, what breaks it, and what it then says."""

    whose: str
    broken: Broken
    says: str


def findings(objects: Objects) -> dict[str, str]:
    """Check -> what it says, of those that find something in objects that are applied together."""
    return {name: f"{rule.whose}: {rule.says}" for name, rule in RULES.items() if rule.broken(objects)}


# --- over what a check goes -----------------------------------------------------------------------


def _any(kind: str, fault: Callable[[Object, Objects], bool]) -> Broken:
    return lambda objects: any(fault(one, objects) for one in of(objects, kind))


def _any_object(fault: Callable[[Object], bool]) -> Broken:
    return lambda objects: any(fault(one) for one in objects)


def _any_pod(fault: Callable[[Pod, Objects], bool]) -> Broken:
    return lambda objects: any(fault(pod, objects) for pod in pods(objects))


def _any_container(fault: Callable[[Object, Pod], bool]) -> Broken:
    return lambda objects: any(fault(one, pod) for pod in pods(objects) for one in containers(pod))


# --- containers -----------------------------------------------------------------------------------


def _has(key: str) -> Broken:
    return _any_pod(lambda pod, _: bool(pod.spec.get(key)))


def _is(key: str, value: object) -> Broken:
    return _any_container(lambda one, pod: secured(one, pod).get(key) is value)


def _is_not(key: str, value: object) -> Broken:
    return _any_container(lambda one, pod: secured(one, pod).get(key) is not value)


def _capabilities(one: Object, which: str) -> set[str]:
    said: Iterable[str] = one.get("securityContext", {}).get("capabilities", {}).get(which, [])
    return {name.upper().removeprefix("CAP_") for name in said}


def _crafts_packets(one: Object, _: Pod) -> bool:
    every = {"NET_RAW", "ALL"}
    return not every & _capabilities(one, "drop") or bool(every & _capabilities(one, "add"))


def _can_gain(one: Object, pod: Pod) -> bool:
    held = secured(one, pod)
    gains = held.get("allowPrivilegeEscalation") is not False or held.get("privileged") is True
    return gains or bool({"SYS_ADMIN", "ALL"} & _capabilities(one, "add"))


def _is_root(one: Object, pod: Pod) -> bool:
    held = secured(one, pod)
    return held.get("runAsNonRoot") is not True or 0 in (held.get("runAsUser"), held.get("runAsGroup"))


def _is_of_the_host(one: Object, pod: Pod) -> bool:
    held = secured(one, pod)
    return any(held.get(whose, 0) <= 10_000 for whose in ("runAsUser", "runAsGroup"))


def _mounts(folders: str) -> Broken:
    """Whether a path of the host that matches is mounted."""

    def fault(one: Object, pod: Pod) -> bool:
        paths = {
            volume["name"]: volume.get("hostPath", {}).get("path") for volume in pod.spec.get("volumes", [])
        }
        mounted = [paths.get(mount["name"]) for mount in one.get("volumeMounts", [])]
        return any(path and re.search(folders, path) for path in mounted)

    return _any_container(fault)


def _lacks(side: str, *quantities: str) -> Broken:
    """Whether one of the quantities has no request, or no limit."""

    def fault(one: Object, _: Pod) -> bool:
        said = one.get("resources", {}).get(side, {})
        return any(is_zero(said.get(quantity)) for quantity in quantities)

    return _any_container(fault)


def _either(*broken: Broken) -> Broken:
    return lambda objects: any(one(objects) for one in broken)


def _is_newest(one: Object, _: Pod) -> bool:
    _, colon, tag = one["image"].rpartition("/")[2].partition(":")
    return not colon or tag == "latest"


def _repeats_a_variable(one: Object, _: Pod) -> bool:
    names = [variable["name"] for variable in one.get("env", [])]
    return len(names) != len({*names})


def _tells_a_secret(one: Object, _: Pod) -> bool:
    said = {variable["name"]: variable.get("value") for variable in one.get("env", [])}
    return any(value and "secret" in name.lower() for name, value in said.items())


def _ports(one: Object) -> list[Object]:
    return [port for port in one.get("ports", []) if port.get("protocol", "TCP") == "TCP"]


def _asks_no_port(kind: str) -> Broken:
    def fault(one: Object, _: Pod) -> bool:
        probe = one.get(f"{kind}Probe", {})
        asked = [probe[way]["port"] for way in ("httpGet", "tcpSocket", "grpc") if way in probe]
        known = [known for port in _ports(one) for known in (port["containerPort"], port.get("name"))]
        return any(port not in known for port in asked)

    return _any_container(fault)


def _is_no_port(port: object) -> bool:
    """Whether neither a number nor a name as RFC 6335 has them."""
    if isinstance(port, int):
        return not 1 <= port <= 65_535
    shape = r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*"
    return not (len(str(port)) <= 15 and re.fullmatch(shape, str(port)))


def _names_no_port(one: Object, _: Pod) -> bool:
    return any(_is_no_port(port["name"]) for port in one.get("ports", []) if "name" in port)


# --- pods -----------------------------------------------------------------------------------------


def _is_a_job(pod: Pod) -> bool:
    return pod.owner["kind"] in ("Job", "CronJob")


def _account_is_missing(pod: Pod, objects: Objects) -> bool:
    there = [one["metadata"]["name"] for one in of(objects, "ServiceAccount") if together(one, pod.owner)]
    return pod.spec.get("serviceAccountName", "default") not in ["default", *there]


def _is_unfenced(pod: Pod, objects: Objects) -> bool:
    policies = [one for one in of(objects, "NetworkPolicy") if together(one, pod.owner)]
    fenced = {
        way
        for one in policies
        if chosen(one["spec"]["podSelector"], pod.labels)
        for way in one["spec"].get("policyTypes", ["Ingress"])
    }
    return fenced != {"Ingress", "Egress"}


def _is_unasked(pod: Pod, objects: Objects) -> bool:
    missing = [
        kind
        for kind in ("readinessProbe", "livenessProbe")
        if not any(kind in one for one in containers(pod))
    ]
    return is_served(pod, objects) and not _is_a_job(pod) and bool(missing)


def _asked(probe: Object) -> list[Any]:
    """What a probe asks; how it says so, and how often, is nothing of it."""
    page = probe.get("httpGet", {})
    return [page.get("path"), page.get("port"), *(probe.get(way) for way in ("tcpSocket", "grpc", "exec"))]


def _asks_the_same(one: Object, pod: Pod) -> bool:
    ready, live = one.get("readinessProbe"), one.get("livenessProbe")
    return bool(ready and live) and not _is_a_job(pod) and _asked(ready or {}) == _asked(live or {})


def _spreads_nothing(pod: Pod, _: Objects) -> bool:
    return any(
        not spread.get("labelSelector")
        or not spread.get("maxSkew")
        or not spread.get("topologyKey")
        or spread.get("minDomains") == 0
        or spread.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway")
        for spread in pod.spec.get("topologySpreadConstraints", [])
    )


# --- deployments ----------------------------------------------------------------------------------


def _any_deployment(fault: Callable[[Pod, Objects], bool]) -> Broken:
    return _any_pod(lambda pod, objects: pod.owner["kind"] == "Deployment" and fault(pod, objects))


def _are_many(pod: Pod) -> bool:
    """Whether there may be two; who does not say how many leaves it to an autoscaler."""
    return bool(pod.owner["spec"].get("replicas", 2) > 1)


def _huddle(*within: str) -> Broken:
    """Whether replicas may all be put into the same one of these places, without a preference against it."""

    def fault(pod: Pod, _: Objects) -> bool:
        said = pod.spec.get("affinity", {}).get("podAntiAffinity", {})
        preferred = said.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        required = said.get("requiredDuringSchedulingIgnoredDuringExecution", [])
        terms = [*(one["podAffinityTerm"] for one in preferred), *required]
        kept = [
            one for one in terms if one["topologyKey"] in within and chosen(one["labelSelector"], pod.labels)
        ]
        return _are_many(pod) and not kept

    return _any_deployment(fault)


def _selects_others(pod: Pod, _: Objects) -> bool:
    selector = pod.owner["spec"].get("selector", {})
    return not selector.get("matchLabels") or not chosen(selector, pod.labels)


def _stops_all_at_once(pod: Pod, objects: Objects) -> bool:
    return is_served(pod, objects) and pod.owner["spec"].get("strategy", {}).get("type") != "RollingUpdate"


def _is_alone(pod: Pod, objects: Objects) -> bool:
    scaled = scalers(pod.owner, objects)
    return is_served(pod, objects) and not scaled and least(pod.owner, objects) < 2


def _is_said_twice(pod: Pod, objects: Objects) -> bool:
    return "replicas" in pod.owner["spec"] and bool(scalers(pod.owner, objects))


def _has_no_budget(pod: Pod, objects: Objects) -> bool:
    budgets = [one for one in of(objects, "PodDisruptionBudget") if together(one, pod.owner)]
    return _are_many(pod) and not any(chosen(one["spec"]["selector"], pod.labels) for one in budgets)


# --- other objects --------------------------------------------------------------------------------


def _leads_nowhere(service: Object, objects: Objects) -> bool:
    return not any(served(service, pod) for pod in pods(objects))


def _leads_to_no_port(service: Object, _: Objects) -> bool:
    return any(_is_no_port(port.get("targetPort", port["port"])) for port in service["spec"]["ports"])


def _fences_nobody(policy: Object, objects: Objects) -> bool:
    near = [pod for pod in pods(objects) if together(policy, pod.owner)]
    return not any(chosen(policy["spec"]["podSelector"], pod.labels) for pod in near)


def _routes_nowhere(ingress: Object, objects: Objects) -> bool:
    services = [one for one in of(objects, "Service") if together(one, ingress)]
    there = {
        (one["metadata"]["name"], key, port.get(value))
        for one in services
        for port in one["spec"]["ports"]
        for key, value in (("name", "name"), ("number", "port"))
    }
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    wanted = [path["backend"].get("service", {"name": None, "port": {}}) for path in paths]
    return any(not there & {(one["name"], *pair) for pair in one["port"].items()} for one in wanted)


def _allows_none(budget: Object, _: Objects) -> bool:
    return budget["spec"].get("maxUnavailable") in (0, "0%")


def _keeps_all(budget: Object, objects: Objects) -> bool:
    kept = budget["spec"].get("minAvailable")
    near = [pod for pod in pods(objects) if together(budget, pod.owner) and pod.owner["kind"] == "Deployment"]
    guarded = [pod.owner for pod in near if chosen(budget["spec"]["selector"], pod.labels)]
    counts = [least(one, objects) for one in guarded]
    return kept is not None and any(count <= _kept(kept, count) for count in counts)


def _kept(said: int | str, count: int) -> int:
    """How many of so many stay; of a share they are rounded up."""
    return -(-count * int(said.removesuffix("%")) // 100) if isinstance(said, str) else said


def _scales_nothing(scaler: Object, objects: Objects) -> bool:
    near = [one for one in objects if together(one, scaler)]
    return target(scaler) not in [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in near]


def _outlives_its_owner(cron: Object, _: Objects) -> bool:
    return "ttlSecondsAfterFinished" in cron["spec"]["jobTemplate"]["spec"]


def _lives_for_ever(job: Object, _: Objects) -> bool:
    return "ttlSecondsAfterFinished" not in job["spec"]


def _is_labelled_wrongly(one: Object) -> bool:
    shape = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
    labels = [one["metadata"].get("labels", {}), *(pod.labels for pod in pods([one]))]
    return any(not re.fullmatch(shape, value) for said in labels for value in said.values())


def _is_unstable(one: Object) -> bool:
    return bool(re.search("alpha|beta", one["apiVersion"]))


_HOST = "kubernetes.io/hostname"
_ZONES = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.", "net.")

RULES: Mapping[str, Rule] = {
    # --- kube-linter
    "dangling-service": Rule(LINTER, _any("Service", _leads_nowhere), "a Service leads to no pod"),
    "deprecated-service-account-field": Rule(LINTER, _has("serviceAccount"), "`serviceAccount` is no more"),
    "docker-sock": Rule(LINTER, _mounts(r"docker\.sock$"), "who has Docker's socket has the host"),
    "drop-net-raw-capability": Rule(LINTER, _any_container(_crafts_packets), "NET_RAW is not dropped"),
    "duplicate-env-var": Rule(LINTER, _any_container(_repeats_a_variable), "a variable is said twice"),
    "env-var-secret": Rule(LINTER, _any_container(_tells_a_secret), "a secret is written out"),
    "host-ipc": Rule(LINTER, _has("hostIPC"), "the pod shares memory with the host"),
    "host-network": Rule(LINTER, _has("hostNetwork"), "the pod is in the host's network"),
    "host-pid": Rule(LINTER, _has("hostPID"), "the pod sees the host's processes"),
    "invalid-target-ports": Rule(
        LINTER,
        _either(_any("Service", _leads_to_no_port), _any_container(_names_no_port)),
        "a port is none",
    ),
    "job-ttl-seconds-after-finished": Rule(
        LINTER,
        _either(_any("CronJob", _outlives_its_owner), _any("Job", _lives_for_ever)),
        "the history limits of a CronJob and a time to live contradict each other; a Job alone needs one",
    ),
    "latest-tag": Rule(LINTER, _any_container(_is_newest), "the image is whatever is newest"),
    "liveness-port": Rule(
        LINTER, _asks_no_port("liveness"), "the liveness probe asks a port that is not there"
    ),
    "mismatching-selector": Rule(LINTER, _any_deployment(_selects_others), "a Deployment selects other pods"),
    "no-anti-affinity": Rule(LINTER, _huddle(_HOST), "one node may have all replicas"),
    "no-extensions-v1beta": Rule(
        LINTER,
        _any_object(lambda one: one["apiVersion"].startswith("extensions/v1beta")),
        "`extensions` is no more",
    ),
    "no-read-only-root-fs": Rule(LINTER, _is_not("readOnlyRootFilesystem", True), "the root can be written"),
    "non-existent-service-account": Rule(LINTER, _any_pod(_account_is_missing), "the account is not there"),
    "pdb-max-unavailable": Rule(LINTER, _any("PodDisruptionBudget", _allows_none), "no node can be drained"),
    "pdb-min-available": Rule(LINTER, _any("PodDisruptionBudget", _keeps_all), "no node can be drained"),
    "pdb-unhealthy-pod-eviction-policy": Rule(
        LINTER,
        _any("PodDisruptionBudget", lambda one, _: "unhealthyPodEvictionPolicy" not in one["spec"]),
        "whether broken pods may be evicted is not said",
    ),
    "privilege-escalation-container": Rule(LINTER, _any_container(_can_gain), "more rights can be gained"),
    "privileged-container": Rule(LINTER, _is("privileged", True), "a container is privileged"),
    "readiness-port": Rule(
        LINTER, _asks_no_port("readiness"), "the readiness probe asks a port that is not there"
    ),
    "run-as-non-root": Rule(LINTER, _any_container(_is_root), "a container may be root"),
    "sensitive-host-mounts": Rule(
        LINTER,
        _mounts(r"^/(boot|dev|etc|lib|proc|sys|usr)?$"),
        "a folder is mounted of which the host lives",
    ),
    "ssh-port": Rule(
        LINTER,
        _any_container(lambda one, _: any(port["containerPort"] == 22 for port in _ports(one))),
        "port 22 is that of SSH",
    ),
    "startup-port": Rule(LINTER, _asks_no_port("startup"), "the startup probe asks a port that is not there"),
    "unsafe-sysctls": Rule(
        LINTER,
        _any_pod(
            lambda pod, _: any(
                one["name"].startswith(_SYSCTLS)
                for one in pod.spec.get("securityContext", {}).get("sysctls", [])
            )
        ),
        "the kernel is set otherwise",
    ),
    "unset-cpu-requirements": Rule(LINTER, _lacks("requests", "cpu"), "no cores are requested"),
    "unset-memory-requirements": Rule(LINTER, _lacks("limits", "memory"), "memory has no limit"),
    # --- kube-score
    "deployment-strategy": Rule(
        SCORE, _any_deployment(_stops_all_at_once), "all replicas are replaced at once"
    ),
    "deployment-replicas": Rule(SCORE, _any_deployment(_is_alone), "there is but one replica"),
    "ingress-targets-service": Rule(
        SCORE, _any("Ingress", _routes_nowhere), "an Ingress leads to no Service"
    ),
    "cronjob-has-deadline": Rule(
        SCORE,
        _any("CronJob", lambda one, _: one["spec"].get("startingDeadlineSeconds") is None),
        "a start that was missed is made up for at any time",
    ),
    "cronjob-restartpolicy": Rule(
        SCORE,
        _any_pod(
            lambda pod, _: (
                pod.owner["kind"] == "CronJob" and pod.spec.get("restartPolicy") not in ("Never", "OnFailure")
            )
        ),
        "a job cannot be restarted like a server",
    ),
    "container-resources": Rule(
        SCORE,
        _either(_lacks("requests", "cpu", "memory"), _lacks("limits", "cpu", "memory")),
        "cores or memory have no request or no limit",
    ),
    "container-image-tag": Rule(SCORE, _any_container(_is_newest), "the image is whatever is newest"),
    "container-image-pull-policy": Rule(
        SCORE,
        _any_container(lambda one, _: one.get("imagePullPolicy") != "Always"),
        "the image is not always pulled",
    ),
    "container-ephemeral-storage-request-and-limit": Rule(
        SCORE,
        _either(_lacks("requests", "ephemeral-storage"), _lacks("limits", "ephemeral-storage")),
        "the disk has no request or no limit",
    ),
    "environment-variable-key-duplication": Rule(
        SCORE, _any_container(_repeats_a_variable), "a variable is said twice"
    ),
    "deployment-has-poddisruptionbudget": Rule(
        SCORE, _any_deployment(_has_no_budget), "all replicas may be evicted at once"
    ),
    "poddisruptionbudget-has-policy": Rule(
        SCORE,
        _any("PodDisruptionBudget", lambda one, _: not {"minAvailable", "maxUnavailable"} & {*one["spec"]}),
        "a budget says no number",
    ),
    "pod-networkpolicy": Rule(SCORE, _any_pod(_is_unfenced), "a pod is not fenced in both directions"),
    "networkpolicy-targets-pod": Rule(SCORE, _any("NetworkPolicy", _fences_nobody), "a policy fences no pod"),
    "pod-probes": Rule(SCORE, _any_pod(_is_unasked), "nobody asks whether a pod is ready and alive"),
    "pod-probes-identical": Rule(
        SCORE, _any_container(_asks_the_same), "who is not ready is killed as if it were dead"
    ),
    "container-security-context-user-group-id": Rule(
        SCORE, _any_container(_is_of_the_host), "the host may have that user or group"
    ),
    "container-security-context-privileged": Rule(
        SCORE, _is("privileged", True), "a container is privileged"
    ),
    "container-security-context-readonlyrootfilesystem": Rule(
        SCORE, _is_not("readOnlyRootFilesystem", True), "the root can be written"
    ),
    "service-targets-pod": Rule(SCORE, _any("Service", _leads_nowhere), "a Service leads to no pod"),
    "service-type": Rule(
        SCORE,
        _any("Service", lambda one, _: one["spec"].get("type") == "NodePort"),
        "every node opens a port",
    ),
    "stable-version": Rule(SCORE, _any_object(_is_unstable), "an API is not the stable one"),
    "deployment-has-host-podantiaffinity": Rule(
        SCORE, _huddle(_HOST, *_ZONES), "one node may have all replicas"
    ),
    "deployment-targeted-by-hpa-does-not-have-replicas-configured": Rule(
        SCORE, _any_deployment(_is_said_twice), "to apply the Deployment undoes what the autoscaler did"
    ),
    "deployment-pod-selector-labels-match-template-metadata-labels": Rule(
        SCORE, _any_deployment(_selects_others), "a Deployment selects other pods"
    ),
    "label-values": Rule(SCORE, _any_object(_is_labelled_wrongly), "the API server refuses the label"),
    "horizontalpodautoscaler-has-target": Rule(
        SCORE, _any("HorizontalPodAutoscaler", _scales_nothing), "an autoscaler scales nothing"
    ),
    "horizontalpodautoscaler-replicas": Rule(
        SCORE,
        _any("HorizontalPodAutoscaler", lambda one, _: one["spec"].get("minReplicas", 1) < 2),
        "there may be but one replica",
    ),
    "pod-topology-spread-constraints": Rule(
        SCORE, _any_pod(_spreads_nothing), "a constraint spreads nothing"
    ),
}
