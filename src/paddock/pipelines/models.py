"""The canonical spec of a pipeline: every field, its type and default. Read `docs/reference/spec.md` for
their meaning.

Field names are Pachyderm's in snake case. The models check one field at a time; what concerns several
fields is checked in `paddock.pipelines.checks`, and what is accepted under other names is translated in
`paddock.pipelines.fields`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
)

from paddock.model.addresses import check_name
from paddock.model.errors import InvalidInput
from paddock.model.globs import compile_glob
from paddock.model.json_patches import check_operations
from paddock.model.records import DEFAULT_BRANCH, DEFAULT_POOL, EngineName
from paddock.model.sizes import parse_cpus, parse_size
from paddock.model.splits import SplitBy, SplitFormat, SplitRule
from paddock.pipelines.durations import format_duration, parse_duration
from paddock.pipelines.places import type_name
from paddock.pipelines.slurm_text import check_sbatch_option, parse_time_limit
from paddock.pipelines.split_text import parse_split

INT_MAX = 2**63 - 1


def _whole_number(value: Any) -> Any:
    """Protobuf's JSON writes 64-bit numbers as text, and YAML may write `1.0`."""
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (bool, float)) or not isinstance(value, int):
        raise ValueError(f"write a whole number, not {type_name(value)}")
    return value


def _plain_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("the text contains a NUL character; remove it")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("the text is not valid Unicode; write it anew")
    return value


def _named(kind: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return check_name(kind, value)
        except InvalidInput as error:
            raise ValueError(error.message) from None

    return AfterValidator(check)


def _glob(value: str) -> str:
    if not value.strip():
        raise ValueError("the glob is empty; write / for the whole repo as one datum, or /* for one per entry")
    try:
        return compile_glob(value).pattern
    except InvalidInput as error:
        raise ValueError(error.message) from None


def _unset(value: Any) -> Any:
    """Protobuf's JSON writes 0 and an empty text for what is not set."""
    return None if value in (0, "") and not isinstance(value, bool) else value


def _json_text(empty: object) -> BeforeValidator:
    """Pachyderm has patches of pods as JSON in a text; here they may be written out, too. empty: what an empty text means."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value.strip() else empty
        except ValueError as error:
            raise ValueError(f"the text is not JSON ({error}); mend it, or write it out as YAML") from None

    return BeforeValidator(read)


def _patch(operations: tuple[dict[str, Any], ...] | None) -> tuple[dict[str, Any], ...] | None:
    for index, fault in check_operations(operations or ()):
        raise ValueError(f"operation {index}: {fault}")
    return operations


def _enum(value: Any) -> Any:
    """`NoSchedule` and `no_schedule` as `NO_SCHEDULE`: Kubernetes' spelling is good, too."""
    return _HUMP.sub("_", value).upper() if isinstance(value, str) else value


def _names(value: Any) -> Any:
    """A list of names; Kubernetes' own `[{name: …}]` is good, too."""
    if not isinstance(value, (list, tuple)):
        return value
    return [item["name"] if isinstance(item, dict) and set(item) == {"name"} else item for item in value]


def _object_name(value: str) -> str:
    if not _OBJECT_NAME.fullmatch(value):
        raise ValueError(f"{value!r} can't be a name in Kubernetes; use lower-case letters, digits, '-' and '.'")
    return value


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

IF_ANY = AfterValidator(lambda value: value or None)
"""What is there and empty is as if it were not there, so that equal specs are written equally."""
Line = Annotated[str, AfterValidator(_plain_text)]
ObjectName = Annotated[str, AfterValidator(_object_name)]
Count = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=INT_MAX)]
ExitCode = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=255)]
Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="unless-none"),
]
TimeLimit = Annotated[
    float,
    BeforeValidator(parse_time_limit),
    PlainSerializer(format_duration, return_type=str, when_used="unless-none"),
]
SbatchOption = Annotated[Line, AfterValidator(check_sbatch_option)]
ByteCount = Annotated[int, BeforeValidator(parse_size), Field(ge=1, le=INT_MAX)]
Cpus = Annotated[float, BeforeValidator(parse_cpus), Field(gt=0, le=1e6)]
MaybeCpus = Annotated[Cpus | None, BeforeValidator(_unset)]
MaybeBytes = Annotated[ByteCount | None, BeforeValidator(_unset)]
ProjectName = Annotated[str, _named("project")]
RepoName = Annotated[str, _named("repo")]
BranchName = Annotated[str, _named("branch")]
PipelineName = Annotated[str, _named("pipeline")]
PoolName = Annotated[str, _named("pool")]
InputName = Annotated[str, _named("input")]
GlobText = Annotated[str, AfterValidator(_glob)]


class SpecModel(BaseModel):
    # Only the outermost model is needed as such, and building a validator for each costs 0.1 s of a command.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class PipelineRef(SpecModel):
    project: ProjectName
    name: PipelineName


class PodSecret(SpecModel):
    """A Secret of Kubernetes for the command: as files in `mount_path`, or the value of `key` as a variable, or both."""

    name: ObjectName
    key: Line = ""
    mount_path: Line = ""
    env_var: Line = ""


class Transform(SpecModel):
    cmd: Annotated[tuple[Line, ...], Field(min_length=1)]
    stdin: tuple[Line, ...] = ()
    env: dict[str, Line] = {}
    working_dir: Line = ""
    accept_return_code: tuple[ExitCode, ...] = ()
    err_cmd: tuple[Line, ...] = ()
    err_stdin: tuple[Line, ...] = ()
    code: Line | None = None
    image: Line = ""
    placeholders: StrictBool = False
    warm: StrictBool = False
    warm_datums_max: Count | None = None
    warm_memory_max: ByteCount | None = None
    debug: StrictBool = False
    dockerfile: Any = None
    secrets: Annotated[tuple[PodSecret, ...] | None, IF_ANY] = None
    user: Annotated[Line | None, IF_ANY] = None
    image_pull_secrets: Annotated[tuple[ObjectName, ...] | None, BeforeValidator(_names), IF_ANY] = None
    memory_volume: Annotated[StrictBool | None, IF_ANY] = None


class Split(SpecModel):
    """`records` and `bytes`: most of either in a datum; one record, and one row group, where neither is said."""

    format: Literal["csv", "jsonl", "lines", "parquet", "tar"]
    records: Count | None = None
    bytes: ByteCount | None = None
    header: StrictBool | None = None
    by: Literal["position", "content"] = "position"

    @property
    def rule(self) -> SplitRule:
        return SplitRule(
            format=SplitFormat(self.format),
            records=1 if self.bytes is None and self.records is None else self.records,
            bytes=self.bytes,
            header=self.format == "csv" if self.header is None else self.header,
            by=SplitBy(self.by),
        )


class PfsInput(SpecModel):
    project: ProjectName
    name: InputName
    repo: RepoName
    repo_type: Literal["user"] = "user"
    branch: BranchName = DEFAULT_BRANCH
    glob: GlobText
    join_on: Line = ""
    outer_join: StrictBool = False
    group_by: Line = ""
    empty_files: StrictBool = False
    lazy: StrictBool = False
    split: Annotated[Split | None, BeforeValidator(parse_split)] = None


class Input(SpecModel):
    """One node of the input: exactly one of the fields is set."""

    pfs: PfsInput | None = None
    cross: tuple[Input, ...] | None = None
    union: tuple[Input, ...] | None = None
    join: tuple[Input, ...] | None = None
    group: tuple[Input, ...] | None = None

    @property
    def children(self) -> tuple[Input, ...]:
        """The inputs that this node combines; empty for a `pfs` input."""
        return self.cross or self.union or self.join or self.group or ()

    @property
    def kind(self) -> Literal["pfs", "cross", "union", "join", "group"]:
        if self.pfs is not None:
            return "pfs"
        if self.cross is not None:
            return "cross"
        if self.union is not None:
            return "union"
        return "join" if self.join is not None else "group"


class ParallelismSpec(SpecModel):
    """minimum, cool_down: of workers that an engine starts as they are needed; None: 0, and one minute."""

    constant: Count | None = None
    weight: Count = 1
    minimum: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=INT_MAX)] | None = None
    cool_down: Seconds | None = None


class DatumSetSpec(SpecModel):
    number: Count | None = None
    size_bytes: Count | None = None
    per_worker: Count | None = None


class Gpu(SpecModel):
    type: Line = ""
    number: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=1024)] = 1


class Resources(SpecModel):
    """What one datum takes of a machine while it runs."""

    cpu: MaybeCpus = None
    memory: MaybeBytes = None
    gpu: Gpu | None = None
    disk: MaybeBytes = None


class ResourceLimits(Resources):
    """What one datum may not exceed."""


class DatumLimits(SpecModel):
    memory: ByteCount | None = None
    time: Seconds | None = None
    scratch: ByteCount | None = None
    output: ByteCount | None = None


class SlurmOptions(SpecModel):
    """What Slurm is told about the jobs that are a pipeline's workers, beyond `resource_requests`.

    drain_time: how long before its time limit a worker begins no more datums. setup: lines of shell that run before the worker.
    container: whether commands run in `transform.image`, where there is one.
    """

    partition: Line = ""
    account: Line = ""
    qos: Line = ""
    time_limit: TimeLimit | None = None
    drain_time: Annotated[Seconds, Field(le=65_535)] | None = None
    constraint: Line = ""
    gres: Line = ""
    options: tuple[SbatchOption, ...] = ()
    container: StrictBool = True
    container_options: tuple[Line, ...] = ()
    setup: tuple[Line, ...] = ()


class SchedulingSpec(SpecModel):
    """Which nodes a pod may be put on, and what may make room for it."""

    node_selector: dict[str, Line] = {}
    priority_class_name: Line = ""


class Toleration(SpecModel):
    """A taint of nodes that pods put up with. toleration_seconds: for how long, where the effect is NO_EXECUTE."""

    key: Line = ""
    operator: Annotated[Literal["EXISTS", "EQUAL"], BeforeValidator(_enum)]
    value: Line = ""
    effect: Annotated[
        Literal["ALL_EFFECTS", "NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"], BeforeValidator(_enum)
    ] = "ALL_EFFECTS"
    toleration_seconds: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=INT_MAX)] | None = None


class Metadata(SpecModel):
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class PipelineSpec(SpecModel):
    pipeline: PipelineRef
    description: str = ""
    transform: Transform
    input: Input
    output_branch: BranchName = DEFAULT_BRANCH
    parallelism_spec: ParallelismSpec = ParallelismSpec()
    engine: EngineName | None = None
    pool: PoolName = DEFAULT_POOL
    datum_set_spec: DatumSetSpec = DatumSetSpec()
    datum_tries: Count = 3
    datum_timeout: Seconds | None = None
    job_timeout: Seconds | None = None
    reprocess_spec: Literal["until_success", "every_job"] = "until_success"
    flow: StrictBool = True
    metadata: Metadata = Metadata()
    autoscaling: StrictBool = False
    resource_requests: Resources | None = None
    resource_limits: ResourceLimits | None = None
    datum_limits: DatumLimits | None = None
    slurm: SlurmOptions | None = None
    sidecar_resource_requests: Resources | None = None
    sidecar_resource_limits: ResourceLimits | None = None
    scheduling_spec: SchedulingSpec | None = None
    tolerations: Annotated[tuple[Toleration, ...] | None, IF_ANY] = None
    pod_spec: Annotated[dict[str, Any] | None, _json_text({}), IF_ANY] = None
    pod_patch: Annotated[tuple[dict[str, Any], ...] | None, _json_text([]), AfterValidator(_patch), IF_ANY] = None
    maximum_expected_uptime: Any = None

    @property
    def address(self) -> str:
        """`project/name`"""
        return f"{self.pipeline.project}/{self.pipeline.name}"
