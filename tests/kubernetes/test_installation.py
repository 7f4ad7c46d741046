"""The chart on a real cluster, from installation to what is left behind. The tests run in order, on one installation."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from paddock.client.connection import connect
from paddock.model.json_patches import merge
from paddock.model.records import JobState
from paddock.model.services import Paddock
from paddock.testing import helm
from paddock.testing.clusters import Installation, is_over, is_running, is_worker, wait_until

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "paddock"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = 30
JOB_SECONDS = 420
GONE_SECONDS = 345
"""Cool-down, drain (a pod's grace is 300 s, and a job's worker may need it where its server has gone), and the deletion of pods."""
START_SECONDS = 240
"""A node takes its time to find out that a registry can't be reached."""
UID = 65532

SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "DoNotSchedule",
    "nodeTaintsPolicy": "Honor",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}},
}
"""As many workers on each node that takes pods."""

CASES = (
    ("joins", "inner.yaml", ("branches", "loans"), ("loans-by-town",)),
    ("joins", "outer.json", ("loans", "returns"), ("returns-report",)),
    ("groups", "pipelines.yaml", ("counts", "weather"), ("by-species", "diary")),
    ("shuffle", "shuffle.yaml", ("tunes", "tunings"), ("shuffle",)),
    ("word-count", "pipelines.yaml", ("pages",), ("reduce",)),
)


def spec(name: str, image: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        # The name is part of the datums' key, so that no pipeline takes the results of another.
        "transform": {**({"image": image} if image else {}), "cmd": ["sh", "-e", "-c", script], "env": {"CASE": name}},
        "input": {"pfs": {"repo": f"{name}-in", "name": "data", "glob": "/*"}},
        "parallelism_spec": {"constant": 3, "cool_down": "5s"},
        "datum_set_spec": {"number": 2},
        "resource_requests": {"cpu": "50m", "memory": "32Mi"},
        "sidecar_resource_requests": {"cpu": "50m", "memory": "128Mi"},
        **more,
    }


def apply(services: Paddock, pipeline: dict[str, Any]) -> None:
    """Apply a pipeline and put its input in, as one commit."""
    name = pipeline["pipeline"]["name"]
    services.repos.create(f"{name}-in")
    services.pipelines.apply(pipeline)
    services.commits.start(f"{name}-in@main")
    for number in range(FILES):
        services.files.put(f"{name}-in@main:/f{number:02}", b"text %d\n" % number)
    services.commits.finish(f"{name}-in@main")


TRANSLATE = "tr a-z A-Z < $data > ${PADDOCK_PFS:-/pfs}/out/$(basename $data)"
UPPER = f"sleep 4; {TRANSLATE}"
"""Long enough for three workers on a slow cluster, too: there are as many as stay busy for longer than one takes to start."""


def tree_made_alone(folder: Path, name: str) -> str:
    """The digest of the tree that this machine makes of the same input with the same pipeline, without a cluster."""
    with connect(folder / "alone", environment={"PADDOCK_CONFIG": os.devnull}) as alone:
        apply(alone, spec(name, "", TRANSLATE, engine="local"))
        alone.process(workers=2)
        assert b"".join(alone.files.read(f"{name}:/f07")) == b"TEXT 7\n"
        return alone.commits.inspect(f"{name}@main").tree


def check_upper(services: Paddock, name: str, folder: Path) -> None:
    """The job succeeded, each datum counts once, and the output is what one machine makes of it, to the byte."""
    (job,) = services.jobs.wait([f"{name}@head"], timeout_seconds=JOB_SECONDS)
    assert (job.state, job.reason) == (JobState.SUCCESS, "")
    assert (job.datums.total, job.datums.failed, job.datums.run + job.datums.reused) == (FILES, 0, FILES)
    assert services.commits.inspect(f"{name}@main").tree == tree_made_alone(folder, name)


def workers(installation: Installation) -> list[dict[str, Any]]:
    """Those that have not ended: one that failed is kept for a while, for whoever wants to read its log."""
    return [pod for pod in installation.cluster.pods(installation.namespace, "worker") if not is_over(pod)]


@contextmanager
def watched_workers(installation: Installation) -> Iterator[list[int]]:
    """How many pods of workers there are, noted again and again."""
    counts: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            counts.append(sum("deletionTimestamp" not in pod["metadata"] for pod in workers(installation)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def no_workers(installation: Installation) -> None:
    wait_until("all workers are gone", lambda: not workers(installation), seconds=GONE_SECONDS)


def running_workers(installation: Installation, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found[:] = [pod for pod in workers(installation) if is_running(pod)]
        return len(found) >= count

    wait_until(f"{count} workers run", enough, seconds=START_SECONDS)
    return found


def ready(installation: Installation) -> bool:
    try:
        return httpx2.get(f"{installation.url}/api/v1/ready", timeout=10).status_code == 200
    except httpx2.HTTPError:
        return False


def test_the_server_is_ready_and_runs_without_root(installation: Installation) -> None:
    (pod,) = installation.cluster.pods(installation.namespace, "server")
    assert ready(installation)
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert workers(installation) == []


def test_the_server_has_the_rights_it_needs_and_no_others(installation: Installation) -> None:
    cluster, namespace = installation.cluster, installation.namespace
    for verb in ("get", "list", "watch", "create", "delete"):
        assert cluster.may(namespace, "paddock", verb, "pods")
    for verb in ("create", "delete", "patch"):
        assert cluster.may(namespace, "paddock", verb, "secrets")
    assert cluster.may(namespace, "paddock", "list", "events")
    assert cluster.may(namespace, "paddock", "get", "deployments", "paddock", group="apps")
    assert not cluster.may(namespace, "paddock", "get", "secrets")
    assert not cluster.may(namespace, "paddock", "list", "secrets")
    assert not cluster.may(namespace, "paddock", "create", "pods/exec")
    assert not cluster.may(namespace, "paddock", "update", "deployments", "paddock", group="apps")
    assert not cluster.may("default", "paddock", "list", "pods")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{Path(case[1]).stem}")
def test_examples(
    installation: Installation, user_image: str, case: tuple[str, str, tuple[str, ...], tuple[str, ...]], tmp_path: Path
) -> None:
    """With the `paddock` command, as a person runs them. Shell commands run in the user's image, Python in Paddock's."""
    folder, file, inputs, outputs = case
    documents = [copy.deepcopy(item) for item in yaml.safe_load_all((EXAMPLES / folder / file).read_text())]
    for document in documents:
        if document["transform"]["cmd"][0] == "sh":
            document["transform"]["image"] = user_image
        if "code" in document["transform"]:
            document["transform"]["code"] = str(EXAMPLES / folder / document["transform"]["code"])
        for name in ("parallelismSpec", "resourceRequests"):
            document.pop(name, None)
        document["parallelism_spec"] = {"constant": 2, "cool_down": "5s"}
    (tmp_path / "specs.yaml").write_text(yaml.safe_dump_all(documents))
    project = f"{folder}-{Path(file).stem}"
    base = [sys.executable, "-m", "paddock", "--url", installation.url]
    environment = {**os.environ, "PADDOCK_CONFIG": os.devnull}
    subprocess.run([*base, "project", "create", project], check=True, env=environment, timeout=60)
    words = ["--project", project, "run", str(tmp_path / "specs.yaml"), "--json"]
    for repo in inputs:
        words += ["--input", f"{repo}={EXAMPLES / folder / repo}"]
    for pipeline in outputs:
        words += ["--output", f"{pipeline}={tmp_path / 'out' / pipeline}"]
    ran = subprocess.run(
        [*base, *words], check=False, env=environment, capture_output=True, text=True, timeout=JOB_SECONDS
    )
    assert ran.returncode == 0, ran.stderr
    json.loads(ran.stdout)
    expected = EXAMPLES / folder / "expected"
    for pipeline in outputs:
        wanted = {path.relative_to(expected / pipeline): path.read_bytes() for path in _files(expected / pipeline)}
        produced = tmp_path / "out" / pipeline
        assert {path.relative_to(produced): path.read_bytes() for path in _files(produced)} == wanted


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_workers_come_with_the_work_and_go_with_it(
    installation: Installation, user_image: str, services: Paddock, tmp_path: Path
) -> None:
    no_workers(installation)
    with watched_workers(installation) as counts:
        apply(services, spec("scale", user_image, UPPER))
        check_upper(services, "scale", tmp_path)
        no_workers(installation)
    assert max(counts) in (2, 3), f"never more than one worker, or more than 3: {counts}"


def test_killed_workers_lose_and_double_nothing(
    installation: Installation, user_image: str, services: Paddock, tmp_path: Path
) -> None:
    killed = spec("killed", user_image, UPPER)
    # A node makes a volume in memory in another way than one on its disk.
    killed["transform"]["memory_volume"] = True
    apply(services, killed)
    for pod in running_workers(installation, 2):
        installation.cluster.delete_pod(pod, grace_seconds=1)
    check_upper(services, "killed", tmp_path)


def test_a_killed_server_goes_on_with_the_job(
    installation: Installation, user_image: str, services: Paddock, tmp_path: Path
) -> None:
    apply(services, spec("restart", user_image, UPPER))
    running_workers(installation, 1)
    (pod,) = installation.cluster.pods(installation.namespace, "server")
    installation.cluster.delete_pod(pod, grace_seconds=1)

    def another() -> bool:
        found = installation.cluster.pods(installation.namespace, "server")
        return ready(installation) and pod["metadata"]["uid"] not in {item["metadata"]["uid"] for item in found}

    wait_until("another server is ready", another, seconds=START_SECONDS)
    check_upper(services, "restart", tmp_path)


def test_a_drained_node_hands_its_work_over(
    installation: Installation, user_image: str, services: Paddock, tmp_path: Path
) -> None:
    """To another node where one takes pods; the only one takes them again when its drain is over. The server moves with its node."""
    cluster, namespace = installation.cluster, installation.namespace
    apply(services, spec("drained", user_image, UPPER, pod_spec={"topologySpreadConstraints": [SPREAD]}))
    running = running_workers(installation, 2)
    home = {pod["spec"].get("nodeName") for pod in cluster.pods(namespace, "server")}
    places = [pod["spec"]["nodeName"] for pod in running]
    # A node without the server where there is one: its volume may be tied to its node.
    node = next((place for place in places if place not in home), places[0])
    cluster.set_schedulable(node, schedulable=False)
    try:

        def drained() -> bool:
            left = [pod for pod in cluster.pods(namespace) if pod["spec"].get("nodeName") == node]
            # The server last, where it is here, so that workers can hand over to it.
            for pod in [pod for pod in left if is_worker(pod)] or left:
                if "deletionTimestamp" not in pod["metadata"]:
                    cluster.evict(pod)
            return not left

        wait_until(f"node {node} is drained", drained, seconds=GONE_SECONDS)
        if node not in home:
            services.jobs.wait(["drained@head"], timeout_seconds=JOB_SECONDS)
    finally:
        cluster.set_schedulable(node, schedulable=True)
    wait_until("the server is ready", lambda: ready(installation), seconds=START_SECONDS)
    check_upper(services, "drained", tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("no-image", {"transform": {"image": "paddock-test.invalid/none:1", "cmd": ["true"]}}, "paddock-test.invalid"),
        ("no-room", {"resource_requests": {"cpu": "1000", "memory": "32Mi"}}, "cpu"),
    ],
)
def test_what_can_not_start_says_why(
    installation: Installation, user_image: str, services: Paddock, name: str, changes: dict[str, Any], said: str
) -> None:
    pipeline = {**spec(name, user_image, UPPER), **changes}
    pipeline["transform"] = {"image": user_image, **pipeline["transform"]}
    apply(services, pipeline)

    def told() -> bool:
        return said in services.jobs.inspect(f"{name}@head").reason

    wait_until(f"the job of {name} says {said!r}", told, seconds=START_SECONDS)
    services.pipelines.delete(name)
    no_workers(installation)


def test_an_upgrade_keeps_the_data(installation: Installation, services: Paddock, tmp_path: Path) -> None:
    upgrade(installation, {"server": {"podAnnotations": {"changed": "yes"}}})
    assert b"".join(services.files.read("scale:/f07")) == b"TEXT 7\n"
    check_upper(services, "scale", tmp_path)


def upgrade(installation: Installation, changes: dict[str, Any]) -> None:
    helm.upgrade(CHART, merge(installation.values, changes), installation.target)
    installation.wait_ready(START_SECONDS)
    wait_until("the new server is ready", lambda: ready(installation), seconds=START_SECONDS)


def test_pods_are_taken_where_the_strictest_policy_is_enforced(
    installation: Installation, user_image: str, services: Paddock
) -> None:
    if installation.values["volume"].get("fixOwnership"):
        pytest.skip("this cluster's volumes belong to root, so that root has to give them to the server")
    no_workers(installation)
    installation.cluster.enforce(installation.namespace, "restricted")
    upgrade(installation, {"workers": {"podSecurity": "restricted"}})
    restricted = spec("restricted", user_image, f"{UPPER}; id -u > /pfs/out/$(basename $data).user")
    restricted["transform"]["user"] = str(UID)
    apply(services, restricted)
    (job,) = services.jobs.wait(["restricted@head"], timeout_seconds=JOB_SECONDS)
    assert (job.state, job.reason) == (JobState.SUCCESS, "")
    assert b"".join(services.files.read("restricted:/f07.user")) == b"%d\n" % UID


def test_uninstalling_leaves_nothing(installation: Installation, user_image: str) -> None:
    with connect(url=installation.url, environment={"PADDOCK_CONFIG": os.devnull}) as services:
        left_over = spec("left", user_image, UPPER)
        left_over["transform"]["user"] = str(UID)
        apply(services, left_over)
        running_workers(installation, 1)
    helm.uninstall(installation.target)
    cluster, namespace = installation.cluster, installation.namespace
    core = ("pods", "secrets", "services", "persistentvolumeclaims", "configmaps")

    def left() -> list[str]:
        found = [item for kind in core for item in cluster.items(f"/api/v1/namespaces/{namespace}/{kind}")]
        found += cluster.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")
        return [item["metadata"]["name"] for item in found if item["metadata"]["name"] != "kube-root-ca.crt"]

    wait_until("nothing is left of the release", lambda: not left(), seconds=GONE_SECONDS)
