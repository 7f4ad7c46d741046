"""The one protocol behind both ways in: services called in-process (embedded home) or over HTTP (server).

Each service owns one noun. Addresses are text (`[project/]repo@ref[:/path]`); records come from `paddock.model.records`;
all errors are from `paddock.model.errors`. One conformance suite (`tests/conformance/test_services.py`) runs
against every implementation. All methods are synchronous and safe to call from several threads and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from paddock.model.dataclass import dataclass

if TYPE_CHECKING:
    # Every command imports this module, and a record costs half a millisecond to define.
    from paddock.model.cache_records import CachePolicy, CacheReport, EvictionReport
    from paddock.model.ids import CommitId, Digest
    from paddock.model.plans import DatumExplanation, InputPreview, JobPlan
    from paddock.model.records import (
        AppliedPipeline,
        Branch,
        Commit,
        CommitSet,
        Datum,
        DatumState,
        FileDiff,
        FileInfo,
        GetReport,
        Job,
        NewPoolToken,
        Origin,
        Pipeline,
        Pool,
        PoolToken,
        Project,
        PutReport,
        Repo,
        Tag,
    )
    from paddock.model.store_records import CheckReport, GarbageReport, Transfer, UsageReport
    from paddock.model.timing import JobTiming


@dataclass(frozen=True, slots=True)
class Transferred:
    """Progress of a put or get so far. `*_total` is None while it is not known yet."""

    files: int
    bytes: int
    files_total: int | None
    bytes_total: int | None


OnTransfer = Callable[[Transferred], None]


class Projects(Protocol):
    def create(self, name: str, *, description: str = "") -> Project: ...
    def list(self) -> Sequence[Project]: ...
    def inspect(self, name: str) -> Project: ...
    def delete(self, name: str) -> None:
        """Conflict while it holds repos or pipelines; `default` can't be deleted."""


class Repos(Protocol):
    def create(self, repo: str, *, description: str = "") -> Repo: ...
    def list(self, *, project: str | None = None) -> Sequence[Repo]:
        """Sorted by project, then name. Costs the catalog one query; reads no bulk data."""

    def inspect(self, repo: str) -> Repo: ...
    def delete(self, repo: str) -> None:
        """Conflict where it is a pipeline's output repo, or a pipeline or branch elsewhere reads it."""


class Branches(Protocol):
    def create(self, branch: str, *, head: str | None = None, provenance: Sequence[str] = ()) -> Branch:
        """Create `repo@name`, or move it to `head` (a ref in the same repo) where it exists."""

    def list(self, repo: str) -> Sequence[Branch]: ...
    def inspect(self, branch: str) -> Branch: ...
    def delete(self, branch: str) -> None:
        """Conflict where another branch or pipeline has it in its provenance. Commits survive."""


class Tags(Protocol):
    def create(self, tag: str, commit: str, *, description: str = "") -> Tag:
        """Name a good finished commit (`repo@ref`, or a ref of the same repo) for good: `repo@name` works wherever a
        commit does. AlreadyExists: a tag or a branch has the name."""

    def list(self, repo: str) -> Sequence[Tag]:
        """By name."""

    def inspect(self, tag: str) -> Tag: ...
    def delete(self, tag: str) -> None:
        """The commit stays."""


class Pools(Protocol):
    def list(self) -> Sequence[Pool]:
        """By name: pools on engines that start workers, and others that workers have joined."""

    def create_token(self, pool: str, *, description: str = "") -> NewPoolToken:
        """Make a token with which workers may join this pool, and no other."""

    def list_tokens(self) -> Sequence[PoolToken]:
        """By pool, then age."""

    def delete_token(self, id: int) -> None:
        """Workers that joined with it are refused from then on; their batches go to others."""


class Commits(Protocol):
    def start(
        self, branch: str, *, description: str = "", commit_set: str | None = None, detached: bool = False
    ) -> Commit:
        """Open a commit on a branch (made if missing); puts to the branch go into it until it is finished.

        commit_set: id of a set of open commits in other repos to join; `finish_set` finishes them together. detached: the
        branch goes on as if it were not there; puts name the commit itself (`repo@id`).
        """

    def finish(self, commit: str, *, description: str | None = None) -> Commit:
        """Finish an open commit, given as `repo@branch` or `repo@id`; creates the downstream commit set and jobs."""

    def finish_set(self, commit_set: str) -> Sequence[Commit]:
        """Finish all open commits of a set at once: readers see all or none of it, and one downstream set follows.

        Returns those that were finished; one that changes nothing is dropped instead.
        """

    def abandon(self, commit: str) -> None:
        """Remove an open commit with all that was written to it."""

    def squash(self, commit: str, *, recursive: bool = False) -> Sequence[Commit]:
        """Take a commit (`repo@ref`), or all of a set (its id), out of history; returns those that went.

        Later commits stay as they are, files and all. Conflict, with nothing changed, where a commit is open, a tag or a
        branch's head, has no later commit that holds its files, or others were computed from it: `recursive` squashes those
        along. Jobs go with their output commits. Bytes come free by garbage collection.
        """

    def drop(self, commit: str, *, recursive: bool = False) -> Sequence[Commit]:
        """Remove the newest commit of a branch, or all of a set, with its files; returns those that went.

        The branch reads the commit before it, or nothing. Conflict as in `squash`, and where a later commit is built on it.
        """

    def forget(self, commit: str) -> Sequence[Commit]:
        """Give up the files of an output commit, or of all those of a set, but keep what is known about them.

        Conflict for a commit that a user made, that a branch reads, that a tag names, or that is still to be read by a job.
        """

    def list(self, repo: str, *, limit: int | None = None) -> Sequence[Commit]:
        """Newest first. `repo` alone lists every commit of the repo; `repo@ref` that commit and its ancestors."""

    def inspect(self, commit: str, *, wait_seconds: float = 0) -> Commit:
        """With `wait_seconds`, wait that long for the commit to finish, then return it as it is."""

    def inspect_set(self, commit_set: str) -> CommitSet: ...
    def list_sets(self, *, limit: int | None = None) -> Sequence[CommitSet]: ...


class Files(Protocol):
    def put(self, target: str, source: BinaryIO | bytes, *, append: bool = False) -> PutReport:
        """Write one file at `repo[@branch]:/path`. On a branch without an open commit this is one atomic commit."""

    def put_tree(
        self,
        target: str,
        source: Path,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        """Write a local file or directory tree below `repo[@branch][:/path]`, as one atomic commit.

        A file goes to the path itself (or below it, where the path ends in `/` or is the root); a directory's
        content goes below the path. `mirror` also removes files below the path that the source does not have, and makes no commit when
        nothing differs. Unchanged files (size, mtime, inode as remembered) are not read again. Symbolic links are followed;
        sockets, FIFOs and devices are InvalidInput, with every one named.
        """

    def read(self, source: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of one file, in pieces of a few MiB, verified. NotFound / InvalidInput (a directory) before the first piece."""

    def get_tree(
        self, source: str, target: Path, *, mirror: bool = False, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        """Write a file or directory tree to local disk. With `mirror`, files that an earlier mirror wrote and that
        `source` no longer has are removed (never a file that Paddock did not write), and unchanged ones are left alone."""

    def put_archive(
        self,
        target: str,
        source: BinaryIO,
        *,
        append: bool = False,
        mirror: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        """Write the files of an archive below `repo[@branch][:/path]`, as one atomic commit. Its kind is told by its bytes: tar
        (plain, gzip, bzip2, xz, zstd) or zip.

        InvalidInput, with nothing put, lists the members that can't be files of a tree: names from the root or with `..`, symbolic
        links, devices, names that occur twice. A hard link is the file that it links to. LimitExceeded: more than 250 times
        larger inside than out. `source` is read once, to its end; a zip that can't be sought goes through a temporary file.
        """

    def get_archive(self, source: str, *, format: str = "tar") -> Iterator[bytes]:
        """A file, or a tree with names relative to it, as an archive: `tar`, `tar.gz`, `tar.zst` or `zip`, all from one commit.

        NotFound and InvalidInput before the first piece. An error in the middle leaves the archive torn.
        """

    def put_url(
        self,
        target: str,
        url: str,
        *,
        append: bool = False,
        mirror: bool = False,
        concurrency: int = 8,
        on_transfer: OnTransfer | None = None,
    ) -> PutReport:
        """Write what is at a URL, as one atomic commit: a file of `http(s)://`, an object or all objects below a prefix of
        `s3://`, `gs://` or `az://`, a local file or folder of `file://`. Targets are as in `put_tree`.

        This process fetches, with credentials from its environment, `concurrency` parts of 8 MiB at once; a passing fault is tried
        again. Objects whose size and ETag are as at an earlier put are not fetched again. InvalidInput, NotFound, PermissionDenied,
        Conflict (an object was replaced meanwhile), Unavailable: nothing was put.
        """

    def get_url(
        self, source: str, url: str, *, concurrency: int = 8, on_transfer: OnTransfer | None = None
    ) -> GetReport:
        """Write a file or tree to `s3://`, `gs://`, `az://` or `file://`, directly from this process. A file becomes the object
        itself, or one below it where the URL ends in `/` or is a bucket.

        An object appears whole or not at all; there is no more to it than that: after an error some are written. Those that an
        earlier call wrote, and that are still as it left them, are not written again. Objects have no executable bit.
        """

    def inspect(self, address: str) -> FileInfo: ...
    def list(self, address: str, *, recursive: bool = False) -> Iterator[FileInfo]:
        """Immediate children, or all files below; sorted by path. A file lists itself."""

    def glob(self, address: str) -> Iterator[FileInfo]:
        """Files and directories that match the pattern in the address's path."""

    def delete(self, target: str, *, recursive: bool = False) -> PutReport:
        """Remove a file, or with `recursive` a directory. NotFound where nothing is there."""

    def copy(self, source: str, target: str, *, append: bool = False) -> PutReport:
        """Copy a file or directory by reference; no bytes move."""

    def diff(self, new: str, old: str | None = None) -> Iterator[FileDiff]:
        """Files that differ, sorted by path; `old` defaults to the parent commit. Reads only segments that differ."""

    def find(self, address: str, *, limit: int | None = None) -> Sequence[tuple[Commit, FileDiff]]:
        """Commits, newest first from the address's ref, that added, changed or removed exactly that path."""


class Transfers(Protocol):
    """Files by their chunks, for a client that can't reach the object store: it asks which chunks are missing, sends those, and
    puts a table of files that names them. What was sent stays for the grace period of garbage collection, so a put that was
    cut off and is run again sends only the rest. `files.put_tree` and `get_tree` over HTTP work this way; other programs may.

    NotFound, from every call: the transfer has ended, or the server was started anew.
    """

    def begin(self, target: str | None = None) -> Transfer:
        """target: where the files are to go, to be refused now where it can't be written."""

    def missing(self, transfer: str, digests: Sequence[Digest]) -> Sequence[bool]:
        """For each digest, whether its chunk has to be sent."""

    def send(self, transfer: str, frames: BinaryIO) -> int:
        """Store the chunks of one body (`storage.chunk_frames`), at most 128 MiB; the bytes stored. All of them are durable
        then, or, after an error, none is known. InvalidInput: a chunk that is not what its digest says."""

    def fetch(self, transfer: str, digests: Sequence[Digest]) -> Iterator[bytes]:
        """The plain bytes of each chunk, verified, in order. NotFound: the home does not have it."""

    def tree(self, transfer: str, source: str) -> Digest:
        """The root of the file table of the commit that an address names (docs/reference/format.md), kept while the transfer lasts.

        NotFound: nothing is at the address's path.
        """

    def put(
        self, transfer: str, target: str, table: BinaryIO, *, append: bool = False, mirror: bool = False
    ) -> PutReport:
        """Put the files of a table (a segment of kind `tree`: whole paths, no datum) as one commit, as `files.put_tree` does.

        InvalidInput: a path or size that can't be; Conflict: chunks that are not stored. Nothing is changed then.
        """

    def end(self, transfer: str) -> None:
        """Idempotent. What was sent and put in no commit is garbage from now on."""


class Pipelines(Protocol):
    def apply(
        self,
        spec: Mapping[str, Any],
        *,
        code: Path | None = None,
        reprocess: bool = False,
        hold: bool = False,
        keep_results: bool = False,
        audit: float | None = None,
    ) -> AppliedPipeline:
        """Create or update one pipeline from one spec (plain data, any accepted spelling).

        code: a local directory (or file) that `transform.code` named, already resolved. Its content is stored and versioned.
        hold: make no job now; the next commit on an input, or `rerun`, makes one.
        reprocess: the first job of the new version computes every datum; its results replace the kept ones.
        keep_results: results of the present version stay good for equal inputs, though code or command changed. It is for this
        update: later ones carry the results on only where they ask for it, or leave the transform as it is.
        audit: the first job of the new version computes this share (0 to 1) of the datums that it reuses again, and compares.
        Errors: InvalidInput with every problem; NotFound for a missing input repo; Conflict for a cycle. Nothing is changed then.
        """

    def plan(
        self,
        spec: Mapping[str, Any],
        *,
        code: Path | None = None,
        reprocess: bool = False,
        limit: int = 100,
        keep_results: bool = False,
    ) -> JobPlan:
        """What a job would do if the spec were applied now: how many datums it would run, reuse and drop, and why. Changes nothing.

        limit: datums to show one by one. Compared with the last job that succeeded, on the present heads of the inputs.
        Errors: InvalidInput with every problem; NotFound for a missing input repo. Cost: as planning the job.
        """

    def list(self, *, project: str | None = None) -> Sequence[Pipeline]: ...
    def inspect(self, pipeline: str, *, version: int | None = None) -> Pipeline:
        """With how often kept results served in its newest jobs (`reuse`)."""

    def delete(self, pipeline: str, *, keep_repo: bool = False) -> None: ...
    def start(self, pipeline: str) -> Pipeline: ...
    def stop(self, pipeline: str) -> Pipeline:
        """Stop reacting to commits; unfinished jobs are killed."""

    def rerun(self, pipeline: str, *, reprocess: bool = False, audit: float | None = None) -> Job:
        """A new job on the present heads; with `reprocess` no kept result is used; audit: as in `apply`."""


class Jobs(Protocol):
    def list(self, *, pipeline: str | None = None, limit: int | None = None) -> Sequence[Job]:
        """Newest first."""

    def inspect(self, job: str) -> Job:
        """`job` is `[project/]pipeline@<commit id, or branch-like ancestry such as head>`: the id, or `head` for the newest."""

    def timing(self, job: str) -> JobTiming:
        """Where its time went, its slowest datums, and what more workers would bring. Cost: a look at all results of the job, 2 µs
        a datum."""

    def wait(
        self,
        jobs: Sequence[str],
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Sequence[Job]], None] | None = None,
    ) -> Sequence[Job]:
        """Until all are final. Against an embedded home where no other process is working, this call does the work."""

    def stop(self, job: str, *, reason: str = "stopped by the user") -> Job: ...
    def logs(self, job: str, *, datum: str | None = None) -> Iterator[tuple[str, bytes]]:
        """(datum id, output) of each datum that the job ran; in datum order."""

    def follow(self, job: str, *, datum: str | None = None) -> Iterator[tuple[str, bytes]]:
        """(datum id, whole lines) as datums print them, until the job has ended; those of short datums when they are reported.

        datum: a datum's id, or a start of it. About once a second, while nothing comes, an empty pair: a moment to give up. Lines of a
        datum whose worker dies come again when it runs again. Does no work itself, unlike `wait`.
        """


class Datums(Protocol):
    def list(self, job: str, *, states: Sequence[DatumState] = (), limit: int | None = None) -> Iterator[Datum]: ...
    def inspect(self, job: str, datum: str) -> Datum:
        """`datum` may be shortened to a unique prefix."""

    def logs(self, job: str, datum: str) -> bytes: ...
    def explain(self, job: str, datum: str) -> DatumExplanation:
        """Why a datum ran, or did not need to: against the job that its own was compared with."""

    def preview(self, spec: Mapping[str, Any], *, limit: int = 20) -> InputPreview:
        """The datums that an input makes on the present heads, and what looks wrong. spec: a pipeline's, or only its `input`.

        limit: datums to show one by one. Changes nothing. LimitExceeded: more datums than one job may have.
        """


class Cache(Protocol):
    """Kept results, which datums with an equal key need not be computed for. What jobs and commits show is no part of it."""

    def inspect(self, *, pipeline: str | None = None) -> CacheReport:
        """What is kept, by transform, and how often it served; of the whole home, or of one pipeline's versions."""

    def set_policy(self, policy: CachePolicy) -> CachePolicy:
        """Set the limits of the home and the share that is audited, all three. They hold from the next job, eviction or
        garbage collection on. InvalidInput: a value out of range; nothing is changed then."""

    def evict(
        self, *, bytes_max: int | None = None, age_seconds_max: float | None = None, dry_run: bool = False
    ) -> EvictionReport:
        """Give up kept results, longest unused first, until these limits hold; without any, the home's. Whole tables go."""

    def clear(self, *, pipeline: str | None = None, dry_run: bool = False) -> EvictionReport:
        """Give up all kept results, or those of one pipeline's versions (also where another has the same transform)."""


class Store(Protocol):
    """Upkeep of the home's bulk storage."""

    def collect_garbage(self, *, grace_seconds: float | None = None, dry_run: bool = False) -> GarbageReport:
        """Remove stored bytes that nothing refers to and that are older than `grace_seconds` (default: an hour).

        Safe while others put, compute and read. With `dry_run` only say what would go. Conflict: another collection or repair
        is at work. Corrupt: something in use can't be read; nothing was removed then.
        """

    def check(self, *, data: bool = False, repair: bool = False, source: Path | None = None) -> CheckReport:
        """Check that all that is referred to can be read, with `data` every byte. With `repair`, rebuild the chunk index and
        take lost chunks from `source` (a directory of files, or another home; embedded only), then check again."""

    def usage(self, address: str | None = None) -> UsageReport:
        """What each repo costs; of a repo also its branches and commits; of `repo@ref` the one commit."""


class Paddock(Protocol):
    """What `paddock.connect()` returns. Closing it frees connections; a `with` block does that."""

    @property
    def projects(self) -> Projects: ...
    @property
    def repos(self) -> Repos: ...
    @property
    def branches(self) -> Branches: ...
    @property
    def tags(self) -> Tags: ...
    @property
    def pools(self) -> Pools: ...
    @property
    def commits(self) -> Commits: ...
    @property
    def files(self) -> Files: ...
    @property
    def transfers(self) -> Transfers: ...
    @property
    def pipelines(self) -> Pipelines: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def datums(self) -> Datums: ...
    @property
    def cache(self) -> Cache: ...
    @property
    def store(self) -> Store: ...

    def why(self, address: str, *, inputs_max: int = 20) -> Origin:
        """Where a file came from, back to the first commits."""

    def expect_work(self, *, workers: int | None = None) -> None:
        """A hint that `process` is about to be called: embedded, its workers start meanwhile, unless another process has the
        home's. Without work they end with `close`. `process` does not wait for their end then; `close` does."""

    def process(
        self,
        *,
        workers: int | None = None,
        on_progress: Callable[[Sequence[Job]], None] | None = None,
        jobs: Sequence[tuple[str, CommitId]] = (),
    ) -> Sequence[Job]:
        """Work (embedded) or wait (server) until no job is unfinished; returns the jobs that ended meanwhile, or just those
        named in `jobs`, as (`project/pipeline`, id)."""

    def close(self) -> None: ...
    def __enter__(self) -> Paddock: ...
    def __exit__(self, *exc_info: object) -> None: ...
