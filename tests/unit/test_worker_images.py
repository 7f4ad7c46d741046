"""Commands in images: in containers of Apptainer where there is one, and everywhere with a stand-in for it: a program that keeps its
rules of arguments and environment, and runs the command where it is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.errors import InvalidInput, Unavailable
from paddock.model.records import DatumState
from paddock.runtime.image_commands import Image, fetch_image, find_image, is_fetched
from paddock.runtime.protocol import Limit, TransformTask
from paddock.testing.containers import busybox, find_apptainer, make_image
from paddock.testing.workers import WorkerHarness, processes_with, shell

IMAGE_PATH = "/usr/local/bin:/usr/bin:/bin"
_STAND_IN = r"""#!/bin/sh
echo "$@" >> {notes}
[ "$1" = --silent ] || exit 255
if [ "$2" = pull ]; then
    [ "$4" = docker://here:1 ] && echo image > "$3" && exit
    echo "FATAL:   While making image from oci registry: error fetching image to cache: no such image" >&2
    exit 255
fi
[ "$2" = exec ] || exit 255
shift 2
while [ "${{1#--}}" != "$1" ]; do
    case $1 in --bind) shift 2;; --pwd) cd "$2"; shift 2;; *) shift;; esac
done
[ "$1" = {image} ] || {{ echo "FATAL: no image $1" >&2; exit 255; }}
shift
names=$(env | sed -n 's/^APPTAINERENV_\([A-Za-z_][A-Za-z_0-9]*\)=.*/\1/p')
path={path}
export IN_IMAGE=yes LANG=image
for name in $names; do
    eval "value=\$APPTAINERENV_$name"
    value=$(printf %s "$value" | sed 's/"/\\"/g')
    case $name in PATH) name=path;; esac
    eval "export $name=\"$value\""
done
PATH=$path
exec "$@"
"""


class Engine:
    """notes: where the stand-in notes its arguments."""

    def __init__(self, program: str, image: Path, notes: Path | None = None) -> None:
        self._notes = notes
        self.program = program
        self.image = Image(program, str(image), ("--no-home",))

    def asked(self) -> list[str]:
        assert self._notes is not None
        return self._notes.read_text().splitlines()


def stand_in(folder: Path) -> Engine:
    notes, program, image = folder / "notes", folder / "bin" / "apptainer", folder / "image.sif"
    image.touch()
    program.parent.mkdir()
    program.write_text(_STAND_IN.format(notes=notes, image=image, path=IMAGE_PATH))
    program.chmod(0o755)
    return Engine(str(program), image, notes)


@pytest.fixture(scope="session")
def apptainer(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The real one, with an image of a shell and some tools."""
    if busybox() is None:
        pytest.skip("there is no static busybox: apt-get install busybox-static")
    variables = {"PATH": IMAGE_PATH, "IN_IMAGE": "yes", "LANG": "image"}
    tools = ("sh", "cat", "head", "id", "sleep", "touch", "tr", "true")
    image = make_image(tmp_path_factory.mktemp("image"), tools=tools, environment=variables)
    program, why = find_apptainer(image)
    if program is None:
        pytest.skip(why)
    return Engine(program, image)


@pytest.fixture(params=["stand-in", "apptainer"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    found: Engine = request.getfixturevalue("apptainer") if request.param == "apptainer" else stand_in(tmp_path)
    return found


@pytest.fixture(params=["auto", "directory"])
def worker(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[WorkerHarness]:
    with WorkerHarness(tmp_path / "worker", sandbox=request.param, options=engine.image.words()) as harness:
        yield harness


@pytest.fixture(params=["auto", "directory"])
def container_worker(request: pytest.FixtureRequest, apptainer: Engine, tmp_path: Path) -> Iterator[WorkerHarness]:
    """With the real engine alone."""
    options = [*apptainer.image.words(), "--grace-seconds", "1"]
    with WorkerHarness(tmp_path / "worker", sandbox=request.param, options=options) as harness:
        yield harness


def test_a_command_runs_in_its_image_with_its_files(worker: WorkerHarness) -> None:
    task = shell('cat "$in" > $PADDOCK_PFS/out/copy; echo "$IN_IMAGE $PWD $A"', env={"A": "b"})
    batch = worker.run(task, [worker.file_datum(b"one"), worker.file_datum(b"two", "/b")])
    assert [datum.files for datum in batch.datums] == [{"/copy": b"one"}, {"/copy": b"two"}]
    assert batch.datums[0].log == b"yes / b\n"


def test_what_fails_in_it_fails_as_anywhere(worker: WorkerHarness) -> None:
    (datum,) = worker.run(shell("echo oh no >&2; exit 3"), [worker.file_datum(b"x")]).datums
    assert (datum.state, datum.exit_code) == (DatumState.FAILED, 3)
    assert datum.reason.endswith("ended with exit code 3: oh no")


def test_variables_arrive_as_they_are_and_those_of_the_spec_count_before_the_image(worker: WorkerHarness) -> None:
    values = {"A": "a $HOME `id` \\ \\n 'q' \"r\" $(id)", "B": "two\nlines", "C": "", "LANG": "spec", "not-a-name": "x"}
    script = 'printf "%s|" "$A" "$B" "${C-unset}" "$LANG" "$PADDOCK_PFS"'
    (datum,) = worker.run(shell(script, env=values), [worker.file_datum(b"x")]).datums
    pfs = "/pfs" if worker.ready.sandbox == "namespaces" else f"{worker.scratch}/pfs"
    assert datum.log.decode().split("|") == [values["A"], values["B"], "", "spec", pfs, ""]
    (datum,) = worker.run(shell('echo "$LANG $PATH"'), [worker.file_datum(b"x")]).datums
    assert datum.log.decode().startswith(f"image {IMAGE_PATH}")  # Apptainer adds what it holds for missing
    (datum,) = worker.run(shell('echo "$PATH"', env={"PATH": "/opt/x:/bin"}), [worker.file_datum(b"x")]).datums
    assert datum.log == b"/opt/x:/bin\n"


def test_what_the_engine_is_asked_for(tmp_path: Path) -> None:
    engine = stand_in(tmp_path)
    with WorkerHarness(tmp_path / "worker", options=engine.image.words()) as worker:
        worker.run(shell("true"), [worker.file_datum(b"x")])
        pfs = "/pfs" if worker.ready.sandbox == "namespaces" else f"{worker.scratch}/pfs"
        binds = f"--bind {pfs}:/pfs --bind {worker.scratch}"
    assert engine.asked() == [f"--silent exec {binds} --pwd / --no-home {engine.image.name} /bin/sh -c true"]


def test_a_container_has_the_datum_and_nothing_of_it_is_left(container_worker: WorkerHarness) -> None:
    worker = container_worker
    datum = worker.file_datum(b"x")
    (ran,) = worker.run(shell("cat /pfs/in/file; touch /pfs/mine; true > /pfs/out/made"), [datum]).datums
    assert ran.log.startswith(b"x")
    assert list(ran.files) == ["/made"]
    assert worker.ready.sandbox == "directory" or b"Read-only file system" in ran.log
    # What runs longer than it may is asked to end, and then made to, with all that it has started.
    marker = f"marker-{worker.scratch}"
    stubborn = shell(f'trap "" TERM; sleep 1000 {marker} & sleep 1000', datum_timeout_seconds=1.0)
    (ran,) = worker.run(stubborn, [datum]).datums
    assert (ran.state, ran.reason) == (DatumState.FAILED, "the command was stopped after 1 s (datum_timeout)")
    assert processes_with(marker) == []
    limits = (Limit("memory", 128 << 20, "datum_limits.memory"),)
    hungry = shell("x=$(head -c 400000000 /dev/zero | tr '\\0' x)", limits=limits)
    (ran,) = worker.run(hungry, [datum]).datums
    assert "more than its limit of 128 MiB (datum_limits.memory)" in ran.reason
    (ran,) = worker.run(TransformTask(id="none", project="a", pipeline="b", cmd=("nothing",)), [datum]).datums
    assert 'FATAL:   "nothing": executable file not found in $PATH' in ran.reason


def test_a_warm_command_has_one_container_for_all_datums(container_worker: WorkerHarness) -> None:
    script = r"""q=\"; while read line <&3; do
        id=${line#*"$q"id"$q":"$q"}; id=${id%%"$q"*}
        echo $$ > "$PADDOCK_PFS/out/$id"; echo "{${q}id$q:$q$id$q,${q}ok$q:true}" >&4
    done"""
    datums = [container_worker.file_datum(b"x", f"/{number}") for number in range(3)]
    ran = container_worker.run(shell(script, warm=True), datums).datums
    assert [list(each.files) for each in ran] == [[f"/{each.id}"] for each in datums]
    assert len({content for each in ran for content in each.files.values()}) == 1


def test_an_image_needs_no_shell(apptainer: Engine, tmp_path: Path) -> None:
    bare = make_image(tmp_path / "bare", tools=("cp",))
    with WorkerHarness(tmp_path / "worker", options=Image(apptainer.program, str(bare)).words()) as worker:
        task = TransformTask(id="bare", project="a", pipeline="b", cmd=("cp", "/pfs/in/file", "/pfs/out"))
        if worker.ready.sandbox != "namespaces":
            pytest.skip(f"there is no private /pfs here: {worker.ready.reason}")
        (ran,) = worker.run(task, [worker.file_datum(b"x")]).datums
    assert (ran.reason, ran.files) == ("", {"/file": b"x"})


@pytest.mark.parametrize(
    ("name", "taken", "fetched"),
    [
        ("debian:13", "docker://debian:13", False),
        ("registry.example:5000/a/b@sha256:0", "docker://registry.example:5000/a/b@sha256:0", False),
        ("oras://a/b", "oras://a/b", False),
        ("docker-archive:/a.tar", "docker-archive:/a.tar", False),
        ("{folder}/image.sif", "{folder}/image.sif", True),
        ("./bin", "{folder}/bin", True),
        ("image.sif", "{folder}/image.sif", True),
    ],
)
def test_how_images_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, taken: str, fetched: bool
) -> None:
    program = stand_in(tmp_path).program
    monkeypatch.setenv("PATH", str(Path(program).parent))
    monkeypatch.chdir(tmp_path)
    image = find_image(name.format(folder=tmp_path), ["--nv"])
    assert image == Image(program, taken.format(folder=tmp_path), ("--nv",))
    assert is_fetched(image) is fetched


def test_an_image_of_a_registry_is_fetched_once(tmp_path: Path) -> None:
    program = stand_in(tmp_path).program
    assert fetch_image(Image(program, "docker://here:1", ("--nv",)), tmp_path) == Image(
        program, str(tmp_path / "image.sif"), ("--nv",)
    )
    with pytest.raises(Unavailable, match=r"docker://gone:1 can't be fetched: no such image; correct"):
        fetch_image(Image(program, "docker://gone:1"), tmp_path)


def test_an_image_is_one_file(apptainer: Engine, tmp_path: Path) -> None:
    file = tmp_path / "made.sif"
    subprocess.run(
        [apptainer.program, "--silent", "build", file, apptainer.image.name], check=True, capture_output=True
    )
    with WorkerHarness(tmp_path / "worker", options=Image(apptainer.program, str(file)).words()) as worker:
        (ran,) = worker.run(shell("echo $IN_IMAGE"), [worker.file_datum(b"x")]).datums
    assert ran.log == b"yes\n"


def test_a_host_that_lacks_the_engine_or_the_image_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"neither apptainer nor singularity is in PATH; .*\(slurm.setup\)"):
        find_image("debian:13", [])
    monkeypatch.setenv("PATH", str(Path(stand_in(tmp_path).program).parent))
    with pytest.raises(InvalidInput, match=r"image /gone\.sif is not there on .*; put it where workers see it"):
        find_image("/gone.sif", [])
