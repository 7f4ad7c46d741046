"""Settings from environment variables: read once at the edge (CLI, `connect`), then passed down as one frozen
value.

`SETTINGS` documents each with its unit, its default and why that default; the reference page is checked
against it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from paddock.model.addresses import check_name
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.records import DEFAULT_ENGINE, DEFAULT_PROJECT, EngineName
from paddock.model.sizes import parse_cpus, parse_size

POOL_WORKERS_MAX = 16


@dataclass(frozen=True, slots=True)
class Setting:
    variable: str
    field: str
    """Name of the field of `Settings`."""
    meaning: str
    unit: str
    default: str
    why: str


DEFAULT_SLURM_FOLDER = "~/.paddock-slurm"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "PADDOCK_HOME",
        "home",
        "The home: the directory that holds the catalog and the stored bytes.",
        "path",
        "the nearest `.paddock` directory at or above the current one, else `~/.paddock`",
        "Works like a version control system: data belongs to the folder you are in, or to you.",
    ),
    Setting(
        "PADDOCK_STORAGE",
        "storage",
        "Where a home that is made keeps its bulk data; a home that exists keeps it where it is.",
        "URL (`s3://bucket/prefix`, `gs://…`, `az://…`, `file:///…`)",
        "the folder `objects` of the home",
        "A local disk needs no credentials, and is the fastest.",
    ),
    Setting(
        "PADDOCK_URL",
        "url",
        "A server to talk to in place of a local home.",
        "URL",
        "none",
        "Nothing needs a server; naming one is a decision.",
    ),
    Setting(
        "PADDOCK_CATALOG",
        "catalog",
        "The PostgreSQL database that has the catalog, for a home that many machines share.",
        "URL",
        "none: the catalog is a file of the home",
        "One machine needs no database server.",
    ),
    Setting(
        "PADDOCK_PROJECT",
        "project",
        "The project of addresses that name none.",
        "name",
        DEFAULT_PROJECT,
        "This project always exists.",
    ),
    Setting(
        "PADDOCK_WORKERS",
        "workers",
        "How many worker processes run datums at once.",
        "processes, at least 1",
        "the number of CPUs this process may use",
        "User commands are mostly bound by the CPU; more workers than CPUs rarely help.",
    ),
    Setting(
        "PADDOCK_ENGINE",
        "engine",
        "What starts the workers of pipelines whose spec names no `engine`: `local` (the server's own, and those started by "
        "hand), `slurm` or `kubernetes`.",
        "word",
        DEFAULT_ENGINE,
        "One machine has its own workers; a cluster is named by who runs the server on it.",
    ),
    Setting(
        "PADDOCK_POOL_WORKERS_MAX",
        "pool_workers_max",
        "How many workers an engine that starts them may have for a pipeline without `parallelism_spec.constant`.",
        "workers, at least 1",
        str(POOL_WORKERS_MAX),
        "Enough to be worth a cluster, and too few to fill one by mistake.",
    ),
    Setting(
        "PADDOCK_SLURM_FOLDER",
        "slurm_folder",
        "A folder for what the workers of `engine: slurm` print, which the server and the cluster's nodes share.",
        "path",
        DEFAULT_SLURM_FOLDER,
        "Most clusters share home directories; a worker that can't start says there why.",
    ),
    Setting(
        "PADDOCK_SLURM_COMMAND",
        "slurm_command",
        "What starts Paddock on the cluster's nodes; words as in a shell.",
        "command",
        "none: the server's own Python, which then has to be at the same place on the nodes",
        "Mostly one virtual environment on a shared disk serves all.",
    ),
    Setting(
        "PADDOCK_SLURM_DIRECT",
        "slurm_direct",
        "Whether the workers of `engine: slurm` read and write the home's object store themselves, and not through the server; their"
        " jobs have the server's environment, so its credentials too.",
        "0 or 1",
        "0",
        "Nodes may not reach the store; where they do, the server is spared all bulk data.",
    ),
    Setting(
        "PADDOCK_WORKER_IMAGE",
        "worker_image",
        "Paddock's own image, for the pods of `engine: kubernetes`.",
        "image",
        "none: that engine needs it",
        "Images are named by who builds or loads them.",
    ),
    Setting(
        "PADDOCK_USER_IMAGE",
        "user_image",
        "The image in which commands of `engine: kubernetes` run whose spec names none (`transform.image`).",
        "image",
        "that of `PADDOCK_WORKER_IMAGE`",
        "It is there in any case, and has Python.",
    ),
    Setting(
        "PADDOCK_IMAGE_PULL_POLICY",
        "image_pull_policy",
        "When nodes pull the images of pods: `Always`, `IfNotPresent` or `Never`.",
        "word",
        "Kubernetes' own: `Always` for images without a tag or with `latest`, else `IfNotPresent`",
        "Where images are loaded on the nodes by hand, `IfNotPresent` or `Never` is right for all.",
    ),
    Setting(
        "PADDOCK_IMAGE_PULL_SECRETS",
        "image_pull_secrets",
        "Secrets with which nodes pull the images of all pods, beside those of the spec.",
        "names, separated by commas",
        "none",
        "Only private registries need them.",
    ),
    Setting(
        "PADDOCK_WORKER_URL",
        "worker_url",
        "Where workers that an engine starts reach the server, or any server of the home; several, separated by commas, are asked in turn.",
        "URLs",
        "where the server is reached (`paddock up --advertise`)",
        "In a cluster the name of a service goes on when a server is replaced.",
    ),
    Setting(
        "PADDOCK_WORKER_CPU",
        "worker_cpu",
        "CPUs that a pod asks for whose spec asks for none (`resource_requests.cpu`).",
        "CPUs, or thousandths: `0.5`, `500m`",
        "1",
        "A datum takes one CPU on one machine, too; small test clusters want less.",
    ),
    Setting(
        "PADDOCK_WORKER_STORAGE_SECRET",
        "worker_storage_secret",
        "A Secret whose keys are variables (`AWS_ACCESS_KEY_ID`, …) with which pods reach the object store themselves.",
        "name",
        "none: pods read and write through the server",
        "Credentials are given to workers only by who decides so; the server's bandwidth is enough for small clusters.",
    ),
    Setting(
        "PADDOCK_KUBERNETES_NAMESPACE",
        "kubernetes_namespace",
        "The namespace in which pods are started.",
        "name",
        "the server's own in a pod, else that of the KUBECONFIG's context, else `default`",
        "The server's rights are for its own.",
    ),
    Setting(
        "PADDOCK_KUBERNETES_OWNER",
        "kubernetes_owner",
        "The server's Deployment, with which everything goes that was made for it.",
        "name",
        "none: what was made goes with its pipeline",
        "Only who installs the server knows what it is called.",
    ),
    Setting(
        "PADDOCK_POD_SECURITY",
        "pod_security",
        "Which level of Kubernetes' Pod Security Standards the containers of users' images keep to: `baseline` (they run as their image "
        "says) or `restricted` (as a user other than root, without capabilities or new privileges).",
        "word",
        "baseline",
        "An image is to be untouched; only a namespace that enforces `restricted` asks for more.",
    ),
    Setting(
        "PADDOCK_SANDBOX",
        "sandbox",
        "How a datum's `/pfs` is made: `namespaces` (private mounts), `directory` (plain folders named by "
        "`PADDOCK_PFS`), or `auto`.",
        "word",
        "auto",
        "Namespaces where the system allows them, because they isolate; a directory elsewhere, so that it still runs.",
    ),
    Setting(
        "PADDOCK_GRACE_SECONDS",
        "grace_seconds",
        "Time between SIGTERM and SIGKILL when a command is stopped or times out.",
        "seconds, 0 to 3600",
        "5",
        "Long enough to remove temporary files, short enough to wait for.",
    ),
    Setting(
        "PADDOCK_DEBUG",
        "debug",
        "Show the traceback of an unexpected error.",
        "0 or 1",
        "0",
        "A traceback helps developers and hides the message from everyone else.",
    ),
    Setting(
        "PADDOCK_MEMORY",
        "memory",
        "How much memory the datums that run at once may ask for together (`resource_requests.memory`).",
        "bytes, or with a unit: `512Mi`, `64G`",
        "the machine's memory, or the container's limit",
        "What is there is what can be shared; less leaves room for other programs.",
    ),
    Setting(
        "PADDOCK_GPUS",
        "gpus",
        "The GPUs that datums may use, as `CUDA_VISIBLE_DEVICES` names them: `0,1`; `none` for none.",
        "names, separated by commas",
        "`CUDA_VISIBLE_DEVICES` if it is set, else every `/dev/nvidia<number>`",
        "A datum that asks for a GPU gets one of its own among these.",
    ),
    Setting(
        "PADDOCK_WORKER_CACHE",
        "worker_cache",
        "How much of what they wrote and read the workers of `paddock worker` keep on their own disk, where the next pipelines read it "
        "again; `none` for nothing.",
        "bytes, or with a unit: `512Mi`, `64G`",
        "a tenth of the free disk, 10 GiB at most",
        "Data between two pipelines is read once, soon after it was written; more would wait for nobody.",
    ),
)

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
POD_SECURITIES = ("baseline", "restricted")
WORKER_CPUS_MAX = 1024
SANDBOXES = ("auto", "namespaces", "directory")
GRACE_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for; None where it says nothing and the default depends on the place."""

    home: Path | None = None
    storage: str | None = None
    url: str | None = None
    catalog: str | None = None
    project: str = DEFAULT_PROJECT
    workers: int | None = None
    engine: EngineName = DEFAULT_ENGINE
    pool_workers_max: int = POOL_WORKERS_MAX
    slurm_folder: str = DEFAULT_SLURM_FOLDER
    slurm_command: str = ""
    slurm_direct: bool = False
    worker_image: str = ""
    user_image: str = ""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    worker_url: str = ""
    worker_cpu: float = 1.0
    worker_storage_secret: str = ""
    kubernetes_namespace: str = ""
    kubernetes_owner: str = ""
    pod_security: str = "baseline"
    sandbox: str = "auto"
    grace_seconds: float = 5.0
    debug: bool = False
    memory: int | None = None
    """Bytes."""
    gpus: tuple[str, ...] | None = None
    worker_cache: int | None = None
    """Bytes; 0 for nothing."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the variables of `SETTINGS`; an empty one counts as unset. InvalidInput names the variable
        that is wrong.
        """
        home = environment.get("PADDOCK_HOME", "")
        return cls(
            home=Path(home).expanduser() if home else None,
            storage=environment.get("PADDOCK_STORAGE") or None,
            url=environment.get("PADDOCK_URL") or None,
            catalog=environment.get("PADDOCK_CATALOG") or None,
            project=_project(environment),
            workers=_count(environment, "PADDOCK_WORKERS", "processes"),
            engine=engine_named(environment.get("PADDOCK_ENGINE") or DEFAULT_ENGINE, "PADDOCK_ENGINE"),
            pool_workers_max=_count(environment, "PADDOCK_POOL_WORKERS_MAX", "workers") or POOL_WORKERS_MAX,
            slurm_folder=environment.get("PADDOCK_SLURM_FOLDER") or DEFAULT_SLURM_FOLDER,
            slurm_command=_command(environment),
            slurm_direct=_switch(environment, "PADDOCK_SLURM_DIRECT"),
            worker_image=environment.get("PADDOCK_WORKER_IMAGE", ""),
            user_image=environment.get("PADDOCK_USER_IMAGE", ""),
            image_pull_policy=_one_of(environment, "PADDOCK_IMAGE_PULL_POLICY", PULL_POLICIES, ""),
            image_pull_secrets=tuple(
                name.strip() for name in environment.get("PADDOCK_IMAGE_PULL_SECRETS", "").split(",") if name.strip()
            ),
            worker_url=environment.get("PADDOCK_WORKER_URL", ""),
            worker_cpu=_worker_cpu(environment),
            worker_storage_secret=environment.get("PADDOCK_WORKER_STORAGE_SECRET", ""),
            kubernetes_namespace=environment.get("PADDOCK_KUBERNETES_NAMESPACE", ""),
            kubernetes_owner=environment.get("PADDOCK_KUBERNETES_OWNER", ""),
            pod_security=_one_of(environment, "PADDOCK_POD_SECURITY", POD_SECURITIES, POD_SECURITIES[0]),
            sandbox=_one_of(environment, "PADDOCK_SANDBOX", SANDBOXES, SANDBOXES[0]),
            grace_seconds=_grace_seconds(environment),
            debug=_switch(environment, "PADDOCK_DEBUG"),
            memory=_memory(environment),
            gpus=_gpus(environment),
            worker_cache=_worker_cache(environment),
        )


def _project(environment: Mapping[str, str]) -> str:
    name = environment.get("PADDOCK_PROJECT") or DEFAULT_PROJECT
    try:
        return check_name("project", name)
    except InvalidInput as error:
        raise InvalidInput(f"PADDOCK_PROJECT: {error.message}") from None


def _switch(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "") not in ("", "0")


def _count(environment: Mapping[str, str], variable: str, unit: str) -> int | None:
    text = environment.get(variable, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InvalidInput(f"{variable} is {text!r}; set it to a whole number of {unit}, at least 1, or unset it")
    return int(text)


def engine_named(name: str, source: str) -> EngineName:
    """source: what to call the place where the name was given. InvalidInput where there is no such engine."""
    for engine in ENGINES:
        if engine == name:
            return engine
    raise InvalidInput(f"{source} is {name!r}; set it to one of {', '.join(ENGINES)}")


def _command(environment: Mapping[str, str]) -> str:
    text = environment.get("PADDOCK_SLURM_COMMAND", "")
    try:
        shlex.split(text)
    except ValueError as error:
        raise InvalidInput(
            f"PADDOCK_SLURM_COMMAND is {text!r}, which is no list of words ({error}); mend its quotes"
        ) from None
    return text


def _one_of(environment: Mapping[str, str], variable: str, choices: Sequence[str], default: str) -> str:
    text = environment.get(variable) or default
    if text != default and text not in choices:
        raise InvalidInput(f"{variable} is {text!r}; set it to one of {', '.join(choices)}, or unset it")
    return text


def _worker_cpu(environment: Mapping[str, str]) -> float:
    text = environment.get("PADDOCK_WORKER_CPU") or "1"
    try:
        cpus = parse_cpus(text)
    except ValueError as error:
        raise InvalidInput(f"PADDOCK_WORKER_CPU: {error}") from None
    if not 0 < cpus <= WORKER_CPUS_MAX:
        raise InvalidInput(f"PADDOCK_WORKER_CPU is {text!r}; set it to more than 0 and at most {WORKER_CPUS_MAX} CPUs")
    return cpus


def _memory(environment: Mapping[str, str]) -> int | None:
    text = environment.get("PADDOCK_MEMORY", "")
    if not text:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidInput(f"PADDOCK_MEMORY: {error}") from None


def _worker_cache(environment: Mapping[str, str]) -> int | None:
    text = environment.get("PADDOCK_WORKER_CACHE", "")
    if not text:
        return None
    try:
        return 0 if text == "none" else parse_size(text)
    except ValueError as error:
        raise InvalidInput(f"PADDOCK_WORKER_CACHE: {error}; or none") from None


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    text = environment.get("PADDOCK_GPUS", "").strip()
    if not text:
        return None
    names = () if text == "none" else tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise InvalidInput(f"PADDOCK_GPUS is {text!r}; set it to different names such as 0,1, or to none, or unset it")
    return names


def _grace_seconds(environment: Mapping[str, str]) -> float:
    text = environment.get("PADDOCK_GRACE_SECONDS") or "5"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= GRACE_SECONDS_MAX:
        raise InvalidInput(f"PADDOCK_GRACE_SECONDS is {text!r}; set it to seconds from 0 to {GRACE_SECONDS_MAX:.0f}")
    return seconds
