"""The closed forms of burn rates and budgets against Prometheus itself, and against the way it is often done."""

from __future__ import annotations

import json
import math
import random
import re
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mahavishnu.burn_rates import Burn
from mahavishnu.contract import Contract
from tests.figures import FULL, figure
from tests.judges import judge
from tests.monitoring import MINIMAL, accepts, ask, made
from tests.reading import read

MINUTE = 60 * 10**9
COUNT = 'mahavishnu_slo_requests_total{job="shop",slo="availability",outcome="%s"}'
OK, FAILED = COUNT % "good", COUNT % "bad"
TRAFFIC = 600_000  # a minute: so that any share of it is a whole number to six digits


class Case(NamedTuple):
    """One objective with one burn rate, and the share of requests that fail."""

    of: Contract
    burn: Burn
    share: Fraction


def cases(count: int) -> list[Case]:
    """Random objectives, windows, tiers and shares, whose moments lie off the minutes by which they are looked at."""
    draw, found = random.Random(7), list[Case]()
    while len(found) < count:
        objective = (
            f"{draw.choice([99, 99.5, 99.9, 99.95, 98, 97.3, 95, draw.randrange(94_000, 99_990) / 1000]):g}%"
        )
        window, severity = draw.choice(
            [("7d", "P1"), ("7d", "P2"), ("28d", "P1"), ("30d", "P1"), ("90d", "P1")]
        )
        said = {"objective": objective, "window": window, "severities": [severity]}
        of = made({**MINIMAL, "limits": {}, "slos": {"availability": said}})
        burn = of.spec.slos["availability"].tiers()[0]
        share = (
            Fraction(draw.randrange(math.ceil(burn.ratio * 1100), 1001), 1000)
            if burn.ratio < 0.9
            else Fraction(0)
        )
        case = Case(of, burn, share)
        if share > burn.ratio and all(0.2 < moment % 1 < 0.8 for moment in moments(case)):
            found.append(case)
    return found


@cache
def missing() -> int:
    """How many samples a window is short of at its far end: none in Prometheus 2, one in 3."""
    said = ask("promtool", "--version")
    version = re.search(r"version (\d+)\.", said.stdout + said.stderr)
    assert version is not None
    return int(int(version[1]) >= 3)


def seen(window: int) -> Fraction:
    """How many minutes lie between the first and the last sample of a window, one being taken each minute."""
    return Fraction(-(-window // MINUTE) - 1 if missing() else window // MINUTE)


def moments(case: Case) -> tuple[float, float]:
    """So many minutes after a fault's beginning the alert fires, and after its end it clears: the closed forms."""
    long, short = (seen(int(one)) for one in (case.burn.tier.long, case.burn.tier.short))
    return float(case.burn.ratio * long / case.share), float(short * (1 - case.burn.ratio / case.share))


def predicted(case: Case) -> dict[str, Any]:
    """A test of the minutes around both moments: silent, firing, firing, silent."""
    fires, clears = moments(case)
    healthy = case.burn.tier.long // MINUTE + 5
    fault = max(math.ceil(fires), case.burn.tier.short // MINUTE) + 2
    bad = round(TRAFFIC * case.share)
    after = math.ceil(clears) + 3
    good = [(TRAFFIC, healthy), (TRAFFIC - bad, fault), (TRAFFIC, after)]
    failed = [(0, healthy), (bad, fault), (0, after)]
    looks = [
        (healthy + math.floor(fires), 0),
        (healthy + math.ceil(fires), 1),
        (healthy + fault + math.floor(clears), 1),
        (healthy + fault + math.ceil(clears), 0),
    ]
    alert = f"ShopSloAvailabilityBurn{case.burn.tier.severity}"
    return {
        "interval": "1m",
        "input_series": [
            {"series": OK, "values": _grown(good)},
            {"series": FAILED, "values": _grown(failed)},
        ],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": firing}],
            }
            for minute, firing in looks
        ],
    }


def _grown(phases: list[tuple[int, int]]) -> str:
    """A counter that grows by so many a minute for so many minutes."""
    parts, reached = ["0"], 0
    for growth, minutes in phases:
        parts.append(f"{reached + growth}+{growth}x{minutes - 1}")
        reached += growth * minutes
    return " ".join(parts)


def written(folder: Path, name: str, of: Contract, test: dict[str, Any]) -> Path:
    """A test on disk, beside the rules it is about; those are the generated ones."""
    prometheus: Any = import_module("mahavishnu.generators.prometheus")
    rules = next(one.text for one in prometheus.generate(of) if one.path == "prometheus/rules.yml")
    (folder / f"{name}.rules.yml").write_text(rules)
    path = folder / f"{name}.test.yml"
    whole = {
        "rule_files": [f"{name}.rules.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in read(rules)["groups"]],
        "tests": [test],
    }
    path.write_text(json.dumps(whole))
    return path


@pytest.mark.judge
def test_an_alert_fires_and_clears_in_the_minute_that_the_closed_forms_say(tmp_path: Path) -> None:
    """A few of them; and a prediction for another objective is refused."""
    judge("promtool")
    some = cases(4)
    paths = [written(tmp_path, str(number), one.of, predicted(one)) for number, one in enumerate(some)]
    accepts("promtool", "test", "rules", *paths)
    other = some[0]._replace(share=some[0].share / 2)
    if other.share > other.burn.ratio:
        test = {**predicted(some[0]), "input_series": predicted(other)["input_series"]}
        assert ask("promtool", "test", "rules", written(tmp_path, "wrong", other.of, test)).returncode == 1


@pytest.mark.judge
@pytest.mark.proof
def test_predictions_are_those_of_prometheus(tmp_path: Path) -> None:
    """Objectives, windows, tiers and shares at random, four moments each; two hundred at full length."""
    judge("promtool")
    drawn = cases(200 if FULL else 15)
    paths = [written(tmp_path, str(number), one.of, predicted(one)) for number, one in enumerate(drawn)]
    said = ask("promtool", "test", "rules", *paths)
    right = len(drawn) - (said.stdout + said.stderr).count("FAILED:")
    figure("burn rates whose minutes to fire and to clear are predicted", len(drawn), right)
    assert said.returncode == 0, (said.stdout + said.stderr)[-3000:]
    assert right == len(drawn)


# --- budgets ------------------------------------------------------------------------------------------------

LEFT = 'slo:error_budget:remaining_ratio{slo="availability"}'
AVERAGE = "1 - sum_over_time(naive:ratio5m[30d]) / count_over_time(naive:ratio5m[30d]) / 0.001"
# As it is often written: a share of five minutes, and the month's as the average of those.
NAIVE = {
    "record": "naive:ratio5m",
    "expr": 'sum(rate(mahavishnu_slo_requests_total{outcome="bad"}[5m]))'
    " / sum(rate(mahavishnu_slo_requests_total[5m]))",
}


def budgets(folder: Path, series: dict[str, str], minute: int, exprs: list[tuple[str, float | None]]) -> None:
    """Assert what each query answers at that minute; None: something that is not a number."""
    of = made({**MINIMAL, "limits": {}})
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count(({expr}) != ({expr})) or vector(0)" if value is None
                else f"count(abs(({expr}) - {value!r}) < 1e-9) or vector(0)",
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for expr, value in exprs
        ],
    }  # fmt: skip
    path = written(folder, "budget", of, test)
    (folder / "naive.yml").write_text(json.dumps({"groups": [{"name": "naive", "rules": [NAIVE]}]}))
    whole = json.loads(path.read_text())
    whole["rule_files"].append("naive.yml")
    whole["group_eval_order"].append("naive")
    path.write_text(json.dumps(whole))
    accepts("promtool", "test", "rules", path)


@pytest.mark.judge
def test_a_budget_weighs_requests_where_traffic_swings_a_hundredfold(tmp_path: Path) -> None:
    """Half of what comes at night fails; it is a hundredth of the day's. The common average counts it as half."""
    day, night = (6000, 60), (60, 60)
    good = [day, (30, night[1]), day, (30, night[1]), day]
    failed = [(0, 60), (30, 60), (0, 60), (30, 60), (0, 60)]
    spent = Fraction(2 * 30 * 60, 3 * 6000 * 60 + 2 * 60 * 60) / Fraction(1, 1000)
    wrong = f"clamp_max(abs(({AVERAGE}) - {float(1 - spent)!r}), 100)"
    exprs: list[tuple[str, float | None]] = [(LEFT, float(1 - spent)), (wrong, 100.0)]
    budgets(tmp_path, {OK: _grown(good), FAILED: _grown(failed)}, 300, exprs)


@pytest.mark.judge
def test_a_quiet_hour_does_not_poison_a_month(tmp_path: Path) -> None:
    """Nothing by nothing is no number: in the common average it stays one for a month, here there is no sample."""
    good, failed = [(600, 30), (0, 30), (600, 60)], [(6, 30), (0, 30), (0, 60)]
    spent = Fraction(6 * 30, 600 * 90 + 6 * 30) / Fraction(1, 1000)
    exprs: list[tuple[str, float | None]] = [(LEFT, float(1 - spent)), (AVERAGE, None)]
    budgets(tmp_path, {OK: _grown(good), FAILED: _grown(failed)}, 120, exprs)
