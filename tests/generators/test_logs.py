"""What keeps the log is told to forget in time: by the arithmetic of each store, where none is here to judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.derived.forgetting import FILES, LEAST_LOKI, life, lives
from mahavishnu.spec import Keeper, Spec
from mahavishnu.units import Duration
from tests.generators.specs import SMALL, generated, merged

HOUR = 3600 * 10**9
LIMITS = ("29h", "2d", "10d", "30d", "45d12h", "400d")


def kept(place: Keeper, limit: str = "30d") -> Mapping[str, Any]:
    """A spec whose log is kept there for so long."""
    return merged(SMALL, {"retention": {"logs": limit}, "observability": {"logs": {"kept_in": [place]}}})


def told(place: Keeper, limit: str) -> Any:
    """What is generated for it, as the store reads it."""
    text = generated("logs", kept(place, limit))[FILES[place]]
    return json.loads(text) if FILES[place].endswith(".json") else yaml.safe_load(text)


def late(place: Keeper, file: Any, limit: str) -> Iterator[str]:
    """How the store would keep a line for longer than the limit, or remove one that is younger than promised."""
    written, kept = READ[place](file)
    if written + kept > Duration.parse(limit):
        yield "older"
    if kept < life(place, Duration.parse(limit)).least:
        yield "younger"


def of_elasticsearch(file: Any) -> tuple[int, int]:
    """How long an index is written to, and lives after that; it looks every ten minutes, at each of the two."""
    assert file["policy"]["phases"].keys() == {"hot", "delete"}
    hot, delete = file["policy"]["phases"]["hot"], file["policy"]["phases"]["delete"]
    assert (hot["min_age"], delete["actions"]) == ("0ms", {"delete": {}})
    return Duration.parse(hot["actions"]["rollover"]["max_age"]) + HOUR // 3, Duration.parse(
        delete["min_age"]
    )


def of_opensearch(file: Any) -> tuple[int, int]:
    """The same; its job runs every five minutes, up to three more by chance, and each step takes a run of its own."""
    states = {one["name"]: one for one in file["policy"]["states"]}
    first = states[file["policy"]["default_state"]]
    ((rollover,), (move,)) = first["actions"], first["transitions"]
    assert states[move["state_name"]] == {
        "name": move["state_name"],
        "actions": [{"delete": {}}],
        "transitions": [],
    }
    age = Duration.parse(rollover["rollover"]["min_index_age"])
    return age + 4 * HOUR * 8 // 60, Duration.parse(move["conditions"]["min_rollover_age"])


def of_loki(file: Any) -> tuple[int, int]:
    """How long lines wait to be looked at, and live after that."""
    compactor = file["compactor"]
    assert compactor["retention_enabled"] is True
    waits = (
        file["ingester"]["max_chunk_age"],
        compactor["compaction_interval"],
        compactor["retention_delete_delay"],
    )
    return sum(map(Duration.parse, waits)), Duration.parse(file["limits_config"]["retention_period"])


READ: Mapping[Keeper, Callable[[Any], tuple[int, int]]] = {
    "elasticsearch": of_elasticsearch,
    "opensearch": of_opensearch,
    "loki": of_loki,
}


@pytest.mark.parametrize("place", READ)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_store_forgets_in_time_and_not_before(place: Keeper, limit: str) -> None:
    """All the waits of a line, one after the other, end within the limit."""
    assert [*late(place, told(place, limit), limit)] == []


def wait(file: Any, *path: Any, by: str) -> None:
    """Make one of the waits longer, or shorter."""
    *way, last = path
    for step in way:
        file = file[step]
    file[last] = by


PLANTED: tuple[tuple[Keeper, tuple[Any, ...], str, str], ...] = (
    ("elasticsearch", ("policy", "phases", "hot", "actions", "rollover", "max_age"), "2d", "older"),
    ("elasticsearch", ("policy", "phases", "delete", "min_age"), "30d", "older"),
    ("elasticsearch", ("policy", "phases", "delete", "min_age"), "28d", "younger"),
    ("opensearch", ("policy", "states", 0, "actions", 0, "rollover", "min_index_age"), "2d", "older"),
    (
        "opensearch",
        ("policy", "states", 0, "transitions", 0, "conditions", "min_rollover_age"),
        "30d",
        "older",
    ),
    (
        "opensearch",
        ("policy", "states", 0, "transitions", 0, "conditions", "min_rollover_age"),
        "27d",
        "younger",
    ),
    ("loki", ("limits_config", "retention_period"), "30d", "older"),
    ("loki", ("limits_config", "retention_period"), "700h", "younger"),
    ("loki", ("ingester", "max_chunk_age"), "4h", "older"),
    ("loki", ("compactor", "retention_delete_delay"), "4h", "older"),
)


@pytest.mark.parametrize(("place", "path", "by", "seen"), PLANTED)
def test_another_number_in_a_store_is_seen(place: Keeper, path: tuple[Any, ...], by: str, seen: str) -> None:
    """Each of those that hold the promise."""
    file = told(place, "30d")
    wait(file, *path, by=by)
    assert [*late(place, file, "30d")] == [seen]


@given(st.sampled_from(get_args(Keeper)), st.integers(24 * 60, 5 * 365 * 24 * 60))
def test_a_life_is_within_the_limit(place: Keeper, minutes: int) -> None:
    """For every limit that can be said; and most of it is kept, once it is a few days."""
    limit = Duration(max(minutes * HOUR // 60, LEAST_LOKI if place == "loki" else 0))
    one = life(place, limit)
    assert 0 < one.keep <= limit
    assert 0 < one.least <= one.most <= limit
    assert limit < 3 * 24 * HOUR or one.least >= 0.7 * limit


def test_nothing_is_written_without_an_age() -> None:
    """And one file for a place that is named twice."""
    assert generated("logs", SMALL) == {}
    twice = merged(kept("loki"), {"observability": {"logs": {"kept_in": ["loki", "loki"]}}})
    assert [*generated("logs", twice)] == ["logs/loki.yaml"]


@pytest.mark.parametrize("place", get_args(Keeper))
def test_it_says_how_long_a_line_lives(place: Keeper) -> None:
    """The same in `check`, in `explain` and in the first lines of the file, where it can have some."""
    (said, *_) = lives(Spec.model_validate(kept(place)))
    least, most = said.split(" lives ")[1].split(" in ")[0].split(" to ")
    text = generated("logs", kept(place))[FILES[place]]
    assert said.endswith(f" in {place} ({FILES[place]})")
    if not FILES[place].endswith(".json"):
        assert f"at the earliest {least} after it was written" in text
        assert f"at the latest {most} after it" in text


def test_compose_says_what_it_bounds() -> None:
    """Docker's own files forget by size, and say so with the numbers that are there; the journal forgets by age."""
    by_size, journal = (
        generated("compose", kept(place))["compose/compose.yaml"] for place in ("loki", "journald")
    )
    for service in yaml.safe_load(by_size)["services"].values():
        options = service["logging"]["options"]
        bound = f"until up to {int(options['max-size'].removesuffix('m')) * int(options['max-file'])} MB follow it"
        assert service["logging"]["driver"] == "json-file"
        assert bound in by_size
        assert [one for one in lives(Spec.model_validate(kept("loki"))) if bound in one]
    assert {str(one["logging"]) for one in yaml.safe_load(journal)["services"].values()} == {
        "{'driver': 'journald'}"
    }
    assert "../logs/journald.conf has to be at work" in journal
    assert not [one for one in lives(Spec.model_validate(kept("journald"))) if one.startswith("Compose")]
