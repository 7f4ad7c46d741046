"""Helm itself, from the package `helm-python-sdk` of the extra `dev`: renders, checks and installs a chart.

Each call is a process of its own: Helm brings the runtime of Go, whose threads a process that forks had better not have.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

KUBERNETES_VERSION = "v1.36.0"
SECONDS = 300.0
_MODULE = "helm_python"


class HelmError(Exception):
    """What Helm refuses, in its own words."""


def helm_installed() -> bool:
    return importlib.util.find_spec(_MODULE) is not None


@dataclass(frozen=True, slots=True)
class Release:
    """What to render: values for a chart, and the release's name and namespace."""

    values: Mapping[str, Any]
    name: str = "paddock"
    namespace: str = "paddock"


def render(chart: Path, *releases: Release) -> list[list[dict[str, Any]] | HelmError]:
    """The objects that each installation would make, without a cluster, files in alphabetical order; or what is wrong with it.

    One process renders all of them: it takes longer to start than to render.
    """
    found = _call("render", chart=str(chart), releases=[asdict(release) for release in releases])
    return [HelmError(answer) if isinstance(answer, str) else list(_documents(answer)) for answer in found]


def lint(chart: Path, *values: Mapping[str, Any]) -> list[list[str]]:
    """What Helm finds wrong with the chart, or with each of the values."""
    reports = _call("lint", chart=str(chart), values=values, kube_version=KUBERNETES_VERSION)
    return [
        [*found["errors"], *(str(item["error"]) for item in found["messages"] if item["severity"] > 1)]
        for found in reports
    ]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a release is. environment: names the cluster by its KUBECONFIG."""

    environment: Mapping[str, str]
    namespace: str
    name: str = "paddock"


def install(chart: Path, values: Mapping[str, Any], target: Target) -> None:
    """Create the objects of a release; whether they get ready is for the caller to see."""
    _change("install", target, chart=str(chart), values=values)


def upgrade(chart: Path, values: Mapping[str, Any], target: Target) -> None:
    """Change the objects of a release."""
    _change("upgrade", target, chart=str(chart), values=values)


def uninstall(target: Target) -> None:
    """Begin to delete the objects of a release."""
    _change("uninstall", target)


def _change(action: str, target: Target, **arguments: Any) -> None:
    _call(action, environment=target.environment, name=target.name, namespace=target.namespace, **arguments)


def _documents(files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for file in sorted(files):
        if file.endswith(".yaml"):
            yield from (document for document in yaml.safe_load_all(files[file]) if document)


def _call(action: str, environment: Mapping[str, str] | None = None, **arguments: Any) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", __name__, action],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment,
    )
    if ran.returncode:
        raise HelmError(ran.stderr.strip())
    return json.loads(ran.stdout)


def _act(action: str, arguments: dict[str, Any]) -> Any:
    import helm_python

    match action:
        case "render":
            with helm_python.Chart.load(arguments["chart"]) as chart:
                return [_rendered(chart, release) for release in arguments["releases"]]
        case "lint":
            options = {"strict": True, "kube_version": arguments["kube_version"]}
            return [helm_python.lint(arguments["chart"], values, **options) for values in arguments["values"]]
    with helm_python.Config(namespace=arguments["namespace"]) as config:
        if action == "uninstall":
            config.uninstall(arguments["name"])
        else:
            act = config.install if action == "install" else config.upgrade
            act(arguments["chart"], arguments["name"], arguments["values"], namespace=arguments["namespace"])
    return None


def _rendered(chart: Any, release: dict[str, Any]) -> Any:
    import helm_python

    try:
        return chart.render(release["values"], name=release["name"], namespace=release["namespace"])
    except helm_python.HelmError as error:
        return str(error)


def _main() -> int:
    import helm_python

    try:
        answer = _act(sys.argv[1], json.load(sys.stdin))
    except helm_python.HelmError as error:
        sys.stderr.write(str(error))
        return 1
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
