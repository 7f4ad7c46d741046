"""Makes a home with one large commit, as puts into an open commit make it, and prints what that cost as JSON.

    python bench/large_home.py HOME FILES [DISTINCT]

Files are small, 1,000 to a folder: `/d00042/img_0001.png`. DISTINCT (default: all): how many different contents there are. Each
content is a chunk in a pack and in the index, as `paddock put` leaves it; only the reading of a source folder is spared.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import peak_bytes

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.addresses import parse_address
from paddock.storage.chunks import ChunkWriter
from paddock.storage.columnar import arrow_schema
from paddock.storage.tree_kinds import TREE
from paddock.versions.changes import write
from paddock.versions.edits import put_files
from paddock.versions.home import Home

REPO = "data"
FOLDER_FILES = 1000
PUT_FILES = 500_000


def build(home: Path, count: int, distinct: int) -> None:
    """Put the files, finish the commit, then commit ten changes as `data@ten`."""
    with EmbeddedPaddock.open(home) as client:
        client.repos.create(REPO)
        client.commits.start(f"{REPO}@main")
    with Home.open(home) as opened:
        for start in range(0, count, PUT_FILES):
            numbers = np.arange(start, min(start + PUT_FILES, count))
            put(opened, numbers, numbers % distinct)
    with EmbeddedPaddock.open(home) as client:
        client.commits.finish(f"{REPO}@main")
        client.commits.start(f"{REPO}@main")
        folders = max(1, count // FOLDER_FILES)
        for number in range(10):
            folder = f"/d{number * folders // 10:05d}"
            client.files.put(f"{REPO}@main:{folder}/img_{number:04d}.png", b"changed %d\n" % number)
        client.commits.finish(f"{REPO}@main")
        client.branches.create(f"{REPO}@ten", head=f"{REPO}@main")


def put(home: Home, numbers: np.ndarray, contents: np.ndarray) -> None:
    """One write to the open commit."""
    with home.pin(), home.chunks.writer() as writer:
        table = rows(numbers, contents, writer)
        write(home, parse_address(f"{REPO}@main"), lambda tree: put_files(home.trees, tree, table), writer)


def rows(numbers: np.ndarray, contents: np.ndarray, writer: ChunkWriter) -> pa.Table:
    """Rows of a tree; the chunks go through the writer."""
    data = [b"content of %d\n" % content for content in contents.tolist()]
    digests = b"".join([writer.put(each) for each in data])
    count = len(data)
    none = pa.array(np.zeros(count + 1, np.int32))
    columns = {
        "path": [f"/d{number // FOLDER_FILES:05d}/img_{number % FOLDER_FILES:04d}.png" for number in numbers.tolist()],
        "datum": pa.array([b""] * count, pa.binary()),
        "size": pa.array(list(map(len, data)), pa.int64()),
        "digest": pa.Array.from_buffers(pa.binary(32), count, [None, pa.py_buffer(digests)]),
        "executable": pa.array(np.zeros(count, np.uint8)),
        "chunks": pa.ListArray.from_arrays(none, pa.array([], pa.binary(32))),
    }
    return pa.table(columns, schema=arrow_schema(TREE))


def main() -> None:
    home, count = Path(sys.argv[1]), int(sys.argv[2])
    started = time.perf_counter()
    build(home, count, int(sys.argv[3]) if len(sys.argv) > 3 else count)
    peak = peak_bytes()
    print(json.dumps({"seconds": time.perf_counter() - started, "bytes": peak}))


if __name__ == "__main__":
    main()
