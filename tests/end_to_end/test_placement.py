"""Batches go where their inputs were written or read: two agents, pipelines in a row, and the bytes that are read through the server."""

from __future__ import annotations

import os
from pathlib import Path

from paddock.client.connection import connect
from paddock.model.records import JobState
from paddock.testing.relays import relay_to
from paddock.testing.servers import running_agent, running_server

FILES = 40
FILE_BYTES = 100_000
LIMIT_SECONDS = 60


def test_what_agents_wrote_is_read_where_it_was_written(home_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(FILES):
        (source / f"f{number:02}").write_bytes(os.urandom(FILE_BYTES))
    with (
        running_server(home_path, workers=0) as server,
        connect(url=server.url, environment={}) as paddock,
        relay_to(server.url) as near,
        relay_to(server.url) as far,
    ):
        paddock.repos.create("data")

        # Each step's output is new, so that none of it is in the home already.
        def apply(name: str, above: str) -> None:
            script = f"head -c {FILE_BYTES} /dev/urandom > /pfs/out/$(basename $in); cksum < $in; : {name}"
            paddock.pipelines.apply(
                {
                    "pipeline": {"name": name},
                    "transform": {"cmd": ["sh", "-e", "-c", script]},
                    "input": {"pfs": {"repo": above, "name": "in", "glob": "/*"}},
                    "datum_set_spec": {"number": 2},
                    "flow": False,
                }
            )

        for name, above in (("one", "data"), ("two", "one"), ("three", "two")):
            apply(name, above)
        token = paddock.pools.create_token("default").secret
        with running_agent(near.url, token, tmp_path), running_agent(far.url, token, tmp_path):
            paddock.files.put_tree("data@main:/", source)
            jobs = paddock.jobs.wait(["one@head", "two@head", "three@head"], timeout_seconds=LIMIT_SECONDS)
            read = near.received + far.received
            apply("four", "data")
            jobs += paddock.jobs.wait(["four@head"], timeout_seconds=LIMIT_SECONDS)
            read_again = near.received + far.received - read
        assert [(job.state, job.datums.run) for job in jobs] == [(JobState.SUCCESS, FILES)] * 4
    # The first step reads 4 MB. Two steps read what the one before wrote: 8 MB, of which nearly nothing comes back. Who is idle takes
    # what others wrote, so an agent that is late costs some.
    assert read < 2 * FILES * FILE_BYTES
    # The last step reads what the first has read.
    assert read_again < FILES * FILE_BYTES
