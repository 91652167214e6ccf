"""How a service is looked at and changed where it runs: on Docker Compose, and in a Kubernetes cluster."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from mahavishnu.contract import Contract
from mahavishnu.derived.lookback import ago
from mahavishnu.units import Duration

from ._command import Command
from ._jobs import by_hand, jobs
from ._service import app_secrets, host, jobs_name, jobs_secrets, pinned, released, sidecar_secrets

_REACH = (
    'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print("reachable")'
)
_BACK = Duration.parse("15m")
# What a service may have in the cluster and later not. A volume claim is no such thing, since it holds data, nor a
# ConfigMap: it is the spec of pods to which `rollout undo` goes back.
_MAY_GO = (
    "autoscaling/v2/HorizontalPodAutoscaler",
    "batch/v1/CronJob",
    "core/v1/ServiceAccount",
    "networking.k8s.io/v1/Ingress",
    "networking.k8s.io/v1/NetworkPolicy",
)
_WAITS = json.dumps(
    [{"op": "replace", "path": "/spec/template/spec/containers/0/command", "value": ["sleep", "86400"]}]
)


class Target:
    """How a service is looked at and changed in one place where it runs."""

    title: str

    def __init__(self, contract: Contract) -> None:
        self.name = host(contract)
        self.contract = contract

    def titled(self, *commands: Command) -> list[Command]:
        """The same, said to be for this place where there is more than one."""
        several = len(targets(self.contract)) > 1
        return [Command(f"{self.title}: {one.purpose}", one.text) if several else one for one in commands]

    def state(self) -> list[Command]:
        """What runs."""
        raise NotImplementedError

    def logs(self, back: Duration = _BACK) -> Command:
        """The service's own words since then."""
        raise NotImplementedError

    def ended(self) -> list[Command]:
        """How those ended that ran before."""
        raise NotImplementedError

    def jobs(self) -> list[Command]:
        """What the jobs of the backups say."""
        raise NotImplementedError

    def inside(self, words: Sequence[str]) -> str:
        """Run something where the service runs."""
        raise NotImplementedError

    def enter(self, backup: str) -> list[Command]:  # noqa: ARG002 - nothing has to be done by itself
        """What lets a person in where the jobs of a backup run."""
        return []

    def beside_jobs(self, backup: str, words: Sequence[str], *, fed: bool = False) -> str:
        """Run something where the jobs of a backup run, with their secrets and volumes; `fed`: it reads a file."""
        raise NotImplementedError

    def leave(self, backup: str) -> list[Command]:  # noqa: ARG002 - as above
        """What `enter` has left there."""
        return []

    def roll_out(self) -> list[Command]:
        """Put to work what was generated."""
        raise NotImplementedError

    def before(self) -> list[Command]:
        """What comes before that, where something takes over from what ran until then."""
        return []

    def after(self) -> list[Command]:
        """What comes after it, where something of before is not wanted any more."""
        return []

    def undo(self) -> list[Command]:
        """Go back to what ran before, where that is remembered."""
        return []

    def restart(self) -> Command:
        """Start it anew, without losing a request."""
        raise NotImplementedError

    def secrets(self) -> list[Command]:
        """Put new values of secrets to work."""
        raise NotImplementedError

    def reach(self, url: str | None) -> Iterator[Command]:
        """Whether a dependency can be reached from here."""
        address = urlsplit(url or "")
        if address.hostname:
            port = address.port or (443 if address.scheme == "https" else 80)
            words = ["python", "-c", _REACH, address.hostname, str(port)]
            yield Command("Whether it can be reached from where the service runs", self.inside(words))


class OnCompose(Target):
    """Docker Compose on one host."""

    title = "Compose"

    def _compose(self, *words: str) -> str:
        return shlex.join(["docker", "compose", "-f", f"{self.contract.place}/compose/compose.yaml", *words])

    def state(self) -> list[Command]:
        return [Command("What runs", self._compose("ps"))]

    def logs(self, back: Duration = _BACK) -> Command:
        return Command(
            f"Its log of the last {ago(back)}",
            self._compose("logs", "--since", ago(back), "--no-log-prefix", self.name),
        )

    def ended(self) -> list[Command]:
        asked = "{{.Name}} {{.RestartCount}} restarts, last exit code {{.State.ExitCode}}, out of memory: "
        shown = shlex.join(["docker", "inspect", "--format", f"{asked}{{{{.State.OOMKilled}}}}"])
        return [
            Command(
                "How often it has been restarted, and why it ended",
                f"{self._compose('ps', '-aq', self.name)} | xargs {shown}",
            )
        ]

    def jobs(self) -> list[Command]:
        return [Command("The log of the jobs", self._compose("logs", "--no-log-prefix", "backups"))]

    def inside(self, words: Sequence[str]) -> str:
        return self._compose("exec", self.name, *words)

    def beside_jobs(self, backup: str, words: Sequence[str], *, fed: bool = False) -> str:  # noqa: ARG002 - one for all
        return self._compose("run", "--rm", *(["-T"] if fed else []), "backups", *words)

    def roll_out(self) -> list[Command]:
        jobs = ["backups"] if self.contract.spec.backups else []
        build = ["--build"] if jobs or not pinned(self.contract) else []
        words = ("up", "-d", *build, "--force-recreate", self.name, *jobs)
        title = "Build it, and start it" if build else "Start it"
        return [
            Command(f"{title} with the spec as it is now", self._compose(*words)),
            Command("Start what else is new, or has changed", self._compose("up", "-d")),
            *self._told(),
        ]

    def _told(self) -> Iterator[Command]:
        target = self.contract.spec.deploy.targets.compose
        if target is not None and target.monitoring:
            for one in ("prometheus", "alertmanager"):
                yield Command(
                    f"Have {one.capitalize()} read its files anew", self._compose("kill", "-s", "HUP", one)
                )

    def restart(self) -> Command:
        return Command("Restart", self._compose("restart", self.name))

    def secrets(self) -> list[Command]:
        spec = self.contract.spec
        readers = (
            (app_secrets(spec), self.name),
            (jobs_secrets(spec), "backups"),
            *((names, one) for one, names in sidecar_secrets(spec).items()),
        )
        asked = [one for names, one in readers if names]
        again = self._compose("up", "-d", "--force-recreate", *asked)
        return [Command("With the new values in the environment and in SECRETS_DIR", again)] if asked else []


class OnKubernetes(Target):
    """A Kubernetes cluster."""

    title = "Kubernetes"

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract)
        kubernetes = contract.spec.deploy.targets.kubernetes
        self.namespace = kubernetes.namespace if kubernetes else "default"
        self.deployment = f"deployment/{self.name}"
        self.selector = f"app.kubernetes.io/name={self.name}"

    def _kubectl(self, *words: str) -> str:
        return shlex.join(["kubectl", "-n", self.namespace, *words])

    def state(self) -> list[Command]:
        return [
            Command("What runs", self._kubectl("get", "pods", "-l", self.selector, "-o", "wide")),
            Command("What was rolled out", self._kubectl("rollout", "history", self.deployment)),
            Command(
                "Make a replica answer on this machine",
                self._kubectl("port-forward", self.deployment, str(self.contract.spec.service.port)),
            ),
        ]

    def logs(self, back: Duration = _BACK) -> Command:
        words = ("logs", "-l", self.selector, "-c", "app", f"--since={ago(back)}", "--tail=-1", "--prefix")
        return Command(f"Its log of the last {ago(back)}", self._kubectl(*words))

    def ended(self) -> list[Command]:
        pods = self._kubectl("get", "pods", "-l", self.selector, "-o", "name")
        logs = self._kubectl("logs", "POD", "-c", "app", "--previous", "--tail=100", "--prefix")
        return [
            Command(
                "The last state of its containers, their exit codes, and what has happened",
                self._kubectl("describe", "pods", "-l", self.selector),
            ),
            Command("The last words of those that have ended", f"{pods} | xargs -I POD {logs}"),
        ]

    def jobs(self) -> list[Command]:
        selector = f"app.kubernetes.io/name={jobs_name(self.contract)}"
        return [
            Command("The jobs", self._kubectl("get", "cronjobs,jobs", "-l", selector)),
            Command("Their log", self._kubectl("logs", "-l", selector, "--tail=-1", "--prefix")),
        ]

    def inside(self, words: Sequence[str]) -> str:
        return self._kubectl("exec", self.deployment, "-c", "app", "--", *words)

    def enter(self, backup: str) -> list[Command]:
        verify = ("mahavishnu", "backup", "verify", backup)  # the one that may take a day
        job = next(one.name for one in jobs(self.contract) if one.words == verify)
        said = ("create", "job", by_hand(self.contract, backup), f"--from=cronjob/{job}")
        made = self._kubectl(*said, "--dry-run=client", "-o", "yaml")
        waits = shlex.join(
            ["kubectl", "patch", "--local", "-f", "-", "--type=json", "-p", _WAITS, "-o", "yaml"]
        )
        text = f"{made} | {waits} | {self._kubectl('apply', '-f', '-')}"
        return [Command("Start a pod like those of its jobs, which does nothing for a day", text)]

    def beside_jobs(self, backup: str, words: Sequence[str], *, fed: bool = False) -> str:
        job = f"job/{by_hand(self.contract, backup)}"
        return self._kubectl("exec", *(["-i"] if fed else []), job, "--", *words)

    def leave(self, backup: str) -> list[Command]:
        job = f"job/{by_hand(self.contract, backup)}"
        return [Command("Remove that pod", self._kubectl("delete", job))]

    def before(self) -> list[Command]:
        if not self.contract.spec.deploy.replicas.vary:
            return []
        return [
            Command(
                "The first time that an autoscaler says how many replicas run: remove the line of replicas in "
                "the editor, which changes nothing yet. Otherwise the next step takes them back to one",
                self._kubectl("apply", "edit-last-applied", self.deployment),
            )
        ]

    def roll_out(self) -> list[Command]:
        through = (
            ""
            if released(self.contract)
            else (f", through the folder OVERLAY, which names {self._folder()} and sets the image's tag")
        )
        return [
            Command(f"Apply what was generated{through}", self._apply()),
            Command("Wait for it", self._kubectl("rollout", "status", self.deployment, "--timeout=10m")),
        ]

    def after(self) -> list[Command]:
        delete = f"{self._apply()} {shlex.join(self._pruned())}"
        return [
            Command(
                "See what is still there though its file is gone", f"{delete} --dry-run=server | grep pruned"
            ),
            Command("Delete it. What holds data, like a volume claim, is left for you to delete", delete),
        ]

    def _folder(self) -> str:
        return f"{self.contract.place}/kubernetes"

    def _apply(self) -> str:
        folder = shlex.quote(self._folder()) if released(self.contract) else '"$OVERLAY"'
        return f"kubectl apply -k {folder}"

    def _pruned(self) -> Iterator[str]:
        """Of this service and its backups alone: others in the namespace may be ours, too."""
        names = f"app.kubernetes.io/name in ({self.name},{jobs_name(self.contract)})"
        yield from ("--prune", "-l", f"app.kubernetes.io/managed-by=mahavishnu,{names}")
        yield from (f"--prune-allowlist={kind}" for kind in _MAY_GO)

    def undo(self) -> list[Command]:
        return [Command("Go back to what ran before", self._kubectl("rollout", "undo", self.deployment))]

    def restart(self) -> Command:
        return Command(
            "Restart; no replica goes before a new one answers",
            self._kubectl("rollout", "restart", self.deployment),
        )

    def secrets(self) -> list[Command]:
        spec = self.contract.spec
        names = sorted({*app_secrets(spec), *jobs_secrets(spec)})
        made = self._kubectl("create", "secret", "generic", f"{self.name}-secrets")
        # Not from a file beside the spec, which would be built into the image; nor by lines, of which a key has many.
        write = (
            f'{made} --from-file="$SECRETS_DIR" --dry-run=client -o yaml | '
            f"{self._kubectl('apply', '-f', '-')}"
        )
        told = (
            f"With a file for each of {', '.join(names)} in SECRETS_DIR, none of which ends with a line break"
        )
        return [Command(told, write), self.restart()] if names else []


def targets(contract: Contract) -> tuple[Target, ...]:
    """Every place where the spec lets the service run."""
    said = contract.spec.deploy.targets
    chosen = ((said.compose, OnCompose), (said.kubernetes, OnKubernetes))
    return tuple(kind(contract) for target, kind in chosen if target is not None)
