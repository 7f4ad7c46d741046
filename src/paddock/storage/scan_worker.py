"""A helper process that walks a directory: `scan_worker.main()`, with the arguments of `walk.walk` in its order.

Standard output gets HEAD, each column of `walk.Found` as it lies in memory, the paths joined by NUL, and the problems (place and
message of each) joined by NUL.
"""

from __future__ import annotations

import os
import signal
import struct
import sys

from paddock.storage.walk import walk

HEAD = struct.Struct("<qQQQ")
"""Start in ns since 1970, files, bytes of the paths, bytes of the problems."""


def main() -> None:
    # Ctrl-C reaches the whole process group; whoever started this process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root, path_bytes_max, part, parts = sys.argv[1:]
    found = walk(root, int(path_bytes_max), part=int(part), parts=int(parts))
    paths = "\0".join(found.paths).encode()
    problems = "\0".join(text for problem in found.problems for text in (problem.place, problem.message)).encode()
    try:
        with os.fdopen(1, "wb") as target:
            target.write(HEAD.pack(found.started_ns, len(found.paths), len(paths), len(problems)))
            for column in found.columns:
                target.write(column)
            target.write(paths)
            target.write(problems)
    except BrokenPipeError:
        pass  # nobody wants it any more
