"""What Slurm is asked for, and what its answers mean; the commands themselves run in `tests/end_to_end/test_slurm.py`."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from paddock.model.errors import InvalidInput, Unavailable
from paddock.pipelines.models import PipelineSpec
from paddock.pipelines.spec import validate_spec
from paddock.runtime.engines.provisioner import MemberState, PoolTemplate, Site
from paddock.runtime.engines.slurm.commands import SlurmCommands, TaskId
from paddock.runtime.engines.slurm.provisioner import SlurmProvisioner
from paddock.runtime.engines.slurm.reasons import Standing, end_of, standing_of
from paddock.runtime.engines.slurm.requests import job_environment, script, submission
from paddock.settings import Settings


def spec(**fields: Any) -> PipelineSpec:
    minimal = {"pipeline": "p", "transform": {"cmd": ["true"]}, "input": {"pfs": {"repo": "a", "glob": "/*"}}}
    return validate_spec({**minimal, "engine": "slurm", **fields}).spec


def asked(**fields: Any) -> list[str]:
    """Options of `sbatch` for three members of a spec."""
    template = PoolTemplate("slurm-0123", spec(**fields), "token")
    return list(submission(template, 3, job_name="paddock-home-slurm-0123", folder=Path("/shared/out")))


def slurm(**fields: Any) -> dict[str, Any]:
    return {"slurm": fields}


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (slurm(partition="long", account="lab", qos="low"), {"--partition=long", "--account=lab", "--qos=low"}),
        (slurm(constraint="avx512", options=["--exclusive"]), {"--constraint=avx512", "--exclusive"}),
        (slurm(time_limit="90m"), {"--time=90", "--signal=B:TERM@120"}),
        (slurm(time_limit="1-06"), {"--time=1800"}),
        (slurm(time_limit="1-06:30"), {"--time=1830"}),
        (slurm(time_limit="01:30:10"), {"--time=91"}),
        (slurm(time_limit="4:30"), {"--time=5", "--signal=B:TERM@68"}),
        (slurm(time_limit="2h", drain_time="10m"), {"--time=120", "--signal=B:TERM@600"}),
        ({}, {"--cpus-per-task=1", "--array=0-2", "--no-requeue", "--signal=B:TERM@120"}),
        ({"resource_requests": {"cpu": "2500m"}}, {"--cpus-per-task=3"}),
        ({"resource_requests": {"memory": "1Gi"}}, {"--mem=1280M"}),
        ({"resource_requests": {"memory": "1Gi"}, "resource_limits": {"memory": "2Gi"}}, {"--mem=2304M"}),
        ({"resource_requests": {"disk": "10Gi"}}, {"--tmp=10240M"}),
        ({"resource_requests": {"gpu": {"number": 2}}}, {"--gres=gpu:2"}),
        ({"resource_requests": {"gpu": {"number": 1, "type": "nvidia.com/gpu"}}}, {"--gres=gpu:1"}),
        (
            {"resource_limits": {"gpu": {"number": 1, "type": "a100"}}, **slurm(gres="lustre")},
            {"--gres=gpu:a100:1,lustre"},
        ),
        ({"resource_requests": {"gpu": {"number": 1}}, **slurm(gres="gpu:h100:1")}, {"--gres=gpu:h100:1"}),
    ],
)
def test_a_spec_in_the_words_of_sbatch(fields: dict[str, Any], options: set[str]) -> None:
    found = asked(**fields)
    assert options <= set(found)
    # Nothing is said twice, and nothing that nobody has asked for.
    names = [word.partition("=")[0] for word in found]
    assert len(set(names)) == len(names)
    assert ("--mem" in names, "--gres" in names) == (
        any("memory" in each for each in fields.values()),
        any("gres" in each or "gpu" in each for each in fields.values()),
    )


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        (slurm(time_limit=60), "slurm.time_limit", "has no unit"),
        (slurm(time_limit="30s"), "slurm.time_limit", "less than a minute"),
        (slurm(time_limit="soon"), "slurm.time_limit", "not a duration"),
        (slurm(drain_time="20h"), "slurm.drain_time", "65535"),
        (slurm(options=["-p long"]), "slurm.options[0]", "long form"),
        (slurm(options=["--exclusive", "--array=0-9"]), "slurm.options[1]", "Paddock's to give"),
        (slurm(options=["--clusters=all"]), "slurm.options[0]", "Paddock's to give"),
        (slurm(options=["--time=5"]), "slurm.options[0]", "slurm.time_limit"),
        (slurm(partitions="long"), "slurm.partitions", "did you mean 'partition'"),
    ],
)
def test_what_is_wrong_is_said_when_the_spec_is_applied(fields: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        spec(**fields)
    (problem,) = caught.value.problems
    assert place in problem.place
    assert message in problem.message


def test_the_worker_takes_the_place_of_its_script_and_its_words_stay_whole(tmp_path: Path) -> None:
    template = PoolTemplate("slurm-0123", spec(**slurm(setup=["export A='b c'"])), "secret")
    shown = ["sh", "-c", 'echo "$$ $A"; printf "<%s>" "$@"', "sh"]
    text = script(template, url="http://host:1/a b", command=shown)
    assert "secret" not in text
    variables = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(["bash", "-c", text], env=variables, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate()
    assert (
        output
        == f"{process.pid} b c\n<--url><http://host:1/a b><worker><--slots><1><--patience><10m><--name><slurm-12_3>"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"transform": {"cmd": ["x"], "image": "debian:13"}}, ["--image", "debian:13"]),
        ({"transform": {"cmd": ["x"], "image": "debian:13"}, **slurm(container=False)}, []),
        (
            {
                "transform": {"cmd": ["x"], "image": "/a.sif"},
                "resource_requests": {"gpu": {"number": 1}},
                **slurm(container_options=["--bind", "/scratch"]),
            },
            ["--image", "/a.sif", "--image-option=--nv", "--image-option=--bind", "--image-option=/scratch"],
        ),
    ],
    ids=["none", "image", "declined", "gpu"],
)
def test_an_image_is_for_the_workers_to_run(fields: dict[str, Any], words: list[str]) -> None:
    text = script(PoolTemplate("slurm-0123", spec(**fields), ""), url="http://host", command=["paddock"])
    assert shlex.split(text.splitlines()[-1])[9:-2] == words


def test_jobs_get_the_environment_without_what_concerns_the_server_alone() -> None:
    kept = {"PATH": "/bin", "SLURM_CONF": "/c", "PADDOCK_SANDBOX": "auto", "SBATCH_ACCOUNT": "lab", "AWS_PROFILE": "a"}
    dropped = {
        "PADDOCK_CATALOG": "postgresql://a:password@db", "PGPASSWORD": "p", "SLURM_JOB_ID": "1", "SQUEUE_PARTITION": "x",
        "SBATCH_WAIT": "1",
    }  # fmt: skip
    assert job_environment({**kept, **dropped}) == kept


@pytest.mark.parametrize(
    ("state", "reason", "said", "retry"),
    [
        ("PENDING", "", "", True),
        ("PENDING", "Resources", "next to start", True),
        ("PENDING", "Priority", "higher priority", True),
        ("PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-2]", "down, drained or reserved", True),
        ("PENDING", "Nodes required for job are DOWN, DRAINED or reserved", "down, drained or reserved", True),
        ("PENDING", "QOSMaxJobsPerUserLimit", "used up", True),
        ("PENDING", "AssocGrpCPULimit", "used up", True),
        ("PENDING", "QOSMaxCpuPerJobLimit", "may not ask for that", False),
        ("PENDING", "QOSMaxWallDurationPerJobLimit", "lower slurm.time_limit, or change slurm.qos", False),
        (
            "PENDING",
            "Job's account not permitted to use this partition (paid allows rich not lab)",
            "change slurm.account or slurm.partition",
            False,
        ),
        (
            "PENDING",
            "Job's QOS not permitted to use this partition (vip allows gold not normal)",
            "change slurm.qos or slurm.partition",
            False,
        ),
        ("PENDING", "AssocMaxCpuPerJobLimit", "slurm.account", False),
        ("PENDING", "QOSMinGRES", "slurm.qos", False),
        ("PENDING", "MaxMemPerLimit", "may not ask for that", False),
        ("PENDING", "PartitionTimeLimit", "slurm.time_limit", False),
        ("PENDING", "InvalidAccount", "slurm.account", False),
        ("PENDING", "DependencyNeverSatisfied", "--dependency", False),
        ("PENDING", "launch failed requeued held", "could not be launched", True),
        ("PENDING", "SomethingOfNextYear", "waits in the queue", True),
        ("CONFIGURING", "", "booted", True),
        ("REQUEUE_HOLD", "JobHeldAdmin", "administrator holds it", True),
    ],
)
def test_why_a_task_waits(state: str, reason: str, said: str, retry: bool) -> None:
    standing = standing_of(state, reason)
    assert standing.state is MemberState.WAITING
    assert standing.retry is retry
    assert said in standing.reason
    assert bool(standing.reason) is bool(said)
    assert reason in standing.reason


@pytest.mark.parametrize(
    ("state", "facts", "said", "retry"),
    [
        ("COMPLETED", {}, "", True),
        ("CANCELLED", {}, "cancelled it", True),
        ("NODE_FAIL", {"NodeList": "n7"}, "its node n7 failed", True),
        ("PREEMPTED", {"NodeList": "n7"}, "higher priority", True),
        ("TIMEOUT", {"TimeLimit": "00:05:00"}, "its time limit (00:05:00)", True),
        ("OUT_OF_MEMORY", {"NodeList": "n7"}, "raise resource_requests.memory", False),
        (
            "FAILED",
            {"ExitCode": "127:0", "NodeList": "n7"},
            "the worker on n7 ended with exit code 127: no python",
            True,
        ),
        ("FAILED", {"ExitCode": "0:9"}, "the worker was killed by signal 9: no python", True),
        ("FAILED", {"ExitCode": "1:0", "Reason": "BadConstraints"}, "slurm.constraint", False),
        ("FAILED", {}, "exit code unknown", True),
        ("SOMETHING_OF_NEXT_YEAR", {}, "exit code unknown", True),
    ],
)
def test_why_a_task_ended(state: str, facts: dict[str, str], said: str, retry: bool) -> None:
    standing = end_of(state, facts, "no python")
    taken = state in ("CANCELLED", "NODE_FAIL", "PREEMPTED")
    assert standing == Standing(MemberState.ENDED, standing.reason, retry, taken)
    assert said in standing.reason
    assert bool(standing.reason) is bool(said)


def test_a_worker_that_left_no_output_says_where_it_should_be() -> None:
    assert "PADDOCK_SLURM_FOLDER" in end_of("FAILED", {"ExitCode": "1:0"}, None).reason
    assert "ended with exit code 1 and printed nothing" in end_of("FAILED", {"ExitCode": "1:0"}, "").reason


POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time"
    " limits)"
)


def commands_of(folder: Path, script: str) -> SlurmCommands:
    """Slurm's commands, all of which are this shell script; the name of the one that runs is `$me`."""
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        (folder / name).write_text(f"#!/bin/sh\nme={name}\n{script}\n")
        (folder / name).chmod(0o755)
    return SlurmCommands({"PATH": f"{folder}:/usr/bin:/bin"})


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ("sbatch: error: Batch job submission failed: Invalid qos specification", InvalidInput, "slurm.qos"),
        (
            "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)",
            Unavailable,
            "the partition is out of use",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            InvalidInput,
            "slurm.account",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            InvalidInput,
            "slurm.time_limit",
        ),
        ("sbatch: error: CPU count per node can not be satisfied", InvalidInput, "resource_requests"),
        ("sbatch: error: please see http://cluster.example/rules", InvalidInput, "please see http"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", Unavailable, "tried again"),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Unavailable, "Socket"),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", Unavailable, "used up"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", InvalidInput, "slurm.time_limit"),
    ],
)
def test_a_refusal_names_the_field_and_a_passing_fault_is_one(
    tmp_path: Path, message: str, error: type[Exception], said: str
) -> None:
    commands = commands_of(tmp_path, f'echo "{message}" >&2; exit 1')
    with pytest.raises(error, match=said) as caught:
        commands.submit([], "", secrets={})
    assert "sbatch:" not in str(caught.value)


def test_a_secret_is_in_the_environment_and_in_no_argument(tmp_path: Path) -> None:
    commands = commands_of(tmp_path, 'echo "$* $TOKEN" > "${0%/*}/seen"; cat > "${0%/*}/script"; echo "12;cluster"')
    assert commands.submit(["--array=0-1"], "#!/bin/sh\n", secrets={"TOKEN": "secret"}) == "12"
    assert (tmp_path / "seen").read_text() == "--parsable --array=0-1 secret\n"
    assert (tmp_path / "script").read_text() == "#!/bin/sh\n"


def test_the_queue_is_read_whatever_the_widths(tmp_path: Path) -> None:
    lines = [
        "12_0  |RUNNING|n1|n1|paddock-a |",
        "12_1|PENDING  |(Resources) | |paddock-a|",
        "3|FAILED|(None)||x|y|",
        "",
    ]
    commands = commands_of(tmp_path, f"cat <<'END'\n{chr(10).join(lines)}\nEND")
    found = [(task.id, task.state, task.reason, task.name) for task in commands.queue()]
    assert found == [
        ("12_0", "RUNNING", "", "paddock-a"),
        ("12_1", "PENDING", "Resources", "paddock-a"),
        ("3", "FAILED", "", "x|y"),
    ]


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no squeue on the server's PATH"):
        SlurmCommands({"PATH": str(tmp_path)}).queue()


def test_a_controller_that_is_away_is_told_by_every_command_that_asks_it(tmp_path: Path) -> None:
    commands = commands_of(tmp_path, 'echo "$me: error: Unable to contact slurm controller" >&2; exit 1')
    for call in (commands.queue, lambda: commands.describe(TaskId("1_0")), lambda: commands.cancel([TaskId("1_0")])):
        with pytest.raises(Unavailable, match="Unable to contact slurm controller; it is tried again"):
            call()


def test_the_controller_is_asked_seldom_while_nothing_changes(tmp_path: Path) -> None:
    commands_of(tmp_path, 'echo $me >> "${0%/*}/calls"; cat "${0%/*}/queue"')
    queue, calls, now = tmp_path / "queue", tmp_path / "calls", 0.0
    queue.write_text("")
    provisioner = SlurmProvisioner(
        Site("0123456789ab", "http://host", None, Settings()),
        environment={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        monotonic=lambda: now,
    )

    def looks(seconds: int) -> int:
        """How often the controller is asked in so many seconds of a fleet that looks each second."""
        nonlocal now
        before = calls.read_text().count("squeue") if calls.exists() else 0
        for _ in range(seconds):
            provisioner.members()
            now += 1
        return calls.read_text().count("squeue") - before

    assert looks(20) == 2
    queue.write_text("7_0|RUNNING|n1|n1|paddock-0123456789ab-slurm-a|\n")
    assert looks(10) == 10
    assert [member.name for member in provisioner.members()] == ["slurm-7_0"]
    assert looks(50) == 49
    assert looks(30) == 3
    provisioner.cancel(["slurm-7_0"])
    assert looks(5) == 5


def test_a_worker_that_fetches_its_image_is_no_failed_start(tmp_path: Path) -> None:
    commands_of(tmp_path, "echo '7_0|RUNNING|n1|n1|paddock-0123456789ab-slurm-a|'")
    settings = Settings(slurm_folder=str(tmp_path))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    provisioner = SlurmProvisioner(
        Site("0123456789ab", "http://host", None, settings), environment=environment, look_seconds=0
    )

    def state_after(output: str) -> tuple[MemberState, str]:
        (tmp_path / "7_0.log").write_text(output)
        (member,) = provisioner.members()
        return member.state, member.reason

    assert state_after("loading modules\n") == (MemberState.STARTED, "")
    fetching = "its worker is fetching image docker://a:1, which may take minutes (Slurm: RUNNING)"
    assert state_after("loading modules\nfetching image docker://a:1\n") == (MemberState.WAITING, fetching)
    assert state_after("fetching image docker://a:1\nworking for http://host\n") == (MemberState.STARTED, "")
    # After that its output is of no interest.
    assert state_after("fetching image docker://a:1\n") == (MemberState.STARTED, "")


def test_where_not_all_may_be_submitted_some_are(tmp_path: Path) -> None:
    # Up to three in the queue, as under a limit of the user.
    script = """echo "$*" | sed -n 's/.*--array=0-\\([0-9]*\\) .*/\\1/p' > "${0%/*}/last"
        there=$(cat "${0%/*}/there" || echo 0) && now=$((there + $(cat "${0%/*}/last") + 1))
        if [ $now -gt 3 ]; then echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; fi
        echo $now > "${0%/*}/there"; echo 12"""
    commands_of(tmp_path, script)
    settings = Settings(slurm_folder=str(tmp_path / "out"))
    provisioner = SlurmProvisioner(
        Site("0123456789ab", "http://host", None, settings), environment={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    with pytest.raises(Unavailable, match="used up"):
        provisioner.start(PoolTemplate("slurm-0123", spec(), "token"), 10)
    assert (tmp_path / "there").read_text() == "3\n"
