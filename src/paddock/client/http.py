"""The services of a server, over HTTP: the same protocol as the embedded way in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paddock.client.http_cache import HttpCache
from paddock.client.http_compute import HttpDatums, HttpJobs, HttpPipelines, process_all
from paddock.client.http_files import HttpFiles, path_part
from paddock.client.http_objects import HttpBranches, HttpCommits, HttpProjects, HttpRepos, commit_path
from paddock.client.http_pools import HttpPools
from paddock.client.http_store import HttpStore
from paddock.client.http_tags import HttpTags
from paddock.client.transport import Transport
from paddock.model.ids import CommitId
from paddock.model.records import Job, Origin
from paddock.model.services import (
    Branches,
    Cache,
    Commits,
    Datums,
    Files,
    Jobs,
    Pipelines,
    Pools,
    Projects,
    Repos,
    Store,
    Tags,
    Transfers,
)


class HttpPaddock:
    """`model.services.Paddock` against `paddock up` at a URL. Thread-safe; no request is sent before the first call."""

    def __init__(self, url: str) -> None:
        self._transport = Transport(url)
        self._jobs = HttpJobs(self._transport)

    @property
    def url(self) -> str:
        return self._transport.url

    @property
    def projects(self) -> Projects:
        return HttpProjects(self._transport)

    @property
    def repos(self) -> Repos:
        return HttpRepos(self._transport)

    @property
    def branches(self) -> Branches:
        return HttpBranches(self._transport)

    @property
    def tags(self) -> Tags:
        return HttpTags(self._transport)

    @property
    def pools(self) -> Pools:
        return HttpPools(self._transport)

    @property
    def commits(self) -> Commits:
        return HttpCommits(self._transport)

    @property
    def files(self) -> Files:
        return HttpFiles(self._transport)

    @property
    def transfers(self) -> Transfers:
        # Its frames bring in the storage of chunks, which listing repos never needs.
        from paddock.client.http_transfers import HttpTransfers

        return HttpTransfers(self._transport)

    @property
    def pipelines(self) -> Pipelines:
        return HttpPipelines(self._transport)

    @property
    def jobs(self) -> Jobs:
        return self._jobs

    @property
    def datums(self) -> Datums:
        return HttpDatums(self._transport)

    @property
    def cache(self) -> Cache:
        return HttpCache(self._transport)

    @property
    def store(self) -> Store:
        return HttpStore(self._transport)

    def why(self, address: str, *, inputs_max: int = 20) -> Origin:
        parameters = {"path": path_part(address), "inputs_max": inputs_max}
        result: Origin = self._transport.request(Origin, "GET", commit_path(address, "why"), parameters=parameters)
        return result

    def expect_work(self, *, workers: int | None = None) -> None:
        """The server has its workers up."""

    def process(
        self,
        *,
        workers: int | None = None,
        on_progress: Callable[[Sequence[Job]], None] | None = None,
        jobs: Sequence[tuple[str, CommitId]] = (),
    ) -> Sequence[Job]:
        """Wait for the server's own workers; `workers` is the server's business and is not sent."""
        return process_all(self._jobs, jobs, on_progress)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> HttpPaddock:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
