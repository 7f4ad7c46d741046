"""Objects checked against the schemas that Kubernetes publishes (from the package `kubernetes-validate`, of the extra `dev`)."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from paddock.testing.kubernetes.statuses import Object, RefusedError

VERSION = "1.36"


@cache
def _folder() -> Path:
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("the schemas of Kubernetes are missing; install the extra `dev`")
    return Path(found.submodule_search_locations[0]) / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"


@cache
def _definitions() -> Any:
    from referencing import Registry, Resource

    text = (_folder() / "_definitions.json").read_text(encoding="utf-8")
    return Resource.from_contents(json.loads(text)) @ Registry()


@cache
def _validator(api_version: str, kind: str) -> Any:
    """None where there is no such kind."""
    from jsonschema import Draft202012Validator

    group, slash, version = api_version.rpartition("/")
    name = f"{kind.lower()}-{group.split('.')[0]}{'-' if slash else ''}{version}.json"
    file = _folder() / name
    if not file.exists():
        return None
    return Draft202012Validator(json.loads(file.read_text(encoding="utf-8")), registry=_definitions())


def check(found: Object) -> None:
    """Refused, as strict field validation does it: 400 with the place of an unknown field or a value of the wrong type."""
    validator = _validator(found.get("apiVersion", ""), found.get("kind", ""))
    kind = f"{found.get('apiVersion')}, Kind={found.get('kind')}"
    if validator is None:
        raise RefusedError(400, "BadRequest", f"no kind is registered for {kind}")
    problems = sorted(validator.iter_errors(found), key=lambda error: str(error.json_path))
    if not problems:
        return
    first = problems[0]
    place = str(first.json_path).removeprefix("$").removeprefix(".")
    if first.validator == "additionalProperties":
        unknown = sorted(set(first.instance) - set(first.schema.get("properties", ())))
        message = ", ".join(f'unknown field "{place}{"." if place else ""}{name}"' for name in unknown)
        raise RefusedError(400, "BadRequest", f"strict decoding error: {message}")
    if first.validator == "required":
        cause = {"reason": "FieldValueRequired", "field": place, "message": first.message}
        name = (found.get("metadata") or {}).get("name", "")
        raise RefusedError(
            422, "Invalid", f'{found["kind"]} "{name}" is invalid: {place}: {first.message}', causes=[cause]
        )
    raise RefusedError(400, "BadRequest", f"{found['kind']} in version can not be handled: {place}: {first.message}")
