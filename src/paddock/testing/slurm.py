"""A real Slurm of the tests' own on loopback: a controller and two nodes of this machine, in a temporary folder.

Needs Debian's `slurmctld`, `slurmd`, `slurm-client` and `munge`; no accounting database, no systemd, no cgroups, and no root.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from paddock.testing.workers import processes_with

NODES = ("n1", "n2")
NODE_CPUS = 4
NODE_MEMORY_MEBIBYTES = 4096
START_SECONDS = 60.0
_LOOK_SECONDS = 0.03
"""Between two looks at a Slurm that tells nobody when something changes, and shares the processor with who looks."""
_PROGRAMS = ("/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch", "/usr/bin/setpriv")

_CONF = """\
ClusterName=paddock
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=256
MailProg=/bin/true
ReturnToService=2
KillWait=1
SlurmdTimeout=10
MessageTimeout=10
{nodes}
PartitionName=main Nodes={names} Default=YES DefaultTime=10 MaxTime=10 State=UP
PartitionName=short Nodes={names} DefaultTime=1 MaxTime=1 State=UP
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory} Features=cpu"
)


def installed() -> bool:
    return all(Path(program).exists() for program in _PROGRAMS)


@dataclass(slots=True)
class RunningSlurm:
    """folder: holds everything, the logs too. environment: what makes Slurm's commands talk to this one."""

    folder: Path
    environment: Mapping[str, str]
    controller: subprocess.Popen[bytes]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *words: str) -> str:
        """One of Slurm's commands; its output. AssertionError with what it said where it fails."""
        ran = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{' '.join(words)}: {ran.stderr}"
        return ran.stdout

    def jobs(self) -> dict[str, str]:
        """State of each job and array task that Slurm knows, by id."""
        lines = self.run("squeue", "-h", "-r", "-t", "all", "-o", "%i %T").splitlines()
        return {id: state for id, _, state in (line.partition(" ") for line in lines)}

    def cancel_all(self) -> None:
        """End all jobs at once, and wait until none is left."""
        ids = [id for id, state in self.jobs().items() if state in ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING")]
        if ids:
            self.run("scancel", "--quiet", *ids)
        deadline = time.monotonic() + START_SECONDS
        while self.run("squeue", "-h", "-o", "%i"):
            assert time.monotonic() < deadline, f"jobs don't end: {self.jobs()}"
            time.sleep(_LOOK_SECONDS)

    def kill_node(self, name: str) -> None:
        """SIGKILL for a node's daemon and for all that it runs; Slurm is told (it would notice in half a minute by itself)."""
        self.nodes[name].kill()
        self.nodes[name].wait()
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")
        _end_leftovers(str(self.folder), f"SLURMD_NODENAME={name}")

    def start_node(self, name: str) -> None:
        """Start a node's daemon (again) and wait until Slurm can use it."""
        self.nodes[name] = _daemon(
            ["/usr/sbin/slurmd", "-D", "-N", name], self.environment, self.folder / f"{name}.out"
        )
        self._wait_until_idle()

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        command = ("sinfo", "-h", "-N", "-p", "main", "-o", "%T")
        while True:
            ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            if ran.returncode == 0 and all(state in ("idle", "mixed", "allocated") for state in ran.stdout.split()):
                return
            ended = [process for process in (self.controller, *self.nodes.values()) if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"Slurm does not start: {ran}\n{self.logs()}")
            time.sleep(_LOOK_SECONDS)

    def logs(self) -> str:
        """The end of each daemon's log."""
        found = sorted({*self.folder.glob("*.log"), *self.folder.glob("*.out")})
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in found)


@contextmanager
def running_slurm() -> Iterator[RunningSlurm]:
    """A controller and two idle nodes; at the end nothing of them runs, nor of their jobs."""
    folder = Path(tempfile.mkdtemp(prefix="paddock-slurm-", dir="/tmp"))  # a socket's path may have 107 bytes
    folder.chmod(0o755)
    try:
        with ExitStack() as stack:
            stack.callback(_end_leftovers, str(folder))
            stack.enter_context(_munge(folder))
            _write_configuration(folder)
            environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
            controller = _daemon(["/usr/sbin/slurmctld", "-D", "-i"], environment, folder / "slurmctld.out")
            stack.callback(_end, controller)
            slurm = RunningSlurm(folder, environment, controller)
            stack.callback(lambda: _end(*slurm.nodes.values()))
            for name in NODES:
                command = ["/usr/sbin/slurmd", "-D", "-N", name]
                slurm.nodes[name] = _daemon(command, environment, folder / f"{name}.out")
            slurm._wait_until_idle()
            yield slurm
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _munge(folder: Path) -> Iterator[None]:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    paths = {"key-file": key, "socket": folder / "munge.sock", "pid-file": folder / "munge.pid"}
    paths |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    # Forced, because it distrusts folders that others can write, as /tmp is.
    command = ["/usr/sbin/munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in paths.items())]
    munge = _daemon(command, os.environ, folder / "munge.out")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not paths["socket"].exists():
            if munge.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"munged does not start: {(folder / 'munge.out').read_text(errors='replace')}")
        yield
    finally:
        _end(munge)


def _write_configuration(folder: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    controller_port, *ports = _free_ports(1 + len(NODES))
    nodes = [
        _NODE.format(name=name, host=host, port=port, cpus=NODE_CPUS, memory=NODE_MEMORY_MEBIBYTES)
        for name, port in zip(NODES, ports, strict=True)
    ]
    text = _CONF.format(
        host=host,
        controller_port=controller_port,
        folder=folder,
        user=getpass.getuser() if os.geteuid() else "root",
        nodes="\n".join(nodes),
        names=",".join(NODES),
    )
    (folder / "slurm.conf").write_text(text)
    # None is used; but one has to be named where the system has none that Slurm would find by itself.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "state").mkdir()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _daemon(command: Sequence[str], environment: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start a daemon that stays in the foreground, and ends when this process does."""
    with output.open("ab") as stream:
        guarded = ["/usr/bin/setpriv", "--pdeathsig", "KILL", *command]
        return subprocess.Popen(guarded, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def _end(*processes: subprocess.Popen[bytes]) -> None:
    """Killed: what they would write down at an orderly end is removed anyway."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def _end_leftovers(*markers: str) -> None:
    """Kill what jobs have left: what carries all of these in its command line or environment."""
    for process in set[int].intersection(*(set(processes_with(marker)) for marker in markers)):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
