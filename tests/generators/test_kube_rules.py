"""The manifests pass the default checks of kube-linter and kube-score, each of which is seen to refuse something."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.load import accept
from mahavishnu.spec import Spec
from mahavishnu.targets import Scale
from tests.figures import FULL, figure
from tests.generators.kube_rules import DEFAULTS, LINTER, RULES, SCORE, UNWRITTEN, findings
from tests.generators.specs import generated, merged
from tests.reading import read
from tests.strategies import specs

ROOT = Path(__file__).parents[2]
ROUNDS = 1000 if FULL else 30
Objects = list[dict[str, Any]]


def manifests(texts: Iterable[str]) -> Objects:
    """What is applied together; the kustomization is of the client alone."""
    return [one for one in map(read, texts) if one["kind"] != "Kustomization"]


SHOP = manifests(
    path.read_text() for path in sorted((ROOT / "examples/shop/deploy/kubernetes").glob("*.yaml"))
)


def made(spec: Spec) -> Objects:
    """The manifests of a spec."""
    return manifests(text for _, text in sorted(generated("kubernetes", spec).items()))


# --- what is found --------------------------------------------------------------------------------


class Reason(NamedTuple):
    """When a check finds something that is meant, why, and in which file which line says so."""

    when: Callable[[Scale], bool]
    why: str
    file: str
    line: str


def always(_: Scale) -> bool:
    return True


def never_two(replicas: Scale) -> bool:
    return replicas.max == 1


def one_in_quiet_times(replicas: Scale) -> bool:
    return replicas.min == 1 < replicas.max


ALLOWED: Mapping[str, Reason] = {
    "container-image-pull-policy": Reason(
        always,
        "what is started again while the registry is away must start; tags are fixed",
        "templates/kubernetes/deployment.yaml.j2",
        "# Not `Always`: a tag stays what it is, and a pod starts again also while the registry is away.",
    ),
    "deployment-replicas": Reason(
        never_two,
        "one replica is what the spec says, for a service that may be away or cannot be twice",
        "framework/mahavishnu/targets.py",
        "max: Replicas = 1",
    ),
    "horizontalpodautoscaler-replicas": Reason(
        one_in_quiet_times,
        "one replica in quiet times is what the spec says",
        "framework/mahavishnu/targets.py",
        "min: Replicas = 1",
    ),
}


def unmeant(objects: Objects, replicas: Scale) -> dict[str, str]:
    """What is found without a reason, and which reasons are no longer needed."""
    found = findings(objects)
    meant = {name for name, reason in ALLOWED.items() if reason.when(replicas)}
    needless = dict.fromkeys(meant - {*found}, "finds nothing any more")
    return {name: says for name, says in found.items() if name not in meant} | needless


def test_every_default_check_is_there() -> None:
    """Those that find nothing because there is nothing to judge are named, not counted."""
    theirs = {whose: [name for name, rule in RULES.items() if rule.whose == whose] for whose in DEFAULTS}
    assert len(theirs[LINTER]) == DEFAULTS[LINTER]
    assert len(theirs[SCORE]) + len(UNWRITTEN) == DEFAULTS[SCORE]
    assert not {*UNWRITTEN} & {*RULES}


@pytest.mark.parametrize("environment", [None, "staging"])
def test_the_shop_passes(environment: str | None) -> None:
    """In every environment that is deployed to Kubernetes; `local` is not."""
    spec = accept(ROOT / "mahavishnu.yaml", environment).declared
    assert unmeant(made(spec), spec.deploy.replicas) == {}


def test_what_is_committed_is_what_was_judged() -> None:
    """The mutations below are of the files in the repository."""
    assert made(accept(ROOT / "mahavishnu.yaml").declared) == SHOP
    assert made(accept(ROOT / "mahavishnu.yaml", "local").declared) == []


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_said_where_it_is_done(name: str) -> None:
    """A reason stands in the code, and names a check."""
    assert name in RULES
    assert ALLOWED[name].line in (ROOT / ALLOWED[name].file).read_text(encoding="utf-8")


# Drawn before the rest, so that large specs too have more than one.
scales = st.tuples(st.integers(1, 4), st.integers(0, 4)).map(
    lambda drawn: {"min": drawn[0], "max": sum(drawn)}
)


def deployed(spec: dict[str, Any], replicas: dict[str, int], *, entered: bool = False) -> Spec:
    """A random spec that is deployed to Kubernetes, where need be with an Ingress, whatever is drawn."""
    target = {"ingress_class": "nginx"} | ({"host": "shop.example.com"} if entered else {})
    proxies = {"service": {"trusted_proxies": ["10.0.0.0/8"]}} if entered else {}
    kubernetes = {"replicas": replicas, "targets": {"kubernetes": target}}
    return Spec.model_validate(merged(spec, {"deploy": kubernetes} | proxies))


@settings(max_examples=5, derandomize=True)
@given(scales, specs())
def test_random_specs_pass(replicas: dict[str, int], spec: dict[str, Any]) -> None:
    """Whatever a valid spec says."""
    judged = deployed(spec, replicas)
    assert unmeant(made(judged), judged.deploy.replicas) == {}


@pytest.mark.proof
def test_many_random_specs_pass() -> None:
    """The same at length; with every kind that has a check, and none whose checks were left out."""
    seen: list[Scale] = []
    kinds: set[str] = set()

    @settings(max_examples=ROUNDS, derandomize=True)
    @given(scales, specs(), st.booleans())
    def passes(replicas: dict[str, int], spec: dict[str, Any], entered: bool) -> None:
        judged = deployed(spec, replicas, entered=entered)
        objects = made(judged)
        seen.append(judged.deploy.replicas)
        kinds.update(one["kind"] for one in objects)
        assert unmeant(objects, judged.deploy.replicas) == {}

    passes()
    for whose, most in DEFAULTS.items():
        ours = most - len(UNWRITTEN) if whose == SCORE else most
        applied = sum(rule.whose == whose for rule in RULES.values())
        name = f"default checks of {whose} that find nothing unmeant in {len(seen)} specs"
        figure(name, f"{ours} of {most}", f"{applied} of {most}")
    single = sum(one.min == 1 for one in seen)
    figure("of these specs, those with a single replica (found, and meant)", "some, not all", single)
    assert len(seen) >= ROUNDS
    assert 0 < single < len(seen)
    assert kinds == {one["kind"] for one in SHOP}
    assert not kinds & {*UNWRITTEN.values()}


# --- every check can refuse -----------------------------------------------------------------------

Object = dict[str, Any]
# A fault, and all checks that report it.
InPod = tuple[Callable[[Object], object], set[str]]
InObjects = tuple[Callable[[Objects], object], set[str]]


def first(pod: Any) -> Any:
    return pod["containers"][0]


def held(pod: Any) -> Any:
    return first(pod)["securityContext"]


def asked(pod: Any, side: str) -> Any:
    return first(pod)["resources"][side]


def mount(pod: Any, path: str) -> None:
    pod["volumes"].append({"name": "host", "hostPath": {"path": path}})
    first(pod)["volumeMounts"].append({"name": "host", "mountPath": "/host"})


def ahead(pod: Any, **said: object) -> None:
    """A container that runs before the others."""
    pod["initContainers"] = [{**copy.deepcopy(first(pod)), "name": "before", **said}]


IMAGE = {"latest-tag", "container-image-tag"}
TWICE = {"duplicate-env-var", "environment-variable-key-duplication"}
WRITABLE = {"no-read-only-root-fs", "container-security-context-readonlyrootfilesystem"}
PRIVILEGED = {
    "privileged-container",
    "container-security-context-privileged",
    "privilege-escalation-container",
}
GAINS = {"privilege-escalation-container"}
OWNER = {"container-security-context-user-group-id"}
CORES, MEMORY = {"unset-cpu-requirements"}, {"unset-memory-requirements"}
RESOURCES, DISK = {"container-resources"}, {"container-ephemeral-storage-request-and-limit"}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"a": "b"}},
}


def spread(key: str, value: object) -> Callable[[Object], object]:
    """A constraint with one thing that is wrong."""
    return lambda pod: pod.update(topologySpreadConstraints=[{**SPREAD, key: value}])


def kernel(name: str) -> Callable[[Object], object]:
    return lambda pod: pod["securityContext"].update(sysctls=[{"name": name, "value": "1"}])


IN_PODS: Mapping[str, InPod] = {
    "account of old": (
        lambda p: p.update(serviceAccount=p["serviceAccountName"]), {"deprecated-service-account-field"}
    ),
    "account of nobody": (
        lambda p: p.update(serviceAccountName="x"), {"non-existent-service-account"}
    ),
    "docker": (lambda p: mount(p, "/var/run/docker.sock"), {"docker-sock"}),
    "root of the host": (lambda p: mount(p, "/"), {"sensitive-host-mounts"}),
    "etc": (lambda p: mount(p, "/etc"), {"sensitive-host-mounts"}),
    "no drop": (lambda p: held(p).pop("capabilities"), {"drop-net-raw-capability"}),
    "other drop": (lambda p: held(p)["capabilities"].update(drop=["CHOWN"]), {"drop-net-raw-capability"}),
    "raw": (lambda p: held(p)["capabilities"].update(add=["NET_RAW"]), {"drop-net-raw-capability"}),
    "admin": (lambda p: held(p)["capabilities"].update(add=["SYS_ADMIN"]), GAINS),
    "everything": (
        lambda p: held(p)["capabilities"].update(add=["all"]), {"drop-net-raw-capability"} | GAINS
    ),
    "escalation": (lambda p: held(p).update(allowPrivilegeEscalation=True), GAINS),
    "escalation unsaid": (lambda p: held(p).pop("allowPrivilegeEscalation"), GAINS),
    "privileged": (lambda p: held(p).update(privileged=True), PRIVILEGED),
    "privileged before": (
        lambda p: ahead(p, securityContext={**held(p), "privileged": True}), PRIVILEGED
    ),
    "writable": (lambda p: held(p).update(readOnlyRootFilesystem=False), WRITABLE),
    "writable unsaid": (lambda p: held(p).pop("readOnlyRootFilesystem"), WRITABLE),
    "may be root": (lambda p: held(p).update(runAsNonRoot=False), {"run-as-non-root"}),
    "root": (lambda p: held(p).update(runAsUser=0), {"run-as-non-root"} | OWNER),
    "group of root": (lambda p: held(p).update(runAsGroup=0), {"run-as-non-root"} | OWNER),
    "user of the host": (lambda p: held(p).update(runAsUser=10_000), OWNER),
    "group of the host": (lambda p: held(p).update(runAsGroup=10_000), OWNER),
    "user unsaid": (lambda p: (held(p).pop("runAsUser"), p["securityContext"].pop("runAsUser")), OWNER),
    "memory of the host": (lambda p: p.update(hostIPC=True), {"host-ipc"}),
    "network of the host": (lambda p: p.update(hostNetwork=True), {"host-network"}),
    "processes of the host": (lambda p: p.update(hostPID=True), {"host-pid"}),
    "variable twice": (lambda p: first(p)["env"].append(dict(first(p)["env"][0])), TWICE),
    "secret": (
        lambda p: first(p)["env"].append({"name": "Client_Secret", "value": "x"}), {"env-var-secret"}
    ),
    "no tag": (lambda p: first(p).update(image="localhost:5000/shop"), IMAGE),
    "latest": (lambda p: first(p).update(image="shop:latest"), IMAGE),
    "latest before": (lambda p: ahead(p, image="shop:latest"), IMAGE),
    "not pulled": (
        lambda p: first(p).update(imagePullPolicy="IfNotPresent"), {"container-image-pull-policy"}
    ),
    "pull unsaid": (lambda p: first(p).pop("imagePullPolicy"), {"container-image-pull-policy"}),
    "no cores asked for": (lambda p: asked(p, "requests").pop("cpu"), CORES | RESOURCES),
    "zero cores": (lambda p: asked(p, "requests").update(cpu="0m"), CORES | RESOURCES),
    "no memory asked for": (lambda p: asked(p, "requests").pop("memory"), RESOURCES),
    "cores without limit": (lambda p: asked(p, "limits").pop("cpu"), RESOURCES),
    "memory without limit": (lambda p: asked(p, "limits").pop("memory"), MEMORY | RESOURCES),
    "no disk asked for": (lambda p: asked(p, "requests").pop("ephemeral-storage"), DISK),
    "disk without limit": (lambda p: asked(p, "limits").pop("ephemeral-storage"), DISK),
    "ssh": (
        lambda p: first(p).setdefault("ports", []).append({"containerPort": 22}), {"ssh-port"}
    ),
    "no name of a port": (
        lambda p: first(p).setdefault("ports", []).append({"name": "a--b", "containerPort": 23}),
        {"invalid-target-ports"},
    ),
    **{
        f"kernel {name}": (kernel(name), {"unsafe-sysctls"})
        for name in ("kernel.msgmax", "kernel.sem", "kernel.shmall", "fs.mqueue.msg_max", "net.core.somaxconn")
    },
    **{
        f"spread {key} {value}": (spread(key, value), {"pod-topology-spread-constraints"})
        for key, value in (
            ("labelSelector", None),
            ("maxSkew", 0),
            ("topologyKey", ""),
            ("minDomains", 0),
            ("whenUnsatisfiable", "Never"),
        )
    },
}  # fmt: skip


def the(objects: Objects, kind: str) -> Any:
    """The last of a kind: the service's own come after those of its backups."""
    return [one for one in objects if one["kind"] == kind][-1]


def spec_of(objects: Objects, kind: str) -> Any:
    return the(objects, kind)["spec"]


def pod_of(objects: Objects, kind: str) -> Any:
    spec = spec_of(objects, kind)
    return spec.get("jobTemplate", {}).get("spec", spec)["template"]["spec"]


SERVED = {"dangling-service", "service-targets-pod"}
SELECTED = {"mismatching-selector", "deployment-pod-selector-labels-match-template-metadata-labels"}
APART = {"no-anti-affinity", "deployment-has-host-podantiaffinity"}
OTHERS = {"matchLabels": {"a": "b"}}
TTL = {"job-ttl-seconds-after-finished"}
TARGET = {"horizontalpodautoscaler-has-target"}
ROUTED = {"ingress-targets-service"}
LABELS = {"label-values"}


def term(objects: Objects) -> Any:
    affinity = pod_of(objects, "Deployment")["affinity"]["podAntiAffinity"]
    return affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]


def backend(objects: Objects) -> Any:
    return spec_of(objects, "Ingress")["rules"][0]["http"]["paths"][0]["backend"]["service"]


def probe(objects: Objects, kind: str) -> Any:
    return first(pod_of(objects, "Deployment"))[f"{kind}Probe"]


def both(objects: Objects, **asked: object) -> None:
    """The same probe for whether it is ready and whether it is alive."""
    each(objects, asked, asked)


def each(objects: Objects, ready: Object, alive: Object) -> None:
    first(pod_of(objects, "Deployment")).update(readinessProbe=ready, livenessProbe=alive)


def required(objects: Objects, place: str) -> None:
    """Replicas that must be apart, where they were rather apart."""
    one = {**term(objects), "topologyKey": place}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [one]}}
    pod_of(objects, "Deployment")["affinity"] = affinity


def unowned(objects: Objects) -> None:
    """One replica, which nobody spreads and whose budget is another's."""
    unscaled(objects, replicas=2)
    spec_of(objects, "Deployment")["replicas"] = 1
    del pod_of(objects, "Deployment")["affinity"]
    spec_of(objects, "PodDisruptionBudget")["selector"] = OTHERS


def inherited(objects: Objects) -> None:
    """What a pod says for its containers."""
    for key in ("runAsUser", "runAsGroup", "runAsNonRoot"):
        del held(pod_of(objects, "Deployment"))[key]


def unscaled(objects: Objects, **said: object) -> None:
    objects.remove(the(objects, "HorizontalPodAutoscaler"))
    spec_of(objects, "Deployment").update(said)


def kept(objects: Objects, least: object) -> None:
    """A budget by what must stay."""
    budget = spec_of(objects, "PodDisruptionBudget")
    del budget["maxUnavailable"]
    budget["minAvailable"] = least


def alone(objects: Objects, **said: object) -> None:
    """A job that no CronJob owns."""
    cron = the(objects, "CronJob")
    job = {**copy.deepcopy(cron["spec"]["jobTemplate"]["spec"]), **said}
    objects.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": cron["metadata"], "spec": job})


def jobs_are_served(objects: Objects) -> None:
    """A Service that leads to what is no server."""
    service = copy.deepcopy(the(objects, "Service"))
    service["spec"]["selector"] = the(objects, "CronJob")["metadata"]["labels"]
    objects.append(service)


def fenceless(objects: Objects) -> None:
    """A policy beside the others, for nobody."""
    policy = copy.deepcopy(the(objects, "NetworkPolicy"))
    policy["spec"]["podSelector"] = OTHERS
    objects.append(policy)


def moved(objects: Objects, kind: str) -> None:
    the(objects, kind)["metadata"]["namespace"] = "other"


SPARE = {"unhealthyPodEvictionPolicy": "AlwaysAllow"}
IN_OBJECTS: Mapping[str, InObjects] = {
    "Service of others": (lambda k: spec_of(k, "Service").update(selector={"a": "b"}), SERVED),
    "Service of nobody": (lambda k: spec_of(k, "Service").update(selector={}), SERVED),
    "one target of two": (
        lambda k: spec_of(k, "Service")["ports"].append({"name": "b", "port": 81, "targetPort": 0}),
        {"invalid-target-ports"},
    ),
    "Service elsewhere": (lambda k: moved(k, "Service"), SERVED | ROUTED),
    "target above all ports": (
        lambda k: spec_of(k, "Service")["ports"][0].update(targetPort=65_536),
        {"invalid-target-ports"},
    ),
    "target too long": (
        lambda k: spec_of(k, "Service")["ports"][0].update(targetPort="a" * 16),
        {"invalid-target-ports"},
    ),
    "target of digits": (
        lambda k: spec_of(k, "Service")["ports"][0].update(targetPort="8080"),
        {"invalid-target-ports"},
    ),
    "port of every node": (lambda k: spec_of(k, "Service").update(type="NodePort"), {"service-type"}),
    "Ingress to another": (lambda k: backend(k).update(name="x"), ROUTED),
    "Ingress to another port": (lambda k: backend(k).update(port={"number": 81}), ROUTED),
    "Ingress with one path of two": (
        lambda k: spec_of(k, "Ingress")["rules"][0]["http"]["paths"].append(
            {"backend": {"service": {"name": "x", "port": {"number": 80}}}}
        ),
        ROUTED,
    ),
    "Ingress to a bucket": (
        lambda k: spec_of(k, "Ingress")["rules"][0]["http"]["paths"][0].update(backend={"resource": {}}),
        ROUTED,
    ),
    "owned job is forgotten": (
        lambda k: spec_of(k, "CronJob")["jobTemplate"]["spec"].update(ttlSecondsAfterFinished=60),
        TTL,
    ),
    "job is not forgotten": (alone, TTL),
    "start at any time": (
        lambda k: spec_of(k, "CronJob").pop("startingDeadlineSeconds"),
        {"cronjob-has-deadline"},
    ),
    "job like a server": (
        lambda k: pod_of(k, "CronJob").update(restartPolicy="Always"),
        {"cronjob-restartpolicy"},
    ),
    "restart unsaid": (lambda k: pod_of(k, "CronJob").pop("restartPolicy"), {"cronjob-restartpolicy"}),
    "account elsewhere": (lambda k: moved(k, "ServiceAccount"), {"non-existent-service-account"}),
    "liveness": (lambda k: probe(k, "liveness")["httpGet"].update(port=1), {"liveness-port"}),
    "readiness": (lambda k: probe(k, "readiness")["httpGet"].update(port="x"), {"readiness-port"}),
    "startup": (
        lambda k: first(pod_of(k, "Deployment")).update(startupProbe={"tcpSocket": {"port": 1}}),
        {"startup-port"},
    ),
    "not alive": (lambda k: first(pod_of(k, "Deployment")).pop("livenessProbe"), {"pod-probes"}),
    "not ready": (lambda k: first(pod_of(k, "Deployment")).pop("readinessProbe"), {"pod-probes"}),
    "the same is asked": (
        lambda k: probe(k, "liveness")["httpGet"].update(path=probe(k, "readiness")["httpGet"]["path"]),
        {"pod-probes-identical"},
    ),
    "Deployment of others": (lambda k: spec_of(k, "Deployment").update(selector=OTHERS), SELECTED),
    "Deployment of all": (lambda k: spec_of(k, "Deployment").update(selector={}), SELECTED),
    "the same command is run": (lambda k: both(k, exec={"command": ["a"]}), {"pod-probes-identical"}),
    "the same socket is asked": (lambda k: both(k, tcpSocket={"port": "http"}), {"pod-probes-identical"}),
    "remote procedures": (
        lambda k: both(k, grpc={"port": 1}),
        {"liveness-port", "readiness-port", "pod-probes-identical"},
    ),
    "in one zone": (
        lambda k: term(k).update(topologyKey="topology.kubernetes.io/zone"),
        {"no-anti-affinity"},
    ),
    "in one rack": (lambda k: term(k).update(topologyKey="rack"), APART),
    "apart from others": (lambda k: term(k).update(labelSelector=OTHERS), APART),
    "not apart": (lambda k: pod_of(k, "Deployment").pop("affinity"), APART),
    "all at once": (
        lambda k: spec_of(k, "Deployment").update(strategy={"type": "Recreate"}),
        {"deployment-strategy"},
    ),
    "strategy unsaid": (lambda k: spec_of(k, "Deployment").pop("strategy"), {"deployment-strategy"}),
    "one that nobody spreads": (unowned, {"deployment-replicas"}),
    "in one region": (lambda k: required(k, "topology.kubernetes.io/region"), {"no-anti-affinity"}),
    "one": (lambda k: unscaled(k, replicas=1), {"deployment-replicas"}),
    "one unsaid": (unscaled, {"deployment-replicas"}),
    "said twice": (
        lambda k: spec_of(k, "Deployment").update(replicas=3),
        {"deployment-targeted-by-hpa-does-not-have-replicas-configured"},
    ),
    "another is scaled": (
        lambda k: spec_of(k, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="x"),
        TARGET | {"deployment-replicas"},
    ),
    "scaled elsewhere": (lambda k: moved(k, "HorizontalPodAutoscaler"), TARGET | {"deployment-replicas"}),
    "one in quiet times": (
        lambda k: spec_of(k, "HorizontalPodAutoscaler").update(minReplicas=1),
        {"horizontalpodautoscaler-replicas"},
    ),
    "quiet times unsaid": (
        lambda k: spec_of(k, "HorizontalPodAutoscaler").pop("minReplicas"),
        {"horizontalpodautoscaler-replicas"},
    ),
    "none unavailable": (
        lambda k: spec_of(k, "PodDisruptionBudget").update(maxUnavailable=0),
        {"pdb-max-unavailable"},
    ),
    "none of a hundred": (
        lambda k: spec_of(k, "PodDisruptionBudget").update(maxUnavailable="0%"),
        {"pdb-max-unavailable"},
    ),
    "all of three": (lambda k: kept(k, 3), {"pdb-min-available"}),
    "all of a hundred": (lambda k: kept(k, "100%"), {"pdb-min-available"}),
    "most, rounded up": (lambda k: kept(k, "67%"), {"pdb-min-available"}),
    "broken pods": (
        lambda k: spec_of(k, "PodDisruptionBudget").pop("unhealthyPodEvictionPolicy"),
        {"pdb-unhealthy-pod-eviction-policy"},
    ),
    "no number": (
        lambda k: spec_of(k, "PodDisruptionBudget").pop("maxUnavailable"),
        {"poddisruptionbudget-has-policy"},
    ),
    "budget of others": (
        lambda k: spec_of(k, "PodDisruptionBudget").update(selector=OTHERS),
        {"deployment-has-poddisruptionbudget"},
    ),
    "budget elsewhere": (lambda k: moved(k, "PodDisruptionBudget"), {"deployment-has-poddisruptionbudget"}),
    "open outwards": (
        lambda k: spec_of(k, "NetworkPolicy").update(policyTypes=["Ingress"]),
        {"pod-networkpolicy"},
    ),
    "open inwards": (
        lambda k: spec_of(k, "NetworkPolicy").update(policyTypes=["Egress"]),
        {"pod-networkpolicy"},
    ),
    "fence of others": (
        lambda k: spec_of(k, "NetworkPolicy").update(podSelector=OTHERS),
        {"pod-networkpolicy", "networkpolicy-targets-pod"},
    ),
    "fence by what is not understood": (
        lambda k: spec_of(k, "NetworkPolicy").update(podSelector={"matchExpressions": []}),
        {"pod-networkpolicy", "networkpolicy-targets-pod"},
    ),
    "fence of nobody": (fenceless, {"networkpolicy-targets-pod"}),
    "extensions": (
        lambda k: the(k, "Ingress").update(apiVersion="extensions/v1beta1"),
        {"no-extensions-v1beta", "stable-version"},
    ),
    "beta": (lambda k: the(k, "PodDisruptionBudget").update(apiVersion="policy/v1beta1"), {"stable-version"}),
    "label": (lambda k: the(k, "ConfigMap")["metadata"]["labels"].update(a="b c"), LABELS),
    "long label": (lambda k: the(k, "ConfigMap")["metadata"]["labels"].update(a="b" * 64), LABELS),
    "label of a pod": (
        lambda k: spec_of(k, "Deployment")["template"]["metadata"]["labels"].update(a="-b"),
        LABELS,
    ),
}


def clean() -> Objects:
    """The shop's files without what is meant: nothing is found in them."""
    objects = copy.deepcopy(SHOP)
    for kind in ("Deployment", "CronJob"):
        for one in (one for one in objects if one["kind"] == kind):
            first(pod_of([one], kind))["imagePullPolicy"] = "Always"
    return objects


def test_nothing_is_found_where_nothing_is_planted() -> None:
    """Checks that always find something would be no checks."""
    assert findings(clean()) == {}


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
@pytest.mark.parametrize("fault", IN_PODS)
def test_a_fault_of_a_pod_is_found(fault: str, kind: str) -> None:
    """In whatever makes the pod; by the checks that are for it, and by no other."""
    objects = clean()
    plant, reported = IN_PODS[fault]
    plant(pod_of(objects, kind))
    assert {*findings(objects)} == reported


@pytest.mark.parametrize("fault", IN_OBJECTS)
def test_a_fault_of_an_object_is_found(fault: str) -> None:
    """By the checks that are for it, and by no other."""
    objects = clean()
    plant, reported = IN_OBJECTS[fault]
    plant(objects)
    assert {*findings(objects)} == reported


def test_every_check_has_been_seen_to_refuse() -> None:
    """By a fault that it finds with two others at the most."""
    found = [reported for _, reported in (*IN_PODS.values(), *IN_OBJECTS.values()) if len(reported) <= 3]
    assert set[str]().union(*found) == {*RULES}


def job(objects: Objects) -> Any:
    return spec_of(objects, "CronJob")["jobTemplate"]["spec"]["template"]["spec"]


def port(objects: Objects) -> Any:
    return spec_of(objects, "Service")["ports"][0]


ENOUGH: Mapping[str, Callable[[Objects], object]] = {
    "two of three stay": lambda k: kept(k, "66%"),
    "two of three stay, rounded up": lambda k: kept(k, "34%"),
    "one of three stays": lambda k: kept(k, 1),
    "another budget": lambda k: k.append(
        {**the(k, "PodDisruptionBudget"), "spec": {**SPARE, "selector": OTHERS, "minAvailable": 100}}
    ),
    "two replicas": lambda k: unscaled(k, replicas=2),
    "two in quiet times": lambda k: spec_of(k, "HorizontalPodAutoscaler").update(minReplicas=2),
    "apart for certain": lambda k: required(k, "kubernetes.io/hostname"),
    "what the pod says": inherited,
    "the account of all": lambda k: job(k).pop("serviceAccountName"),
    "the same by name": lambda k: job(k).update(serviceAccountName="default"),
    "another restart": lambda k: job(k).update(restartPolicy="OnFailure"),
    "the first port": lambda k: port(k).update(targetPort=1),
    "the last port": lambda k: port(k).update(targetPort=65_535),
    "the longest name": lambda k: port(k).update(targetPort="a" * 15),
    "the longest label": lambda k: the(k, "ConfigMap")["metadata"]["labels"].update(a="b" * 63, c=""),
    "an Ingress by number": lambda k: backend(k).update(port={"number": port(k)["port"]}),
    "a job that is forgotten": lambda k: alone(k, ttlSecondsAfterFinished=60),
    "jobs need no probes": jobs_are_served,
    "other commands": lambda k: each(k, {"exec": {"command": ["a"]}}, {"exec": {"command": ["b"]}}),
    "other sockets": lambda k: each(k, {"tcpSocket": {"port": "http"}}, {"tcpSocket": {"port": 8680}}),
    "the same page of other ports": lambda k: each(
        k, {"httpGet": {"path": "/", "port": "http"}}, {"httpGet": {"path": "/", "port": 8680}}
    ),
    "another protocol": lambda k: first(job(k)).update(ports=[{"containerPort": 22, "protocol": "UDP"}]),
    "a pod that must be spread": lambda k: job(k).update(
        topologySpreadConstraints=[{**SPREAD, "minDomains": 1, "whenUnsatisfiable": "DoNotSchedule"}]
    ),
    "the first user": lambda k: held(job(k)).update(runAsUser=10_001, runAsGroup=10_001),
}


@pytest.mark.parametrize("enough", ENOUGH)
def test_what_is_enough_is_not_found(enough: str) -> None:
    """Each bound is where it should be, seen from the other side."""
    objects = clean()
    ENOUGH[enough](objects)
    assert findings(objects) == {}
