"""The floors and the doors of the house: who may import whom, and where each dependency comes in.

The three tables are the architecture. A new module needs a floor here; a new dependency needs a door.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A module imports from floors below its own, and its own where no `NEVER` forbids it.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "files",
        "files.*",
        "ground",
        "ground.*",
        "units",
        "promql",
        "signals",
        "events",
        "queries",
        "queries.*",
    ),
    (
        "series",
        "burn_rates",
        "settings",
        "policy",
        "protocols",
        "algorithms",
        "clock",
        "outcomes",
        "outcomes.*",
        "snapshots",
        "snapshots.*",
    ),
    ("policies", "policies.*", "targets", "notify", "store"),
    ("spec",),
    ("alerts", "alerts.*", "container", "contract", "derived", "derived.*", "checks", "checks.*"),
    (
        "loading",
        "loading.*",
        "load",
        "inspection",
        "inspection.ends",
        "inspection.appinfo",
        "inspection.children",
        "artifact",
        "agreement",
        "agreement.*",
        "live",
        "live.*",
    ),
    ("runtime", "runtime.*", "generators", "generators.*", "templates", "backup", "backup.*"),
    (
        "asgi",
        "survey",
        "inspection.cors",
        "inspection.hardened",
        "inspection.look",
        "inspection.nameless",
        "inspection.pages",
        "inspection.sessions",
        "inspection.standing",
        "testing",
        "compile",
        "dependencies",
        "limits",
        "server",
        "worker",
        "structlog",
        "",
    ),  # "": the face, `import mahavishnu` itself
    ("cli", "cli.*", "__main__"),
)

# Pairs that the floors alone would allow.
NEVER: tuple[tuple[str, str], ...] = (
    ("generators*", "runtime*"),
    ("runtime*", "generators*"),
    ("runtime*", "templates"),
    ("policies.[!_]*", "policies.[!_]*"),  # another policy; what two policies share is a `_name` beside them
)

# One door per dependency: the modules that may import it.
DOORS: Mapping[str, tuple[str, ...]] = {
    "annotated_types": ("loading.translations",),  # how pydantic says a bound
    "hiredis": ("runtime.redis.link",),
    "httpx": ("runtime.calls.http_client", "runtime.calls.http_fallback"),
    "jinja2": ("generators._render",),
    "opentelemetry": ("runtime.telemetry.otlp", "runtime.telemetry.outbox", "runtime.tracing.traces"),
    "prometheus_client": ("runtime.telemetry.metrics",),
    "promql_parser": ("queries.written",),
    "pydantic": ("*",),  # the material everything is made of
    "pydantic_core": ("*",),
    "pydantic_settings": ("loading.layers",),
    "pytest": ("testing",),
    "redis": ("runtime.redis.address", "runtime.redis.blocking"),
    "ruamel": ("loading.yaml_tree",),
    "starlette": (
        "asgi",
        "runtime.built_in",
        "runtime.edition",
        "runtime.requests.cross_origin",
        "runtime.routing.table",
    ),
    "structlog": ("runtime.telemetry.logs",),
    "typer": ("cli.*",),
    "uvicorn": ("server",),
}

# What `import mahavishnu` must not load: whoever only reads a spec does not pay for a server.
HEAVY = ("starlette", "prometheus_client", "uvicorn", "jinja2")

# Static imports of the generators are impossible (the folder is mapped), so this one call is the bridge.
BRIDGE = "compile"

# Folders whose modules stand each for itself.
HALLS = ("", "runtime")

Sources = Mapping[str, str]  # module name without the leading `mahavishnu.` -> text


def sources() -> dict[str, str]:
    found: dict[str, str] = {}
    for prefix, folder in (
        ("", "framework/mahavishnu"),
        ("generators", "generators"),
        ("templates", "templates"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((prefix, *parts) if prefix else parts)] = path.read_text(encoding="utf-8")
    return found


def packages(of: Sources) -> set[str]:
    return {"", "generators", "templates"} | {name.rpartition(".")[0] for name in of}


def dynamic(node: ast.AST) -> str | None:
    """The literal in `import_module("…")`, `importlib.import_module("…")` or `__import__("…")`."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0]
    if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
        return str(first.value)
    return None


class AtRunTime(ast.NodeTransformer):
    """Drop what stands under `if TYPE_CHECKING:`."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:  # the name is ast's
        self.generic_visit(node)
        name = getattr(node.test, "id", getattr(node.test, "attr", ""))
        return node.orelse if name == "TYPE_CHECKING" else node


@cache
def importing(text: str, *, at_run_time: bool) -> tuple[ast.AST, ...]:
    """What of a text may import something; each check below asks for those of every module."""
    tree: ast.AST = ast.parse(text)
    nodes = ast.walk(AtRunTime().visit(tree) if at_run_time else tree)
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) or dynamic(node))


def imports(module: str, of: Sources, *, at_run_time: bool = False) -> Iterator[str]:
    """Every module that one imports, by its absolute name, wherever in the file the import stands."""
    names = {f"mahavishnu.{name}".rstrip(".") for name in of}
    here = f"mahavishnu.{module}".rstrip(".").split(".")
    if module not in packages(of):
        here = here[:-1]
    for node in importing(of[module], at_run_time=at_run_time):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in names else base
        elif literal := dynamic(node):
            yield literal


def ours(imported: str) -> str | None:
    """The name without `mahavishnu.`, or None where it is not ours."""
    top, _, rest = imported.partition(".")
    return rest if top == "mahavishnu" else None


def floor(module: str) -> int | None:
    for number, names in enumerate(FLOORS):
        if any(fnmatchcase(module, name) for name in names):
            return number
    return None


def breaches_of_floors(of: Sources) -> list[str]:
    found: list[str] = []
    for module in sorted(of):
        own = floor(module)
        if own is None:
            found.append(f"{module}: stands on no floor; give it one in FLOORS")
            continue
        for imported in sorted({name for each in imports(module, of) if (name := ours(each)) is not None}):
            if imported == module:
                continue
            other = floor(imported)
            if other is None:
                found.append(f"{module} -> {imported}: no such floor")
            elif other > own:
                found.append(f"{module} -> {imported}: climbs from floor {own} to floor {other}")
            elif any(fnmatchcase(module, a) and fnmatchcase(imported, b) for a, b in NEVER):
                found.append(f"{module} -> {imported}: never")
    return found


def breaches_of_privacy(of: Sources) -> list[str]:
    """Who imports what another room calls its own, by a name that begins with `_`."""
    found: list[str] = []
    for module in sorted(of):
        for imported in sorted({name for each in imports(module, of) if (name := ours(each)) is not None}):
            folder, _, name = imported.rpartition(".")
            if name.startswith("_") and folder not in (module, module.rpartition(".")[0]):
                found.append(f"{module} -> {imported}")
    return found


def users_of_dependencies(of: Sources) -> dict[str, set[str]]:
    users: dict[str, set[str]] = {}
    for module in sorted(of):
        for imported in imports(module, of):
            top = imported.partition(".")[0]
            if top != "mahavishnu" and top not in sys.stdlib_module_names:
                users.setdefault(top, set()).add(module)
    return users


def breaches_of_doors(of: Sources) -> list[str]:
    found: list[str] = []
    for dependency, modules in sorted(users_of_dependencies(of).items()):
        if dependency not in DOORS:
            found.append(f"{dependency}: no door, yet imported by {sorted(modules)}")
            continue
        doors = DOORS[dependency]
        wrong = sorted(m for m in modules if not any(fnmatchcase(m, door) for door in doors))
        if wrong:
            found.append(f"{dependency}: imported by {wrong}, its door is {' or '.join(doors)}")
    return found


def rules_without_subject(of: Sources) -> list[str]:
    """What the tables say of modules, dependencies and doors that do not exist."""
    named = [*(name for names in FLOORS for name in names), *(end for pair in NEVER for end in pair)]
    found = [f"{name}: no such module" for name in named if not any(fnmatchcase(one, name) for one in of)]
    users = users_of_dependencies(of)
    for dependency, doors in DOORS.items():
        unused = [
            door for door in doors if not any(fnmatchcase(one, door) for one in users.get(dependency, ()))
        ]
        found += [f"{dependency}: nobody imports it by {door}" for door in unused]
    return found


def breaches_of_the_bridge(of: Sources) -> list[str]:
    calls = [
        module
        for module, text in sorted(of.items())
        for node in importing(text, at_run_time=False)
        if (dynamic(node) or "").startswith("mahavishnu.generators")
    ]
    static = [
        module
        for module in sorted(of)
        if not module.startswith("generators")
        and any((ours(name) or "").startswith("generators") for name in imports(module, of))
        and module not in calls
    ]
    return [f"{module}: imports the generators statically" for module in static] + (
        []
        if calls == [BRIDGE]
        else [f"import_module('mahavishnu.generators') once, in {BRIDGE}; found in {calls}"]
    )


Arrows = Mapping[str, set[str]]


def circles(arrows: Arrows) -> list[str]:
    """Ways along the arrows that come back to where they began."""
    done: set[str] = set()
    found: list[str] = []

    def visit(place: str, path: tuple[str, ...]) -> None:
        if place in path:
            found.append(" -> ".join((*path[path.index(place) :], place)))
        elif place not in done:
            for below in sorted(arrows.get(place, ())):
                visit(below, (*path, place))
            done.add(place)

    for place in sorted(arrows):
        visit(place, ())
    return found


def needs(of: Sources) -> Arrows:
    """What each module needs to run."""
    return {
        module: {name for each in imports(module, of, at_run_time=True) if (name := ours(each)) is not None}
        & (of.keys() - {module})
        for module in of
    }


def room(module: str) -> str:
    """The folder that a module is in; itself where that is the house, or the hall of the runtime."""
    folder = module.rpartition(".")[0]
    return module if folder in HALLS else folder


def rooms(of: Sources) -> Arrows:
    """What the modules of each room need from other rooms."""
    found: dict[str, set[str]] = {}
    for module, needed in needs(of).items():
        found.setdefault(room(module), set()).update(room(one) for one in needed if room(one) != room(module))
    return found


def loaded(program: str) -> list[str]:
    """Those of HEAVY that a fresh interpreter holds after running the program."""
    show = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{show}"], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_arrows_only_run_down() -> None:
    assert breaches_of_floors(sources()) == []


def test_what_begins_with_a_line_is_its_rooms_own() -> None:
    assert breaches_of_privacy(sources()) == []


def test_each_dependency_comes_in_by_its_door() -> None:
    assert breaches_of_doors(sources()) == []


def test_no_rule_is_about_nothing() -> None:
    assert rules_without_subject(sources()) == []


def test_one_bridge_leads_to_the_generators() -> None:
    assert breaches_of_the_bridge(sources()) == []


def test_no_two_modules_need_each_other() -> None:
    assert circles(needs(sources())) == []


def test_no_two_rooms_need_each_other() -> None:
    assert circles(rooms(sources())) == []


def test_importing_the_package_loads_no_server() -> None:
    assert loaded("import mahavishnu") == []


def sentences(text: str) -> int:
    """How many a module says of itself."""
    said = ast.get_docstring(ast.parse(text)) or ""
    return len(re.split(r"[.!?]\s+(?=[A-Z`])|\n\n", said))


def test_a_module_is_one_idea_said_in_one_sentence() -> None:
    assert [module for module, text in sources().items() if sentences(text) != 1] == []


# --- the same checks, shown able to fail ----------------------------------------------------------

CLEAN: Sources = {
    "": "from mahavishnu import spec",
    "errors": "",
    "units": "from mahavishnu.errors import Finding",
    "policy": "from . import units",
    "policies": "",
    "policies._window": "",
    "policies.rate": "from mahavishnu.policy import Settings\nfrom ._window import Window",
    "policies.retry": "from pydantic import BaseModel",
    "spec": "from mahavishnu.policies import rate, retry",
    "loading.yaml_tree": "from ruamel.yaml import YAML",
    "generators": "",
    "generators._render": "import jinja2",
    "generators.grafana": "from ._render import render\nfrom mahavishnu.spec import Spec",
    "runtime": "",
    "runtime.engine": "from mahavishnu.spec import Spec",
    "compile": "from importlib import import_module\nimport_module('mahavishnu.generators')",
    "cli": "from mahavishnu import compile",
}


def test_the_clean_sample_is_clean() -> None:
    assert breaches_of_floors(CLEAN) == []
    assert breaches_of_privacy(CLEAN) == []
    assert breaches_of_doors(CLEAN) == []
    assert breaches_of_the_bridge(CLEAN) == []
    assert circles(needs(CLEAN)) == []
    assert circles(rooms(CLEAN)) == []


@pytest.mark.parametrize(
    ("module", "text", "says"),
    [
        ("units", "from mahavishnu.policy import Clock", "units -> policy: climbs"),
        ("policy", "from . import spec", "policy -> spec: climbs"),
        (
            "policies.rate",
            "from mahavishnu.runtime.engine import Engine",
            "policies.rate -> runtime.engine: climbs",
        ),
        ("policies.rate", "from . import retry", "policies.rate -> policies.retry: never"),
        ("policies.rate", "def f():\n    from .retry import Retry", "policies.rate -> policies.retry: never"),
        ("runtime.engine", "import mahavishnu.compile", "runtime.engine -> compile: climbs"),
        ("runtime.engine", "import_module('mahavishnu.generators')", "runtime.engine -> generators: never"),
        (
            "generators.grafana",
            "from mahavishnu.runtime import engine",
            "generators.grafana -> runtime.engine: never",
        ),
        ("spec", "from mahavishnu import Shield", "spec -> : climbs"),
        ("attic", "", "attic: stands on no floor"),
    ],
)
def test_a_planted_climb_is_found(module: str, text: str, says: str) -> None:
    found = breaches_of_floors({**CLEAN, module: text})
    assert any(line.startswith(says) for line in found), found


@pytest.mark.parametrize(
    "text", ["from mahavishnu.policies import _window", "import mahavishnu.policies._window"]
)
def test_a_planted_breach_of_privacy_is_found(text: str) -> None:
    assert breaches_of_privacy({**CLEAN, "runtime.engine": text}) == ["runtime.engine -> policies._window"]


@pytest.mark.parametrize(
    ("module", "text", "says"),
    [
        ("spec", "from ruamel.yaml import YAML", "ruamel: imported by ['spec']"),
        ("policies.rate", "import starlette.requests", "starlette: imported by ['policies.rate']"),
        ("generators.grafana", "import jinja2", "jinja2: imported by ['generators.grafana']"),
        ("loading.layers", "import ruamel.yaml", "ruamel: imported by ['loading.layers']"),
        ("spec", "import yaml", "yaml: no door"),
    ],
)
def test_a_planted_side_door_is_found(module: str, text: str, says: str) -> None:
    found = breaches_of_doors({**CLEAN, module: text})
    assert any(line.startswith(says) for line in found), found


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("spec", "spec: no such module"),
        ("queries.written", "promql_parser: nobody imports it by queries.written"),
        ("runtime.redis.blocking", "redis: nobody imports it by runtime.redis.blocking"),
    ],
)
def test_a_rule_about_nothing_is_found(gone: str, says: str) -> None:
    found = rules_without_subject({name: text for name, text in sources().items() if name != gone})
    assert says in found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("compile", ""),
        ("cli", "import importlib\nimportlib.import_module('mahavishnu.generators.grafana')"),
        ("compile", CLEAN["compile"] + "\nimport_module('mahavishnu.generators')"),
        ("cli", "from mahavishnu.generators import grafana"),
    ],
)
def test_a_planted_second_bridge_is_found(module: str, text: str) -> None:
    assert breaches_of_the_bridge({**CLEAN, module: text}) != []


def test_a_planted_cycle_is_found() -> None:
    assert circles(needs({**CLEAN, "errors": "from mahavishnu import units"})) == ["units -> errors -> units"]


def test_a_planted_cycle_through_a_package_is_found() -> None:
    around = {
        "cli": "from mahavishnu.cli import _ends\nFINE = 0",
        "cli._ends": "from mahavishnu.cli import FINE",
    }
    assert circles(needs({**CLEAN, **around})) == ["cli -> cli._ends -> cli"]


def test_a_planted_circle_of_rooms_is_found() -> None:
    around = {
        "policies.retry": "from mahavishnu.runtime.calls.first import Call",
        "runtime.calls.first": "",
        "runtime.calls.second": "from mahavishnu.policies.rate import Rate",
    }
    assert circles(needs({**CLEAN, **around})) == []
    assert circles(rooms({**CLEAN, **around})) == ["policies -> runtime.calls -> policies"]


def test_two_modules_may_name_each_others_types() -> None:
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mahavishnu.units import Duration"
    assert circles(needs({**CLEAN, "errors": typing})) == []


def test_two_sentences_are_found() -> None:
    assert [sentences(f'"""{said}"""') for said in ("One: `a.b`, e.g. it.", "One. Two.", "One.\n\nmore")] == [
        1,
        2,
        2,
    ]


def test_a_planted_server_is_found() -> None:
    assert loaded("import starlette, jinja2") == ["starlette", "jinja2"]
