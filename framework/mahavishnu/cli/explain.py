"""`mahavishnu explain`: what a code, a key, a place of the spec, an alert or a series means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import getitem
from typing import Annotated, Any

import typer

from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.contract import Contract, contract
from mahavishnu.derived.dashboards import dashboards, spots
from mahavishnu.derived.forgetting import lives
from mahavishnu.derived.links import panel_url, runbook_file, runbook_url
from mahavishnu.errors import MahavishnuError, Path, SpecError
from mahavishnu.ground.codes import LOADER, Code
from mahavishnu.ground.words import listing, nearest
from mahavishnu.load import Loaded, accept
from mahavishnu.loading.nodes import Mapping, at
from mahavishnu.loading.placing import place_at
from mahavishnu.loading.shape import Place, dotted, keys_of, places
from mahavishnu.signals import Alert, Signal, Source, boundary_text, exposed
from mahavishnu.units import Quantity

_HOLDS = {
    "service": "the process and every artifact",
    "store": "the process: where Hardening keeps the state of limits",
    "limits": "the process: Hardening decides before the handler runs; its alerts in Prometheus",
    "dependencies": "the process: around every call through dependency(); its alerts in Prometheus",
    "dead_letters": "the process: a file or a server, and the redriver that Hardening starts; its alerts in Prometheus",
    "slos": "Prometheus: recording rules and burn rate alerts",
    "channels": "Alertmanager: receivers",
    "alerts": "Prometheus and Alertmanager: rules, routes, quiet hours",
    "retention": "the deployed Prometheus; of backups: `mahavishnu backup prune`, in the generated jobs; "
    "of dead letters: the process; of logs: what keeps them, told by the generated `logs/`",
    "backups": "`mahavishnu backup`, in the generated jobs; their alerts in Prometheus",
    "observability": "the process, and what Prometheus scrapes",
    "security": "the process: on every response",
    "ops": "the process, for whoever reaches it directly and has the token",
    "deploy": "the generated Compose and Kubernetes files",
    "environment": "the process, `mahavishnu dead-letters` and `mahavishnu backup`: which keys of a Redis, and "
    "which snapshots of a repository, are its own",
    "environments": "`check`, `generate` and the process, when that environment is asked for",
}
"""Section -> where it is enforced, or what it is compiled to."""
_MADE_BY = {
    Source.RUNTIME: "which the process shows",
    Source.SCRAPE: "which Prometheus makes when it scrapes",
    Source.RULE: "which a recording rule makes",
}
_LOGS = (("retention", "logs"), ("observability", "logs", "kept_in"))


def explain(
    subject: Annotated[str, typer.Argument(help="MV101, limits.per_client.rate, breaker.window, ShopDown …")],
    spec: SpecOption = None,
    env: EnvOption = None,
) -> None:
    """Say what a code, a key of the format, a place of your spec, an alert or a series means.

    Codes and keys need no spec; with one at hand its own places, alerts and series are explained too.
    """
    path = _path(subject)
    if path[0] == "environments" and path[2:]:
        env, path = str(path[1]), path[2:]
    loaded = _loaded(spec, env)
    found = _code(subject) or _ours(subject, path, loaded) or _key(path)
    if not found:
        near = _named(subject, loaded) or nearest(subject, list(_subjects(loaded)))
        hint = f"; did you mean `{near}`?" if near else ""
        raise MahavishnuError(f"nothing is called `{subject}`{hint}")
    print(found)


def _path(subject: str) -> Path:
    """`limits.<name>.match`, `backups.orders.to[0]` and `backups.orders.to.0`, step by step."""
    steps = subject.replace("<name>", "*").replace("[", ".").replace("]", "").split(".")
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def codes() -> dict[str, Code]:
    """Every code there is: the loader's and those of the cross-checks."""
    from mahavishnu.checks import ALL

    known = (*LOADER, *(one.CODE for one in ALL))
    return {code.id: code for code in sorted(known, key=lambda code: code.id)}


def _subjects(loaded: Loaded | None) -> Iterator[str]:
    yield from codes()
    if loaded is not None:
        made = contract(loaded.spec)
        yield from (*(alert.name for alert in made.alerts), *made.signals)
    known = [path for path, _ in places() if path and path[:-1] != ("environments", "*")]
    yield from (".".join(_words(path)) for path in known)
    yield from (str(path[-1]) for path in known if path[-1] != "*")


def _named(subject: str, loaded: Loaded | None) -> str:
    """The place of the spec whose name is the user's own word."""
    said = loaded.origins if loaded else ()
    found = (dotted(path[: path.index(subject) + 1]) for path in said if subject in path)
    return next(found, "")


def _loaded(spec: Any, env: str | None) -> Loaded | None:
    """The spec, when there is one and it holds; one that was named must hold."""
    try:
        return accept(spec_path(spec), env)
    except SpecError:
        if spec is not None:
            raise
        return None


def _code(subject: str) -> str:
    code = codes().get(subject.upper())
    if code is None:
        return ""
    example = "\n".join(f"    {line}" for line in code.example.splitlines())
    return f"{code.id}: {code.title}\n\nWhy\n  {code.why}\n\nExample\n{example}\n\nFix\n  {code.fix}"


def _ours(subject: str, path: Path, loaded: Loaded | None) -> str:
    """One of the spec's alerts, one of its series, or the place at a path of it."""
    if loaded is None:
        return ""
    made = contract(loaded.spec)
    for alert in made.alerts:
        if alert.name == subject:
            return "\n".join((*_alert(alert, loaded), *_shown(made, alert)))
    if (signal := made.signals.get(subject) or exposed(made.signals.values()).get(subject)) is not None:
        return "\n".join(_series(signal, made))
    place = place_at(path, loaded.tree)
    said = [origin for one, origin in loaded.origins.items() if one[: len(path)] == path]
    if place is None or not said:
        return ""
    node = at(loaded.tree, path)
    chosen = place.chosen(node.entries) if isinstance(node, Mapping) else None
    place = replace(place, kind=chosen, notes=()) if chosen else place
    return "\n".join([*_about(dotted(path), place), "", *_here(path, said[0], loaded, made)])


def _alert(alert: Alert, loaded: Loaded) -> Iterator[str]:
    origins = loaded.origins.items()
    place = next((origin for one, origin in origins if one[: len(alert.path)] == alert.path), "")
    yield f"{alert.name}: {alert.severity}, " + (f"after {alert.hold}" if alert.hold else "at once")
    yield f"  {alert.summary}"
    for title, text in (("Meaning", alert.meaning), ("Impact", alert.impact), ("Action", alert.action)):
        yield f"\n{title}\n  {text}"
    yield f"\nQuery\n  {alert.expr.render()}"
    yield f"\nAsked for by\n  {dotted(alert.path)}" + (f"  ({place})" if place else "")


def _series(signal: Signal, made: Contract) -> Iterator[str]:
    """A series: what it counts, by what, and which alerts rest on it."""
    yield f"{signal.name}: {signal.kind}, {_MADE_BY[signal.source]}"
    yield f"  {signal.help}"
    for label in signal.labels:
        yield f"Label     {label.name}" + (f": {listing(label.values)}" if label.values else "")
    if signal.buckets:
        yield f"Buckets   {', '.join(map(boundary_text, signal.buckets))} (seconds)"
    resting = [one.name for one in made.alerts if _rests(one, signal, made)]
    if resting:
        yield f"Alerts    {listing(resting)}"
    if signal.waived:
        yield f"No rule   {signal.waived}"


def _rests(alert: Alert, signal: Signal, made: Contract) -> bool:
    named = (*alert.expr.selectors(), *made.recorded.bases(alert.expr))
    return any(one.signal.name == signal.name for one in named)


def _shown(made: Contract, alert: Alert) -> Iterator[str]:
    """Where its panel and its page are: in the generated files, and on the way to whoever is told."""
    spot = spots(dashboards(made))[alert.name]
    where = f"{made.place}/grafana/dashboards/{spot.dashboard.name}.json, panel {spot.number}"
    for title, file, url in (
        ("Panel", f"{where} ({spot.row.title})", panel_url(made, alert, spot)),
        ("Runbook", f"{made.place}/runbooks/{runbook_file(alert)}", runbook_url(made, alert)),
    ):
        yield f"\n{title}\n  {file}" + (f"\n  {url}" if url else "")


def _here(path: Path, origin: str, loaded: Loaded, made: Contract) -> Iterator[str]:
    value: Any = loaded.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    with suppress(LookupError, TypeError):  # what was turned off is not in it
        value = reduce(getitem, path, value)
    if value is not None and not isinstance(value, dict | list):
        yield f"Here      {value}"
    yield from (f"Kept      {one}" for one in lives(loaded.spec) if path in _LOGS)
    yield f"Said in   {origin}"
    alerts = [
        alert.name
        for alert in made.alerts
        if alert.path[: len(path)] == path or path[: len(alert.path)] == alert.path
    ]
    if alerts:
        yield f"Alerts    {', '.join(alerts)}"


def _key(path: Path) -> str:
    """A key of the format, by its whole path or by its end; an item of a list means what the list does."""
    steps = tuple(step for step in path if isinstance(step, str))
    fitting = [(path, place) for path, place in places() if path and _fits(path, steps)]
    shortest = min((len(path) for path, _ in fitting), default=0)
    texts = {"\n".join(_about(_written(path), place)) for path, place in fitting if len(path) == shortest}
    return "\n\n".join(sorted(texts))


def _fits(path: Path, steps: tuple[str, ...]) -> bool:
    """Whether the steps are the end of the path, or all of its words; a name of the user's own stands in a whole path.

    `<name>` may be left out, for in a shell it is the name of a file.
    """
    if steps == _words(path):
        return True
    tail = path[-len(steps) :]
    whole = len(path) == len(steps)
    return (
        len(tail) == len(steps)
        and (tail[-1] != "*" or path == steps)
        and all(one == step or (whole and one == "*") for one, step in zip(tail, steps, strict=True))
    )


def _words(path: Path) -> tuple[str, ...]:
    """The steps that are words of the format."""
    return tuple(str(step) for step in path if step != "*")


def _written(path: Path) -> str:
    return dotted(path).replace("*", "<name>")


def _about(title: str, place: Place) -> Iterator[str]:
    """Meaning, form, default and keys of one place."""
    yield title
    if place.meaning:
        yield "  " + place.meaning.replace("\n", "\n  ").replace("\n  \n", "\n\n")
    for label, text in (("Form", _form(place)), ("Default", _default(place))):
        if text:
            yield f"{label:<9} {text}"
    if place.secret:
        yield "Secret    `${NAME}`, with NAME declared in `secrets`"
    inner = place.item() if place.named or place.listed else place
    for model in inner.models():
        name = f"{getattr(model, 'keyword', '')}: " if inner.choice else ""
        yield f"Keys      {name}{', '.join(keys_of(model))}"
    if held := _HOLDS.get(title.split(".", maxsplit=1)[0]):
        yield f"Holds in  {held}"


def _form(place: Place) -> str:
    if place.choice:
        return f"one of {listing(dict.fromkeys((*place.words, *place.choice)))}"
    if place.listed:
        return f"a list of: {_form(place.item())}"
    if place.words:
        return ", or ".join((listing(place.words), *map(_form, place.others)))
    kind: type[Any] = place.kind if isinstance(place.kind, type) else object
    if issubclass(kind, Quantity):
        return f"{kind.form}, like {listing(kind.examples)}"
    if place.model or place.named:
        return "a mapping" + (" of names" if place.named else "")
    name = {int: "a whole number", bool: "true or false", str: "text"}.get(kind, "text")
    return f"{name}, like {listing(place.examples)}" if place.examples else name


def _default(place: Place) -> str:
    if place.field is None:
        return ""
    if place.field.is_required():
        return "none: it must be there"
    value = place.field.default
    simple = isinstance(value, str | int | Quantity) and not isinstance(value, bool)
    return str(value) if simple else str(value).lower() if isinstance(value, bool) else ""
