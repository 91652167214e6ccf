"""The rules that some alerts need, and the series that those need: what promtool evaluates in no time."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from examples.shop.firing import Series
from tests.reading import read

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def narrowed(rules: Path, wanted: Collection[str], series: Series) -> tuple[Path, Series]:
    """A file beside the rules with those alerts, and what their queries name, directly or through others."""
    tree = read(rules.read_text(encoding="utf-8"))
    needed = _needed({_called(rule): rule["expr"] for rule in _rules(tree)}, wanted)
    for group in tree["groups"]:
        group["rules"] = [rule for rule in group["rules"] if _called(rule) in needed]
    path = rules.with_name("narrowed.yml")
    path.write_text(json.dumps(tree))
    return path, {name: values for name, values in series.items() if name.partition("{")[0] in needed}


def _rules(tree: Any) -> list[dict[str, Any]]:
    return [rule for group in tree["groups"] for rule in group["rules"]]


def _called(rule: dict[str, Any]) -> str:
    return str(rule.get("record") or rule["alert"])


def _needed(exprs: dict[str, str], wanted: Collection[str]) -> set[str]:
    """The wanted names, and all that stand in the queries of one that is needed."""
    needed, new = set[str](), {*wanted}
    while new:
        needed |= new
        new = {name for one in new for name in _NAME.findall(exprs.get(one, ""))} - needed
    return needed
