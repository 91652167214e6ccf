"""Which alerts fire on recorded series: promtool is asked, its engine never imitated."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mahavishnu.errors import MahavishnuError

Series = Mapping[str, Sequence[float | None]]
# Every alert of a person's concern: the heartbeat fires always.
_EVERY = 'ALERTS{alertstate="firing",severity!="heartbeat"}'
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_FIRING = re.compile(r"\bgot:(.*)")
_NAME = re.compile(r'alertname="(\w+)"')


def samples(exposition: str, job: str) -> dict[str, float]:
    """What a scrape of the job would store: each series with its labels as text, and its value; `up` included."""
    scraped = {f'up{{job="{job}",instance="app"}}': 1.0}
    for line in exposition.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match:
            labels = ",".join(filter(None, (f'job="{job}",instance="app"', match[2])))
            scraped[f"{match[1]}{{{labels}}}"] = float(match[3])
    return scraped


def firing(promtool: Path, rules: Path, series: Series, minutes: Sequence[int]) -> list[frozenset[str]]:
    """The names of the alerts that fire at each of these minutes, when the series hold one value for each minute.

    None stands for a missing sample. Raises MahavishnuError when promtool cannot read the rules or the series.
    """
    if not rules.is_file():
        raise MahavishnuError(f"there are no rules at {rules}; `mahavishnu generate` writes them")
    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder, "firing.test.yml")
        test.write_text(json.dumps(_test(rules, series, minutes)))
        # promtool says which alerts fire only where a test fails: expect none, and read what it got instead.
        ran = subprocess.run([promtool, "test", "rules", test], capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    if ran.returncode and "got:" not in said:
        raise MahavishnuError(f"promtool cannot judge {rules}: {said.strip()}")
    return [_fired(said, minute) for minute in minutes]


def _test(rules: Path, series: Series, minutes: Sequence[int]) -> dict[str, object]:
    return {
        "rule_files": [str(rules.resolve())],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": _values(one)} for name, one in series.items()],
                "promql_expr_test": [
                    {"expr": _EVERY, "eval_time": f"{minute}m", "exp_samples": []} for minute in minutes
                ],
            }
        ],
    }


def _values(values: Sequence[float | None]) -> str:
    return " ".join("_" if value is None else repr(value) for value in values)


def _fired(said: str, minute: int) -> frozenset[str]:
    start = re.search(rf"time: {_clock(minute)},", said)
    if start is None:
        return frozenset()
    got = _FIRING.search(said, start.end())
    return frozenset(_NAME.findall(got[1])) if got else frozenset()


def _clock(minute: int) -> str:
    """A whole number of minutes as promtool prints it: `1h30m`, `2d`."""
    days, rest = divmod(minute, 24 * 60)
    hours, left = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (left, "m"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
