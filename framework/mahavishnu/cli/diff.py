"""`mahavishnu diff`: where what runs differs from what the spec says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from mahavishnu import live as running
from mahavishnu.cli._generation import files
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.cli._output import printable
from mahavishnu.contract import contract
from mahavishnu.live.note import Note
from mahavishnu.load import accept

_MOST = 20
_SCRAPING = ("prometheus/prometheus.yml", "prometheus/scrape.kubernetes.yml")


def diff(
    spec: SpecOption = None,
    env: EnvOption = None,
    live: Annotated[
        str | None,
        typer.Option("--live", metavar="URL", help="A running service: its spec, series and numbers."),
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option("--prometheus", metavar="URL", help="Its rules, targets and series.")
    ] = None,
    alertmanager: Annotated[
        str | None, typer.Option("--alertmanager", metavar="URL", help="Its routes and receivers.")
    ] = None,
) -> None:
    """Compare the spec with what runs.

    Exit code 0: they agree; 1: they do not; 2: something does not answer, so that nothing is known of it.
    """
    if not (live or prometheus or alertmanager):
        raise typer.BadParameter("say what to compare with: --live, --prometheus or --alertmanager")
    loaded = accept(spec_path(spec), env)
    made = contract(loaded.declared)
    texts = {one.path: one.text for one in files(loaded, made)} if prometheus or alertmanager else {}
    found = 0
    if live:
        found += _told("service", live, running.service.differences(live, made))
    if prometheus:
        rules = texts["prometheus/rules.yml"]
        scraping = [texts[one] for one in _SCRAPING if one in texts]
        found += _told(
            "prometheus", prometheus, running.prometheus.differences(prometheus, made, rules, scraping)
        )
    if alertmanager:
        config = texts["alertmanager/alertmanager.yml"]
        found += _told(
            "alertmanager", alertmanager, running.alertmanager.differences(alertmanager, made, config)
        )
    raise typer.Exit(int(found > 0))


def _told(kind: str, url: str, differences: Iterable[str]) -> int:
    """Print what differs, and what is good to know; how many differences there are."""
    said = list(dict.fromkeys(differences))
    found = [one for one in said if not isinstance(one, Note)]
    print(f"{kind:<13} {url}  {len(found) or 'no'} difference{'' if len(found) == 1 else 's'}")
    _listed(found)
    _listed([f"note: {one}" for one in said if isinstance(one, Note)])
    return len(found)


def _listed(lines: Sequence[str]) -> None:
    for one in lines[:_MOST]:
        print(f"  {printable(one)}")
    if len(lines) > _MOST:
        print(f"  … and {len(lines) - _MOST} more")
