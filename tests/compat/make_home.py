"""Makes the home that the tests of the format read: `python tests/compat/make_home.py <release>` writes the golden one.

A golden home is made once, by the release that it is named after, and never again.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from blake3 import blake3

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import to_json
from paddock.settings import Settings

HOMES = Path(__file__).parent / "homes"
BIG = b"".join(b"%07d\n" % (number % 4096) for number in range(600_000))
"""Two chunks, and small when it is compressed."""
UPPER = {
    "pipeline": {"name": "upper"},
    "input": {"pfs": {"repo": "data", "glob": "/texts/*"}},
    "transform": {
        "cmd": ["sh"],
        "stdin": ["for f in /pfs/data/texts/*; do tr a-z A-Z < $f > /pfs/out/${f##*/}; echo done $f; done"],
    },
}
COUNT = {
    "pipeline": {"name": "count"},
    "input": {"pfs": {"repo": "upper", "glob": "/"}},
    "transform": {"cmd": ["sh"], "stdin": ["wc -c /pfs/upper/* > /pfs/out/count", "! grep -q POISON /pfs/upper/*"]},
}


def fill(path: Path) -> dict[str, Any]:
    """Make a home with repos, branches, tags, pipelines and jobs, good and failed; what is in it (see `contents`)."""
    with EmbeddedPaddock.open(path, settings=Settings(workers=1)) as paddock:
        paddock.projects.create("lab", description="a project")
        paddock.repos.create("data", description="texts")
        paddock.repos.create("lab/raw")
        paddock.commits.start("data")
        for name in ("a", "b", "empty"):
            paddock.files.put(f"data:/texts/{name}", b"" if name == "empty" else f"text of {name}\n".encode())
        paddock.files.put("data:/big", BIG)
        paddock.commits.finish("data", description="the first")
        paddock.tags.create("data@v1", "main", description="as published")
        paddock.pipelines.apply(UPPER)
        paddock.pipelines.apply(COUNT)
        paddock.process()
        paddock.files.put("data:/texts/b", "grün\n".encode(), append=True)
        paddock.files.delete("data:/texts/empty")
        paddock.process()
        paddock.files.put("data:/texts/c", b"poison\n")
        paddock.process()
        paddock.branches.create("data@old", head="main^")
        paddock.files.put("lab/raw@side:/x/y/z", b"deep")
        paddock.commits.start("lab/raw@side", description="still open")
        paddock.files.put("lab/raw@side:/open", b"not finished")
        return contents(paddock)


def contents(paddock: EmbeddedPaddock) -> dict[str, Any]:
    """All that the services say about a home, and a digest of every file of every readable commit."""
    found: dict[str, Any] = {"files": {}, "commits": {}, "jobs": {}, "tags": {}, "branches": {}, "logs": {}}
    for repo in paddock.repos.list():
        name = f"{repo.project}/{repo.name}"
        found["branches"][name] = to_json(paddock.branches.list(name))
        found["tags"][name] = to_json(paddock.tags.list(name))
        commits = paddock.commits.list(name)
        found["commits"][name] = to_json(commits)
        for commit in commits:
            if commit.state in ("finished", "open"):
                address = f"{name}@{commit.id}"
                found["files"][address] = {
                    info.path: [
                        info.size_bytes,
                        blake3(b"".join(paddock.files.read(f"{address}:{info.path}"))).hexdigest(),
                    ]
                    for info in paddock.files.list(address, recursive=True)
                }
    for job in paddock.jobs.list():
        address = f"{job.project}/{job.pipeline}@{job.id}"
        found["jobs"][address] = [to_json(job), to_json(list(paddock.datums.list(address)))]
        found["logs"][address] = {datum: log.decode() for datum, log in paddock.jobs.logs(address)}
    return found


def main(release: str) -> None:
    archive, expected = HOMES / f"{release}.tar.gz", HOMES / f"{release}.json"
    if archive.exists():
        raise SystemExit(f"{archive} exists; a golden home is made once")
    HOMES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        expected.write_text(json.dumps(fill(home), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        for part in ("cache", "locks"):
            shutil.rmtree(home / part)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(home, "home")


if __name__ == "__main__":
    main(sys.argv[1])
