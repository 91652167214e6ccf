"""The JSON Schema (2020-12) of mahavishnu.yaml, from the same models that read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mahavishnu.loading.shape import keys_of, places
from mahavishnu.settings import Settings
from mahavishnu.spec import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MAPS = ("properties", "patternProperties", "$defs")
_LISTS = ("anyOf", "oneOf", "allOf")
_NETWORK = {"pattern": r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"}


def schema() -> dict[str, Any]:
    """The schema, with meanings, examples and defaults for an editor; what the loader refuses, it refuses."""
    models = _models()
    for model in models.values():
        model.model_rebuild()  # a default is written by its model, which pydantic before 2.14 does not build for that
    said = Spec.model_json_schema(by_alias=True)
    for name, model in models.items():
        _say(said if model is Spec else said["$defs"][name], model)
    made = _tidy(said)
    head = {
        "$schema": DIALECT,
        "title": "mahavishnu.yaml",
        "description": "How a service survives.",
    }
    return {**head, **{key: value for key, value in made.items() if key not in head}}


def text(comment: str) -> str:
    """The schema as a file, which says by a comment who wrote it."""
    return json.dumps({"$comment": comment, **schema()}, indent=2, ensure_ascii=False) + "\n"


def _models() -> dict[str, type[Settings]]:
    """Every mapping of the format, by its name in the schema."""
    every = (one for _, place in places() for one in (place, *([place.item()] if place.listed else ())))
    return {model.__name__: model for one in every for model in one.models()}


def _say(node: dict[str, Any], model: type[Settings]) -> None:
    """Put the meanings of its keys into the schema of a mapping."""
    for word, place in keys_of(model).items():
        if place.meaning:
            node["properties"][word]["description"] = place.meaning


def _tidy(node: Mapping[str, Any]) -> dict[str, Any]:
    """Without titles made from names, without nulls (an empty value is refused), with names closed."""
    tidy = {key: value for key, value in node.items() if key != "title"}
    for key in _MAPS:
        if key in tidy:
            tidy[key] = {name: _tidy(one) for name, one in tidy[key].items()}
    for key in _LISTS:
        if key in tidy:
            tidy[key] = [_tidy(one) for one in tidy[key] if one != {"type": "null"}]
    if isinstance(tidy.get("items"), dict):
        tidy["items"] = _tidy(tidy["items"])
    if isinstance(tidy.get("additionalProperties"), dict):
        tidy["additionalProperties"] = _tidy(tidy["additionalProperties"])
    return _simple(tidy)


def _simple(node: dict[str, Any]) -> dict[str, Any]:
    if len(node.get("anyOf", ())) == 1:
        node = {**node.pop("anyOf")[0], **node}
    if "patternProperties" in node:
        node["additionalProperties"] = False
    if node.get("format") == "ipvanynetwork":
        node = {key: value for key, value in node.items() if key != "format"} | _NETWORK
    if node.get("default", ...) is None or isinstance(node.get("default"), dict):
        del node["default"]
    return node
