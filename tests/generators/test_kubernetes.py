"""The manifests are valid for every supported Kubernetes, confined, and agree with each other."""

from __future__ import annotations

import copy
import json
import math
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import kubernetes_validate.utils as kube_schemas  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings

from mahavishnu.contract import contract
from mahavishnu.spec import Spec
from mahavishnu.units import Duration
from tests.figures import FULL, figure
from tests.generators.pods import crowded, disagreements, restricted
from tests.generators.specs import LARGE, SMALL, generated, merged
from tests.judges import judge
from tests.reading import read
from tests.strategies import specs

# It would read a megabyte of schemas for each object.
kube_schemas.schema_contents = cache(kube_schemas.schema_contents)
OLDEST, NEWEST = "1.26", "1.37"
ROUNDS = 1000 if FULL else 30
ONE = merged(SMALL, {"deploy": {"replicas": {"min": 1, "max": 1}}})
PLAIN = merged(
    LARGE, {"deploy": {"image": "localhost:5000/shop:1.2.3", "targets": {"kubernetes": {"host": None}}}}
)
SPECS = {"small": SMALL, "large": LARGE, "one": ONE, "plain": PLAIN}


def objects(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Kind -> object of the service, the kustomization and the backups left out; one of each kind."""
    every = generated("kubernetes", spec)
    read_all = [read(text) for path, text in every.items() if "/backup" not in path]
    found = {one["kind"]: one for one in read_all if one["kind"] != "Kustomization"}
    assert len(found) == len(read_all) - 1
    return found


def faults(spec: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the manifests of a spec: schema, confinement, agreement."""
    found = objects(spec)
    wrong = [
        fault for one in found.values() for version in (OLDEST, NEWEST) if (fault := invalid(one, version))
    ]
    pod = found["Deployment"]["spec"]["template"]["spec"]
    return [*wrong, *restricted(pod), *disagreements(found), *jobs_faults(spec)]


def jobs(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects of the backups."""
    return [read(text) for path, text in generated("kubernetes", spec).items() if "/backup" in path]


def jobs_faults(spec: Mapping[str, Any]) -> list[str]:
    """The same of what makes backups: other pods, as confined, whom nobody reaches."""
    found = jobs(spec)
    wrong = [fault for one in found for version in (OLDEST, NEWEST) if (fault := invalid(one, version))]
    for cron in (one for one in found if one["kind"] == "CronJob"):
        wrong += job_faults(cron, found)
    return wrong


def job_faults(cron: Mapping[str, Any], found: list[dict[str, Any]]) -> list[str]:
    """What is wrong with one job."""
    template = cron["spec"]["jobTemplate"]["spec"]["template"]
    pod, names = template["spec"], {one["kind"]: one["metadata"]["name"] for one in found}
    (container,) = pod["containers"]
    (policy,) = [one for one in found if one["kind"] == "NetworkPolicy"]
    claims = [
        one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one
    ]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    (state,) = [one["value"] for one in container["env"] if one["name"] == "MAHAVISHNU_STATE"]
    wrong = {
        "overlaps": cron["spec"]["concurrencyPolicy"] != "Forbid",
        "is forgotten before its time": "ttlSecondsAfterFinished" in cron["spec"]["jobTemplate"]["spec"],
        "never ends": not cron["spec"]["jobTemplate"]["spec"].get("activeDeadlineSeconds"),
        "name too long": len(cron["metadata"]["name"]) > 52,
        "another zone": cron["spec"]["timeZone"] != "Etc/UTC",
        "no such service account": pod["serviceAccountName"] != names["ServiceAccount"],
        "knows the cluster": pod.get("automountServiceAccountToken") is not False,
        "no such claim": claims != [names["PersistentVolumeClaim"]],
        "fenced by nobody": not policy["spec"]["podSelector"]["matchLabels"].items()
        <= template["metadata"]["labels"].items(),
        "is asked by somebody": policy["spec"]["ingress"] != []
        or "Ingress" not in policy["spec"]["policyTypes"],
        "reports are lost": state not in mounts,
        "no room": crowded(pod),
        "root can be written": container["securityContext"].get("readOnlyRootFilesystem") is not True,
        "newest": container["image"].endswith(":latest") or ":" not in container["image"].rsplit("/", 1)[-1],
    }
    return [*restricted(pod), *(fault for fault, is_so in wrong.items() if is_so)]


def invalid(one: dict[str, Any], version: str) -> str:
    """What the strict schema of a version says against an object; an unknown kind is a fault too."""
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as fault:
        return f"{version}: {type(fault).__name__} {fault}"
    return ""


@pytest.mark.parametrize("name", SPECS)
def test_the_manifests_are_sound(name: str) -> None:
    """Valid for the oldest and the newest Kubernetes, Pod Security `restricted`, and in agreement."""
    assert faults(SPECS[name]) == []


@settings(max_examples=10)
@given(specs())
def test_random_specs_give_sound_manifests(spec: dict[str, Any]) -> None:
    """Whatever a valid spec says."""
    assert faults(merged(spec, {"deploy": {"targets": {"kubernetes": {"ingress_class": "nginx"}}}})) == []


@pytest.mark.proof
def test_many_random_specs_give_sound_manifests() -> None:
    """The same at the length that the README promises."""
    seen: list[str] = []

    @settings(max_examples=ROUNDS, database=None)
    @given(specs())
    def sound(spec: dict[str, Any]) -> None:
        seen.append(str(spec))
        assert faults(merged(spec, {"deploy": {"targets": {"kubernetes": {"ingress_class": "nginx"}}}})) == []

    sound()
    figure("random specs with sound manifests, 1.26 and 1.37", ROUNDS, len(seen))
    assert len(seen) >= ROUNDS


Break = Callable[[dict[str, Any]], object]
BACKED: Mapping[str, Any] = merged(
    LARGE,
    {
        "secrets": [
            "DATABASE_URL",
            "SLACK_WEBHOOK",
            "HOOK_TOKEN",
            "RESTIC_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
        ],
        "backups": {
            "orders": {
                "source": {"postgres": "${DATABASE_URL}"},
                "to": ["s3:https://s3.example.com/shop", "rest:http://vault.safe.svc:8000/shop"],
                "password": "${RESTIC_PASSWORD}",
                "credentials": ["${AWS_SECRET_ACCESS_KEY}"],
                "schedule": "0 2 * * *",
                "rpo": "25h",
            }
        },
    },
)


def test_backups_are_made_by_pods_of_their_own() -> None:
    """Sound; told what opens the repositories, which the service is not; the service reads their reports only."""
    assert faults(BACKED) == []
    crons = {
        one["metadata"]["name"]: one["spec"]["schedule"] for one in jobs(BACKED) if one["kind"] == "CronJob"
    }
    assert crons == {
        "shop-api-backup-orders-run": "0 2 * * *",
        "shop-api-backup-orders-verify": "0 4 * * *",
        "shop-api-backup-orders-drill": "0 6 * * 0",
    }
    told = {one["name"] for one in container(objects(BACKED))["env"]}
    assert told == {"MAHAVISHNU_SPEC", "MAHAVISHNU_STATE", "PYTHONDONTWRITEBYTECODE", "DATABASE_URL"}
    mounts = {one["name"]: one.get("readOnly") for one in container(objects(BACKED))["volumeMounts"]}
    assert mounts["reports"] is True


@pytest.mark.parametrize(
    ("said", "written"), [("7", "0"), ("fri-7", "0,5,6"), ("1,7", "0,1"), ("mon", "mon")]
)
def test_sunday_is_none_to_kubernetes(said: str, written: str) -> None:
    """Cron has two numbers for it, and the API server refuses a CronJob with the other one."""
    crons = jobs(merged(BACKED, {"backups": {"orders": {"schedule": f"0 2 * * {said}", "rpo": "8d"}}}))
    schedules = {
        one["metadata"]["name"]: one["spec"]["schedule"] for one in crons if one["kind"] == "CronJob"
    }
    assert schedules["shop-api-backup-orders-run"] == f"0 2 * * {written}"


def test_the_jobs_reach_their_repositories_and_their_database() -> None:
    """By address and port outside, by namespace inside; where the secret says where the database is, on its port."""
    (policy,) = [one for one in jobs(BACKED) if one["kind"] == "NetworkPolicy"]
    ports = [[one["port"] for one in rule.get("ports", [])] for rule in policy["spec"]["egress"]]
    assert ports == [[53, 53], [443], [], [5432]]
    assert policy["spec"]["egress"][2]["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "safe"}}}
    ]


def test_a_database_at_another_port_is_for_a_policy_of_ones_own() -> None:
    """Managed ones and poolers have theirs, which the secret hides: the file says whose, and what to do."""
    text = generated("kubernetes", BACKED)["kubernetes/backups-networkpolicy.yaml"]
    said, _ = text.partition("port: 5432")[::2]
    assert "secret DATABASE_URL" in said.rpartition("# backups: orders")[2]
    assert "add a policy of your own" in said.rpartition("# backups: orders")[2]


BROKEN_JOBS: Mapping[str, Break] = {
    "overlaps": lambda cron: cron["spec"].update(concurrencyPolicy="Allow"),
    "never ends": lambda cron: cron["spec"]["jobTemplate"]["spec"].pop("activeDeadlineSeconds"),
    "is forgotten before its time": lambda cron: cron["spec"]["jobTemplate"]["spec"].update(
        ttlSecondsAfterFinished=86400
    ),
    "no such claim": lambda cron: job_pod(cron)["volumes"].pop(2),
    "knows the cluster": lambda cron: job_pod(cron).update(automountServiceAccountToken=True),
    "no such service account": lambda cron: job_pod(cron).update(serviceAccountName="default"),
    "reports are lost": lambda cron: job_pod(cron)["containers"][0]["volumeMounts"].pop(2),
    "no room": lambda cron: job_pod(cron)["volumes"][1]["emptyDir"].update(sizeLimit="102400Mi"),
    "newest": lambda cron: job_pod(cron)["containers"][0].update(image="shop-backups"),
    "privileged": lambda cron: job_pod(cron)["containers"][0]["securityContext"].update(privileged=True),
}


def job_pod(cron: Any) -> Any:
    return cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("fault", BROKEN_JOBS)
def test_a_planted_fault_of_a_job_is_found(fault: str) -> None:
    """Each check is seen to refuse what it is for."""
    found = copy.deepcopy(jobs(BACKED))
    cron = next(one for one in found if one["kind"] == "CronJob")
    BROKEN_JOBS[fault](cron)
    assert fault in job_faults(cron, found)


# --- the judges can refuse ------------------------------------------------------------------------


def pod(found: dict[str, Any]) -> Any:
    return found["Deployment"]["spec"]["template"]["spec"]


def container(found: dict[str, Any]) -> Any:
    return pod(found)["containers"][0]


PLANTED: Mapping[str, Break] = {
    "hostNetwork": lambda k: pod(k).update(hostNetwork=True),
    "volume hostPath": lambda k: pod(k)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
    "privileged": lambda k: container(k)["securityContext"].update(privileged=True),
    "allowPrivilegeEscalation": lambda k: container(k)["securityContext"].pop("allowPrivilegeEscalation"),
    "runAsNonRoot": lambda k: container(k)["securityContext"].update(runAsNonRoot=False),
    "runAsUser 0": lambda k: container(k)["securityContext"].update(runAsUser=0),
    "seccompProfile": lambda k: container(k)["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    "capabilities not dropped": lambda k: container(k)["securityContext"].pop("capabilities"),
    "capabilities added": lambda k: container(k)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    "procMount": lambda k: container(k)["securityContext"].update(procMount="Unmasked"),
    "hostPort": lambda k: container(k)["ports"][0].update(hostPort=80),
    "sysctl kernel.msgmax": lambda k: pod(k)["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]),
    "Service selects other pods": lambda k: k["Service"]["spec"].update(selector={"app": "x"}),
    "PodDisruptionBudget selects other pods": lambda k: k["PodDisruptionBudget"]["spec"]["selector"].update(
        matchLabels={"app": "x"}
    ),
    "NetworkPolicy selects other pods": lambda k: k["NetworkPolicy"]["spec"].update(
        podSelector={"matchLabels": {}}
    ),
    "Deployment selects other pods": lambda k: k["Deployment"]["spec"]["selector"].update(
        matchLabels={"a": "b"}
    ),
    "namespaces differ": lambda k: k["Service"]["metadata"].update(namespace="other"),
    "no such service account": lambda k: pod(k).update(serviceAccountName="default"),
    "no such config map": lambda k: k["ConfigMap"]["metadata"].update(name="x"),
    "mounts and volumes differ": lambda k: container(k)["volumeMounts"].pop(0),
    "MAHAVISHNU_SPEC names no file": lambda k: k["ConfigMap"].update(data={"x.yaml": ""}),
    "min is not below max": lambda k: k["HorizontalPodAutoscaler"]["spec"].update(maxReplicas=1),
    "scales another deployment": lambda k: k["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"].update(
        name="x"
    ),
    "replicas are said twice": lambda k: k["Deployment"]["spec"].update(replicas=3),
    "nobody says how many replicas": lambda k: k.pop("HorizontalPodAutoscaler"),
    "the budget can block a drain": lambda k: k["PodDisruptionBudget"]["spec"].update(minAvailable=1),
    "broken pods can block a drain": lambda k: k["PodDisruptionBudget"]["spec"].pop(
        "unhealthyPodEvictionPolicy"
    ),
    "the service leads to no port": lambda k: k["Service"]["spec"]["ports"][0].update(targetPort="https"),
    "not closed in both directions": lambda k: k["NetworkPolicy"]["spec"].update(policyTypes=["Ingress"]),
    "open to everybody": lambda k: k["NetworkPolicy"]["spec"]["ingress"][0].update({"from": []}),
    "the policy lets another port in": lambda k: k["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0].update(
        port=22
    ),
    "no names can be resolved": lambda k: k["NetworkPolicy"]["spec"]["egress"].pop(0),
    "may reach everybody": lambda k: k["NetworkPolicy"]["spec"]["egress"][0].pop("to"),
    "the ingress leads to no service": lambda k: k["Ingress"]["spec"]["rules"][0]["http"]["paths"][0][
        "backend"
    ].update(service={"name": "x", "port": {"name": "http"}}),
    "the certificate is for another host": lambda k: k["Ingress"]["spec"]["tls"][0].update(hosts=["x"]),
    "a probe asks no port": lambda k: container(k)["livenessProbe"]["httpGet"].update(port="x"),
    "two probes are the same": lambda k: container(k).update(livenessProbe=container(k)["readinessProbe"]),
    "the server listens elsewhere": lambda k: container(k)["ports"][0].update(containerPort=1234),
    "Prometheus asks another port": lambda k: k["Deployment"]["spec"]["template"]["metadata"][
        "annotations"
    ].update({"prometheus.io/port": "1"}),
    "killed before its time is over": lambda k: pod(k).update(terminationGracePeriodSeconds=50),
    "requests differ from limits": lambda k: container(k)["resources"]["requests"].update(cpu="1m"),
    "a resource has no limit": lambda k: container(k)["resources"].update(requests={}, limits={}),
    "evicted before its volumes are full": lambda k: pod(k)["volumes"][0]["emptyDir"].update(
        sizeLimit="256Mi"
    ),
    "a user of the host": lambda k: pod(k)["securityContext"].update(runAsUser=1000),
    "the root can be written": lambda k: container(k)["securityContext"].pop("readOnlyRootFilesystem"),
    "knows more of the cluster than it needs": lambda k: pod(k).pop("automountServiceAccountToken"),
    "the image is whatever is newest": lambda k: container(k).update(image="localhost:5000/shop"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    """Each check is seen to refuse what it is for."""
    found = copy.deepcopy(objects(LARGE))
    PLANTED[fault](found)
    assert fault in [*restricted(pod(found)), *disagreements(found)]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_schema_refuses_what_is_unknown(version: str) -> None:
    """A wrong key, a wrong type, and an object of a removed or unknown kind are faults, never passed over."""
    found = objects(LARGE)
    budget, deployment = found["PodDisruptionBudget"], found["Deployment"]
    assert "maxUnavailble" in invalid(merged(budget, {"spec": {"maxUnavailble": 1}}), version)
    assert "true" in invalid(merged(deployment, {"spec": {"replicas": "true"}}), version)
    assert "SchemaNotFoundError" in invalid({**budget, "apiVersion": "policy/v1beta1"}, version)
    assert "SchemaNotFoundError" in invalid({**budget, "kind": "Budget"}, version)


# --- what the manifests say -----------------------------------------------------------------------


def test_the_kustomization_names_every_file() -> None:
    """No file of the folder is forgotten, none is named that is not there, and the namespace is the same."""
    for spec in SPECS.values():
        files = {Path(path).name: text for path, text in generated("kubernetes", spec).items()}
        kustomization = read(files.pop("kustomization.yaml"))
        assert kustomization["resources"] == sorted(files)
        assert kustomization["namespace"] == spec["deploy"]["targets"]["kubernetes"].get(
            "namespace", "default"
        )


def test_the_pods_read_the_spec_that_was_compiled() -> None:
    """The text in the ConfigMap is the spec itself: same values, same hash."""
    found = objects(LARGE)
    text = found["ConfigMap"]["data"]["mahavishnu.yaml"]
    again = Spec.model_validate(read(text))
    assert contract(again).hash == contract(Spec.model_validate(LARGE)).hash


def test_another_spec_is_another_config_map() -> None:
    """So pods are replaced by and by, and what goes back to the pods before goes back to their spec."""
    found, changed = (
        objects(LARGE),
        objects(merged(LARGE, {"limits": {"per_client": {"rate": "301/minute"}}})),
    )
    assert found["ConfigMap"]["immutable"] is True
    assert found["ConfigMap"]["metadata"]["name"] != changed["ConfigMap"]["metadata"]["name"]
    assert pod(found) != pod(changed)
    assert disagreements_of_jobs(BACKED) == []


@pytest.mark.parametrize("startup", ["1ms", "20s", "60s", "61s", "5m", "1h"])
def test_a_pod_has_as_long_to_start_as_the_spec_says(startup: str) -> None:
    """Rounded up to a probe; and the roll-out does not give up a pod that may still start."""
    deployment = objects(merged(LARGE, {"deploy": {"startup": startup}}))["Deployment"]["spec"]
    probe = container({"Deployment": {"spec": deployment}})["startupProbe"]
    allowed, period = Duration.parse(startup).seconds, probe["periodSeconds"]
    assert allowed <= probe["failureThreshold"] * period < allowed + period
    assert deployment["progressDeadlineSeconds"] >= probe["failureThreshold"] * period + 240


def test_a_pod_has_a_minute_to_start() -> None:
    """Where nothing is said."""
    deployment = objects(LARGE)["Deployment"]["spec"]
    probe = container({"Deployment": {"spec": deployment}})["startupProbe"]
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (2, 30)
    assert deployment["progressDeadlineSeconds"] == 300


@pytest.mark.parametrize("startup", ["1s", "60s", "5m", "1h"])
@pytest.mark.parametrize("replicas", [1, 5, 12, 200, 1000])
def test_a_fleet_of_any_size_is_rolled_out_before_its_drift_is_told(replicas: int, startup: str) -> None:
    """Also where each pod takes all the time it may to start, and as long again to be put somewhere."""
    spec = merged(LARGE, {"deploy": {"replicas": {"min": 1, "max": replicas}, "startup": startup}})
    deployment = objects(spec)["Deployment"]["spec"]
    probe = container({"Deployment": {"spec": deployment}})["startupProbe"]
    each = probe["periodSeconds"] * probe["failureThreshold"] + deployment["minReadySeconds"]
    share = int(deployment["strategy"]["rollingUpdate"]["maxSurge"].removesuffix("%"))
    waves = math.ceil(replicas / math.ceil(replicas * share / 100))
    (drift,) = [one for one in contract(Spec.model_validate(spec)).alerts if one.name.endswith("SpecDrift")]
    assert drift.hold is not None
    assert waves * 2 * each <= drift.hold.seconds


def disagreements_of_jobs(spec: Mapping[str, Any]) -> list[str]:
    """Jobs that read another spec than the service."""
    named = objects(spec)["ConfigMap"]["metadata"]["name"]
    volumes = [one for cron in jobs(spec) if cron["kind"] == "CronJob" for one in job_pod(cron)["volumes"]]
    return [
        one["configMap"]["name"] for one in volumes if one.get("configMap", {"name": named})["name"] != named
    ]


def test_an_environment_is_merged_before_it_is_mounted() -> None:
    """Pods read one world, not a file with several."""
    spec = merged(SMALL, {"environments": {"staging": {"deploy": {"shutdown": "5s"}}}})
    assert "environments" not in read(objects(spec)["ConfigMap"]["data"]["mahavishnu.yaml"])


def test_secrets_are_references() -> None:
    """The service is told its own secrets by name from a Secret; those of Alertmanager it is not told."""
    env = container(objects(LARGE))["env"]
    secrets = {one["name"]: one["valueFrom"] for one in env if "valueFrom" in one}
    assert secrets == {"DATABASE_URL": {"secretKeyRef": {"name": "shop-api-secrets", "key": "DATABASE_URL"}}}


def test_the_operators_token_is_the_services() -> None:
    """Also where a channel has the same."""
    env = container(objects(merged(LARGE, {"ops": {"token": "${HOOK_TOKEN}"}})))["env"]
    reference = {"secretKeyRef": {"name": "shop-api-secrets", "key": "HOOK_TOKEN"}}
    assert [one["valueFrom"] for one in env if one["name"] == "HOOK_TOKEN"] == [reference]


NEIGHBOURS: dict[str, Any] = {"podSelector": {}}


def pods_of(namespace: str) -> dict[str, Any]:
    """Every pod of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def test_the_service_may_reach_its_dependencies_and_nothing_else() -> None:
    """A policy by address and port outside the cluster, by namespace inside; metadata services never."""
    rules = objects(LARGE)["NetworkPolicy"]["spec"]["egress"]
    outside = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
    ]

    def tcp(port: int) -> list[dict[str, Any]]:
        return [{"protocol": "TCP", "port": port}]

    assert rules[1:] == [
        {"to": outside, "ports": tcp(443)},
        {"to": [{"podSelector": {}}]},
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "warehouse"}}}]},
        {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": tcp(8443)},
        {"to": [{"ipBlock": {"cidr": "2001:db8::1/128"}}], "ports": tcp(8080)},
    ]


@pytest.mark.parametrize(
    ("url", "inside", "outside"),
    [
        ("http://payment.billing:8080", [pods_of("billing")], 8080),
        ("https://stripe.com", [pods_of("com")], 443),
        ("http://api.stripe.com", [], 80),
        ("http://search-0.search:9200", [NEIGHBOURS, pods_of("search")], 9200),
        ("http://search-0.search.catalog:9200", [pods_of("catalog")], 9200),
        ("http://search.catalog.svc", [pods_of("catalog")], None),
        ("http://search-0.search.catalog.svc.cluster.local", [pods_of("catalog")], None),
        ("http://api.svc.example.com", [], 80),
    ],
)
def test_a_name_that_may_be_of_the_cluster_is_let_out_as_one(
    url: str, inside: list[dict[str, Any]], outside: int | None
) -> None:
    """To its pods, on whatever port they listen; and as a domain too, where it may be one."""
    spec = merged(SMALL, {"dependencies": {"other": {"url": url}}})
    _, *rules = objects(spec)["NetworkPolicy"]["spec"]["egress"]
    everywhere = [{"ports": [{"protocol": "TCP", "port": outside}]}] if outside else []
    assert [rule["to"] for rule in rules if "ports" not in rule] == ([inside] if inside else [])
    assert [{"ports": rule["ports"]} for rule in rules if "ports" in rule] == everywhere


@pytest.mark.parametrize(
    ("service", "ingress_class", "told", "untold"),
    [
        ({}, "nginx", ["every client has the address of the controller"], ["use-forwarded-headers"]),
        (
            {"trusted_proxies": ["10.0.0.0/8"]},
            "nginx",
            ["into x-forwarded-for", "10.0.0.0/8", "proxy-real-ip-cidr"],
            [],
        ),
        ({"trusted_proxies": ["10.0.0.0/8"]}, "traefik", ["into x-forwarded-for"], ["ingress-nginx"]),
        (
            {"trusted_proxies": ["fd00::/8"], "forwarded": "forwarded"},
            "own",
            ["into forwarded", "fd00::/8"],
            [],
        ),
    ],
)
def test_the_ingress_says_whose_word_counts(
    service: dict[str, Any], ingress_class: str, told: list[str], untold: list[str]
) -> None:
    """What the service reads is what the controller must write, and the service's own server reads none of it."""
    target = {"host": "a.example.com", "ingress_class": ingress_class}
    made = generated(
        "kubernetes", merged(SMALL, {"service": service, "deploy": {"targets": {"kubernetes": target}}})
    )
    text = made["kubernetes/ingress.yaml"]
    assert [one for one in told if one not in text] + [one for one in untold if one in text] == []
    assert "--no-proxy-headers" in made["kubernetes/deployment.yaml"]


HELD = {
    "limits": {
        "uploads": {"body": "10MiB", "match": {"path": "/uploads"}},
        "rest": {"body": "64KiB"},
        "off": {"body": "1GiB", "mode": "off"},
        "request": {"timeout": "10s", "idle": "20s"},
        "report": {"timeout": "90s", "idle": "30s", "match": {"path": "/report"}},
        "events": {"timeout": "1s", "idle": "2m", "match": {"path": "/events"}},
    },
    "deploy": {"shutdown": "2m"},
}
ANY_SIZE, ANY_PAUSE = {"proxy-body-size": "0"}, {"proxy-read-timeout": "3600"}


def limited(**limits: dict[str, Any] | None) -> dict[str, Any]:
    """The spec in which every request is held to a body and a time, but for these limits."""
    return merged(HELD, {"limits": limits})


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (HELD, {"proxy-body-size": "10485760", "proxy-read-timeout": "125"}),
        (limited(uploads=None, report=None, events=None), {}),
        (limited(uploads=None, rest=None), ANY_SIZE | {"proxy-read-timeout": "125"}),
        (limited(rest=None), ANY_SIZE | {"proxy-read-timeout": "125"}),
        (limited(uploads={"mode": "observe"}), {"proxy-read-timeout": "125"}),
        (limited(uploads=None, rest={"mode": "observe"}), ANY_SIZE | {"proxy-read-timeout": "125"}),
        (limited(uploads=None, report={"mode": "observe"}, events=None), {}),
        (limited(uploads=None, request=None), ANY_PAUSE),
        (limited(uploads=None, report={"idle": None}), ANY_PAUSE),
        (limited(uploads=None, request={"mode": "observe"}), ANY_PAUSE),
        (limited(uploads=None, request=None, report={"timeout": "2h"}), {"proxy-read-timeout": "7205"}),
        (merged(HELD, {"deploy": {"targets": {"kubernetes": {"ingress_class": "traefik"}}}}), {}),
    ],
)
def test_the_ingress_ends_nothing_that_the_service_lets_live(
    patch: dict[str, Any], told: dict[str, str]
) -> None:
    """By itself ingress-nginx refuses bodies of more than 1 MiB, and gives up after a minute of silence.

    What is only observed, or limited for some requests alone, is let through; a pause that nothing ends, too.
    """
    spec = merged(merged(LARGE, {"limits": {"uploads": None}}), patch)
    annotations = objects(spec)["Ingress"]["metadata"].get("annotations", {})
    assert annotations == {f"nginx.ingress.kubernetes.io/{key}": value for key, value in told.items()}


@pytest.mark.parametrize("ingress_class", ["gce", "gce-internal"])
def test_an_ingress_of_google_is_known_by_its_annotation(ingress_class: str) -> None:
    """GKE leaves alone what has a class of the other kind, and reaches pods itself where the Service says so."""
    spec = of_class(ingress_class)
    assert faults(spec) == []
    found, plain = objects(spec), objects(LARGE)
    assert found["Ingress"]["metadata"]["annotations"]["kubernetes.io/ingress.class"] == ingress_class
    assert "ingressClassName" not in found["Ingress"]["spec"]
    assert found["Service"]["metadata"]["annotations"] == {"cloud.google.com/neg": '{"ingress": true}'}
    assert plain["Ingress"]["spec"]["ingressClassName"] == "nginx"
    assert "annotations" not in plain["Service"]["metadata"]
    text = generated("kubernetes", spec)["kubernetes/ingress.yaml"]
    assert "after 30 s" in text
    assert "its own address last" in text


def of_class(ingress_class: str, **limits: dict[str, Any] | None) -> dict[str, Any]:
    """A spec behind another ingress controller."""
    target = {"kubernetes": {"ingress_class": ingress_class}}
    plain = merged(merged(LARGE, {"limits": {"uploads": None}}), limited(**limits))
    return merged(plain, {"deploy": {"targets": target}})


def test_an_ingress_of_amazon_leads_to_the_pods() -> None:
    """By itself it is private, leads to a port of the nodes that is not there, and asks `/` how the service is."""
    spec = of_class("alb", uploads=None, report=None, events=None)
    assert faults(spec) == []
    prefix = "alb.ingress.kubernetes.io"
    ingress = objects(spec)["Ingress"]
    assert ingress["metadata"]["annotations"] == {
        f"{prefix}/scheme": "internet-facing",
        f"{prefix}/target-type": "ip",
        f"{prefix}/healthcheck-path": "/readyz",
        f"{prefix}/listen-ports": '[{"HTTP": 80}, {"HTTPS": 443}]',
        f"{prefix}/ssl-redirect": "443",
    }
    assert ingress["spec"]["ingressClassName"] == "alb"
    assert "AWS Certificate Manager" in generated("kubernetes", spec)["kubernetes/ingress.yaml"]


@pytest.mark.parametrize(
    ("limits", "silence"),
    [({}, 125), ({"report": {"timeout": "2h"}}, 4000), ({"report": {"idle": None}}, 3600)],
)
def test_a_pause_is_told_to_amazon_and_a_connection_outlives_it(
    limits: dict[str, dict[str, Any] | None], silence: int
) -> None:
    """It waits for a minute, also for the next request; at the most it may be told 4000 seconds."""
    spec = of_class("alb", **limits)
    annotations = objects(spec)["Ingress"]["metadata"]["annotations"]
    told = annotations["alb.ingress.kubernetes.io/load-balancer-attributes"]
    assert told == f"idle_timeout.timeout_seconds={silence}"
    assert kept_alive(spec) > silence


def kept_alive(spec: Mapping[str, Any]) -> int:
    """How long the server keeps a connection on which nothing is asked."""
    (word,) = [one for one in container(objects(spec))["command"] if one.startswith("--timeout-keep-alive=")]
    return int(word.partition("=")[2])


@pytest.mark.parametrize(
    ("ingress_class", "kept"),
    [
        ("nginx", 60),
        ("alb", 60),
        ("traefik", 90),
        ("gce", 600),
        ("gce-internal", 600),
        ("contour", 3600),
        ("istio", 3600),
        ("our-own", 60),
    ],
)
def test_the_server_keeps_a_connection_longer_than_a_proxy_does(ingress_class: str, kept: int) -> None:
    """Who closes first loses what the other one has just sent; where no controller is before it, a minute will do."""
    spec = of_class(ingress_class, report=None, events=None)
    assert kept < kept_alive(spec) <= kept * 1.1
    assert kept_alive(merged(spec, {"deploy": {"targets": {"kubernetes": {"host": None}}}})) == 65
    assert "--timeout-keep-alive=65" in "".join(generated("compose", spec).values())


@pytest.mark.parametrize("ingress_class", ["nginx", "alb", "gce", "gce-internal", "traefik", "our-own"])
def test_an_ingress_says_where_its_controller_is_told_nothing(ingress_class: str) -> None:
    """Each has limits of its own; where none can be told away here, nobody may believe that there are none."""
    text = generated("kubernetes", of_class(ingress_class))["kubernetes/ingress.yaml"]
    assert ("Nothing here tells" in text) == (ingress_class in ("traefik", "our-own"))


COLLECTORS: list[tuple[str, dict[str, Any]]] = [
    ("http://collector:4318", {"to": [{"podSelector": {}}]}),
    (
        "http://otel.monitoring.svc:4318",
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]},
    ),
    (
        "https://10.9.8.7:4318",
        {"to": [{"ipBlock": {"cidr": "10.9.8.7/32"}}], "ports": [{"protocol": "TCP", "port": 4318}]},
    ),
]


@pytest.mark.parametrize("shown", [("metrics",), ("traces",), ("metrics", "traces")])
@pytest.mark.parametrize(("url", "rule"), COLLECTORS)
def test_the_service_may_reach_its_collector(url: str, rule: dict[str, Any], shown: tuple[str, ...]) -> None:
    """Else its series and spans would go nowhere; without one, nothing is let out for it."""
    spec = merged(LARGE, {"observability": {one: {"otlp": url} for one in shown}})
    egress = objects(spec)["NetworkPolicy"]["spec"]["egress"]
    assert egress[1] == rule
    assert egress[:1] + egress[2:] == objects(LARGE)["NetworkPolicy"]["spec"]["egress"]


def test_as_many_workers_as_the_spec_says() -> None:
    """One is what uvicorn does by itself."""
    spec = merged(LARGE, {"service": {"workers": 4}})
    assert "--workers=4" in container(objects(spec))["command"]
    assert not any("--workers" in word for word in container(objects(LARGE))["command"])


@pytest.mark.parametrize(
    ("workers", "ipv6", "host"), [(1, False, ""), (1, True, ""), (4, False, "0.0.0.0"), (4, True, "::")]
)
def test_the_kubelet_is_answered_at_the_address_of_the_pod(workers: int, ipv6: bool, host: str) -> None:
    """Of either kind, where one word says so; several workers share one socket, which is of one kind or of both."""
    patch = {"service": {"workers": workers}, "deploy": {"targets": {"kubernetes": {"ipv6": ipv6}}}}
    assert f"--host={host}" in container(objects(merged(LARGE, patch)))["command"]


def test_a_worker_may_be_silent_as_long_as_a_pod_may() -> None:
    """By itself uvicorn's parent kills a busy one after 5 s, with all of its requests; alone it has no parent."""
    pod = container(objects(merged(LARGE, {"service": {"workers": 2}})))
    probe = pod["livenessProbe"]
    allowed = probe["periodSeconds"] * probe["failureThreshold"]
    assert f"--timeout-worker-healthcheck={allowed}" in pod["command"]
    assert not any("healthcheck" in word for word in container(objects(LARGE))["command"])


NODE_LOCAL = ["169.254.20.10/32", "169.254.25.10/32", "169.254.169.254/32"]


def test_names_are_resolved_in_the_cluster_and_on_the_node() -> None:
    """A cache on the node, or Google's DNS, answers at a link-local address: on the port of names, and on no other."""
    (of_jobs,) = [one for one in jobs(BACKED) if one["kind"] == "NetworkPolicy"]
    for policy in (objects(LARGE)["NetworkPolicy"], of_jobs):
        names, *others = policy["spec"]["egress"]
        assert names["to"] == [pods_of("kube-system"), *({"ipBlock": {"cidr": one}} for one in NODE_LOCAL)]
        ports = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
        assert names["ports"] == ports
        assert not any(str(peer).count("'cidr': '169.254.") for rule in others for peer in rule["to"])


REACHED: list[tuple[str, dict[str, Any]]] = [
    ("redis://cache:7000", {"to": [{"podSelector": {}}]}),
    (
        "valkey://:${REDIS_URL}@cache.data.svc",
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}]},
    ),
    (
        "rediss://10.9.8.7",
        {"to": [{"ipBlock": {"cidr": "10.9.8.7/32"}}], "ports": [{"protocol": "TCP", "port": 6379}]},
    ),
]


@pytest.mark.parametrize(("store", "rule"), REACHED)
def test_the_service_may_reach_its_store(store: str, rule: dict[str, Any]) -> None:
    """Where the spec says where it is: there, and nowhere else."""
    spec = merged(LARGE, {"store": store, "secrets": [*LARGE["secrets"], "REDIS_URL"]})
    assert objects(spec)["NetworkPolicy"]["spec"]["egress"][1] == rule


def test_a_store_whose_place_is_secret_is_reached_on_its_usual_ports() -> None:
    """Any host but the metadata services, two ports; and the pods are told the secret. No rule where none is needed."""
    spec = merged(LARGE, {"store": "${REDIS_URL}", "secrets": [*LARGE["secrets"], "REDIS_URL"]})
    rule = objects(spec)["NetworkPolicy"]["spec"]["egress"][1]
    assert [one["port"] for one in rule["ports"]] == [6379, 6380]
    assert rule["to"][0] == {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}
    env = objects(spec)["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert "REDIS_URL" in [one["name"] for one in env]
    own = merged(LARGE, {"store": "unix:///run/redis.sock"})
    assert len(objects(own)["NetworkPolicy"]["spec"]["egress"]) == len(
        objects(LARGE)["NetworkPolicy"]["spec"]["egress"]
    )


OUTSIDE = {"host": "a.example.com"}


def callers(patch: Mapping[str, Any], proxies: list[str] | None = None) -> list[dict[str, Any]] | None:
    """Who may reach the port, Prometheus aside; None: everybody."""
    service, target = {"trusted_proxies": proxies or []}, {"kubernetes": patch}
    found = objects(merged(SMALL, {"service": service, "deploy": {"targets": target}}))
    assert ("Ingress" in found) == ("host" in patch)
    (rule,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
    if "from" not in rule:
        return None
    peers: list[dict[str, Any]] = rule["from"]
    assert peers[-1] == pods_of(patch.get("monitoring_namespace", "monitoring"))
    return peers[:-1]


@pytest.mark.parametrize(
    ("patch", "namespaces"),
    [
        ({}, []),
        (OUTSIDE, ["ingress-nginx"]),
        ({**OUTSIDE, "ingress_class": "traefik"}, ["traefik", "kube-system"]),
        ({**OUTSIDE, "ingress_class": "contour"}, ["projectcontour"]),
        ({**OUTSIDE, "ingress_class": "istio"}, ["istio-system", "istio-ingress"]),
        ({**OUTSIDE, "ingress_class": "haproxy"}, ["haproxy-controller", "ingress-controller"]),
        ({**OUTSIDE, "ingress_class": "kong"}, ["kong"]),
        ({**OUTSIDE, "ingress_namespace": "ingress"}, ["ingress"]),
        ({"monitoring_namespace": "observability"}, []),
        ({**OUTSIDE, "monitoring_namespace": "prometheus"}, ["ingress-nginx"]),
        ({**OUTSIDE, "ingress_class": "nginx-public", "ingress_namespace": "public"}, ["public"]),
    ],
)
def test_who_may_reach_the_service(patch: dict[str, Any], namespaces: list[str]) -> None:
    """Its neighbours and Prometheus, with a public name or without; with one, the pods of the ingress controller."""
    assert callers(patch) == [NEIGHBOURS, *map(pods_of, namespaces)]


GOOGLE = ["35.191.0.0/16", "130.211.0.0/22"]


@pytest.mark.parametrize(
    ("ingress_class", "proxies", "networks"),
    [
        ("alb", ["10.0.0.0/16", "fd00::/8"], ["10.0.0.0/16", "fd00::/8"]),
        ("azure-application-gateway", ["10.9.0.0/24"], ["10.9.0.0/24"]),
        ("gce", GOOGLE, GOOGLE),
        ("gce-internal", ["10.129.0.0/23"], [*GOOGLE, "10.129.0.0/23"]),
    ],
)
def test_a_load_balancer_that_is_no_pod_is_let_in_by_its_addresses(
    ingress_class: str, proxies: list[str], networks: list[str]
) -> None:
    """Those that are believed; Google's ask whether a pod is well from addresses that are the same everywhere."""
    blocks = [{"ipBlock": {"cidr": one}} for one in networks]
    assert callers({**OUTSIDE, "ingress_class": ingress_class}, proxies) == [NEIGHBOURS, *blocks]


@pytest.mark.parametrize(
    ("ingress_class", "proxies"), [("our-own", ["10.0.0.0/8"]), ("cilium", ["10.0.0.0/8"]), ("alb", ["unix"])]
)
def test_a_controller_of_which_nobody_knows_where_it_is_gets_in(
    ingress_class: str, proxies: list[str]
) -> None:
    """So everybody does, on the one port, and the policy says how to close it; guessed wrong, nobody would."""
    patch = {**OUTSIDE, "ingress_class": ingress_class}
    assert callers(patch, proxies) is None
    spec = merged(
        SMALL, {"service": {"trusted_proxies": proxies}, "deploy": {"targets": {"kubernetes": patch}}}
    )
    assert "ingress_namespace" in generated("kubernetes", spec)["kubernetes/networkpolicy.yaml"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        (None, "shop:unreleased"),
        ("ghcr.io/example/shop", "ghcr.io/example/shop:unreleased"),
        ("localhost:5000/shop", "localhost:5000/shop:unreleased"),
        ("ghcr.io/example/shop:1.2.3", "ghcr.io/example/shop:1.2.3"),
        (f"shop@sha256:{'a' * 64}", f"shop@sha256:{'a' * 64}"),
    ],
)
def test_an_image_is_never_the_newest(said: str | None, written: str) -> None:
    """A tag or digest of the spec is kept; without one the tag is one that nobody has by accident."""
    assert container(objects(merged(SMALL, {"deploy": {"image": said}})))["image"] == written


@pytest.mark.parametrize(
    ("said", "written"), [("512Mi", "512Mi"), ("1MiB", "1Mi"), ("100kB", "100000"), ("1GB", "1000000000")]
)
def test_sizes_are_written_as_kubernetes_reads_them(said: str, written: str) -> None:
    """`kB` and `MB` are no suffixes there."""
    spec = merged(SMALL, {"deploy": {"resources": {"memory": said}}})
    assert container(objects(spec))["resources"]["limits"]["memory"] == written


def test_nothing_is_written_for_a_target_not_asked_for() -> None:
    """No `kubernetes`, no manifests."""
    assert generated("kubernetes", merged(SMALL, {"deploy": {"targets": {"kubernetes": None}}})) == {}


# --- an outside judge -----------------------------------------------------------------------------

# What checkov finds and we do on purpose.
ALLOWED = {
    "CKV_K8S_15": "pull policy Always: a pod must start again while the registry is away; tags are fixed",
    "CKV_K8S_35": "secrets as variables: what a Python service reads; as files it would need code of its own",
    "CKV_K8S_43": "image by digest: the digest is known to who releases, and may be said in `deploy.image`",
}


def checkov(folder: Path) -> set[str]:
    """The ids of all checks of Kubernetes that fail."""
    done = subprocess.run(
        [
            judge("checkov"),
            "-d",
            folder,
            "--framework",
            "kubernetes",
            "-o",
            "json",
            "--skip-download",
            "--quiet",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    return {one["check_id"] for one in report["results"]["failed_checks"]}


@pytest.mark.proof
@pytest.mark.judge
def test_checkov_finds_nothing_but_what_is_meant(tmp_path: Path) -> None:
    """Every finding is one with a reason, and every reason is one that is still needed."""
    for path, text in generated("kubernetes", BACKED).items():
        (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
    failed = checkov(tmp_path)
    figure("checkov findings without a reason", 0, len(failed - {*ALLOWED}))
    assert failed == {*ALLOWED}


@pytest.mark.proof
@pytest.mark.judge
def test_checkov_finds_nothing_more_in_random_specs(tmp_path: Path) -> None:
    """Whatever a valid spec says, in a namespace: one that names none is applied where kubectl is told to."""
    seen: list[Path] = []

    @settings(max_examples=ROUNDS, database=None)
    @given(specs())
    def written(spec: dict[str, Any]) -> None:
        folder = tmp_path / str(len(seen))
        folder.mkdir()
        seen.append(folder)
        kubernetes = {"ingress_class": "nginx", "namespace": "shop"}
        made = generated("kubernetes", merged(spec, {"deploy": {"targets": {"kubernetes": kubernetes}}}))
        for path, text in made.items():
            (folder / Path(path).name).write_text(text, encoding="utf-8")

    written()
    failed = checkov(tmp_path)
    figure(
        f"checkov findings without a reason in the manifests of {len(seen)} specs",
        0,
        len(failed - {*ALLOWED}),
    )
    assert len(seen) >= ROUNDS
    assert failed == {*ALLOWED}


@pytest.mark.proof
@pytest.mark.judge
def test_checkov_can_refuse(tmp_path: Path) -> None:
    """The judge above sees a planted fault."""
    text = generated("kubernetes", LARGE)["kubernetes/deployment.yaml"]
    (tmp_path / "deployment.yaml").write_text(
        text.replace("privileged: false", "privileged: true"), encoding="utf-8"
    )
    assert "CKV_K8S_16" in checkov(tmp_path)


def test_uploads_have_room() -> None:
    """All that may come at once: a pod whose /tmp is fuller than it may be is evicted."""
    limits = {"uploads": {"body": "50MiB", "match": {"path": "/uploads"}}}
    pod = objects(merged(LARGE, {"limits": limits}))["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "432Mi"}} in pod["volumes"]


def test_dead_letters_in_a_file_outlive_the_container_at_least() -> None:
    """In a volume of the pod, which bounds them; a server is reached instead."""
    parking = merged(LARGE, {"dependencies": {"stripe": {"fallback": "dead_letter"}}})
    filed = objects(merged(parking, {"dead_letters": {"store": "sqlite:data/letters.db"}}))
    pod = filed["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "dead-letters", "mountPath": "/srv/data"} in pod["containers"][0]["volumeMounts"]
    assert {"name": "dead-letters", "emptyDir": {"sizeLimit": "192Mi"}} in pod["volumes"]
    served = objects(merged(parking, {"dead_letters": {"store": "redis://10.9.8.7:7000"}}))
    assert "dead-letters" not in str(served["Deployment"])
    assert "10.9.8.7/32" in str(served["NetworkPolicy"])
    assert "10.9.8.7/32" not in str(filed["NetworkPolicy"])


def test_a_pod_has_room_for_its_dead_letters() -> None:
    """For all that may be kept, and as much again, beside /tmp and its log; else it goes, and they go with it."""
    parking = {"dependencies": {"stripe": {"fallback": "dead_letter"}}, "dead_letters": {"size": "256Mi"}}
    found = objects(merged(LARGE, parking))
    assert [*disagreements(found)] == []
    limits = container(found)["resources"]["limits"]
    assert limits["ephemeral-storage"] == f"{256 + 64 + 2 * 256}Mi"
