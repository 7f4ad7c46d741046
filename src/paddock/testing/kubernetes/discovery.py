"""What an API server says of itself: its version, its kinds, and as much of its schemas as clients ask for before they send objects."""

from __future__ import annotations

from paddock.testing.kubernetes.kinds import BY_PATH, Kind
from paddock.testing.kubernetes.statuses import Object

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.0-paddock-test", "platform": "linux/amd64"}


def document_at(path: list[str]) -> Object | None:
    """The document that answers a path; None where objects are meant, or nothing."""
    if path == ["version"]:
        return VERSION
    if path in (["healthz"], ["readyz"], ["livez"]):
        return {"status": "ok"}
    if path[:2] == ["openapi", "v3"]:
        return _openapi("/".join(path[2:]))
    if path == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    groups = sorted({kind.api_version for kind in BY_PATH.values() if kind.group})
    if path == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]}
    version = "/".join(path[1:])
    if (path[:1] == ["apis"] and version in groups) or path == ["api", "v1"]:
        kinds = [kind for kind in BY_PATH.values() if kind.api_version == version]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": [_resource(kind) for kind in kinds],
        }
    return None


def _group(api_version: str) -> Object:
    group, _, version = api_version.partition("/")
    known = {"groupVersion": api_version, "version": version}
    return {"name": group, "versions": [known], "preferredVersion": known}


def _resource(kind: Kind) -> Object:
    verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    return {"name": kind.plural, "singularName": "", "namespaced": kind.namespaced, "kind": kind.name, "verbs": verbs}


def _openapi(place: str) -> Object:
    """Helm and kubectl look whether a patch of the kind can be checked strictly, and leave the check to the server then."""
    places = {kind.api_version: f"apis/{kind.api_version}" if kind.group else "api/v1" for kind in BY_PATH.values()}
    if not place:
        return {"paths": {known: {"serverRelativeURL": f"/openapi/v3/{known}"} for known in places.values()}}
    paths = {
        f"/{place}/{'namespaces/{namespace}/' if kind.namespaced else ''}{kind.plural}/{{name}}": {
            "patch": _patching(kind)
        }
        for kind in BY_PATH.values()
        if places[kind.api_version] == place
    }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]}, "paths": paths}


def _patching(kind: Kind) -> Object:
    named = {"group": kind.group, "kind": kind.name, "version": kind.api_version.rpartition("/")[2]}
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    return {"x-kubernetes-group-version-kind": named, "parameters": parameters, "responses": {}}
