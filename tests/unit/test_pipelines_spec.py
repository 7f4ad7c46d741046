"""Specs in every accepted spelling, and the message for each fault."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.model.errors import Bug, InvalidInput, Problem
from paddock.pipelines.documents import parse_specs
from paddock.pipelines.fields import IDLE, IGNORED, IN_PODS_ONLY, OLD, REFUSED, REFUSED_OUTSIDE_PODS
from paddock.pipelines.inputs import leaves_of
from paddock.pipelines.models import Input, PfsInput, PipelineSpec, SpecModel, Transform
from paddock.pipelines.spec import ValidSpec, load_spec, spec_to_json, validate_spec, validate_specs

MINIMAL: dict[str, Any] = {
    "pipeline": {"name": "p"},
    "transform": {"cmd": ["true"]},
    "input": {"pfs": {"repo": "a", "glob": "/*"}},
}


def with_fields(**fields: Any) -> dict[str, Any]:
    return {**MINIMAL, **fields}


def with_transform(**fields: Any) -> dict[str, Any]:
    return with_fields(transform={"cmd": ["true"], **fields})


def with_pfs(**fields: Any) -> dict[str, Any]:
    return with_fields(input={"pfs": {"repo": "a", "glob": "/*", **fields}})


def problems_of(data: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        validate_spec(data)
    return [str(problem) for problem in caught.value.problems]


def snake(data: Any) -> Any:
    """The same data with every field in snake case."""
    if isinstance(data, dict):
        return {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower(): snake(item) for key, item in data.items()}
    return [snake(item) for item in data] if isinstance(data, list) else data


# ---- specs as Pachyderm's users write them -------------------------------------------------------------------------

EDGES = {
    "pipeline": {"name": "edges"},
    "description": "Finds the edges of each picture.",
    "input": {"pfs": {"glob": "/*", "repo": "pictures"}},
    "transform": {"cmd": ["python3", "/edges.py"], "image": "registry.example/edges:1.0"},
}
MONTAGE = {
    "pipeline": {"name": "montage", "project": {"name": "gallery"}},
    "input": {"cross": [{"pfs": {"glob": "/", "repo": "pictures"}}, {"pfs": {"glob": "/", "repo": "edges"}}]},
    "transform": {"cmd": ["sh"], "stdin": ["montage /pfs/pictures/* /pfs/edges/* /pfs/out/montage.png"], "user": ""},
}
WORDS = {
    "pipeline": {"name": "count-words", "project": "texts"},
    "input": {"pfs": {"repo": "pages", "branch": "master", "glob": "/*/*", "lazy": False, "emptyFiles": False}},
    "transform": {"cmd": ["/count"], "env": {"least": "3"}, "acceptReturnCode": ["0", 7], "errCmd": ["true"]},
    "parallelismSpec": {"constant": "4"},
    "datumSetSpec": {"number": "100"},
    "datumTries": "2",
    "datumTimeout": "1m30s",
    "jobTimeout": "3600s",
    "outputBranch": "master",
    "reprocessSpec": "every_job",
    "reprocess": False,
    "update": True,
    "salt": "9c7b1d",
    "s3Out": False,
    "egress": None,
    "specCommit": {"id": "0" * 32},
    "metadata": {"labels": {"team": "x"}, "annotations": {}},
}
SALES = {
    "pipeline": {"name": "by-store"},
    "input": {
        "join": [
            {"pfs": {"name": "sales", "repo": "sales", "glob": "/*/(*)-(*).json", "joinOn": "$1", "outerJoin": True}},
            {"pfs": {"name": "stores", "repo": "stores", "glob": "/(*).txt", "joinOn": "${1}", "repoType": "user"}},
        ]
    },
    "transform": {"cmd": ["python3", "/join.py"], "workingDir": "/code"},
}
VISITS = {
    "pipeline": {"name": "by-patient"},
    "input": {
        "group": [
            {"pfs": {"repo": "labs", "branch": "main", "glob": "/*-p(*)-l(*).txt", "groupBy": "$1"}},
            {"pfs": {"repo": "visits", "branch": "main", "glob": "/p(*)-v*.txt", "groupBy": "$1"}},
        ]
    },
    "transform": {"cmd": ["bash"], "stdin": ["cat /pfs/labs/* /pfs/visits/* > /pfs/out/all"]},
}
SHUFFLE = {
    "pipeline": {"name": "shuffle"},
    "input": {
        "union": [
            {"pfs": {"name": "files", "repo": "fruit", "glob": "/*/*", "emptyFiles": True}},
            {"pfs": {"name": "files", "repo": "prices", "glob": "/*/*", "emptyFiles": True}},
        ]
    },
    "transform": {"cmd": ["python3", "/shuffle.py"]},
    "resourceRequests": {"cpu": 1, "memory": "64M"},
    "autoscaling": True,
    "enableStats": True,
}


@pytest.mark.parametrize("data", [EDGES, WORDS, SALES, VISITS, SHUFFLE], ids=lambda data: data["pipeline"]["name"])
def test_both_spellings_mean_the_same(data: dict[str, Any]) -> None:
    camel, snaked = validate_spec(data), validate_spec(snake(data))
    assert camel.spec == snaked.spec
    assert len(camel.warnings) == len(snaked.warnings)
    assert validate_spec(spec_to_json(camel.spec)).spec == camel.spec
    assert load_spec(json.loads(json.dumps(spec_to_json(camel.spec)))) == camel.spec


def test_a_spec_keeps_what_it_says() -> None:
    spec = validate_spec(WORDS).spec
    assert (spec.pipeline.project, spec.pipeline.name, spec.address) == ("texts", "count-words", "texts/count-words")
    assert spec.transform.accept_return_code == (0, 7)
    assert spec.parallelism_spec.constant == 4
    assert (spec.datum_tries, spec.datum_timeout, spec.job_timeout) == (2, 90.0, 3600.0)
    assert (spec.output_branch, spec.reprocess_spec) == ("master", "every_job")
    (leaf,) = leaves_of(spec)
    assert leaf.address == "texts/pages@master"
    assert spec_to_json(spec)["datum_timeout"] == "90s"


def test_defaults() -> None:
    assert spec_to_json(validate_spec(MINIMAL).spec) == {
        "pipeline": {"project": "default", "name": "p"},
        "description": "",
        "transform": {
            "cmd": ["true"],
            "stdin": [],
            "env": {},
            "working_dir": "",
            "accept_return_code": [],
            "err_cmd": [],
            "err_stdin": [],
            "image": "",
            "placeholders": False,
            "warm": False,
            "debug": False,
        },
        "input": {
            "pfs": {
                "project": "default",
                "name": "a",
                "repo": "a",
                "repo_type": "user",
                "branch": "main",
                "glob": "/*",
                "join_on": "",
                "outer_join": False,
                "group_by": "",
                "empty_files": False,
                "lazy": False,
            }
        },
        "output_branch": "main",
        "pool": "default",
        "parallelism_spec": {"weight": 1},
        "datum_set_spec": {},
        "datum_tries": 3,
        "reprocess_spec": "until_success",
        "flow": True,
        "metadata": {"annotations": {}, "labels": {}},
        "autoscaling": False,
    }


@pytest.mark.parametrize(
    "name",
    [
        {"pipeline": {"name": "p", "project": "q"}},
        {"pipeline": {"name": "p", "project": {"name": "q"}}},
        {"pipeline": "q/p"},
        {"pipeline": "p", "project": "q"},
        {"name": "p", "project": "q"},
        {"pipeline": {"name": "p"}, "project": "q"},
    ],
)
def test_ways_to_name_a_pipeline(name: dict[str, Any]) -> None:
    data = {key: value for key, value in MINIMAL.items() if key != "pipeline"}
    spec = validate_spec({**data, **name}).spec
    assert spec.address == "q/p"
    assert leaves_of(spec)[0].project == "q"


def test_the_default_project_is_the_callers() -> None:
    spec = validate_spec(MINIMAL, default_project="mine").spec
    assert (spec.pipeline.project, leaves_of(spec)[0].project) == ("mine", "mine")


def test_inputs_are_sorted_so_that_their_order_does_not_matter() -> None:
    parts = [{"pfs": {"repo": name, "glob": "/*"}} for name in ("c", "a", "b")]
    nested = [{"cross": [{"union": [parts[0], parts[1]]}, parts[2]]}, {"cross": [parts[2], {"union": parts[1::-1]}]}]
    first, second = (validate_spec(with_fields(input=node)).spec for node in nested)
    assert first == second
    assert [leaf.name for leaf in leaves_of(first)] == ["a", "c", "b"]


def test_a_project_may_be_a_message() -> None:
    spec = validate_spec({**MONTAGE, "input": {"cross": [{"pfs": {"repo": "x", "glob": "/", "project": "y"}}]}}).spec
    assert (spec.pipeline.project, leaves_of(spec)[0].project) == ("gallery", "y")


def test_fields_that_are_idle_are_dropped_in_silence() -> None:
    found = validate_spec(with_fields(update=True, salt="x", spec_commit={"id": "y"}, reprocess=False, dry_run=False))
    assert found == ValidSpec(validate_spec(MINIMAL).spec, ())


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (
            with_fields(reprocess=True),
            "reprocess: has no effect in a spec file; use `paddock pipeline apply --reprocess`",
        ),
        (with_fields(standby=True), "standby: workers start when there is work and stop after it"),
        (
            with_transform(image="x:1") | {"engine": "local"},
            "transform.image: recorded, and part of the datum key; without a container",
        ),
        (with_transform(err_stdin=["x"]), "transform.err_stdin: has no effect without err_cmd"),
        (with_pfs(lazy=True), "input.pfs.lazy: all files are present before the command starts"),
        (with_pfs(outer_join=True), "input.pfs.outer_join: has no effect outside of a join"),
        (with_pfs(name="a-b"), "input.pfs.name: a shell can't name a variable 'a-b'; give the input a `name`"),
        (
            with_fields(datumSetSpec={"number": 1, "perWorker": 2}),
            "datumSetSpec.perWorker: has no effect beside number",
        ),
    ],
)
def test_warnings(data: dict[str, Any], warning: str) -> None:
    (found,) = validate_spec(data).warnings
    assert found.startswith(warning)


def test_a_field_without_an_effect_is_recorded_with_a_warning() -> None:
    value = {"anything": [1, {"at": "all"}]}
    spec, warnings = validate_spec(with_fields(maximum_expected_uptime=value))
    assert warnings == (f"maximum_expected_uptime: {IGNORED[PipelineSpec]['maximum_expected_uptime']}",)
    assert spec_to_json(spec)["maximum_expected_uptime"] == value
    assert not validate_spec(with_fields(maximum_expected_uptime={})).warnings


IN_PODS: dict[str, Any] = {
    "sidecar_resource_requests": {"cpu": 1},
    "sidecar_resource_limits": {"memory": "1Gi"},
    "scheduling_spec": {"node_selector": {"disk": "fast"}, "priority_class_name": "high"},
    "tolerations": [{"key": "spot", "operator": "EXISTS"}],
    "pod_spec": {"hostNetwork": True},
    "pod_patch": [{"op": "add", "path": "/hostNetwork", "value": True}],
    "image_pull_secrets": ["registry"],
    "memory_volume": True,
    "secrets": [{"name": "db", "key": "password", "env_var": "PASSWORD"}],
    "user": "nobody",
}


def with_pod_field(name: str, value: Any, **fields: Any) -> dict[str, Any]:
    data = with_transform(**{name: value}) if name in Transform.model_fields else with_fields(**{name: value})
    return {**data, **fields}


@pytest.mark.parametrize("name", IN_PODS)
def test_a_field_of_pods_is_served_by_kubernetes_and_has_another_fate_elsewhere(name: str) -> None:
    data = with_pod_field(name, IN_PODS[name])
    served = validate_spec({**data, "engine": "kubernetes"}, default_engine="local")
    assert served.warnings == ()
    assert load_spec(spec_to_json(served.spec)) == served.spec
    assert validate_spec(data).warnings == (), "who does not know the engine leaves it to the server"
    place = f"transform.{name}" if name in Transform.model_fields else name
    for engine in ("local", "slurm"):
        message = {**IN_PODS_ONLY[PipelineSpec], **IN_PODS_ONLY[Transform], **REFUSED_OUTSIDE_PODS[Transform]}[name]
        if name in REFUSED_OUTSIDE_PODS[Transform]:
            with pytest.raises(InvalidInput) as caught:
                validate_spec(data, default_engine=engine)
            assert [str(problem) for problem in caught.value.problems] == [f"{place}: {message}"]
        else:
            assert validate_spec(data, default_engine=engine).warnings == (f"{place}: {message}",)


def test_an_image_is_served_by_clusters() -> None:
    data = with_transform(image="x:1")
    assert [len(validate_spec(data, default_engine=each).warnings) for each in ("slurm", "kubernetes")] == [0, 0]
    assert "commands run right here" in validate_spec(data, default_engine="local").warnings[0]


def test_every_field_of_pods_is_tried() -> None:
    assert set(IN_PODS) == {*IN_PODS_ONLY[PipelineSpec], *IN_PODS_ONLY[Transform], *REFUSED_OUTSIDE_PODS[Transform]}


@pytest.mark.parametrize("name", IN_PODS)
def test_an_empty_field_of_pods_is_as_if_it_were_not_there(name: str) -> None:
    value = IN_PODS[name]
    empty: Any = "" if name in ("pod_spec", "pod_patch") else None if isinstance(value, dict) else type(value)()
    assert validate_spec(with_pod_field(name, empty), default_engine="local") == ValidSpec(
        validate_spec(MINIMAL).spec, ()
    )


def test_patches_and_names_are_taken_in_the_spellings_of_pachyderm_and_kubernetes() -> None:
    pachyderm = with_fields(
        podSpec='{"hostNetwork": true}',
        podPatch='[{"op": "add", "path": "/hostIPC", "value": null}]',
        tolerations=[
            {"key": "spot", "operator": "EQUAL", "value": "yes", "effect": "NO_EXECUTE", "tolerationSeconds": "5"}
        ],
    )
    kubernetes = with_fields(
        pod_spec={"hostNetwork": True},
        pod_patch=[{"op": "add", "path": "/hostIPC", "value": None}],
        tolerations=[
            {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute", "toleration_seconds": 5}
        ],
    )
    assert validate_spec(pachyderm) == validate_spec(kubernetes)
    named = with_transform(image_pull_secrets=[{"name": "registry"}])
    assert validate_spec(named) == validate_spec(with_transform(image_pull_secrets=["registry"]))


@pytest.mark.parametrize("name", OLD[PipelineSpec])
def test_fields_of_old_versions_are_dropped_with_a_warning(name: str) -> None:
    spec, warnings = validate_spec(with_fields(**{name: True}))
    assert spec == validate_spec(MINIMAL).spec
    assert warnings == (f"{name}: a field of Pachyderm 1.x that has no effect; remove it",)


REFUSALS = [(model, name) for model, fields in REFUSED.items() for name in fields]


@pytest.mark.parametrize(("model", "name"), REFUSALS, ids=lambda value: getattr(value, "__name__", value))
def test_fields_that_are_not_served_are_refused_by_name(model: type[SpecModel], name: str) -> None:
    cases: dict[type[SpecModel], tuple[str, dict[str, Any]]] = {
        PipelineSpec: (name, with_fields(**{name: {"x": 1}})),
        Transform: (f"transform.{name}", with_transform(**{name: {"x": 1}})),
        Input: (f"input.{name}", with_fields(input={name: {"x": 1}})),
        PfsInput: (f"input.pfs.{name}", with_pfs(**{name: {"x": 1}})),
    }
    place, data = cases[model]
    assert problems_of(data) == [f"{place}: {REFUSED[model][name]}"]


@pytest.mark.parametrize("data", [with_fields(s3_out=False, egress=None), with_pfs(propagation_spec={"never": False}, s3=False, reference=False, commit=""), with_transform(secrets=[], user="", datum_batching=False)])  # fmt: skip
def test_refused_fields_may_say_no(data: dict[str, Any]) -> None:
    assert validate_spec(data) == ValidSpec(validate_spec(MINIMAL).spec, ())


def test_no_field_has_two_fates() -> None:
    for model in (PipelineSpec, Transform, Input, PfsInput):
        named = [*model.model_fields, *REFUSED.get(model, ()), *IDLE.get(model, ()), *OLD.get(model, ())]
        assert len(named) == len(set(named))
        with_effects = [*IGNORED.get(model, ()), *IN_PODS_ONLY.get(model, ()), *REFUSED_OUTSIDE_PODS.get(model, ())]
        assert len(with_effects) == len(set(with_effects))
        assert set(with_effects) <= set(model.model_fields)


# ---- faults ------------------------------------------------------------------------------------------------------

PARTS = {"pfs": {"repo": "b", "glob": "/(*)"}}

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({}, "pipeline: the pipeline has no name; write pipeline: {name: …}"),
    (with_fields(pipeline={}), "pipeline.name: the pipeline has no name"),
    (with_fields(pipeline={"name": "a b"}), "pipeline.name: pipeline name 'a b' is invalid: use letters"),
    (with_fields(pipeline="x/y/z"), "pipeline: project name 'x/y' is invalid"),
    (with_fields(pipeline=3), "pipeline: write a mapping of fields, not the number 3"),
    (with_fields(pipeline={"name": "p", "project": "a/b"}), "pipeline.project: project name 'a/b' is invalid"),
    (with_fields(name="q"), "name: unknown field 'name'; it belongs under 'input.pfs'"),
    (with_fields(descripton=""), "descripton: unknown field 'descripton'; did you mean 'description'?"),
    (with_fields(datumTimout="1s"), "datumTimout: unknown field 'datumTimout'; did you mean 'datum_timeout'?"),
    (with_fields(cmd=["x"]), "cmd: unknown field 'cmd'; it belongs under 'transform'"),
    (with_fields(qqq=1), "qqq: unknown field 'qqq'; the fields here are pipeline, description, transform"),
    (with_fields(datum_tries=1, datumTries=2), "datumTries: 'datumTries' gives 'datum_tries' a second time; keep one"),
    (with_fields(description=3), 'description: write text, not the number 3; put it in quotes: "3"'),
    (with_fields(transform=None), "transform: says what to run, and is missing; write transform: {cmd:"),
    (with_fields(transform=["x"]), "transform: write a mapping of fields, not a list"),
    (with_fields(transform={}), "transform.cmd: names the program to run, and is missing; write for example cmd:"),
    (with_transform(cmd=[]), "transform.cmd: names the program to run, and is empty; write for example cmd:"),
    (with_transform(cmd=[""]), "transform.cmd[0]: the program's name is empty; write for example python3"),
    (with_transform(cmd="a 'b c'"), 'transform.cmd: write a list of words, not one text: ["a", "b c"]'),
    (with_transform(cmd="it's"), 'transform.cmd: write a list of words, not one text: ["it\'s"]'),
    (with_transform(cmd=["a", 1]), 'transform.cmd[1]: write text, not the number 1; put it in quotes: "1"'),
    (with_transform(cmd=["a\0"]), "transform.cmd[0]: the text contains a NUL character; remove it"),
    (with_transform(cmd=["a\ud800"]), "transform.cmd[0]: the text is not valid Unicode; write it anew"),
    (with_transform(stdin="a\nb"), 'transform.stdin: write a list of lines, not one text: ["a", "b"]'),
    (with_transform(stdin=3), "transform.stdin: write a list, not the number 3"),
    (with_transform(env={"A": True}), 'transform.env.A: write text, not true; put it in quotes: "true"'),
    (with_transform(env={"A=B": ""}), "transform.env.A=B: 'A=B' can't name an environment variable"),
    (with_transform(env=["A=1"]), "transform.env: write a mapping of fields, not a list"),
    (with_transform(accept_return_code=[256]), "transform.accept_return_code[0]: must be at most 255, not 256"),
    (with_transform(accept_return_code=[-1]), "transform.accept_return_code[0]: must be at least 0, not -1"),
    (with_transform(accept_return_code=["x"]), "transform.accept_return_code[0]: write a whole number, not the text"),
    (with_transform(accept_return_code=[1.5]), "transform.accept_return_code[0]: write a whole number, not the number"),
    (with_transform(accept_return_code=[True]), "transform.accept_return_code[0]: write a whole number, not true"),
    (with_transform(code=""), "transform.code: the path is empty; name the directory of the program"),
    (with_transform(debug="yes"), "transform.debug: write true or false, not the text 'yes'"),
    (with_transform(secrets=[{"name": "s"}]), "transform.secrets[0]: is given neither as files nor as a variable"),
    (
        with_transform(secrets=[{"name": "A b", "mount_path": "/s"}]),
        "transform.secrets[0].name: 'A b' can't be a name in",
    ),
    (with_transform(secrets=[{"name": "s", "env_var": "A"}]), "transform.secrets[0].key: says not which value"),
    (
        with_transform(secrets=[{"name": "s", "key": "k", "env_var": "A-B"}]),
        "transform.secrets[0].env_var: 'A-B' can't name",
    ),
    (
        with_transform(secrets=[{"name": "s", "mount_path": "s"}]),
        "transform.secrets[0].mount_path: 's' is not an absolute",
    ),
    (with_transform(secrets=[{"name": "s", "mount_path": "/pfs/x"}]), "transform.secrets[0].mount_path: /pfs is taken"),
    (
        with_transform(secrets=[{"name": "s", "mount_path": "/s"}, {"name": "t", "mount_path": "/s/"}]),
        "transform.secrets[1].mount_path: /s has something else already",
    ),
    (with_transform(memory_volume="x"), "transform.memory_volume: write true or false, not the text 'x'"),
    (with_fields(tolerations=[{"key": "a"}]), "tolerations[0].operator: says how a taint is compared, and is missing"),
    (
        with_fields(tolerations=[{"key": "a", "operator": "EMPTY"}]),
        "tolerations[0].operator: write 'EXISTS' or 'EQUAL'",
    ),
    (with_fields(tolerations=[{"operator": "EQUAL"}]), "tolerations[0].key: EQUAL compares a taint's value"),
    (
        with_fields(tolerations=[{"key": "a", "operator": "EXISTS", "value": "b"}]),
        "tolerations[0].value: EXISTS looks at no value",
    ),
    (
        with_fields(tolerations=[{"operator": "EXISTS", "toleration_seconds": 1}]),
        "tolerations[0].toleration_seconds: counts from an eviction",
    ),
    (with_fields(pod_spec="{"), "pod_spec: the text is not JSON"),
    (with_fields(pod_spec=[1]), "pod_spec: write a mapping of fields, not a list"),
    (with_fields(pod_patch={}), "pod_patch: write a list, not a mapping"),
    (with_fields(pod_patch=[{"op": "x"}]), "pod_patch: operation 0: there is no operation 'x'; write op: one of add"),
    (with_fields(scheduling_spec={"nodes": 1}), "scheduling_spec.nodes: unknown field 'nodes'; the fields here are"),
    (with_fields(sidecar_resource_limits={"memory": "x"}), "sidecar_resource_limits.memory: 'x' is not a size"),
    (with_fields(input=None), "input: says what to read, and is missing; write for example input:"),
    (with_fields(input=[PARTS]), "input: write a mapping of fields, not a list"),
    (with_fields(input={}), "input: this input is of no kind; write one of pfs, cross, union, join, group"),
    (with_fields(input={"repo": "a"}), "input.repo: unknown field 'repo'; it belongs under 'input.pfs'"),
    (with_fields(input={**PARTS, "cross": [PARTS]}), "input: this input is pfs and cross at once; keep one, or"),
    (with_fields(input={"cross": []}), "input.cross: cross combines nothing; list at least one input"),
    (with_fields(input={"cross": "x"}), "input.cross: write a list, not the text 'x'"),
    (with_fields(input={"cross": ["x"]}), "input.cross[0]: write a mapping of fields, not the text 'x'"),
    (with_fields(input={"cross": [PARTS, PARTS]}), "input.cross[1].pfs.repo: input name 'b' is used more than once"),
    (with_fields(input={"cross": [PARTS, {"union": [PARTS]}]}), "input.cross[1].union[0].pfs.repo: input name 'b' is"),
    (with_fields(input={"join": [PARTS]}), "input.join[0].pfs.join_on: every pfs input in a join needs join_on"),
    (
        with_fields(input={"group": [{"cross": [PARTS]}]}),
        "input.group[0].cross[0].pfs.group_by: every pfs input in a gr",
    ),
    (with_pfs(joinOn="$1"), "input.pfs.joinOn: '$1' names group 1, but the glob captures nothing"),
    (with_pfs(glob="/(*)", group_by="$2"), "input.pfs.group_by: '$2' names group 2, but the glob has 1 group"),
    (with_pfs(glob="/(*)", group_by="$x"), "input.pfs.group_by: '$x': at character 1, '$' is followed by no group"),
    (with_pfs(glob="/[a"), "input.pfs.glob: glob '/[a': at character 2, '[' is never closed"),
    (with_pfs(glob=""), "input.pfs.glob: the glob is empty; write / for the whole repo as one datum"),
    (with_pfs(glob=None), "input.pfs.glob: says how the repo is cut into datums, and is missing"),
    (with_pfs(repo=None), "input.pfs.repo: an input must name a repo; write repo: …"),
    (with_pfs(repo="p"), "input.pfs.repo: pipeline 'p' can't read its own output; name another repo"),
    (with_pfs(repo="out"), "input.pfs.repo: an input can't be named 'out', which is taken under /pfs"),
    (with_pfs(name=".env"), "input.pfs.name: an input can't be named '.env', which is taken under /pfs"),
    (with_pfs(name="a/b"), "input.pfs.name: input name 'a/b' is invalid"),
    (with_pfs(repo="a b"), "input.pfs.repo: repo name 'a b' is invalid"),
    (with_pfs(branch="0" * 32), "input.pfs.branch: branch name"),
    (with_pfs(repo_type="meta"), "input.pfs.repo_type: write 'user', not the text 'meta'"),
    (with_pfs(outer_join=1), "input.pfs.outer_join: write true or false, not the number 1"),
    (with_fields(datum_tries=0), "datum_tries: must be at least 1, not 0; leave the field out for the default"),
    (with_fields(datum_tries=2**63), "datum_tries: must be at most 9223372036854775807"),
    (with_fields(parallelism_spec={"constant": 0}), "parallelism_spec.constant: must be at least 1, not 0"),
    (
        with_fields(parallelism_spec={"coefficient": 1}),
        "parallelism_spec.coefficient: unknown field 'coefficient'; the",
    ),
    (with_fields(datum_set_spec={"number": 0}), "datum_set_spec.number: must be at least 1, not 0"),
    (with_fields(datum_set_spec={"size_bytes": -1}), "datum_set_spec.size_bytes: must be at least 1, not -1"),
    (with_fields(datum_timeout="soon"), "datum_timeout: 'soon' is not a duration; write for example 90s, 1m30s or 2h"),
    (with_fields(datum_timeout="0s"), "datum_timeout: '0s' must be more than 0 and at most ten years"),
    (with_fields(job_timeout="-1m"), "job_timeout: '-1m' must be more than 0"),
    (with_fields(job_timeout=[1]), "job_timeout: [1] is not a duration"),
    (with_fields(output_branch="a/b"), "output_branch: branch name 'a/b' is invalid"),
    (with_fields(reprocess_spec="never"), "reprocess_spec: write 'until_success' or 'every_job', not the text 'never'"),
    (with_fields(metadata={"labels": {"a": 1}}), "metadata.labels.a: write text, not the number 1; put it in quotes"),
]


@pytest.mark.parametrize(("data", "expected"), FAULTS, ids=lambda value: value[:50] if isinstance(value, str) else "")
def test_each_fault_is_named_with_its_place_and_the_next_step(data: dict[str, Any], expected: str) -> None:
    found = problems_of(data)
    assert found[0].startswith(expected), found
    assert len(found) == (3 if not data else 1), found


def test_all_faults_come_at_once_with_their_lines_in_the_order_of_the_file() -> None:
    text = """\
pipeline: {nam: x}
transform:
  cmd: run me
  env: {PORT: 80}
  secrets: [{name: s}]
input:
  join:
  - pfs: {repo: a, glob: "/(*", joinOn: $1}
  - pfs:
      repo: a
      glob: /*
datumTries: 0
spout: {}
"""
    with pytest.raises(InvalidInput) as caught:
        validate_specs(parse_specs(text, source_name="p.yaml"))
    assert caught.value.message == "the spec has 10 problems:"
    places = [problem.place for problem in caught.value.problems]
    assert places == [
        "p.yaml:1: pipeline.nam",
        "p.yaml:1: pipeline.name",
        "p.yaml:3: transform.cmd",
        "p.yaml:4: transform.env.PORT",
        "p.yaml:5: transform.secrets[0]",
        "p.yaml:8: input.join[0].pfs.glob",
        "p.yaml:9: input.join[1].pfs.join_on",
        "p.yaml:10: input.join[1].pfs.repo",
        "p.yaml:12: datumTries",
        "p.yaml:13: spout",
    ]


def test_two_specs_of_one_name_are_refused() -> None:
    spec = json.dumps(MINIMAL)
    with pytest.raises(InvalidInput, match=r"p\.json:2: pipeline: pipeline default/p is also defined at p\.json:1"):
        validate_specs(parse_specs(f"{spec}\n{spec}", source_name="p.json"))


def test_the_faults_of_all_specs_of_a_file_are_listed() -> None:
    text = f"{json.dumps(with_fields(x=1))}\n{json.dumps(with_fields(y=1))}"
    with pytest.raises(InvalidInput, match="the spec has 2 problems") as caught:
        validate_specs(parse_specs(text, source_name="p.json"))
    assert [problem.place for problem in caught.value.problems] == ["p.json:1: x", "p.json:2: y"]


def test_a_stored_spec_that_does_not_read_back_is_a_bug() -> None:
    with pytest.raises(Bug, match="a stored pipeline spec does not read back"):
        load_spec({"pipeline": {}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.text("ab$/(*", max_size=4) | st.floats(allow_nan=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["pipeline", "name", "project", "transform", "cmd", "stdin", "env", "input", "pfs", "cross", "union", "join",
         "group", "repo", "glob", "join_on", "groupBy", "cron", "spout", "datum_tries", "datum_timeout", "zzz", ""]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["pipeline", "name", "transform", "input", "metadata", "salt"]), JSON))
def test_any_data_is_a_spec_or_a_list_of_problems(data: dict[str, Any]) -> None:
    problems: tuple[Problem, ...] = ()
    spec = None
    try:
        spec = validate_spec(data).spec
    except InvalidInput as error:
        problems = error.problems
    assert (spec is None) == bool(problems)
    assert all(problem.place and problem.message for problem in problems)
    assert spec is None or validate_spec(spec_to_json(spec)).spec == spec


def test_sizes_of_warm_limits() -> None:
    def limit(value: object) -> object:
        transform = {"cmd": ["true"], "warm": True, "warm_memory_max": value}
        return validate_spec({**MINIMAL, "transform": transform}).spec.transform.warm_memory_max

    assert [limit(value) for value in (1, "7", "2k", "1.5Mi", "3G", "1 GiB")] == [
        1,
        7,
        2000,
        3 << 19,
        3 * 10**9,
        1 << 30,
    ]
    for wrong in (0, "", "-1", "1X", True, 1.5):
        with pytest.raises(InvalidInput):
            limit(wrong)


def test_what_contradicts_a_warm_command() -> None:
    transform = {"cmd": ["cp", "{in}"], "warm": True, "placeholders": True}
    with pytest.raises(InvalidInput) as raised:
        validate_spec({**MINIMAL, "transform": transform})
    assert "started before its datums are known" in str(raised.value.problems)
    warnings = validate_spec({**MINIMAL, "transform": {"cmd": ["true"], "warm_datums_max": 1}}).warnings
    assert [warning for warning in warnings if "no effect without warm: true" in warning]
