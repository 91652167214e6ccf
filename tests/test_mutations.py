"""Every reference broken once, on one side only: in the spec, a template, a generator, or what the process shows."""

from __future__ import annotations

import ast
import asyncio
import builtins
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from mahavishnu import live
from mahavishnu.agreement.proof import agreement
from mahavishnu.compile import compile
from mahavishnu.contract import Contract, contract
from mahavishnu.errors import Finding, Level, Problem, SpecError
from mahavishnu.inspection import appinfo
from mahavishnu.live.fetch import Site, Unreachable
from mahavishnu.load import load
from mahavishnu.loading import nodes, yaml_tree
from mahavishnu.notify import Email
from mahavishnu.policies.threshold import Threshold
from mahavishnu.signals import Severity
from mahavishnu.spec import Spec
from tests.agreeing import disagreements, judged
from tests.figures import FULL, figure
from tests.shop_driver import Shop
from tests.test_alerts_are_real import crowd, payment_crowded, payment_down, said

__all__ = ["said"]
ROOT = Path(__file__).parents[1]
SPEC = ROOT / "mahavishnu.yaml"
TEMPLATES = ("prometheus/prometheus.yml.j2", "prometheus/rules.yml.j2", "alertmanager/alertmanager.yml.j2")
GENERATORS = ("prometheus", "alertmanager")
KINDS = {"panels", "recordings", "alerts", "heartbeats", "runbooks"}  # of what asks for a series


class Mutant(NamedTuple):
    """One thing that is not what it was."""

    where: str
    what: str
    old: str
    new: str


def drawn(every: list[Mutant], count: int) -> list[Mutant]:
    """All of them at full length, else a sample that is always the same."""
    return every if FULL else random.Random(5).sample(every, min(count, len(every)))


def told(of: str, every: list[Mutant], chosen: list[Mutant], missed: list[Mutant]) -> None:
    """Put it into the table, and fail on any that was missed."""
    caught = f"{len(chosen) - len(missed)} of {len(chosen)}"
    drawn = f", drawn from {len(every)}" if len(chosen) < len(every) else ""
    figure(f"references broken in {of}, and caught", "all", caught + drawn)
    assert missed == []


# --- the spec -----------------------------------------------------------------------------------------------

# What names something that stands elsewhere: in the spec itself, in the app, or in the format.
NAMING = re.compile(
    r"secrets\.\d+|alerts\.route\.P\d\.\d+|alerts\.heartbeat\.\d+|channels\.\w+\.(slack|pagerduty|token|password)"
    r"|\w+\.\w+\.match\.(path|method)|service\.app|alerts\.thresholds\.\w+\.when|alerts\.quiet\.\d+\.\w+"
    r"|limits\.\w+\.(per|algorithm)|slos\.\w+\.window"
)


def of_the_spec() -> Iterator[Mutant]:
    """Every such name with one letter too many, where it stands."""
    reading = yaml_tree.read(SPEC.read_bytes(), SPEC.name)
    assert isinstance(reading.tree, nodes.Mapping)
    for path, scalar in nodes.scalars(reading.tree):
        name = ".".join(map(str, path))
        if NAMING.fullmatch(name):
            line, column = scalar.mark.line, scalar.mark.column
            rest = SPEC.read_text().splitlines()[line - 1][column - 1 :]
            word = re.match(r"""["']?[$\w./{]+?(\w+)""", rest)
            assert word is not None, rest
            old = word[0]
            yield Mutant(f"{line}:{column}", name, old, f"{old[:-1]}{'y' if old[-1] != 'y' else 'z'}")


def findings(path: Path) -> tuple[Finding, ...]:
    """What `check` says."""
    try:
        loaded = load(path)
    except SpecError as refused:
        return refused.findings
    app = appinfo.look(loaded.spec.service, path)
    if isinstance(app, Problem):
        return (loaded.locate(app),)
    return loaded.crossed(app)


@pytest.mark.proof
def test_a_name_that_is_broken_in_the_spec_is_found_with_its_place(tmp_path: Path) -> None:
    """By `check`, with a line; each by itself."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = SPEC.read_text().splitlines()
    every, missed = list(of_the_spec()), list[Mutant]()
    chosen = drawn(every, 12)
    for one in chosen:
        line, column = (int(part) - 1 for part in one.where.split(":"))
        changed = [*lines]
        changed[line] = lines[line][:column] + lines[line][column:].replace(one.old, one.new, 1)
        path = tmp_path / "mahavishnu.yaml"
        path.write_text("\n".join(changed) + "\n")
        said = findings(path)
        if not any(finding.severity is Level.ERROR and finding.where is not None for finding in said):
            missed.append(one)
    told("the spec", every, chosen, missed)


# --- templates and generators -------------------------------------------------------------------------------


def of_the_templates() -> Iterator[Mutant]:
    """Every word of a template that is neither a comment nor Jinja's."""
    for name in TEMPLATES:
        text = (ROOT / "templates" / name).read_text()
        blank = re.sub(r"\{[{%].*?[%}]\}|#.*", lambda found: " " * len(found[0]), text)
        for found in re.finditer(r"[A-Za-z_][\w.-]*|\d+", blank):
            yield Mutant(name, str(found.start()), found[0], f"{found[0]}x" if found[0][0].isalpha() else "7")


def of_the_generators() -> Iterator[Mutant]:
    """Every word in quotes that is no prose: labels, names, annotations, folders, formats of matchers."""
    for name in GENERATORS:
        tree = ast.parse((ROOT / f"generators/{name}.py").read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for place, node in enumerate(ast.walk(tree)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                said = node.value
                # `nobody` is written where there is no channel: tests/generators/test_alertmanager.py looks there.
                if re.fullmatch(r"[A-Za-z_/][\w./-]*\w", said) and said != "nobody":
                    yield Mutant(name, str(place), said, f"{said}x")
                for found in re.finditer(r"(?:Annotations|CommonLabels)\.\w+", said):
                    yield Mutant(name, str(place), said, said.replace(found[0], f"{found[0]}x", 1))


def caught(made: Contract, templates: Path | None, folder: Path) -> bool:
    """Whether generation stops, or somebody who reads what it made has something to say."""
    try:
        artifacts = compile(made, templates)
        files = {one.path: one.text for one in artifacts}
        if {**agreement(made, artifacts).kinds}.keys() != KINDS:
            return True
        return any(True for _ in disagreements(files, made)) or any(True for _ in judged(files, folder))
    except (Exception, AssertionError):  # noqa: BLE001 (a file that cannot be read, a name that is not there)
        return True


@pytest.fixture(scope="module")
def made() -> Contract:
    """The contract of the shop, with one promise, a threshold of a size and a relay of mail: every word is written."""
    spec = load(SPEC).declared
    size = Threshold.model_validate({"when": "memory >= 400Mi", "severity": "P3"})
    relay = Email.model_validate({"email": "a@example.com", "smtp": "relay:25", "require_tls": False})
    route = dict.fromkeys(Severity, (*spec.heard, "relay"))
    alerts = spec.alerts.model_copy(update={"thresholds": {"size": size}, "route": route})
    channels = {**spec.channels, "relay": relay}
    changed = {"slos": {"checkout": spec.slos["checkout"]}, "alerts": alerts, "channels": channels}
    return contract(spec.model_copy(update=changed))


@pytest.mark.judge
@pytest.mark.proof
def test_a_word_that_is_broken_in_a_template_is_noticed(made: Contract, tmp_path: Path) -> None:
    """By a reader of the files, or by the tools they are for; never because a copy of them is kept."""
    assert not caught(made, None, tmp_path)
    every, missed = list(of_the_templates()), list[Mutant]()
    chosen = drawn(every, 7)
    for number, one in enumerate(chosen):
        text = (ROOT / "templates" / one.where).read_text()
        at = int(one.what)
        path = tmp_path / str(number) / one.where
        path.parent.mkdir(parents=True)
        path.write_text(text[:at] + one.new + text[at + len(one.old) :])
        if not caught(made, tmp_path / str(number), tmp_path / "out"):
            missed.append(one)
    told("templates", every, chosen, missed)


def mutated(one: Mutant) -> ModuleType:
    """The generator with one word of its source changed."""
    module = import_module(f"mahavishnu.generators.{one.where}")
    tree = ast.parse((ROOT / f"generators/{one.where}.py").read_text())
    node = list(ast.walk(tree))[int(one.what)]
    assert isinstance(node, ast.Constant)
    node.value = one.new
    other = ModuleType(module.__name__)
    other.__package__ = module.__package__
    sys.modules[other.__name__] = other  # dataclasses look there
    exec(builtins.compile(tree, str(module.__file__), "exec"), other.__dict__)
    return other


@pytest.mark.judge
@pytest.mark.proof
def test_a_word_that_is_broken_in_a_generator_is_noticed(made: Contract, tmp_path: Path) -> None:
    """As in a template."""
    every, missed = list(of_the_generators()), list[Mutant]()
    chosen = drawn(every, 6)
    for one in chosen:
        name = f"mahavishnu.generators.{one.where}"
        module = import_module(name)
        try:
            mutated(one)
            if not caught(made, None, tmp_path):
                missed.append(one)
        except Exception:  # noqa: BLE001 (it does not even load)
            continue
        finally:
            sys.modules[name] = module
    told("generators", every, chosen, missed)


# --- what the process shows ---------------------------------------------------------------------------------


def of_the_process(text: str) -> Iterator[Mutant]:
    """Every series, label, value and boundary of a scrape, misspelled; and every series gone."""
    names = dict.fromkeys(re.findall(r"^(?!#)([a-z_]+?)(?:_bucket|_count|_sum)?[{ ]", text, re.MULTILINE))
    for name in names:
        yield Mutant(name, "series", name, f"{name}s")
        yield Mutant(name, "gone", name, "")
    for name, labels in dict.fromkeys(re.findall(r"^([a-z_]+)\{(.*)\} ", text, re.MULTILINE)):
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            if label != "le" or value != "+Inf":
                yield Mutant(name, "label", f'{label}="{value}"', f'{label}x="{value}"')
            if label != "http_route":
                yield Mutant(name, "value", f'{label}="{value}"', f'{label}="{value}9"')


def shown(text: str, one: Mutant) -> str:
    """The scrape as it would be with that."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    if one.what == "gone":
        return "\n".join(
            line for line in lines if not re.match(rf"{one.old}(_bucket|_count|_sum)?[{{ ]", line)
        )
    if one.what == "series":
        return "\n".join(
            re.sub(rf"^{one.old}(?=(_bucket|_count|_sum)?[{{ ])", one.new, line) for line in lines
        )
    return "\n".join(line.replace(one.old, one.new) if line.startswith(one.where) else line for line in lines)


@pytest.mark.proof
def test_what_the_process_shows_otherwise_is_noticed(
    said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop that has been through much shows every series of its contract, and no other one."""
    file = tmp_path / "mahavishnu.yaml"
    file.write_text(json.dumps(said))
    made = contract(Spec.model_validate(said))
    text = asyncio.run(_scraped(Shop(file, monkeypatch)))
    assert list(differs(text, made, monkeypatch)) == []
    every = list(dict.fromkeys(of_the_process(text)))
    chosen = drawn(every, 150)
    missed = [one for one in chosen if not list(differs(shown(text, one), made, monkeypatch))]
    told("what the process shows", every, chosen, missed)


async def _scraped(shop: Shop) -> str:
    for fault in (crowd, payment_down, payment_crowded):
        await shop.everyday()
        await fault(shop)
    return await shop.exposition()


def differs(text: str, made: Contract, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What `mahavishnu diff` says of it, and what a shop that has been through much would show besides."""
    fetch: Callable[[Site, str], str] = lambda _site, _path: text  # noqa: E731
    monkeypatch.setattr(Site, "text", fetch)
    try:
        yield from live.service.differences(Site("http://shop"), made)
    except Unreachable as fault:
        yield str(fault)
    names = set(re.findall(r"^(?!#)([a-z_]+?)(?:_bucket|_count|_sum)?[{ ]", text, re.MULTILINE))
    yield from (name for name, one in made.signals.items() if one.source == "runtime" and name not in names)
