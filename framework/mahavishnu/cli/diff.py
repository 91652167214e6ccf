"""`mahavishnu diff`: where what runs differs from what the spec says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mahavishnu import live as running
from mahavishnu.cli._exit import CANNOT_RUN, FINDINGS, FINE
from mahavishnu.cli._generation import files
from mahavishnu.cli._options import EnvOption, SpecOption, spec_path
from mahavishnu.cli._output import printable
from mahavishnu.contract import contract
from mahavishnu.ground.short import short
from mahavishnu.live.fetch import Site, Unreachable
from mahavishnu.live.login import headers
from mahavishnu.live.note import Note
from mahavishnu.load import accept

_MOST, _LONGEST = 20, 400
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
    header_file: Annotated[
        Path | None,
        typer.Option(
            "--header-file",
            metavar="FILE",
            help="A login, which no command line should show: `Authorization: Bearer …`, one header a line, for each "
            'URL given; from a variable: <(echo "Authorization: Bearer $TOKEN").',
        ),
    ] = None,
) -> None:
    """Compare the spec with what runs.

    Each URL is asked, though another does not answer; certificates are those of the machine, or of SSL_CERT_FILE.
    Exit code 0: they agree; 1: they do not; 2: something does not answer, so that not all is known of it.
    """
    if not (live or prometheus or alertmanager):
        raise typer.BadParameter("say what to compare with: --live, --prometheus or --alertmanager")
    login: Mapping[str, str] = headers(header_file) if header_file else {}
    loaded = accept(spec_path(spec), env)
    made = contract(loaded.declared)
    texts = {one.path: one.text for one in files(loaded, made)} if prometheus or alertmanager else {}
    ends = list[int]()
    if live:
        ends.append(_told("service", live, running.service.differences(Site(live, login), made)))
    if prometheus:
        rules, scraping = texts["prometheus/rules.yml"], [texts[one] for one in _SCRAPING if one in texts]
        found = running.prometheus.differences(Site(prometheus, login), made, rules, scraping)
        ends.append(_told("prometheus", prometheus, found))
    if alertmanager:
        config = texts["alertmanager/alertmanager.yml"]
        found = running.alertmanager.differences(Site(alertmanager, login), made, config)
        ends.append(_told("alertmanager", alertmanager, found))
    raise typer.Exit(max(ends))


def _told(kind: str, url: str, differences: Iterator[str]) -> int:
    """Print what differs, and what is good to know; also where not all could be asked. The exit code."""
    said, fault = _asked(differences)
    found = [one for one in said if not isinstance(one, Note)]
    if said or fault is None:
        rest = "" if fault is None else ", and not all was compared"
        print(f"{kind:<13} {url}  {len(found) or 'no'} difference{'' if len(found) == 1 else 's'}{rest}")
    _listed(found)
    _listed([f"note: {one}" for one in said if isinstance(one, Note)])
    if fault is not None:
        print(f"mahavishnu: {printable(str(fault))}", file=sys.stderr)
        return CANNOT_RUN
    return FINDINGS if found else FINE


def _asked(differences: Iterator[str]) -> tuple[list[str], Unreachable | None]:
    """All that is known before somebody does not answer, each once."""
    said = dict[str, None]()
    try:
        for one in differences:
            said[one] = None
    except Unreachable as fault:
        return [*said], fault
    return [*said], None


def _listed(lines: Sequence[str]) -> None:
    for one in lines[:_MOST]:
        print(f"  {printable(short(one, _LONGEST))}")
    if len(lines) > _MOST:
        print(f"  … and {len(lines) - _MOST} more")
