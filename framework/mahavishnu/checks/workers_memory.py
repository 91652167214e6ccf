"""MV225: less memory than the workers of a replica take before the first request."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.derived import at_rest
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV225",
    "less memory than the workers take at rest",
    "Each worker is a Python process with memory of its own: 45 to 60 MiB with a small app, a store and a collector, "
    "besides uvicorn's parent process. Of a replica without room for them one is killed after the other and started "
    "anew, each time with its requests, and nothing comes to an end.",
    "service: {workers: 12}\ndeploy: {resources: {cpu: 12000m, memory: 512Mi}, targets: {kubernetes: {}}}",
    "Raise `deploy.resources.memory` to 50 MiB for each worker and 30 MiB besides, and by what your app itself needs; "
    "or run fewer `service.workers` and more replicas.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """What the workers take, against the memory of a replica, where it is deployed."""
    workers, deploy = facts.spec.service.workers, facts.spec.deploy
    memory, least = deploy.resources.memory, at_rest.memory(workers)
    if memory >= least or not deploy.targets.any:
        return
    who = f"{workers} workers take" if workers > 1 else "a worker takes"
    what = f"{who} about {least} before the first request, and a replica has {memory}"
    room = at_rest.workers(memory)
    fewer = f", or `service.workers: {room}`" if room > 0 else ""
    said = "memory" in deploy.resources.model_fields_set
    path = ("deploy", "resources", "memory") if said else ("service", "workers")
    yield warning(CODE, path, what, f"set `deploy.resources.memory: {least}` or more{fewer}")
